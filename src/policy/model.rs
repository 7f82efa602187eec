//! A policy after it was read, checked and composed: plain values, every unit resolved.
//!
//! `None` in a limit is "unlimited", 0 is "none allowed".

use crate::protocol::alarm::WatchRules;
use crate::protocol::control::{Control, Strength};
use crate::protocol::ids::Digest;
use crate::protocol::net::{HostRule, SourceAlias};
use crate::protocol::spec::{Access, Limits, Tmp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The effective policy of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    pub name: String,
    pub description: String,
    pub executor: Executor,
    pub image: ImagePolicy,
    pub workspace: WorkspacePolicy,
    pub tmp: Tmp,
    /// Bytes of `/dev/shm`.
    pub shm: u64,
    pub gpu: GpuPolicy,
    pub mounts: Vec<PolicyMount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<PolicySecret>,
    pub network: NetworkPolicy,
    pub limits: Limits,
    pub watch: WatchRules,
    pub process: ProcessPolicy,
    pub env: EnvPolicy,
    pub git: GitPolicy,
    pub artifacts: ArtifactPolicy,
    pub approval: ApprovalPolicy,
    pub lifecycle: LifecyclePolicy,
    pub audit: AuditPolicy,
}

impl Policy {
    /// What is required of the machine: a limit that is not set needs nothing to hold it.
    pub fn required(&self) -> BTreeMap<Control, Strength> {
        let limits = &self.limits;
        let unset = [
            (Control::Memory, limits.memory.is_none()),
            (Control::Cpu, limits.cpus.is_none()),
            (Control::Pids, limits.pids.is_none()),
            (Control::OpenFiles, limits.open_files.is_none()),
            (Control::FileSize, limits.file_size.is_none()),
            (Control::WallTime, limits.wall_ms.is_none()),
            (Control::WorkspaceSize, self.workspace.size.is_none()),
            (Control::WorkspaceInodes, self.workspace.inodes.is_none()),
        ];
        let mut required = self.executor.require.clone();
        for (control, _) in unset.into_iter().filter(|(_, unset)| *unset) {
            required.insert(control, Strength::Absent);
        }
        required
    }

    /// SHA-256 of the canonical JSON of all effective values.
    pub fn digest(&self) -> Digest {
        super::permit::digest_of_bytes(
            &serde_json::to_vec(self).expect("a policy has only string keys and finite numbers"),
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Executor {
    pub backend: BackendChoice,
    pub runtime: RuntimeChoice,
    /// The weakest word accepted for each control the policy relies on.
    pub require: BTreeMap<Control, Strength>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// Docker if an engine answers and an image was named, else namespace.
    Auto,
    Docker,
    Namespace,
}

/// What builds the container of an engine, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// The engine's `runc` or `crun`; on the namespace backend there is none.
    Default,
    Runc,
    /// gVisor: a kernel of its own in front of the machine's.
    Runsc,
    /// A virtual machine.
    Kata,
}

impl RuntimeChoice {
    /// The word of a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Runc => "runc",
            Self::Runsc => "runsc",
            Self::Kata => "kata",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImagePolicy {
    /// The images there may be (`name@sha256:…`, or an id), also of those that the user names; empty
    /// is any. The first is that of a run whose user names none.
    pub allow: Vec<String>,
    pub require_digest: bool,
    pub pull: PullChoice,
}

/// Whether the engine may fetch an image from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PullChoice {
    /// By digest, where the user says so (`fumehood images pull`).
    Ask,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkspacePolicy {
    /// Bytes of workspace and per-run home together.
    pub size: Option<u64>,
    /// Files of workspace and per-run home together.
    pub inodes: Option<u64>,
    /// Milliseconds a finished run's own workspace is kept; `None` for ever.
    pub keep_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyMount {
    /// As written; absolute, or relative to the policy file's folder.
    pub source: String,
    pub target: String,
    pub access: Access,
}

/// One `[[secrets]]`: a file on a tmpfs of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicySecret {
    /// Of the file, and of the user's variable where it comes from that.
    pub name: String,
    pub from: SecretFrom,
    /// Whether a person is asked before it is handed over: `Ask`, or `Allow`.
    pub grant: Decision,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretFrom {
    /// The user's variable of that name.
    Environment,
    /// A file: absolute, or relative to the policy file's folder.
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkPolicy {
    pub mode: NetworkMode,
    pub allow: Vec<HostRule>,
    /// Hosts of packages, as the user's own configuration of each tool names them.
    pub sources: Vec<SourceAlias>,
    pub ca: CaHandIn,
    /// Bytes that may leave the sandboxes of a run.
    pub upload_bytes: Option<u64>,
    /// Bytes that may come into them.
    pub download_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Listed hosts, through the pipe.
    Proxy,
    None,
}

/// Which certificate authorities a sandbox is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaHandIn {
    /// Those of the host, for networks with an authority of their own.
    Host,
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GpuPolicy {
    pub devices: GpuDevices,
    /// Of the driver: `compute`, `utility`.
    pub capabilities: Vec<String>,
    /// No other run has them at the same time.
    pub exclusive: bool,
    /// Milliseconds of one GPU that the steps of a run may have, all together.
    pub time_ms: Option<u64>,
}

/// Which GPUs a run gets: so many of all, or of those that are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GpuDevices {
    /// 0 is none.
    pub count: u32,
    /// Indices and UUIDs; `None` is any.
    pub among: Option<BTreeSet<String>>,
}

impl GpuDevices {
    /// No more than either gives, of what both give.
    pub fn meet(&self, other: &Self) -> Self {
        let among = match (&self.among, &other.among) {
            (Some(a), Some(b)) => Some(a & b),
            (one, None) | (None, one) => one.clone(),
        };
        let named = among.as_ref().map_or(usize::MAX, BTreeSet::len);
        let named = u32::try_from(named).unwrap_or(u32::MAX);
        match self.count.min(other.count).min(named) {
            0 => Self::default(),
            count => Self { count, among },
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessPolicy {
    /// A fixed host uid (1000 or more), or `None` for the workspace's owner or the run's own.
    pub user: Option<u32>,
    /// Milliseconds between TERM and KILL.
    pub stop_grace_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvPolicy {
    pub set: BTreeMap<String, String>,
    /// Exact names taken over from the user's environment.
    pub pass: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitPolicy {
    /// Host names for https clones.
    pub hosts: Vec<String>,
    /// Exact URL prefixes for anything else.
    pub remotes: Vec<String>,
    pub max_bytes: u64,
    pub max_files: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactPolicy {
    /// Globs below the workspace: what a run writes as results, not part of the code tree.
    pub include: Vec<String>,
    /// Bytes and files of them that are copied out at the end of a run.
    pub max_bytes: Option<u64>,
    pub max_files: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApprovalPolicy {
    /// What happens to an act that no rule and no `contained` covers: `Ask` or `Deny`.
    pub default: Decision,
    pub contained: Contained,
    /// For what the user typed (`exec`): `Allow` or `Ask`.
    pub typed: Decision,
    /// A step starts only when nothing else lives in the sandbox.
    pub alone: bool,
    /// Milliseconds after which an unanswered question is a no.
    pub timeout_ms: Option<u64>,
    /// Whether "yes for the run" is offered.
    pub remember: Remember,
    pub rules: Vec<Rule>,
}

/// In order of strictness: the strictest that applies wins, whatever its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Ask,
    Deny,
}

/// For an execution that adds nothing to the sandbox as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contained {
    Ask,
    /// Allowed once a person, or `--yes`, said yes to an execution of the run.
    AfterFirstYes,
    Allow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remember {
    Never,
    /// The same bytes, within the run.
    ExactHash,
}

/// One `[[approval.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub id: String,
    pub action: super::action::ActionKind,
    pub decision: Decision,
    /// The first arguments, exactly; empty matches every command.
    pub command_prefix: Vec<String>,
    /// The rule applies only below this many milliseconds.
    pub max_wall_ms: Option<u64>,
    /// The rule applies only where the sandbox has no more GPUs.
    pub max_gpus: Option<u64>,
    /// The rule applies only where the sandbox reaches no host.
    pub offline: bool,
    /// Shown to the person and to the model.
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LifecyclePolicy {
    pub on_disconnect: OnDisconnect,
    /// Runs that may begin in an hour, this one included.
    pub runs_per_hour: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// What its client asked for goes on, in a process of its own, and can be taken up again.
    Finish,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditPolicy {
    /// Always true in this version: a run that cannot write its record does not act.
    pub fail_closed: bool,
}
