//! Language models behind one small trait: an HTTP server, or a script.
//!
//! ```text
//!   open ─ endpoint ─▶ ChatCompletions ─ request ─▶ server
//!                            ▲                        │
//!                            └─ assembly ◀─ sse ◀─────┘   failure, retry: what to do when it fails
//! ```

mod assembly;
mod chat_completions;
mod endpoint;
mod failure;
mod request;
mod retry;
mod scripted;
mod sse;
mod window;

pub use endpoint::LlmConfig;
pub use scripted::ScriptedModel;

use crate::protocol::message::{Message, TokenUsage, ToolCall, ToolSpec};
use async_trait::async_trait;

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// System text first; every call of an assistant is followed by its answers.
    pub messages: &'a [Message],
    pub tools: &'a [ToolSpec],
}

/// A whole answer; a truncated one is a [`ModelError`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChatAnswer {
    pub text: String,
    /// In the order the model made them. Arguments are as sent: they may not be JSON.
    pub calls: Vec<ToolCall>,
    /// `None` where the server counts nothing.
    pub usage: Option<TokenUsage>,
}

/// A model that answers a conversation.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// `provider/name` as the user gave it.
    fn name(&self) -> &str;
    /// Tokens that fit, as far as known.
    fn window(&self) -> u64;
    /// Asks, retrying what may be retried. Text goes to `delta` as it streams; text of an attempt
    /// that failed midway is followed by a call with [`Delta::Restart`]. Dropping the future stops it.
    async fn answer(
        &self,
        request: ChatRequest<'_>,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, ModelError>;
}

/// Where it streams to.
pub type DeltaSink<'a> = dyn for<'d> FnMut(Delta<'d>) + Send + 'a;

/// What streams while a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delta<'a> {
    Text(&'a str),
    /// The attempt failed: its text does not count. Says why and in how many milliseconds the next begins.
    Restart {
        why: &'a str,
        wait_ms: u64,
    },
}

/// The model of that name: `ollama/…`, `vllm/…`, `llamacpp/…`, `lm_studio/…` or `openai/…`. Nothing is
/// sent before the first question.
pub fn open(name: &str, config: &LlmConfig) -> Result<Box<dyn ChatModel>, ModelError> {
    let model = chat_completions::ChatCompletions::open(name, config)?;
    Ok(Box::new(model))
}

/// A model that cannot be asked, or gave no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    #[error("failed to reach {model} at {url}: {why}")]
    Unreachable {
        model: String,
        url: String,
        why: String,
        remedy: String,
    },
    #[error("{url} refused the key for {model} (HTTP {status})")]
    Unauthorized {
        model: String,
        url: String,
        status: u16,
        remedy: String,
    },
    /// The server answered with an error.
    #[error("{model} answered HTTP {status}: {message}")]
    Status {
        model: String,
        status: u16,
        message: String,
        remedy: String,
    },
    /// The stream ended before the answer did.
    #[error("the answer of {model} was cut off: {why}")]
    Truncated {
        model: String,
        why: String,
        remedy: String,
    },
    /// The conversation is longer than the model's window.
    #[error("the conversation no longer fits {model}: {message}")]
    ContextFull { model: String, message: String },
    /// A name or address that makes no sense.
    #[error("model {given:?}: {why}")]
    Name {
        given: String,
        why: String,
        remedy: String,
    },
    /// A transcript that does not fit what happened, or is none.
    #[error("{model}, turn {turn}: {why}")]
    Script {
        model: String,
        turn: usize,
        why: String,
        remedy: String,
    },
}

impl ModelError {
    /// What the user can do about it.
    pub fn remedy(&self) -> &str {
        match self {
            Self::Unreachable { remedy, .. }
            | Self::Unauthorized { remedy, .. }
            | Self::Status { remedy, .. }
            | Self::Truncated { remedy, .. }
            | Self::Name { remedy, .. }
            | Self::Script { remedy, .. } => remedy,
            Self::ContextFull { .. } => {
                "give the task in smaller parts, or use a model or server with a larger context"
            }
        }
    }
}
