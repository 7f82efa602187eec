//! Who listens to a step's output on its way to the log.

use crate::context::listen::{Complaint, Listener};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// What was heard in both streams of one step.
#[derive(Debug, Clone, Default)]
pub(in crate::tools) struct Heard(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    complaints: BTreeSet<Complaint>,
    bad_loss: Option<String>,
    /// When something was written last.
    last: Option<Instant>,
}

/// Listens to one stream.
#[derive(Debug)]
pub(in crate::tools) struct Ear {
    listener: Listener,
    heard: Heard,
}

impl Heard {
    pub(in crate::tools) fn ear(&self) -> Ear {
        Ear {
            listener: Listener::default(),
            heard: self.clone(),
        }
    }

    /// Limits that the output named.
    pub(super) fn complaints(&self) -> BTreeSet<Complaint> {
        self.lock().complaints.clone()
    }

    /// The first line that told of a bad loss.
    pub(super) fn bad_loss(&self) -> Option<String> {
        self.lock().bad_loss.clone()
    }

    /// When something was written last.
    pub(super) fn last(&self) -> Option<Instant> {
        self.lock().last
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    pub(in crate::tools) fn hear(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.listener.hear(bytes);
        self.heard.lock().last = Some(Instant::now());
        self.tell();
    }

    /// The stream has ended.
    pub(in crate::tools) fn finish(mut self) {
        self.listener.finish();
        self.tell();
    }

    fn tell(&self) {
        let mut said = self.heard.lock();
        said.complaints.extend(self.listener.complaints());
        if said.bad_loss.is_none() {
            said.bad_loss = self.listener.bad_loss().map(str::to_owned);
        }
    }
}
