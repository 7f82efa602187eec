//! What is noticed while a step runs, and what a policy wants done about it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// In order of strictness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    Off,
    /// The person, the record and the model are told.
    Tell,
    /// And the step is stopped.
    Stop,
}

/// What may be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// The output tells of a loss that is NaN or infinite.
    Loss,
    /// No output for too long.
    Silence,
    /// No GPU of the sandbox was busy for too long.
    GpuIdle,
    /// Nearly all of its memory is in use.
    Memory,
    /// Workspace or disk are nearly full.
    Disk,
}

impl AlarmKind {
    /// What a program, or whoever starts it, can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Loss => {
                "lower the learning rate, look for a division by zero or bad data, clip gradients"
            }
            Self::Silence => "print progress from time to time, and flush it (python -u)",
            Self::GpuIdle => {
                "see whether the model and its data are on the GPU, and whether data loading keeps up"
            }
            Self::Memory => "use smaller batches or fewer workers before it is killed",
            Self::Disk => "delete what is not needed before it is killed",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "the loss is NaN or infinite",
            Self::Silence => "no output for too long",
            Self::GpuIdle => "no GPU was busy for too long",
            Self::Memory => "memory nearly used up",
            Self::Disk => "the disk nearly full",
        })
    }
}

/// One thing that was noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub kind: AlarmKind,
    /// The step was stopped for it.
    pub stop: bool,
    /// One printable line.
    pub text: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = if self.stop {
            "; it was stopped for it"
        } else {
            ""
        };
        write!(f, "{}{stopped}", self.text)
    }
}

/// What is watched for, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRules {
    pub loss: Reaction,
    pub memory: Reaction,
    pub disk: Reaction,
    /// Milliseconds without output; `None` is for ever.
    pub silence_ms: Option<u64>,
    pub on_silence: Reaction,
    /// Milliseconds in which no GPU of the sandbox is busy.
    pub gpu_idle_ms: Option<u64>,
    pub on_gpu_idle: Reaction,
}

impl WatchRules {
    /// Nothing is watched for.
    pub const NONE: Self = Self {
        loss: Reaction::Off,
        memory: Reaction::Off,
        disk: Reaction::Off,
        silence_ms: None,
        on_silence: Reaction::Tell,
        gpu_idle_ms: None,
        on_gpu_idle: Reaction::Tell,
    };
}

impl Default for WatchRules {
    fn default() -> Self {
        Self::NONE
    }
}

/// So much of so much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub used: u64,
    pub most: u64,
}

/// What a sandbox uses at one moment. `None` is what is not limited, or not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Bytes that nobody can take back.
    pub memory: Option<Level>,
    /// Bytes of workspace and home, as last counted.
    pub workspace: Option<Level>,
    pub files: Option<Level>,
    /// Bytes that are free on their disk, and those that stay free.
    pub free: Option<Free>,
}

/// Room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// Below this, steps are killed.
    pub floor: u64,
}
