//! How a program ended. "We failed to run it" is `sandbox::SandboxError`, another type.

use super::alarm::{Alarm, AlarmKind};
use super::device::GpuUse;
use super::limit::Reached;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Outcome {
    /// Ended by itself with this code.
    Code(i32),
    /// Ended by this signal, not sent by us.
    Signal(i32),
    /// Killed for memory: by the kernel's counter, or by our watch, never guessed from 137.
    OutOfMemory,
    /// Still alive at the wall-time limit.
    TimedOut,
    /// The workspace grew over its bytes.
    DiskFull,
    /// The workspace grew over its number of files.
    TooManyFiles,
    /// The disk of the workspace came near its end: what is left is for everybody else.
    DiskLow,
    /// Stopped by a person.
    Cancelled,
    /// Stopped by the policy, for what was noticed.
    Stopped(AlarmKind),
}

impl Outcome {
    /// The exit code of `fumehood exec`: the program's own, 124 timed out or stopped by the policy, 128+N a signal; a kill for
    /// memory or disk is 137 like the signal that did it.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory | Self::DiskFull | Self::TooManyFiles | Self::DiskLow => 137,
            Self::TimedOut | Self::Stopped(_) => 124,
            Self::Cancelled => 130,
        }
    }

    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::OutOfMemory => f.write_str("killed: out of memory"),
            Self::TimedOut => f.write_str("killed: time limit reached"),
            Self::DiskFull => f.write_str("killed: workspace over its size"),
            Self::TooManyFiles => f.write_str("killed: workspace over its number of files"),
            Self::DiskLow => f.write_str("killed: the disk of the workspace is nearly full"),
            Self::Cancelled => f.write_str("stopped on request"),
            Self::Stopped(kind) => write!(f, "stopped by the policy: {kind}"),
        }
    }
}

/// What a step used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Milliseconds from start to end.
    pub wall_ms: u64,
    /// User CPU time, milliseconds.
    pub user_ms: u64,
    /// System CPU time, milliseconds.
    pub system_ms: u64,
    /// Largest resident set of one process, bytes.
    pub max_rss: u64,
    /// Bytes written to standard output.
    pub stdout_bytes: u64,
    /// Bytes written to standard error.
    pub stderr_bytes: u64,
    /// Background processes that had to be ended with the step.
    pub leftovers: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuUse>,
}

/// The end of a step, with what it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub outcome: Outcome,
    pub usage: Usage,
    /// Limits it came up against, whether or not it ended by them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<Reached>,
    /// What was noticed while it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}
