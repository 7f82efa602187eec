//! The conversation, with its two invariants held in one place:
//!
//! 1. every call has exactly one answer before the model is asked again;
//! 2. every answer belongs to a call.
//!
//! The system text comes first and stays. Answers enter in the order of their calls, in whatever
//! order they were given. While a turn runs the history has been moved into it, so that "one turn at a
//! time" is ownership.
//!
//! ```text
//!           user            assistant(calls)
//!   Ready ───────▶ Ready ────────────────────▶ Open ── answer, answer, … ──▶ Ready
//!   (view: what the model reads)               (view refused)
//! ```

use super::budget::Measure;
use crate::protocol::ids::CallId;
use crate::protocol::message::{Message, TokenUsage, ToolAnswer, ToolCall};
use std::collections::BTreeSet;

/// Something that would break an invariant. The history is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    #[error("{open} tool calls are not answered yet")]
    Open { open: usize },
    #[error("no call {id} is waiting for an answer")]
    NoSuchCall { id: CallId },
    #[error("two calls of one answer are both named {id}")]
    SameName { id: CallId },
}

/// Everything the model said and was told.
#[derive(Debug, Clone)]
pub struct History {
    messages: Vec<Message>,
    /// The calls of the last assistant message while some have no answer.
    open: Vec<(ToolCall, Option<ToolAnswer>)>,
    measure: Measure,
}

impl History {
    /// `overhead` is what each request carries besides the messages: the bytes of the tools' schemas.
    pub fn new(system: impl Into<String>, overhead: usize) -> Self {
        let mut history = Self {
            messages: Vec::new(),
            open: Vec::new(),
            measure: Measure::new(overhead as u64),
        };
        history.append(Message::System {
            text: system.into(),
        });
        history
    }

    pub fn user(&mut self, text: impl Into<String>) -> Result<(), HistoryError> {
        self.ready()?;
        self.append(Message::User { text: text.into() });
        Ok(())
    }

    /// The model's answer; its calls are open until answered.
    pub fn assistant(&mut self, text: String, calls: Vec<ToolCall>) -> Result<(), HistoryError> {
        self.ready()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = calls.iter().find(|call| !seen.insert(&call.id)) {
            return Err(HistoryError::SameName {
                id: twice.id.clone(),
            });
        }
        self.open = calls.iter().cloned().map(|call| (call, None)).collect();
        self.append(Message::Assistant { text, calls });
        Ok(())
    }

    /// The one answer to an open call.
    pub fn answer(&mut self, answer: ToolAnswer) -> Result<(), HistoryError> {
        let Some((_, slot)) = self
            .open
            .iter_mut()
            .find(|(call, given)| call.id == answer.id && given.is_none())
        else {
            return Err(HistoryError::NoSuchCall { id: answer.id });
        };
        *slot = Some(answer);
        if self.open.iter().all(|(_, given)| given.is_some()) {
            for (_, given) in std::mem::take(&mut self.open) {
                self.append_all(given);
            }
        }
        Ok(())
    }

    /// Answers every open call with the same words; gives the answers made, in call order.
    pub fn answer_open(&mut self, text: &str) -> Vec<ToolAnswer> {
        let waiting: Vec<ToolAnswer> = self
            .open_calls()
            .map(|call| ToolAnswer {
                id: call.id.clone(),
                name: call.name.clone(),
                text: text.to_owned(),
                ok: false,
            })
            .collect();
        for answer in &waiting {
            self.answer(answer.clone())
                .expect("an open call takes an answer");
        }
        waiting
    }

    /// Calls that wait for an answer, in the order they were made.
    pub fn open_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.open
            .iter()
            .filter(|(_, given)| given.is_none())
            .map(|(call, _)| call)
    }

    /// What the model is asked next.
    pub fn view(&self) -> Result<&[Message], HistoryError> {
        self.ready()?;
        Ok(&self.messages)
    }

    /// The server counted the request that [`Self::view`] gave last: estimates follow it from here.
    pub fn counted(&mut self, usage: TokenUsage) {
        self.measure.counted(usage.input);
    }

    /// Tokens of the next request, roughly.
    pub fn tokens(&self) -> u64 {
        self.measure.tokens()
    }

    fn ready(&self) -> Result<(), HistoryError> {
        match self.open_calls().count() {
            0 => Ok(()),
            open => Err(HistoryError::Open { open }),
        }
    }

    fn append_all(&mut self, answers: impl IntoIterator<Item = ToolAnswer>) {
        for answer in answers {
            self.append(Message::Tool(answer));
        }
    }

    fn append(&mut self, message: Message) {
        self.measure.add(bytes_of(&message));
        self.messages.push(message);
    }
}

/// Bytes of text a message carries, with a little for what frames it.
fn bytes_of(message: &Message) -> u64 {
    const FRAME: usize = 16;
    let text = match message {
        Message::System { text } | Message::User { text } => text.len(),
        Message::Assistant { text, calls } => {
            let calls = calls
                .iter()
                .map(|call| call.name.len() + call.arguments.len() + FRAME);
            text.len() + calls.sum::<usize>()
        }
        Message::Tool(answer) => answer.text.len() + answer.name.len(),
    };
    (text + FRAME) as u64
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
