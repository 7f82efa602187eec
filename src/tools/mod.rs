//! The verbs: what an agent can do, each call prepared, decided at the gate, and carried out on a
//! permit only.
//!
//! ```text
//!   ToolCall ─ Router ─┬─ unknown tool, arguments that do not parse ──────────────▶ answer
//!                      └─ Tool::call ─ act ─ gate ─┬─ denied ─────────────────────▶ answer
//!                                                  └─ permit ─ execute ─ sanitise ▶ answer
//! ```
//!
//! Every call has exactly one answer, in words for the model. What makes going on impossible (a broken
//! sandbox, a record that cannot be written, a person who ends the run) is a [`ToolStop`]; the agent
//! answers the call from its words and stops.

pub mod bench;
mod capture;
pub mod clone;
pub mod desk;
pub mod door;
pub mod exec;
pub mod files;
pub mod host;
mod router;
mod tee;

pub use router::Router;
pub use tee::Passing;

use crate::protocol::ids::CallId;
use crate::protocol::message::ToolSpec;
use crate::protocol::stop::StopReason;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// One verb.
#[async_trait]
pub trait Tool: Send + Sync {
    /// Name, description and argument schema for the model. Constant over the tool's life.
    fn spec(&self) -> ToolSpec;

    /// Carries out one call. `arguments` is a JSON object; it is not checked against the schema yet.
    /// A cancelled call returns soon, with [`ToolStop::Interrupted`].
    async fn call(
        &self,
        arguments: serde_json::Value,
        context: &CallContext,
    ) -> Result<ToolOutput, ToolStop>;
}

/// What a call knows of its surroundings.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub call: CallId,
    /// Cancelled when the person interrupts.
    pub cancel: CancellationToken,
}

/// What the model reads. Sanitised and truncated already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    pub text: String,
    pub ok: bool,
}

impl ToolOutput {
    pub fn ok(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ok: true,
        }
    }

    /// Refused or failed, with words that say what to do next.
    pub fn failed(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ok: false,
        }
    }
}

/// Why the run cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ToolStop {
    /// A person said no and ended the run.
    #[error("the run was ended at the question: {why}")]
    Aborted { why: String },
    /// Nobody could be asked and the policy wants somebody asked.
    #[error("{why}")]
    NobodyAsked { why: String, remedy: String },
    #[error("interrupted")]
    Interrupted,
    #[error("the sandbox failed: {error}")]
    Sandbox {
        error: String,
        remedy: Option<String>,
    },
    #[error("the record cannot be written: {error}")]
    Record { error: String },
}

impl ToolStop {
    /// How the run ends by it.
    pub fn reason(&self) -> StopReason {
        match self {
            Self::Aborted { .. } | Self::NobodyAsked { .. } => StopReason::Denied {
                why: self.to_string(),
            },
            Self::Interrupted => StopReason::Interrupted,
            Self::Sandbox { .. } | Self::Record { .. } => StopReason::Sandbox {
                error: self.to_string(),
            },
        }
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Aborted { .. } | Self::Interrupted => None,
            Self::NobodyAsked { remedy, .. } => Some(remedy.clone()),
            Self::Sandbox { remedy, .. } => remedy.clone(),
            Self::Record { .. } => {
                Some("free some space; without a record nothing is run".to_owned())
            }
        }
    }
}
