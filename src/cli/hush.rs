//! What this process must not say: the values that the user's environment says are secret.
//!
//! Known to the one room that prints, so that no line of it has to be handed them.

use crate::app;
use crate::config::Config;
use crate::context::redact::Redactor;
use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::OnceLock;

static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// Before anything else is said.
pub(super) fn know(config: &Config) {
    // Only the start of the process does.
    let _ = REDACTOR.set(app::redactor(config));
}

pub(super) fn redactor() -> Redactor {
    REDACTOR.get().cloned().unwrap_or_default()
}

/// A text as it may be said.
pub(super) fn hushed(text: &str) -> Cow<'_, str> {
    match REDACTOR.get() {
        Some(redactor) => redactor.text(text),
        None => Cow::Borrowed(text),
    }
}

/// A writer of whole lines: what it is given at a time holds each value whole.
pub(super) struct Hushed<W>(pub(super) W);

impl<W: Write> Write for Hushed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .write_all(hushed(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
