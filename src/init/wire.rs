//! The messages between the host and init, on the control stream.
//!
//! This file is compiled twice: into the library (`crate::sandbox::wire`) and into init itself. It
//! holds words only, no IO beyond framing arithmetic, so that both ends speak the very same bytes.
//!
//! ```text
//!  one connection over init's stdin/stdout, or at the host's door; yamux on top; the host opens
//!
//!   stream ── StreamHead ──┬─ Control            frames of ToInit / FromInit, both ways
//!                          ├─ Stdin(step)        raw bytes, host to step; half-close is end of file
//!                          └─ Stdout, Stderr(step)   raw bytes, step to host
//!
//!  and where the host asked for it ([`ToInit::Network`]), init opens
//!
//!   stream ── Outbound ────┬─ Proxy              raw bytes of a proxy's client, both ways
//!                          ├─ Named              raw bytes of a connection to a name, both ways
//!                          └─ Name               one frame of NamePorts back
//! ```
//!
//! A frame is a big-endian `u32` length and that many bytes of [postcard](https://postcard.jamesmunns.com).
//! Both ends use one yamux stream from one task only: it remembers one waker for reading and writing.
//!
//! Everything that comes from a sandbox is hostile: a frame above the bound of its direction, or one
//! that does not decode, is a protocol error and ends the sandbox.

#[path = "counted.rs"]
mod counted;
#[path = "ended.rs"]
mod ended;
#[path = "handed.rs"]
mod handed;
pub use counted::{CgroupJoin, WorldCgroup, WorldMemory};
pub use ended::{Room, StepExit, WaitStatus};
pub use handed::{SECRETS, SECRETS_ROOM, Secret};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version both ends must share; they are built together, so a difference is a stale binary.
pub const PROTOCOL_VERSION: u32 = 3;

/// Largest frame init may send, in bytes.
pub const MAX_FROM_INIT: usize = 64 * 1024;

/// Largest frame the host may send, in bytes: room for several MiB of arguments.
pub const MAX_TO_INIT: usize = 16 * 1024 * 1024;

/// Init ends everything when it has not been pinged for so long, in milliseconds of `CLOCK_MONOTONIC`.
pub const DEADMAN_MS: u64 = 30_000;

/// How often the host pings, in milliseconds.
pub const PING_MS: u64 = 5_000;

/// Where `init serve door` looks for the host.
pub const DOOR: &str = "/.fumehood/door/host";
/// Comes before the connection then: from the host at its door, or from init on stdout where it is shut.
pub const HERE: u8 = b'+';

/// The bytes of one frame.
///
/// # Errors
/// When the message is longer than a frame can say.
pub fn frame<T: Serialize>(message: &T) -> postcard::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; 4])?;
    let length =
        u32::try_from(bytes.len() - 4).map_err(|_| postcard::Error::SerializeBufferFull)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// The length of the body that this prefix announces, if it is within the bound of its direction.
pub fn body_length(prefix: [u8; 4], max: usize) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).ok()?;
    (length <= max).then_some(length)
}

/// The message in the body of a frame.
///
/// # Errors
/// When the body is not exactly one such message: bytes that are left over are an error too.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(body)? {
        (message, []) => Ok(message),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

/// The first frame on every stream: what the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StreamHead {
    Control,
    Stdin(u32),
    Stdout(u32),
    Stderr(u32),
}

/// Streams init may have open to the host at one time.
pub const MAX_OUTBOUND_STREAMS: usize = 192;

/// The first frame on a stream that init opens: what somebody in the sandbox wants. Names are guesses
/// of a client's until the host has judged them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbound {
    /// A client of the proxy; what follows are its bytes.
    Proxy,
    /// A client that connected to the loopback address of a name.
    Named { name: String, port: u16 },
    /// Somebody asks for the address of a name. Answered by one [`NamePorts`].
    Name { name: String },
}

/// The ports of a name that may be reached; none where it may not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePorts(pub Vec<u16>);

/// What the host says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
    /// First message. Init answers [`FromInit::Hello`].
    Hello { version: u32 },
    /// Starts a step. Its three streams have been opened, each with its head, before this is sent
    /// (stdin only where `stdin` is true; else the step reads `/dev/null`).
    Start(StartStep),
    /// Sends a signal to the process group of a step's first process.
    Signal { step: u32, signal: i32 },
    /// Kills every process of a step, at once.
    Kill { step: u32 },
    /// Feeds the dead-man timer. Init answers [`FromInit::Pong`] with the same number.
    Ping { seq: u64 },
    /// Kills everything and ends.
    Shutdown,
    /// Listens inside for clients of a proxy on this port, and for name queries, and passes on what
    /// they want. Comes before the first step; where it cannot be done, everything ends.
    Network { proxy: u16 },
    /// Writes each into a file of its own in [`SECRETS`]; where it cannot, everything ends.
    Secrets(Vec<Secret>),
}

/// One process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartStep {
    /// Chosen by the host, never reused within a sandbox.
    pub step: u32,
    /// Program and arguments. A program without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Absolute path inside the sandbox.
    pub cwd: Vec<u8>,
    pub stdin: bool,
    pub limits: StepLimits,
}

/// Resource limits of a step, set from these values and never inherited from init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// `RLIMIT_NOFILE`; `None` leaves init's own.
    pub open_files: Option<u64>,
    /// `RLIMIT_FSIZE` in bytes.
    pub file_size: Option<u64>,
    /// `RLIMIT_NPROC`, set only where the backend counts processes by it.
    pub processes: Option<u64>,
    /// Whole cores, by affinity, where no CPU quota exists.
    pub cores: Option<u32>,
    /// Added to what init has in `oom_score_adj`, so that init survives to report.
    pub oom_score_adj: i32,
}

/// What init says on the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    Hello {
        version: u32,
    },
    /// The program was executed (`execve` succeeded).
    Started {
        step: u32,
    },
    /// The program was not executed; no [`FromInit::Exited`] follows.
    StartFailed {
        step: u32,
        error: StartError,
    },
    /// The first process ended and every descendant is gone. Output still in the pipes follows on
    /// the streams, which then end.
    Exited(StepExit),
    Pong {
        seq: u64,
    },
    /// Init cannot go on (a keeper died, a descriptor table is full): it kills everything and ends.
    Fatal {
        reason: String,
    },
}

/// Why a program was not executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartError {
    /// No such program in the sandbox.
    NotFound,
    /// It exists and cannot be executed (permission, format, missing interpreter): the `errno`.
    NotExecutable { errno: i32 },
    /// The working directory cannot be entered: the `errno`.
    WorkingDirectory { errno: i32 },
    /// Arguments and environment are larger than the kernel accepts (`E2BIG`).
    TooLarge,
    /// No process could be made: the `errno` (`EAGAIN` is the process limit).
    Resources { errno: i32 },
    /// A limit, the filter or the Landlock rules could not be put on it: which, and why.
    Unconfined { detail: String },
    /// The request made no sense (a step number used twice, an empty argv).
    Invalid { reason: String },
}

/// The world that `init enter` builds before it becomes PID 1. It is the first frame on init's standard
/// input, and [`Entered`] the first on its output; what follows on both is the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    pub hostname: String,
    /// The unprivileged host uid and gid everything runs as. Never 0.
    pub host_uid: u32,
    pub host_gid: u32,
    /// Extra groups kept by a root start (`video`, `render`).
    pub groups: Vec<u32>,
    /// The system, read-only: of the host `/usr`, what of `/bin`, `/lib*`, `/sbin` is not in it, and the
    /// harmless part of `/etc`; of an image what it has beside what is made for each sandbox.
    pub system: Vec<WorldSystem>,
    /// Applied in order.
    pub mounts: Vec<WorldMount>,
    /// Nodes below `/dev` beside the harmless ones: GPUs.
    pub devices: Vec<WorldDevice>,
    /// Texts shown below `/proc/driver`, by path relative to it.
    pub driver: Vec<(String, String)>,
    /// Bytes of `/tmp`, and its files.
    pub tmp_size: u64,
    pub tmp_inodes: u64,
    pub tmp_exec: bool,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Whether there is a place for secrets.
    pub secrets: bool,
    /// Cgroup folders already made and limited by the host, joined by init and removed by the outer
    /// half at the end.
    pub cgroups: Vec<WorldCgroup>,
    pub memory: WorldMemory,
    /// Whether names are asked of init, which may then listen on any port of the loopback.
    pub resolver: Resolver,
    pub purpose: Purpose,
}

/// One entry of the system that is shown: the host's own, or an unpacked image's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorldSystem {
    /// What is at `source` on the host, at `path`; the same for the host's own.
    Bind { source: String, path: String },
    /// A symbolic link, as it is there.
    Link { path: String, target: String },
}

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldMount {
    pub source: String,
    pub target: String,
    pub writable: bool,
    /// Device and inode that `source` must have when it is opened: the thing that was shown.
    pub device: u64,
    pub inode: u64,
}

/// A character device, which must have these numbers when it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldDevice {
    pub source: String,
    pub target: String,
    pub major: u64,
    pub minor: u64,
}

/// Who answers for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolver {
    /// A file with the own host name.
    Nobody,
    /// Init, on 127.0.0.1.
    Init,
}

/// What init does in the finished world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Serves the connection.
    Serve,
    /// Runs `/bin/true` as a step would be run, and ends: what a machine allows is found by doing.
    Probe,
}

/// What `init enter` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entered {
    /// The world stands, and what was asked for in it begins.
    Standing {
        /// PID 1 of the sandbox, as the host numbers it.
        pid: u32,
        /// Level of the Landlock rules every step gets, at most the highest this init knows; 0 is none.
        landlock: u32,
    },
    /// Nothing was started, and nothing is left.
    Failed(EnterError),
}

/// Where the chain failed: the stage, the call or object, the `errno` (0 where none applies).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterError {
    pub stage: Stage,
    pub detail: String,
    pub errno: i32,
}

/// The stages of `init enter`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Reading and checking the [`World`].
    Read,
    /// Joining cgroups.
    Cgroup,
    /// Becoming the unprivileged user.
    Drop,
    /// Making the namespaces.
    Namespaces,
    /// Writing the uid and gid maps.
    Maps,
    /// Opening what is mounted.
    Sources,
    /// The empty root.
    Root,
    /// The host's system in it.
    System,
    /// `/dev`.
    Dev,
    /// `/proc`.
    Proc,
    /// The mounts of the sandbox.
    Mounts,
    /// Leaving the old root.
    Pivot,
    /// Host name and loopback.
    Network,
    /// Limits, capabilities and secure bits.
    Lock,
    /// The Landlock rules.
    Landlock,
    /// The system-call filter.
    Filter,
    /// Running `/bin/true` ([`Purpose::Probe`] only).
    Run,
}
