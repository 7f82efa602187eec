//! What init says on its standard error before it ends: kept for an error message, and bounded.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are kept: the first ones say what went wrong.
pub(super) const MAX_WORDS: usize = 8 * 1024;

/// Shared between who reads and who asks.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Mutex<Vec<u8>>>);

impl LastWords {
    /// All that was kept, as text. It comes from a sandbox: for a terminal it is sanitised like output.
    pub(super) fn text(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).trim().to_owned()
    }

    pub(super) fn add(&self, bytes: &[u8]) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_WORDS.saturating_sub(words.len()).min(bytes.len());
        words.extend_from_slice(&bytes[..room]);
    }
}
