//! What is told of connections: every one that is refused or made, before it is made, and how it ended.
//! Bounded, whatever a program inside does.

use super::error::Refused;
use crate::policy::network::Allowed;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Different refusals that are told; the same again is not news.
const MAX_REFUSALS: usize = 256;

/// Connections of a run: each is two records.
const MAX_CONNECTIONS: u64 = 20_000;

/// Who is told.
///
/// Contract: `note` returns when it is recorded; `false` where it cannot be, and then nothing is done.
pub trait Witness: Send + Sync {
    fn note(&self, report: Report) -> bool;

    /// The same was blocked before, or too much was to tell it: it is not recorded.
    fn again(&self, _why: &str) {}
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Blocked {
        host: String,
        /// Unknown where only a name was asked for.
        port: Option<u16>,
        /// One line: what was wanted, and what to add.
        why: String,
    },
    Opened {
        connection: u64,
        host: String,
        port: u16,
        /// Seen in plain HTTP only.
        method: Option<String>,
    },
    Closed {
        connection: u64,
        /// `None` where it was not reached, or through a proxy of the host's.
        address: Option<String>,
        sent: u64,
        received: u64,
        /// Empty where both sides were done.
        why: String,
    },
}

pub(super) struct Ledger {
    witness: Arc<dyn Witness>,
    refusals: Mutex<BTreeSet<String>>,
    connections: AtomicU64,
}

impl Ledger {
    pub(super) fn new(witness: Arc<dyn Witness>) -> Self {
        Self {
            witness,
            refusals: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    pub(super) fn refused(&self, refused: &Refused) {
        self.blocked(refused.host(), refused.port(), refused.to_string());
    }

    pub(super) fn no_such_name(&self, name: &str) {
        let host = super::error::shown(name.as_bytes());
        let why = format!("blocked: {host}; add it to [network] allow or approve it");
        self.blocked(&host, None, why);
    }

    fn blocked(&self, host: &str, port: Option<u16>, mut why: String) {
        {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            if refusals.len() >= MAX_REFUSALS || !refusals.insert(why.clone()) {
                drop(refusals);
                return self.witness.again(&why);
            }
            // Whoever asks for many names could hide one behind them: a reader is told so.
            if refusals.len() == MAX_REFUSALS {
                why += "; that makes many, and what else is blocked in this run is not told";
            }
        }
        // It is refused all the same where it cannot be recorded.
        let _ = self.witness.note(Report::Blocked {
            host: host.to_owned(),
            port,
            why,
        });
    }

    /// Recorded before anything is resolved. The number names the connection.
    pub(super) fn opened(
        &self,
        allowed: &Allowed,
        port: u16,
        method: Option<&str>,
    ) -> Result<u64, Refused> {
        let at = crate::policy::network::joined(&allowed.host, port);
        let connection = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if connection > MAX_CONNECTIONS {
            return Err(Refused::TooMany {
                at,
                limit: MAX_CONNECTIONS,
            });
        }
        let report = Report::Opened {
            connection,
            host: allowed.host.clone(),
            port,
            method: method.map(|method| super::error::shown(method.as_bytes())),
        };
        match self.witness.note(report) {
            true => Ok(connection),
            false => Err(Refused::Unrecorded { at }),
        }
    }

    pub(super) fn closed(&self, closed: Report) {
        // It is over either way; the next connection is refused where nothing can be recorded.
        let _ = self.witness.note(closed);
    }
}
