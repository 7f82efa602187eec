//! What the gate decides about: one value for each kind of act, holding everything that matters.

use super::text;
use crate::protocol::ids::{Digest, RunId};
use crate::protocol::net::Network;
use crate::protocol::spec::{GivenSecret, Mount, SandboxSpec};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    /// One more host for the rest of the run.
    Network,
    /// Secrets for everything in the sandbox.
    Secret,
}

impl ActionKind {
    /// The name used in policies, questions and the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Clone => "clone",
            Self::File => "file",
            Self::Network => "network",
            Self::Secret => "secret",
        }
    }
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

/// One more host that everything in the sandbox may reach for the rest of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAction {
    pub run: RunId,
    pub host: String,
    pub port: u16,
    pub policy: Digest,
}

/// Secrets that everything in the sandbox may read for the rest of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretAction {
    pub run: RunId,
    pub secrets: Vec<GivenSecret>,
    /// Where the sandbox may send them.
    pub network: Option<Network>,
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

impl Act for ExecAction {
    fn kind(&self) -> ActionKind {
        ActionKind::Exec
    }

    fn canonical(&self) -> Vec<u8> {
        let mut act = self.clone();
        for mount in &mut act.sandbox.mounts {
            *mount = Mount {
                source: text_path(&mount.source),
                target: text_path(&mount.target),
                ..mount.clone()
            };
        }
        json(self.kind(), &act)
    }

    fn summary(&self) -> String {
        text::command_line(&self.argv)
    }
}

impl Act for CloneAction {
    fn kind(&self) -> ActionKind {
        ActionKind::Clone
    }

    fn canonical(&self) -> Vec<u8> {
        json(
            self.kind(),
            &Self {
                into: text_path(&self.into),
                ..self.clone()
            },
        )
    }

    fn summary(&self) -> String {
        let rev = self.rev.as_deref().map_or_else(String::new, |rev| {
            format!(" at {}", text::short(rev.as_bytes()))
        });
        let into = text::short(self.into.as_os_str().as_bytes());
        format!(
            "clone {}{rev} into {into}",
            text::short(self.url.as_bytes())
        )
    }
}

impl Act for HostAction {
    fn kind(&self) -> ActionKind {
        ActionKind::Network
    }

    fn canonical(&self) -> Vec<u8> {
        json(self.kind(), self)
    }

    fn summary(&self) -> String {
        let host = text::short(self.host.as_bytes());
        format!("reach {}", super::network::joined(&host, self.port))
    }
}

impl Act for SecretAction {
    fn kind(&self) -> ActionKind {
        ActionKind::Secret
    }

    fn canonical(&self) -> Vec<u8> {
        json(self.kind(), self)
    }

    fn summary(&self) -> String {
        let names = self.secrets.iter().map(|secret| secret.name.as_str());
        format!("hand over {}", names.collect::<Vec<_>>().join(", "))
    }
}

impl FileAction {
    /// Relative to the workspace.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path } | Self::List { path } | Self::Write { path, .. } => path,
        }
    }

    /// `read`, `list` or `write`.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::List { .. } => "list",
            Self::Write { .. } => "write",
        }
    }
}

impl Act for FileAction {
    fn kind(&self) -> ActionKind {
        ActionKind::File
    }

    fn canonical(&self) -> Vec<u8> {
        let path = text_path(self.path());
        let act = match self {
            Self::Read { .. } => Self::Read { path },
            Self::List { .. } => Self::List { path },
            Self::Write { content, .. } => Self::Write {
                path,
                content: content.clone(),
            },
        };
        json(self.kind(), &act)
    }

    fn summary(&self) -> String {
        let path = text::short(self.path().as_os_str().as_bytes());
        format!("{} {path}", self.verb())
    }
}

/// Canonical JSON: fields in the order of their type, maps in the order of their keys, no spaces.
fn json(kind: ActionKind, act: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Tagged<'a, A> {
        action: ActionKind,
        act: &'a A,
    }
    serde_json::to_vec(&Tagged { action: kind, act })
        .expect("an act has string keys only, and its paths were made text")
}

/// A path as text that no other path has: JSON holds no bytes that are not UTF-8.
fn text_path(path: &Path) -> PathBuf {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.into()
}

#[cfg(test)]
#[path = "action_tests.rs"]
mod tests;
