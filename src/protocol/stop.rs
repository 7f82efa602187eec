//! Why a run stopped, and the exit code that says so.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum StopReason {
    /// The model gave its final answer.
    Finished,
    /// The cap on model turns was reached.
    IterationCap { turns: u32 },
    /// The conversation no longer fits the model's window.
    ContextFull { tokens: u64, window: u64 },
    /// The model repeated itself after a nudge.
    DoomLoop { pattern: String },
    /// A person or the policy said no and the run cannot go on.
    Denied { why: String },
    /// The model could not be reached, refused, or answered nonsense.
    Model { error: String },
    /// The sandbox could not be made or broke.
    Sandbox { error: String },
    /// Interrupted by a person.
    Interrupted,
}

impl StopReason {
    /// The exit code of `fumehood run`; 2 is usage, said elsewhere.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Finished => 0,
            Self::IterationCap { .. } => 3,
            Self::ContextFull { .. } => 4,
            Self::DoomLoop { .. } => 5,
            Self::Denied { .. } => 6,
            Self::Model { .. } => 7,
            Self::Sandbox { .. } => 8,
            Self::Interrupted => 130,
        }
    }
}
