//! A limit that a step came up against: which, how that is known, in which words.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is limited. The names are those of policy keys where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    Memory,
    Pids,
    Cpus,
    OpenFiles,
    FileSize,
    WallTime,
    GpuTime,
    Tmp,
    Shm,
    /// `/tmp`, `/dev/shm` or the disk: which of them is not known.
    Space,
    WorkspaceSize,
    WorkspaceInodes,
    /// What has to stay free on the disk of the workspace.
    FreeDisk,
    LogBytes,
}

impl Limit {
    /// What a program, or whoever starts it, can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Memory => "use smaller batches, fewer workers, or a smaller model",
            Self::Pids => "start fewer workers and threads (num_workers, OMP_NUM_THREADS)",
            Self::Cpus => "more threads than cores only wait for each other: start fewer",
            Self::OpenFiles => "close files, or keep fewer open at once",
            Self::FileSize => "write several smaller files",
            Self::WallTime => {
                "do less work in one go, save checkpoints, or give a larger timeout within the policy"
            }
            Self::GpuTime => {
                "what is left of the run has no GPU: work with the checkpoints there are, or ask for a new run"
            }
            Self::Tmp => "delete what is in /tmp, or write to the workspace",
            Self::Shm => "use fewer data-loader workers or smaller batches, or num_workers=0",
            Self::Space => "delete what is not needed, or write to the workspace",
            Self::WorkspaceSize => "write less, and delete what is not needed",
            Self::WorkspaceInodes => "write fewer files: archives, or one file for many records",
            Self::FreeDisk => "write less; the disk of this machine is nearly full",
            Self::LogBytes => "print less, or write to a file in the workspace",
        }
    }
}

/// How it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The kernel counted it or ended the program for it, or we measured it.
    Seen,
    /// The program's own output names it: a hint, since a program may say anything.
    Said,
}

/// One limit, with what happened at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub limit: Limit,
    pub evidence: Evidence,
    /// `limits.pids = 256: …`, one printable line.
    pub text: String,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.text, self.limit.advice())
    }
}
