//! What the gate decides about: one value for each kind of act, holding everything that matters.

use crate::protocol::ids::{Digest, RunId};
use crate::protocol::spec::SandboxSpec;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Something that acts: it has a name in policies, and canonical bytes that are hashed and shown.
pub trait Act {
    /// The word used in `[[approval.rule]] action`.
    fn kind(&self) -> ActionKind;
    /// The bytes a permit is bound to: the same value gives the same bytes, any change others.
    fn canonical(&self) -> Vec<u8>;
    /// One line for a person and for the record; printable characters only.
    fn summary(&self) -> String;
}

/// The kinds of act of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    Exec,
    Clone,
    /// Reads and writes beneath the workspace, by us, on the model's behalf.
    File,
}

/// Who wrote the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user typed it (`fumehood exec`).
    Typed,
    /// The model asked for it.
    Model,
}

/// One execution in a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecAction {
    pub run: RunId,
    pub origin: Origin,
    /// Raw bytes; no shell in between.
    pub argv: Vec<Vec<u8>>,
    /// Absolute path inside the sandbox.
    pub cwd: String,
    /// Added to, and winning over, the environment of the sandbox.
    pub env: BTreeMap<String, String>,
    /// Whether standard input is passed through; its bytes are not part of the digest.
    pub stdin: bool,
    /// Milliseconds; never above the sandbox's limit.
    pub wall_ms: Option<u64>,
    pub sandbox: SandboxSpec,
    /// Digest of the effective policy.
    pub policy: Digest,
    /// Digest of the code tree: every regular file of the workspace that is no declared artifact.
    pub code: Digest,
    /// True when argv names a file that `[artifacts] include` matches: such a run always asks.
    pub names_artifact: bool,
}

/// One repository to fetch and write out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloneAction {
    pub run: RunId,
    /// As given, checked; no user information.
    pub url: String,
    pub rev: Option<String>,
    /// Relative to the workspace.
    pub into: PathBuf,
    pub policy: Digest,
}

/// A file operation of ours beneath the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "op")]
pub enum FileAction {
    Read { path: PathBuf },
    List { path: PathBuf },
    Write { path: PathBuf, content: Digest },
}
