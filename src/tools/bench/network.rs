//! What a run's sandbox reaches: told to the record and the person as it happens, and to the model
//! with the answer of the step.

use crate::protocol::event::Event;
use crate::sandbox::egress::{Report, Witness};
use crate::tools::desk::Desk;
use std::sync::{Arc, Mutex, PoisonError};

/// Lines of one step that the model reads.
const MAX_LINES: usize = 20;

/// What was blocked, or not reached, since somebody asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocked(Arc<Mutex<Vec<String>>>);

impl Blocked {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES && !lines.iter().any(|one| one == line) {
            lines.push(line.to_owned());
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes down what the network's end reports.
pub(super) struct Told {
    pub(super) desk: Desk,
    pub(super) blocked: Blocked,
}

impl Witness for Told {
    fn note(&self, report: Report) -> bool {
        let event = match report {
            Report::Blocked { host, port, why } => {
                self.blocked.push(&why);
                Event::NetworkBlocked { host, port, why }
            }
            Report::Opened {
                connection,
                host,
                port,
                method,
            } => Event::NetworkOpened {
                connection,
                host,
                port,
                method,
            },
            Report::Closed {
                connection,
                address,
                sent,
                received,
                why,
            } => {
                if !why.is_empty() {
                    self.blocked.push(&why);
                }
                Event::NetworkClosed {
                    connection,
                    address,
                    sent,
                    received,
                    why,
                }
            }
        };
        self.desk.emit(&event).is_ok()
    }

    /// News to nobody but the model, whose next step met it again.
    fn again(&self, why: &str) {
        self.blocked.push(why);
    }
}
