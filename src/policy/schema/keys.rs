//! The table of keys.

use super::Key;
use super::forms::{amount, fixed, limit};
use super::watch::WATCH;
use crate::policy::model::{
    CaHandIn, Contained, Decision, NetworkMode, OnDisconnect, PullChoice, Remember, RuntimeChoice,
};
use crate::policy::value::{Form, Slot, Unit, Value, Words};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1_000;
const YEAR: u64 = 365 * 86_400 * SECOND;

/// The smallest limits are not 0: kernels and engines read a 0 there as "no limit".
const MEMORY: (u64, u64) = (16 * MIB, 64 * TIB);
const DISK: (u64, u64) = (MIB, 1024 * TIB);
const ANY_SIZE: (u64, u64) = (0, 1024 * TIB);

const REQUIRE: Key = Key {
    path: "executor.require",
    form: Form::Require,
    about: "Controls insisted on: NAME is enforced, NAME:watched accepts watched, NAME:absent accepts none",
    slot: Slot {
        get: |policy| Value::Require(policy.executor.require.clone()),
        // What is not named stays as it was.
        put: |policy, value| {
            if let Value::Require(require) = value {
                policy.executor.require.extend(require);
            }
        },
    },
};

/// Every key, in the order in which it is shown.
pub(in crate::policy) const KEYS: &[Key] = &ALL;

const ALL: [Key; WORLD.len() + WATCH.len() + MANNERS.len()] = joined([WORLD, WATCH, MANNERS]);

/// All of them, one after another.
const fn joined<const N: usize>(parts: [&[Key]; 3]) -> [Key; N] {
    let mut all = [REQUIRE; N];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            all[at] = parts[part][index];
            (index, at) = (index + 1, at + 1);
        }
        part += 1;
    }
    all
}

/// What a sandbox is made of, and its limits.
const WORLD: &[Key] = &[
    key!(
        "executor.backend",
        Form::Backend,
        Backend(executor.backend),
        "What isolates; auto is docker where an engine answers and an image is named, else namespace"
    ),
    pick!(
        "executor.runtime",
        [
            "default" = RuntimeChoice::Default,
            "runc" = RuntimeChoice::Runc,
            "runsc" = RuntimeChoice::Runsc,
            "kata" = RuntimeChoice::Kata
        ],
        executor.runtime,
        "What builds the engine's container, by name; where it is absent nothing starts"
    ),
    REQUIRE,
    key!(
        "image.allow",
        Form::List(Words::Images),
        List(image.allow),
        "The images there may be, none: any; the first is that of a run whose user names none"
    ),
    key!(
        "image.require_digest",
        Form::Flag { strict: true },
        Flag(image.require_digest),
        "Entries of image.allow name a digest, not a tag that can move"
    ),
    choice!(
        "image.pull",
        ["ask" = PullChoice::Ask, "never" = PullChoice::Never],
        image.pull,
        "Whether the engine may fetch an image from a registry: by digest, as `fumehood images pull` asks"
    ),
    key!(
        "workspace.size",
        limit(Unit::Bytes, DISK),
        Limit(workspace.size),
        "Bytes in the workspace and the run's home together"
    ),
    key!(
        "workspace.inodes",
        limit(Unit::Count, (16, 1 << 40)),
        Limit(workspace.inodes),
        "Files in the workspace and the run's home together"
    ),
    key!(
        "workspace.keep",
        limit(Unit::Milliseconds, (0, 100 * YEAR)),
        Limit(workspace.keep_ms),
        "How long a finished run's own workspace is kept; never a folder of yours"
    ),
    key!(
        "tmp.size",
        amount(Unit::Bytes, (64 * KIB, TIB)),
        Amount(tmp.size),
        "Bytes of /tmp"
    ),
    key!(
        "tmp.inodes",
        amount(Unit::Count, (16, 1 << 32)),
        Amount(tmp.inodes),
        "Files in /tmp"
    ),
    key!(
        "tmp.exec",
        Form::Flag { strict: false },
        Flag(tmp.exec),
        "Programs in /tmp may be executed"
    ),
    key!(
        "shm.size",
        amount(Unit::Bytes, (64 * KIB, TIB)),
        Amount(shm),
        "Bytes of /dev/shm; data loaders with workers want 1GiB or more"
    ),
    key!(
        "gpu.devices",
        Form::Gpus,
        Gpus(gpu.devices),
        "GPUs of the sandbox: none, any:N, a list of indices and UUIDs, or any:N of A, B"
    ),
    only!(
        "gpu.mode",
        "cdi",
        &["hook"],
        "Nodes and files as CDI says, made by Fumehood; no program of a toolkit runs"
    ),
    key!(
        "gpu.capabilities",
        Form::List(Words::Capabilities),
        List(gpu.capabilities),
        "Of the driver: compute for libraries, utility for nvidia-smi and NVML"
    ),
    key!(
        "gpu.exclusive",
        Form::Flag { strict: true },
        Flag(gpu.exclusive),
        "No other run of this machine has these GPUs at the same time; it waits for them"
    ),
    choice!(
        "network.mode",
        ["proxy" = NetworkMode::Proxy, "none" = NetworkMode::None],
        network.mode,
        "The network of the sandbox; proxy reaches what is listed, and nothing else"
    ),
    key!(
        "network.allow",
        Form::Hosts,
        Hosts(network.allow),
        "Hosts that may be reached, by name, port and (in plain HTTP) method"
    ),
    key!(
        "network.sources",
        Form::Sources,
        Sources(network.sources),
        "Hosts of packages, as your own configuration of each tool names them"
    ),
    choice!(
        "network.ca",
        ["host" = CaHandIn::Host, "none" = CaHandIn::None],
        network.ca,
        "Your bundle of certificate authorities, handed in with the usual variables"
    ),
    key!(
        "network.upload_bytes",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(network.upload_bytes),
        "Bytes that may leave the sandboxes of a run"
    ),
    key!(
        "network.download_bytes",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(network.download_bytes),
        "Bytes that may come into the sandboxes of a run"
    ),
    key!(
        "limits.wall_time",
        limit(Unit::Milliseconds, (SECOND, YEAR)),
        Limit(limits.wall_ms),
        "Time of one step"
    ),
    key!(
        "limits.cpus",
        Form::Cores,
        Cores(limits.cpus),
        "Processor cores; fractions where a quota exists"
    ),
    key!(
        "limits.memory",
        limit(Unit::Bytes, MEMORY),
        Limit(limits.memory),
        "Memory of all processes together"
    ),
    key!(
        "limits.swap",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(limits.swap),
        "Swap on top of memory"
    ),
    key!(
        "limits.pids",
        limit(Unit::Count, (4, 1 << 22)),
        Limit(limits.pids),
        "Processes and threads"
    ),
    key!(
        "limits.open_files",
        limit(Unit::Count, (16, 1 << 20)),
        Limit(limits.open_files),
        "Open files of one process"
    ),
    key!(
        "limits.file_size",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(limits.file_size),
        "Bytes of one file"
    ),
    key!(
        "limits.log_bytes",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(limits.log_bytes),
        "Bytes kept of each log of a step, head and tail"
    ),
    key!(
        "limits.log_line",
        limit(Unit::Bytes, (256, 16 * MIB)),
        Limit(limits.log_line),
        "Bytes shown of one line of output"
    ),
    key!(
        "limits.artifact_bytes",
        limit(Unit::Bytes, ANY_SIZE),
        Limit(artifacts.max_bytes),
        "Bytes of results that are copied out (--artifacts)"
    ),
    key!(
        "limits.artifact_files",
        limit(Unit::Count, (0, 1 << 32)),
        Limit(artifacts.max_files),
        "Files of results that are copied out (--artifacts)"
    ),
];

/// How things are done in it and around it.
const MANNERS: &[Key] = &[
    key!(
        "process.user",
        Form::User,
        User(process.user),
        "Host uid that everything runs as; auto: the workspace's owner, never root"
    ),
    only!(
        "process.seccomp",
        "strict",
        &["default"],
        "The system-call filter"
    ),
    key!(
        "process.stop_grace",
        amount(Unit::Milliseconds, (0, 10 * 60 * SECOND)),
        Amount(process.stop_grace_ms),
        "Time between TERM and KILL"
    ),
    key!(
        "env.set",
        Form::Env,
        Env(env.set),
        "Variables of the sandbox"
    ),
    key!(
        "env.pass",
        Form::List(Words::Variables),
        List(env.pass),
        "Your variables that are handed in, by exact name"
    ),
    key!(
        "git.hosts",
        Form::List(Words::Hosts),
        List(git.hosts),
        "Hosts that may be cloned from over https"
    ),
    key!(
        "git.remotes",
        Form::List(Words::Remotes),
        List(git.remotes),
        "Beginnings of other URLs that may be cloned from"
    ),
    key!(
        "git.max_bytes",
        amount(Unit::Bytes, DISK),
        Amount(git.max_bytes),
        "Bytes of one clone"
    ),
    key!(
        "git.max_files",
        amount(Unit::Count, (1, 1 << 32)),
        Amount(git.max_files),
        "Files of one clone"
    ),
    only!(
        "git.submodules",
        "deny",
        &["allow"],
        "Submodules are listed and not fetched"
    ),
    only!(
        "git.lfs",
        "deny",
        &["allow"],
        "LFS pointers are listed and not fetched"
    ),
    only!(
        "git.symlinks",
        "drop",
        &["file"],
        "Links in a repository are listed and not made"
    ),
    key!(
        "artifacts.include",
        Form::List(Words::Globs),
        List(artifacts.include),
        "What runs write as results: no part of the code that an approval is bound to"
    ),
    choice!(
        "approval.default",
        ["ask" = Decision::Ask, "deny" = Decision::Deny],
        approval.default,
        "What happens where nothing else decides"
    ),
    choice!(
        "approval.contained",
        [
            "allow" = Contained::Allow,
            "after-first-yes" = Contained::AfterFirstYes,
            "ask" = Contained::Ask
        ],
        approval.contained,
        "An execution that stays inside the sandbox as declared"
    ),
    choice!(
        "approval.typed",
        ["allow" = Decision::Allow, "ask" = Decision::Ask],
        approval.typed,
        "What the user typed (`fumehood exec`)"
    ),
    key!(
        "approval.alone",
        Form::Flag { strict: true },
        Flag(approval.alone),
        "A step starts only when nothing else lives in the sandbox"
    ),
    key!(
        "approval.timeout",
        limit(Unit::Milliseconds, (SECOND, YEAR)),
        Limit(approval.timeout_ms),
        "An unanswered question is a no after this time"
    ),
    choice!(
        "approval.remember",
        [
            "exact-hash" = Remember::ExactHash,
            "never" = Remember::Never
        ],
        approval.remember,
        "Whether a yes can be given for the rest of the run"
    ),
    choice!(
        "lifecycle.on_disconnect",
        ["finish" = OnDisconnect::Finish, "stop" = OnDisconnect::Stop],
        lifecycle.on_disconnect,
        "What a step or an agent does when its terminal goes away or its command is killed"
    ),
    fixed(
        "audit.fail_closed",
        Form::Always,
        "A run that cannot write its record does not act",
    ),
];
