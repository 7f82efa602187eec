//! The sandbox as one printable value: what a policy and a request come to on this machine.
//!
//! `sandbox::plan` makes it (pure), the gate shows and hashes it, each backend interprets it.

use super::control::{Control, Strength};
use super::device::Devices;
use super::ids::Digest;
use super::net::Network;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where the workspace is mounted inside a sandbox.
pub const WORKSPACE_TARGET: &str = "/workspace";

/// Where the per-run home (caches; exec allowed, counted) is mounted inside a sandbox.
pub const HOME_TARGET: &str = "/home/fumehood";

/// Where certificate authorities of the host are mounted inside a sandbox that is given them.
pub const AUTHORITIES_TARGET: &str = "/.fumehood-authorities.pem";

/// Where secrets lie inside a sandbox that is given some: a tmpfs of its own, a file for each.
pub const SECRETS_TARGET: &str = "/run/secrets";

/// User name inside a sandbox.
pub const USER_NAME: &str = "fumehood";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    Docker,
    Namespace,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Namespace => "namespace",
        })
    }
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum RootFs {
    /// The host's own `/usr`-like directories, read-only.
    HostSystem,
    /// An image of an engine: what was asked for, and the immutable id it resolved to (`sha256:…`).
    Image { reference: String, id: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Why a mount is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    Workspace,
    /// The per-run home with its caches.
    Home,
    /// A folder inside the workspace that stays read-only (`.git`, `.vscode`, ...).
    Protected,
    /// Named by the policy or typed by the user.
    Input,
    /// A Python environment, or the base interpreter it names.
    Environment,
    /// A file of the GPU driver.
    Driver,
    /// Certificate authorities of the host.
    Authorities,
}

/// One bind mount. `device` and `inode` are those of the source when it was judged: the thing that
/// is mounted must still have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub kind: MountKind,
    pub source: PathBuf,
    pub target: PathBuf,
    pub access: Access,
    pub device: u64,
    pub inode: u64,
}

/// `/tmp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmp {
    /// Bytes.
    pub size: u64,
    pub inodes: u64,
    pub exec: bool,
}

/// Limits of a sandbox and of each step. `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Milliseconds from start to end of a step.
    pub wall_ms: Option<u64>,
    /// Cores; fractions allowed where a quota exists.
    pub cpus: Option<f64>,
    /// Bytes of all processes together.
    pub memory: Option<u64>,
    /// Bytes of swap on top.
    pub swap: Option<u64>,
    pub pids: Option<u64>,
    pub open_files: Option<u64>,
    /// Bytes of one file.
    pub file_size: Option<u64>,
    /// Bytes of each step's log kept on disk, head and tail.
    pub log_bytes: Option<u64>,
    /// Bytes of one line in anything but the raw log.
    pub log_line: Option<u64>,
    /// Bytes in workspace and home together.
    pub workspace_size: Option<u64>,
    /// Files in workspace and home together.
    pub workspace_inodes: Option<u64>,
}

/// The whole sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub backend: BackendKind,
    pub root: RootFs,
    /// Applied in order.
    pub mounts: Vec<Mount>,
    pub tmp: Tmp,
    /// Bytes of `/dev/shm`.
    pub shm: u64,
    /// Unprivileged host uid and gid that everything runs as; never 0.
    pub uid: u32,
    pub gid: u32,
    pub hostname: String,
    pub limits: Limits,
    /// The environment every step starts from.
    pub env: BTreeMap<String, String>,
    /// Where the pipe leads beyond this machine; `None` is nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Milliseconds between TERM and KILL.
    pub stop_grace_ms: u64,
    /// The weakest word accepted for each control; anything weaker is an error.
    pub require: BTreeMap<Control, Strength>,
    #[serde(default, skip_serializing_if = "Devices::is_empty")]
    pub devices: Devices,
    /// Handed over before the first step, beneath [`SECRETS_TARGET`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<GivenSecret>,
}

/// A secret as everybody may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenSecret {
    /// The name of its file.
    pub name: String,
    /// Where the value comes from, in words.
    pub from: String,
    /// Hash of the value under a key that only this run's process has: the same value has the same one,
    /// and no record tells which value that is.
    pub mark: Digest,
}

impl SandboxSpec {
    /// The mount that is the workspace.
    pub fn workspace(&self) -> Option<&Mount> {
        self.mounts
            .iter()
            .find(|mount| mount.kind == MountKind::Workspace)
    }
}
