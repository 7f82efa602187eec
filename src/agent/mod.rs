//! The agent: a model, its tools, and the loop between them.
//!
//! ```text
//!  door ── Operation ─▶ Queue (pure) ── accepted ─▶ Driver ── History moves ─▶ turn
//!   ▲                     └ ignored / denied(reason)   ▲                        │
//!   │                                                  └──── History, why ◀─────┤
//!   └───────── Event ◀── Desk: into the record, then before the eyes ◀──────────┘
//! ```
//!
//! While a turn runs, the history has been moved into it: one turn at a time is ownership, not a flag.
//! Every call gets exactly one answer, an interrupted one too.

mod driver;
mod queue;
mod turn;

pub use driver::Driver;
pub use queue::{Admission, Operation, Queue};

use crate::llm::ChatModel;
use crate::protocol::stop::StopReason;
use crate::tools::desk::Desk;
use crate::tools::{Router, ToolStop};
use std::sync::Arc;

/// What an agent consists of.
pub struct Agent {
    pub model: Arc<dyn ChatModel>,
    pub router: Router,
    pub desk: Desk,
    pub caps: Caps,
}

/// Bounds of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Answers of the model.
    pub turns: u32,
}

/// Why an agent stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEnd {
    pub stop: StopReason,
    /// The final answer; empty where there is none.
    pub text: String,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl AgentEnd {
    fn stopped(stop: StopReason) -> Self {
        Self {
            stop,
            text: String::new(),
            remedy: None,
        }
    }

    fn by_tool(stop: &ToolStop) -> Self {
        Self {
            remedy: stop.remedy(),
            ..Self::stopped(stop.reason())
        }
    }
}
