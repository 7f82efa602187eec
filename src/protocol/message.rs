//! What the model and the agent say to each other, independent of any wire format.

use super::ids::CallId;
use serde::{Deserialize, Serialize};

/// One entry of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "role")]
pub enum Message {
    System { text: String },
    User { text: String },
    Assistant { text: String, calls: Vec<ToolCall> },
    Tool(ToolAnswer),
}

/// A call the model asks for. `arguments` is the text it sent: it may not be JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: CallId,
    pub name: String,
    pub arguments: String,
}

/// The one answer to a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolAnswer {
    pub id: CallId,
    pub name: String,
    pub text: String,
    /// False when the call was refused, failed, or was interrupted.
    pub ok: bool,
}

/// A tool as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    pub schema: serde_json::Value,
}

/// Tokens of one answer, as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    pub input: u64,
    pub output: u64,
}
