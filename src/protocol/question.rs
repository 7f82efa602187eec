//! What a person is asked, and what they may answer. A door renders it; nothing here is a terminal's.

use super::alarm::WatchRules;
use super::control::Controls;
use super::ids::Digest;
use super::spec::{GivenSecret, SandboxSpec};
use serde::{Deserialize, Serialize};

/// One question, bound to the digest of what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuestionView {
    pub digest: Digest,
    /// The action's name in policies: `exec`, `clone`.
    pub action: String,
    /// One printable line.
    pub summary: String,
    /// The rule or default that asks.
    pub rule: String,
    /// Why it asks, in words for a person.
    pub why: String,
    /// Where the act goes beyond the policy: the line that would put it inside. Such a question is
    /// answered by a person or not at all; `--yes` does not count.
    pub widens: Option<String>,
    /// Whether a yes for the rest of the run may be given ([`Answer::YesForRun`]).
    pub for_run: bool,
    pub body: QuestionBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum QuestionBody {
    Exec(Box<ExecView>),
    Clone(CloneView),
    Host(HostView),
    Secrets(SecretsView),
}

/// An execution as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecView {
    /// One argument each; what is not printable ASCII is written as `\u{…}`.
    pub argv: Vec<String>,
    pub cwd: String,
    /// The files that argv names and those that changed since the last yes.
    pub files: Vec<FileView>,
    /// Changed files that are not listed because there are too many.
    pub omitted: usize,
    pub sandbox: SandboxSpec,
    /// How each control holds on this machine.
    pub controls: Controls,
    pub wall_ms: Option<u64>,
    /// What it is told about, or stopped for, while it runs.
    #[serde(default)]
    pub watch: WatchRules,
    /// Hosts that were approved for this run, as `host:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
}

/// One file of the code tree as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// Relative to the workspace.
    pub path: String,
    pub change: FileChange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum FileChange {
    /// Never approved before: the whole text.
    New {
        text: String,
    },
    /// Approved before and changed: a unified diff.
    Changed {
        diff: String,
    },
    /// The same bytes as at the last yes.
    Unchanged,
    Removed,
    /// Not text, or too large to show: its size in bytes and its SHA-256.
    Opaque {
        size: u64,
        digest: Digest,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneView {
    /// With its path and query.
    pub url: String,
    pub rev: Option<String>,
    /// Relative to the workspace.
    pub into: String,
}

/// A host to be reached by everything in the sandbox for the rest of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    pub host: String,
    pub port: u16,
    /// The model's words.
    pub reason: String,
    /// Names of the secrets that what could send to it may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// Secrets that everything in the sandbox may read for the rest of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsView {
    pub secrets: Vec<GivenSecret>,
    /// The hosts that the sandbox may send to; `None` is no network.
    pub reaches: Option<Vec<String>>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// Once.
    Yes,
    /// To this code tree and argv for the rest of the run.
    YesForRun,
    /// The model reads the reason.
    No { reason: String },
    /// No, and the run ends.
    Abort,
}
