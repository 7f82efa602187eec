//! Where each effective value comes from, and which others lost against it.

use super::file::problem::Place;
use std::collections::BTreeMap;
use std::fmt;

/// One place that said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The schema's own value: nobody wrote one.
    Default,
    Written {
        label: String,
        place: Place,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Written { label, place } => write!(f, "{label}:{}", place.line),
        }
    }
}

/// A value that was written and did not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub value: String,
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    pub origin: Origin,
    /// Those that lost, the latest first.
    pub lost: Vec<Lost>,
}

/// For each key's path; `mount TARGET` and `rule ID` for what repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Provenance>);

impl Origins {
    /// What is known about a key; `None` for what was never written.
    pub fn get(&self, key: &str) -> Option<&Provenance> {
        self.0.get(key)
    }

    /// Notes that a value now counts; what counted before lost.
    pub(super) fn set(&mut self, key: &str, origin: Origin, before: Option<String>) {
        let lost = self.0.remove(key);
        let mut all: Vec<Lost> = Vec::new();
        if let Some(value) = before {
            all.push(Lost {
                value,
                origin: lost
                    .as_ref()
                    .map_or(Origin::Default, |one| one.origin.clone()),
            });
        }
        all.extend(lost.into_iter().flat_map(|one| one.lost));
        self.0
            .insert(key.to_owned(), Provenance { origin, lost: all });
    }

    /// Notes that a value was written and did not count.
    pub(super) fn lose(&mut self, key: &str, lost: Lost) {
        let held = self.0.entry(key.to_owned()).or_insert(Provenance {
            origin: Origin::Default,
            lost: Vec::new(),
        });
        held.lost.insert(0, lost);
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}
