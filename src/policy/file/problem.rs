//! What is wrong with a policy, as values: every problem at once, each with its place and its remedy.

use crate::policy::origin::Level;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

macro_rules! codes {
    ($($variant:ident = $name:literal : $doc:literal),+ $(,)?) => {
        /// What kind of problem it is. The names are stable: programs may rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $variant),+ }

        impl Code {
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name),+ }
            }
        }
    };
}

codes! {
    Toml = "E_TOML": "The text is no TOML.",
    Schema = "E_SCHEMA": "The version of the schema is missing or unknown.",
    UnknownKey = "E_UNKNOWN_KEY": "No such key.",
    NotBuilt = "E_NOT_BUILT": "The schema has it, this version has not.",
    Type = "E_TYPE": "Another type of value is wanted.",
    Unit = "E_UNIT": "A size or a time without a unit, or with an unknown one.",
    Range = "E_RANGE": "Too small or too large.",
    Enum = "E_ENUM": "None of the words that may be here.",
    Conflict = "E_CONFLICT": "Two values exclude each other.",
    Missing = "E_MISSING": "A key that has to be there.",
    DuplicateId = "E_DUPLICATE_ID": "Two rules, or two entries, with one name.",
    PathTraversal = "E_PATH_TRAVERSAL": "A path that leads out of its place.",
    PathChars = "E_PATH_CHARS": "A path with characters that are not for paths.",
    MountForbidden = "E_MOUNT_FORBIDDEN": "A source that is never mounted.",
    MountTarget = "E_MOUNT_TARGET": "A place at which nothing is mounted.",
    MountOverlap = "E_MOUNT_OVERLAP": "Two mounts at one place.",
    HostPattern = "E_HOST_PATTERN": "No exact host name.",
    HostPrivate = "E_HOST_PRIVATE": "A host of this machine or its network, not named by its address.",
    HostConfusable = "E_HOST_CONFUSABLE": "A host that may look like another.",
    Remote = "E_REMOTE": "No beginning of URLs.",
    ImageRef = "E_IMAGE_REF": "No reference to one image.",
    EnvForbidden = "E_ENV_FORBIDDEN": "A variable that is not set from outside.",
    EnvPattern = "E_ENV_PATTERN": "No exact name of a variable.",
    Forbidden = "E_FORBIDDEN": "No policy can say this.",
    Gpu = "E_GPU": "No GPU, or no number of them.",
    Glob = "E_GLOB": "A pattern that does not parse, or matches code.",
    RuleTooBroad = "E_RULE_TOO_BROAD": "An allow rule that covers code nobody saw.",
    RuleExample = "E_RULE_EXAMPLE": "An example that the rule contradicts.",
    ExtendsCycle = "E_EXTENDS_CYCLE": "A policy that extends itself, or too many.",
    ExtendsPath = "E_EXTENDS_PATH": "No parent of that name.",
    Name = "E_NAME": "No name for a policy.",
    NameReserved = "E_NAME_RESERVED": "The name of a built-in policy.",
    TextControl = "E_TEXT_CONTROL": "Text with characters that are not shown.",
    LooserIgnored = "W_LOOSER_IGNORED": "A value that is looser than another layer's, and ignored.",
}

impl Code {
    /// Whether the policy can be used all the same.
    pub fn is_warning(self) -> bool {
        self == Self::LooserIgnored
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that a policy is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// As it is shown: a path, `builtin:NAME`, or the flag it was typed with.
    pub label: String,
    pub text: String,
    /// Whose word it is.
    pub level: Level,
    /// What its relative mounts start from, where it lies in a folder.
    pub folder: Option<PathBuf>,
}

/// One problem at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: Code,
    /// The key's path, such as `limits.memory`; empty for the text as a whole.
    pub key: String,
    /// Index into the sources it is reported with.
    pub source: usize,
    /// Bytes of that source.
    pub span: Range<usize>,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// What may be there.
    pub allowed: Option<String>,
    /// What to write.
    pub fix: Option<String>,
}

/// Line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl PolicySource {
    pub fn new(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            text: text.into(),
            level: Level::User,
            folder: None,
        }
    }

    pub fn of(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    pub fn lying_in(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Where a byte of the text is.
    pub fn place(&self, offset: usize) -> Place {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// Everything that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyErrors {
    /// Sorted by source and place.
    pub problems: Vec<Problem>,
    pub sources: Vec<PolicySource>,
}

impl PolicyErrors {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self.problems.first().and_then(|one| one.fix.clone()) {
            Some(fix) if self.problems.len() == 1 => fix,
            _ => "mend the lines named, then run `fumehood policy check` on it".to_owned(),
        }
    }
}

impl std::error::Error for PolicyErrors {}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plain().trim_end())
    }
}
