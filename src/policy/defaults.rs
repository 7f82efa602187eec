//! The values a policy file starts from: what each key means where it is not written.

use super::model::*;
use crate::protocol::alarm::{Reaction, WatchRules};
use crate::protocol::control::{Control, Strength};
use crate::protocol::spec::{Limits, Tmp};
use std::collections::BTreeMap;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE: u64 = 60_000;

/// The policy of an empty file.
pub fn policy() -> Policy {
    Policy {
        name: "unnamed".to_owned(),
        description: String::new(),
        executor: Executor {
            backend: BackendChoice::Auto,
            runtime: RuntimeChoice::Default,
            require: require(),
        },
        image: ImagePolicy {
            allow: Vec::new(),
            require_digest: true,
            pull: PullChoice::Never,
        },
        workspace: WorkspacePolicy {
            size: Some(10 * GIB),
            inodes: Some(200_000),
            keep_ms: None,
        },
        tmp: Tmp {
            size: GIB,
            inodes: 100_000,
            exec: false,
        },
        shm: 64 * MIB,
        gpu: GpuPolicy {
            devices: GpuDevices::default(),
            capabilities: vec!["compute".to_owned(), "utility".to_owned()],
            exclusive: true,
            time_ms: None,
        },
        mounts: Vec::new(),
        secrets: Vec::new(),
        network: NetworkPolicy {
            mode: NetworkMode::None,
            allow: Vec::new(),
            sources: Vec::new(),
            ca: CaHandIn::None,
            upload_bytes: Some(MIB),
            download_bytes: Some(5 * GIB),
        },
        limits: limits(),
        watch: watch(),
        process: ProcessPolicy {
            user: None,
            stop_grace_ms: 5_000,
        },
        env: EnvPolicy {
            set: BTreeMap::new(),
            pass: Vec::new(),
        },
        git: GitPolicy {
            hosts: Vec::new(),
            remotes: Vec::new(),
            max_bytes: 500 * MIB,
            max_files: 20_000,
        },
        artifacts: ArtifactPolicy {
            include: vec!["outputs/**".to_owned()],
            max_bytes: Some(2 * GIB),
            max_files: Some(2_000),
        },
        approval: ApprovalPolicy {
            default: Decision::Ask,
            contained: Contained::Ask,
            typed: Decision::Allow,
            alone: false,
            timeout_ms: Some(15 * MINUTE),
            remember: Remember::ExactHash,
            rules: Vec::new(),
        },
        lifecycle: LifecyclePolicy {
            on_disconnect: OnDisconnect::Stop,
            runs_per_hour: None,
        },
        audit: AuditPolicy { fail_closed: true },
    }
}

fn limits() -> Limits {
    Limits {
        wall_ms: Some(30 * MINUTE),
        cpus: Some(2.0),
        memory: Some(4 * GIB),
        swap: Some(0),
        pids: Some(256),
        open_files: Some(4096),
        file_size: Some(5 * GIB),
        log_bytes: Some(32 * MIB),
        log_line: Some(64 * KIB),
        // Written under `[workspace]`.
        workspace_size: None,
        workspace_inodes: None,
    }
}

/// Told, and left to whoever reads it: a program may well know what it does.
fn watch() -> WatchRules {
    WatchRules {
        loss: Reaction::Tell,
        memory: Reaction::Tell,
        disk: Reaction::Tell,
        silence_ms: None,
        on_silence: Reaction::Tell,
        gpu_idle_ms: Some(15 * MINUTE),
        on_gpu_idle: Reaction::Tell,
    }
}

/// Everything the kernel can hold everywhere is required of it. Time and the workspace are measured
/// by us on every backend; Landlock is a second wall behind the mounts, and containers lack it.
fn require() -> BTreeMap<Control, Strength> {
    Control::ALL
        .iter()
        .map(|control| (*control, strongest(*control)))
        .collect()
}

/// The strongest word that every backend of this version can give, on a machine that has everything.
pub fn strongest(control: Control) -> Strength {
    match control {
        Control::Landlock => Strength::Absent,
        Control::WallTime | Control::WorkspaceSize | Control::WorkspaceInodes => Strength::Watched,
        Control::NetworkNone
        | Control::Filesystem
        | Control::User
        | Control::Capabilities
        | Control::NoNewPrivileges
        | Control::Seccomp
        | Control::Memory
        | Control::Pids
        | Control::Cpu
        | Control::TmpSize
        | Control::ShmSize
        | Control::FileSize
        | Control::OpenFiles
        | Control::KillAll => Strength::Enforced,
    }
}
