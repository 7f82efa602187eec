//! Where each effective value comes from, and which others lost against it.

use super::file::problem::Place;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Whose word something is.
///
/// ```text
///   built-in or user ─ extends ─▶ typed (--set, --backend) ─▶ project ─▶ system
///   chosen with --policy          replaces                    tightens   tightens
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    BuiltIn,
    /// A file of the user's own.
    User,
    /// A flag of this very command.
    Typed,
    /// The file of the folder that is worked on, once the user accepted it.
    Project,
    /// The file of the machine's administrator: a ceiling over all others.
    System,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::User => "user",
            Self::Typed => "typed",
            Self::Project => "project",
            Self::System => "system",
        }
    }

    /// Whether it can only take away.
    pub fn only_tightens(self) -> bool {
        matches!(self, Self::Project | Self::System)
    }
}

/// One place that said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The schema's own value: nobody wrote one.
    Default,
    Written(Mark),
}

/// Where in which text something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub level: Level,
    pub label: String,
    pub place: Place,
    /// Index into the sources of the policy, and bytes of that text.
    pub source: usize,
    pub span: Range<usize>,
}

impl Origin {
    /// `None` for what nobody wrote.
    pub fn level(&self) -> Option<Level> {
        match self {
            Self::Default => None,
            Self::Written(mark) => Some(mark.level),
        }
    }

    /// Where a person wrote it: neither the schema nor the program itself.
    pub(super) fn by_a_person(&self) -> Option<&Mark> {
        match self {
            Self::Written(mark) if mark.level != Level::BuiltIn => Some(mark),
            Self::Default | Self::Written(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Written(Mark {
                level: Level::Typed,
                label,
                ..
            }) => f.write_str(label),
            Self::Written(mark) => write!(f, "{}:{}", mark.label, mark.place.line),
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
