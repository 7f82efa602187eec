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

use crate::policy::model::Policy;
use crate::policy::names::{self, EnvError, TargetError};
use crate::protocol::spec::{
    Access, BackendKind, HOME_TARGET, Limits, Mount, MountKind, RootFs, SandboxSpec, USER_NAME,
    WORKSPACE_TARGET,
};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Uid and gid of what root starts in a workspace of root's: no account anywhere has it by default.
pub const UNPRIVILEGED: u32 = 64_738;

/// `PATH` inside, before an environment's folder is put in front.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Caches that go to a folder of the per-run home instead of the workspace or the image.
const CACHES: [(&str, &str); 6] = [
    ("XDG_CACHE_HOME", ".cache"),
    ("TORCHINDUCTOR_CACHE_DIR", ".cache/torchinductor"),
    ("TRITON_CACHE_DIR", ".cache/triton"),
    ("MPLCONFIGDIR", ".cache/matplotlib"),
    ("PYTHONPYCACHEPREFIX", ".cache/pycache"),
    ("NUMBA_CACHE_DIR", ".cache/numba"),
];

/// Thread counts of numeric libraries: they would count the machine's cores, not the sandbox's.
const THREADS: [&str; 5] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

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
    let mounts = mounts(input)?;
    check_overlaps(&mounts)?;
    Ok(SandboxSpec {
        backend: input.backend,
        root: input.root.clone(),
        mounts,
        tmp: input.policy.tmp.clone(),
        shm: input.policy.shm,
        uid: input.uid,
        gid: input.gid,
        hostname: input.hostname.to_owned(),
        limits: limits(input.policy),
        env: env(input)?,
        stop_grace_ms: input.policy.process.stop_grace_ms,
        require: input.policy.required(),
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

/// In the order they are applied: what lies inside another comes after it.
fn mounts(input: &PlanInput<'_>) -> Result<Vec<Mount>, PlanError> {
    let WorkspaceFacts { root, protected } = input.workspace;
    let mut mounts = vec![mount(
        MountKind::Workspace,
        root,
        WORKSPACE_TARGET.into(),
        Access::ReadWrite,
    )];
    for source in protected {
        let target = inside(root, &source.path).ok_or_else(|| PlanError::OutsideWorkspace {
            path: source.path.clone(),
        })?;
        mounts.push(mount(
            MountKind::Protected,
            source,
            target,
            Access::ReadOnly,
        ));
    }
    mounts.push(mount(
        MountKind::Home,
        input.home,
        HOME_TARGET.into(),
        Access::ReadWrite,
    ));
    if let Some(python) = input.python {
        mounts.extend(environment(input, python, &mounts)?);
    }
    mounts.extend(checked_inputs(input)?);
    Ok(mounts)
}

fn mount(kind: MountKind, source: &Source, target: PathBuf, access: Access) -> Mount {
    Mount {
        kind,
        source: source.path.clone(),
        target,
        access,
        device: source.device,
        inode: source.inode,
    }
}

/// Where a path of the workspace is inside; `None` for the workspace itself and for what is not in it.
fn inside(root: &Source, path: &Path) -> Option<PathBuf> {
    let beneath = path.strip_prefix(&root.path).ok()?;
    let plain = beneath
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && beneath != Path::new("")).then(|| Path::new(WORKSPACE_TARGET).join(beneath))
}

/// The environment at its own path. One that lies in the workspace is read-only there too: the user's
/// shell runs what is in it. A package installed "editable" from the workspace is seen at its own path,
/// where the environment points.
fn environment(
    input: &PlanInput<'_>,
    python: &PythonEnv,
    before: &[Mount],
) -> Result<Vec<Mount>, PlanError> {
    let root = &input.workspace.root;
    let mut own: Vec<Mount> = python
        .editable
        .iter()
        .filter(|editable| editable.folder.path.starts_with(&root.path))
        .map(|editable| {
            mount(
                MountKind::Environment,
                &editable.folder,
                editable.folder.path.clone(),
                Access::ReadOnly,
            )
        })
        .collect();
    own.extend(python.mounts.iter().cloned());
    // A folder before what is in it, and one of two that are the same.
    own.sort_by_key(|mount| mount.target.components().count());
    own.dedup_by(|b, a| a.target == b.target && a.source == b.source);
    // What another mount puts at that very place already (a workspace that is at /workspace outside too).
    own.retain(|mount| !is_there(before, mount));
    for mount in &own {
        if !may_hold_environment(&mount.target) {
            return Err(PlanError::EnvironmentPlace {
                path: mount.target.clone(),
            });
        }
    }
    let mut covered: Vec<Mount> = python
        .mounts
        .iter()
        .filter_map(|env| {
            Some(Mount {
                kind: MountKind::Protected,
                target: inside(root, &env.source)?,
                ..env.clone()
            })
        })
        .filter(|mount| !own.iter().any(|other| other.target == mount.target))
        .collect();
    covered.dedup_by(|b, a| a.target == b.target);
    covered.extend(own);
    Ok(covered)
}

fn is_there(mounts: &[Mount], wanted: &Mount) -> bool {
    let same = |one: &Mount| {
        one.target == wanted.target && (one.device, one.inode) == (wanted.device, wanted.inode)
    };
    mounts.iter().any(same)
}

/// Not over, and not around, what the sandbox makes itself.
fn may_hold_environment(target: &Path) -> bool {
    let own = ["/proc", "/sys", "/dev", "/etc", "/run", "/usr", HOME_TARGET];
    let plain = target
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let taken = own
        .iter()
        .any(|place| target.starts_with(place) || Path::new(place).starts_with(target));
    target.is_absolute()
        && plain
        && !taken
        && target != Path::new("/tmp")
        && target != Path::new(WORKSPACE_TARGET)
}

/// Inputs were judged as sources; here they are judged against the rest of the sandbox.
fn checked_inputs(input: &PlanInput<'_>) -> Result<Vec<Mount>, PlanError> {
    let mut inputs = input.inputs.to_vec();
    for mount in &inputs {
        names::check_target(&mount.target).map_err(|error| PlanError::Target {
            mount: mount.source.clone(),
            error,
        })?;
        if mount.access == Access::ReadWrite {
            check_unprotected(input, mount)?;
        }
    }
    inputs.sort_by_key(|mount| mount.target.components().count());
    Ok(inputs)
}

/// A second, writable way to what is read-only in the workspace.
fn check_unprotected(input: &PlanInput<'_>, mount: &Mount) -> Result<(), PlanError> {
    let environments = input.python.map_or(&[][..], |python| &python.mounts);
    let held = input
        .workspace
        .protected
        .iter()
        .map(|source| &source.path)
        .chain(environments.iter().map(|mount| &mount.source))
        .find(|held| held.starts_with(&mount.source) || mount.source.starts_with(held));
    match held {
        None => Ok(()),
        Some(held) => Err(PlanError::Unprotected {
            input: mount.source.clone(),
            target: mount.target.clone(),
            held: held.clone(),
        }),
    }
}

/// Two mounts at one place, or one that covers another which was there before.
fn check_overlaps(mounts: &[Mount]) -> Result<(), PlanError> {
    for (index, later) in mounts.iter().enumerate() {
        let covered = mounts[..index]
            .iter()
            .find(|earlier| earlier.target.starts_with(&later.target));
        if let Some(earlier) = covered {
            return Err(PlanError::Overlap {
                target: later.target.clone(),
                first: earlier.source.clone(),
                second: later.source.clone(),
            });
        }
    }
    Ok(())
}

/// Later ones win; none of the user's may touch what the sandbox says about itself.
fn env(input: &PlanInput<'_>) -> Result<BTreeMap<String, String>, PlanError> {
    let mut env = own_env(input);
    for (name, value) in input.policy.env.set.iter().chain(input.passed) {
        names::check_env(name, value).map_err(PlanError::Policy)?;
        env.insert(name.clone(), value.clone());
    }
    for (name, value) in input.typed {
        names::check_env(name, value).map_err(PlanError::Typed)?;
        env.insert(name.clone(), value.clone());
    }
    Ok(env)
}

fn own_env(input: &PlanInput<'_>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("HOME", HOME_TARGET),
        ("USER", USER_NAME),
        ("LOGNAME", USER_NAME),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        // A log is read while it is written.
        ("PYTHONUNBUFFERED", "1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, folder) in CACHES {
        env.insert(name.to_owned(), format!("{HOME_TARGET}/{folder}"));
    }
    if let Some(threads) = threads(input.policy.limits.cpus, input.cores) {
        for name in THREADS {
            env.insert(name.to_owned(), threads.to_string());
        }
    }
    let mut path: Vec<&str> = Vec::new();
    if let Some(python) = input.python {
        env.extend(python.env.clone());
        path.extend(python.path.iter().map(String::as_str));
    }
    path.push(PATH);
    env.insert("PATH".to_owned(), path.join(":"));
    env
}

/// Whole threads for a share of the processor; `None` where nothing limits it.
fn threads(cpus: Option<f64>, cores: u32) -> Option<u32> {
    // A conversion from a float saturates, so nothing here is too large or negative.
    cpus.map(|cpus| (cpus.ceil() as u32).clamp(1, cores.max(1)))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
