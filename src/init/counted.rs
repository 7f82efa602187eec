//! The words about cgroups, and about who counts memory.

use serde::{Deserialize, Serialize};

/// A cgroup to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorldCgroup {
    /// The folder.
    pub dir: String,
    pub join: CgroupJoin,
}

/// How a process gets into a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupJoin {
    /// Version 1: it writes `0` to `tasks`, which takes microseconds (`cgroup.procs` takes 10 ms).
    Tasks,
    /// Version 2: it is cloned into the folder.
    Clone,
}

/// Who counts memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorldMemory {
    /// A memory cgroup charges everything.
    Charged,
    /// The host adds up resident sets, which miss what is not mapped: memory that can be held
    /// without a mapping (memfd, System V segments and queues) is refused.
    Watched,
}
