//! From a policy and what is there to one [`SandboxSpec`]. Pure: everything that had to be looked at
//! (owners, identities, environments, the user's variables) comes in as a value.
//!
//! ```text
//!   policy ──────────────┐
//!   workspace, home ─────┤           mounts   workspace, protected, home, environment, inputs
//!   judged inputs ───────┼── plan ─▶ env      base < environment < policy < passed < typed
//!   Python environment ──┤           limits   as the policy says
//!   typed variables ─────┘           ids      never 0
//! ```

mod env;
mod gpus;
mod mounts;

use super::gpu::DriverFile;
use crate::policy::model::Policy;
use crate::policy::names::{EnvError, TargetError};
use crate::protocol::device::Devices;
use crate::protocol::net::Network;
use crate::protocol::spec::{BackendKind, GivenSecret, Limits, Mount, RootFs, SandboxSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Uid and gid of what root starts in a workspace of root's. Nobody gives it to anyone: systemd
/// documents 65520 to 65533 as unused, between its dynamic users (61184 to 65519) and `nobody`, and
/// Debian reserves 65000 to 65533. Not above 65535: where a container maps 65536 ids, as is usual, a
/// larger one is nobody at all.
pub const UNPRIVILEGED: u32 = 65_530;

/// Something on the host, as it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
}

/// The workspace, as it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceFacts {
    pub root: Source,
    /// What exists in it and stays read-only (`.git`, `.vscode`, …), with paths beneath the root's.
    pub protected: Vec<Source>,
    /// What exists in it and is covered: sockets and pipes, with somebody outside at the other end.
    pub covered: Vec<Covered>,
}

/// A place in the workspace, beneath the root's path, and the empty file that is put over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    pub place: PathBuf,
    pub blank: Source,
}

/// A Python environment, as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PythonEnv {
    /// The environment and the interpreter it names, read-only at their own paths.
    pub mounts: Vec<Mount>,
    /// `VIRTUAL_ENV` or `CONDA_PREFIX`, and the like.
    pub env: BTreeMap<String, String>,
    /// Put in front of `PATH`.
    pub path: Vec<String>,
    /// Packages that are only pointed to.
    pub editable: Vec<Editable>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A package installed "editable": the environment holds only the path of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Editable {
    pub name: String,
    pub folder: Source,
}

/// The GPUs of a run, as they were found.
#[derive(Debug, Clone, Copy)]
pub struct GpuFacts<'a> {
    pub devices: &'a Devices,
    pub files: &'a [DriverFile],
}

/// What the network of a sandbox comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFacts {
    /// With the hosts of package sources.
    pub network: Network,
    /// Where those packages come from, for tools inside.
    pub env: BTreeMap<String, String>,
    /// A file of certificates that is handed in.
    pub authorities: Option<Source>,
}

/// Everything a plan is made from.
#[derive(Debug)]
pub struct PlanInput<'a> {
    pub policy: &'a Policy,
    pub backend: BackendKind,
    pub root: RootFs,
    /// See [`run_as`].
    pub uid: u32,
    pub gid: u32,
    pub workspace: &'a WorkspaceFacts,
    /// The per-run home.
    pub home: &'a Source,
    /// Judged by `mount_source`.
    pub inputs: &'a [Mount],
    pub python: Option<&'a PythonEnv>,
    /// Claimed for this run; see [`super::gpu`].
    pub gpus: Option<GpuFacts<'a>>,
    /// What is handed over before the first step.
    pub secrets: &'a [GivenSecret],
    /// `None` is no network.
    pub network: Option<&'a NetworkFacts>,
    /// Values of the user's variables that the policy passes on by name.
    pub passed: &'a BTreeMap<String, String>,
    /// What the user typed (`--env`).
    pub typed: &'a BTreeMap<String, String>,
    pub hostname: &'a str,
    /// Cores of this machine.
    pub cores: u32,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("a sandbox never runs as root, and uid {uid}, gid {gid} was asked for")]
    Root { uid: u32, gid: u32 },
    #[error("{path} lies outside the workspace it should be protected in")]
    OutsideWorkspace { path: PathBuf },
    #[error("mount of {mount}: {error}")]
    Target { mount: PathBuf, error: TargetError },
    #[error("{target} is taken: {first} and {second} would both be there")]
    Overlap {
        target: PathBuf,
        first: PathBuf,
        second: PathBuf,
    },
    #[error("{input} would be writable at {target}, and it holds {held}, which stays read-only")]
    Unprotected {
        input: PathBuf,
        target: PathBuf,
        held: PathBuf,
    },
    #[error(
        "the environment {path} cannot be at its own path inside: that place is the sandbox's own"
    )]
    EnvironmentPlace { path: PathBuf },
    #[error("--env {0}")]
    Typed(EnvError),
    #[error("[env] of the policy: {0}")]
    Policy(EnvError),
    #[error("{hostname:?} is not a host name")]
    Hostname { hostname: String },
}

impl PlanError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Root { .. } => {
                "set `[process] user` in the policy to a uid of 1000 or more, or give the workspace an owner who is not root".to_owned()
            }
            Self::OutsideWorkspace { .. } => "look at what is there now, and start again".to_owned(),
            Self::Target { error, .. } => error.remedy().to_owned(),
            Self::Overlap { .. } => "give each mount a target of its own".to_owned(),
            Self::Unprotected { .. } => "mount it read-only, or a folder that does not hold it".to_owned(),
            Self::EnvironmentPlace { .. } => {
                "make the environment somewhere else, beneath your home for instance".to_owned()
            }
            Self::Typed(error) | Self::Policy(error) => error.remedy(),
            Self::Hostname { .. } => "use letters, digits and hyphens, 63 at most".to_owned(),
        }
    }
}

/// Who runs, decided from who owns the workspace and who asks: files come out as their owner's.
/// `owner` and `caller` are uid and gid.
pub fn run_as(
    policy: &Policy,
    backend: BackendKind,
    owner: (u32, u32),
    caller: (u32, u32),
) -> (u32, u32) {
    let never_root = |(uid, gid): (u32, u32)| match (uid, gid) {
        (0, _) => (UNPRIVILEGED, UNPRIVILEGED),
        (uid, 0) => (uid, UNPRIVILEGED),
        ids => ids,
    };
    match (policy.process.user, caller.0, backend) {
        (Some(uid), ..) => (uid, never_root((uid, owner.1)).1),
        // Without an engine an ordinary user can be nobody else.
        (None, 1.., BackendKind::Namespace) => caller,
        (None, ..) => never_root(owner),
    }
}

/// Makes the plan.
pub fn plan(input: &PlanInput<'_>) -> Result<SandboxSpec, PlanError> {
    if input.uid == 0 || input.gid == 0 {
        return Err(PlanError::Root {
            uid: input.uid,
            gid: input.gid,
        });
    }
    check_hostname(input.hostname)?;
    Ok(SandboxSpec {
        backend: input.backend,
        root: input.root.clone(),
        mounts: mounts::mounts(input)?,
        tmp: input.policy.tmp.clone(),
        shm: input.policy.shm,
        uid: input.uid,
        gid: input.gid,
        hostname: input.hostname.to_owned(),
        limits: limits(input.policy),
        env: env::env(input)?,
        network: input.network.map(|facts| facts.network.clone()),
        stop_grace_ms: input.policy.process.stop_grace_ms,
        secrets: input.secrets.to_vec(),
        require: input.policy.required(),
        devices: input
            .gpus
            .map(|gpus| gpus.devices.clone())
            .unwrap_or_default(),
    })
}

/// The sizes are written under `[workspace]` and hold like every other limit.
fn limits(policy: &Policy) -> Limits {
    Limits {
        workspace_size: policy.workspace.size.or(policy.limits.workspace_size),
        workspace_inodes: policy.workspace.inodes.or(policy.limits.workspace_inodes),
        ..policy.limits.clone()
    }
}

fn check_hostname(hostname: &str) -> Result<(), PlanError> {
    let good = !hostname.is_empty()
        && hostname.len() <= 63
        && !hostname.starts_with('-')
        && hostname
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-');
    match good {
        true => Ok(()),
        false => Err(PlanError::Hostname {
            hostname: hostname.to_owned(),
        }),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
