//! GPUs of a sandbox, by name, and what of the host's driver comes with them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where the driver's own files are inside a sandbox that does not see them as part of its system.
pub const DRIVER_TARGET: &str = "/opt/fumehood/driver";

/// The GPUs of a sandbox; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    pub gpus: Vec<Gpu>,
    /// No other run of this machine has any of them at the same time.
    pub exclusive: bool,
    /// These device nodes and no others.
    pub nodes: Vec<DeviceNode>,
    /// What is shown below `/proc/driver/nvidia`, where the backend can show it: a path, its text.
    pub proc: BTreeMap<String, String>,
    /// Where all this was read: a CDI file, or the driver itself.
    pub origin: String,
}

impl Devices {
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty() && self.nodes.is_empty()
    }

    /// The groups that may use the nodes, where not everybody may.
    pub fn groups(&self) -> Vec<u32> {
        let mut groups: Vec<u32> = self.nodes.iter().filter_map(|node| node.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// As `nvidia-smi` and CDI number them.
    pub index: u32,
    pub uuid: Option<String>,
    /// The model's name; empty where nothing tells it.
    pub name: String,
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {}", self.index)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        match &self.uuid {
            Some(uuid) => write!(f, " ({uuid})"),
            None => Ok(()),
        }
    }
}

/// A character device. What is opened must still have these numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    pub source: String,
    /// Below `/dev`.
    pub target: String,
    pub major: u64,
    pub minor: u64,
    /// The group that may use it, where not everybody may.
    pub group: Option<u32>,
}

/// What a GPU was busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSample {
    pub index: u32,
    /// Percent of the time in which something ran on it.
    pub busy: u32,
    /// Bytes of its memory in use, by anybody.
    pub memory: u64,
    pub memory_total: u64,
}

/// What a step made of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuUse {
    pub index: u32,
    /// Mean over the samples, percent.
    pub busy: u32,
    /// The most that was in use in any sample, bytes.
    pub max_memory: u64,
    pub samples: u32,
}

impl fmt::Display for GpuSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, total) = (self.memory >> 20, self.memory_total >> 20);
        let (index, busy) = (self.index, self.busy);
        write!(f, "GPU {index} {busy}% busy, {used} of {total} MiB in use")
    }
}

impl fmt::Display for GpuUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, busy, most) = (self.index, self.busy, self.max_memory >> 20);
        write!(
            f,
            "GPU {index} {busy}% busy, {most} MiB of its memory at most"
        )
    }
}
