//! The pieces of a streamed answer put together. Pure: events in, an answer or a reason out.
//!
//! ```text
//!   delta, delta, … ──▶ finish_reason ──▶ (usage) ──▶ [DONE]
//!        │                    └── without it the answer was cut off, whatever else came
//!        └── text, and tool calls whose arguments arrive in pieces, interleaved
//! ```

use super::ChatAnswer;
use crate::protocol::ids::CallId;
use crate::protocol::message::{TokenUsage, ToolCall};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Bytes of text and arguments of one answer.
const MAX_ANSWER: usize = 8 << 20;

/// Calls in one answer.
const MAX_CALLS: usize = 128;

/// Longest name or id that is kept.
const MAX_NAME: usize = 128;

/// Why the events are no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// The server says it failed, in the middle of its stream.
    Error(Value),
    Nonsense(String),
}

/// What an event came to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// New text, maybe none.
    Text(String),
    /// `[DONE]`.
    Done,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ending {
    Whole(ChatAnswer),
    /// The server stopped it for a reason of its own (`length`, `content_filter`).
    Stopped(String),
    /// The stream ended, the answer did not.
    CutOff,
}

#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    calls: Vec<Draft>,
    finish: Option<String>,
    usage: Option<TokenUsage>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Draft {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    /// Text; some servers send the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct WireUsage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

impl Assembly {
    /// Takes the data of one event.
    pub(super) fn take(&mut self, data: &str) -> Result<Step, Refusal> {
        if data.trim() == "[DONE]" {
            return Ok(Step::Done);
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|error| Refusal::Nonsense(format!("an event is no chat chunk: {error}")))?;
        if let Some(error) = chunk.error {
            return Err(Refusal::Error(error));
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage.prompt_tokens.map(|input| TokenUsage {
                input,
                output: usage.completion_tokens.unwrap_or(0),
            });
        }
        let mut text = String::new();
        if let Some(choice) = chunk.choices.into_iter().flatten().next() {
            if let Some(delta) = choice.delta {
                text = delta.content.map(plain_text).unwrap_or_default();
                for call in delta.tool_calls.into_iter().flatten() {
                    self.call(call)?;
                }
            }
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        self.grow(text.len())?;
        self.text.push_str(&text);
        Ok(Step::Text(text))
    }

    /// True once the server said why it stopped: nothing of the answer is missing then.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    pub(super) fn end(self) -> Ending {
        match self.finish.as_deref() {
            None | Some("") => Ending::CutOff,
            Some(reason @ ("length" | "content_filter")) => Ending::Stopped(reason.to_owned()),
            Some(_) => Ending::Whole(ChatAnswer {
                text: self.text,
                calls: named(self.calls),
                usage: self.usage,
            }),
        }
    }

    fn call(&mut self, delta: CallDelta) -> Result<(), Refusal> {
        let function = delta.function.unwrap_or_default();
        let id = delta.id.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let arguments = function.arguments.map(as_arguments).unwrap_or_default();
        self.grow(arguments.len())?;
        let at = match self.find(delta.index, &id, &name) {
            Some(at) => at,
            None if self.calls.len() == MAX_CALLS => {
                return Err(Refusal::Nonsense(format!(
                    "more than {MAX_CALLS} tool calls"
                )));
            }
            None => {
                self.calls.push(Draft {
                    index: delta.index,
                    ..Draft::default()
                });
                self.calls.len() - 1
            }
        };
        let draft = &mut self.calls[at];
        if draft.id.is_empty() {
            draft.id = shortened(id);
        }
        if draft.name.is_empty() {
            draft.name = shortened(name);
        }
        draft.arguments.push_str(&arguments);
        Ok(())
    }

    /// The call a piece belongs to. Some servers leave the index out, others give every call the same
    /// one: a new id together with a name begins a new call.
    fn find(&self, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let at = match index {
            Some(_) => self.calls.iter().rposition(|draft| draft.index == index)?,
            None => self.calls.len().checked_sub(1)?,
        };
        let draft = &self.calls[at];
        let another_id = !id.is_empty() && !draft.id.is_empty() && draft.id != shortened(id.into());
        let begins = !name.is_empty() && (another_id || (index.is_none() && id.is_empty()));
        (!begins).then_some(at)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER {
            let why = format!("the answer is larger than {} MiB", MAX_ANSWER >> 20);
            return Err(Refusal::Nonsense(why));
        }
        Ok(())
    }
}

/// Each call with an id that no other has.
fn named(drafts: Vec<Draft>) -> Vec<ToolCall> {
    let mut taken = BTreeSet::new();
    (1..)
        .zip(drafts)
        .map(|(n, draft)| {
            let mut id = draft.id;
            while id.is_empty() || taken.contains(&id) {
                id = format!("call_{n}_{}", taken.len());
            }
            taken.insert(id.clone());
            ToolCall {
                id: CallId::new(id),
                name: draft.name,
                arguments: draft.arguments,
            }
        })
        .collect()
}

/// A text, or a list of typed parts.
fn plain_text(content: Value) -> String {
    match content {
        Value::String(text) => text,
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        _ => String::new(),
    }
}

fn as_arguments(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_NAME));
    text
}

#[cfg(test)]
#[path = "assembly_tests.rs"]
mod tests;
