//! The end of a step, in words for the host. A part of [`super`], and compiled twice as it is.

use serde::{Deserialize, Serialize};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepExit {
    pub step: u32,
    pub status: WaitStatus,
    /// True when the end was asked for by `ToInit::Kill`.
    pub killed: bool,
    /// Descendants that still lived when the first process ended, and were killed.
    pub leftovers: u32,
    /// User and system CPU time of the step and its reaped descendants, in microseconds.
    pub user_us: u64,
    pub system_us: u64,
    /// Largest resident set of one process, in KiB (`ru_maxrss`).
    pub max_rss_kib: u64,
    /// Kills by the memory controller that init itself could see (`None` where no cgroup is visible).
    pub oom_kills: Option<u64>,
    /// What was left in `/tmp` and `/dev/shm` when it ended; `None` where they could not be asked.
    pub tmp: Option<Room>,
    pub shm: Option<Room>,
}

/// Bytes and files of a file system of its own: how many there are, and how many are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    pub bytes: [u64; 2],
    pub files: [u64; 2],
}

/// The two ways a Linux process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitStatus {
    Code(i32),
    Signal(i32),
}
