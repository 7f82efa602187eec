//! A model whose turns come from a transcript: for the demo and for tests.
//!
//! It can only say what was written before, so two things keep it honest. A turn may *expect* a pattern
//! in the last tool answer; where reality went another way it stops with an error. And a turn may take
//! *values* out of earlier tool answers; one that is not there is an error, never an invention.
//!
//! Format, version 1:
//!
//! ```json
//! {"version": 1, "name": "scripted/demo", "turns": [
//!   {"text": "I run it.", "calls": [{"tool": "exec", "arguments": {"argv": ["python3", "fit.py"]}}]},
//!   {"expects": "accuracy: ",
//!    "values": {"accuracy": {"from_tool": "exec", "regex": "accuracy: ([0-9.]+)"}},
//!    "text": "The test accuracy is {{accuracy}}."}
//! ]}
//! ```
//!
//! `{"from_task": true, "regex": …}` takes a value from the user's first message. `{{name}}` stands for
//! a value in a turn's text and in every text inside its arguments. Which turn it is follows from the
//! conversation alone.

use super::{ChatAnswer, ChatModel, ChatRequest, Delta, DeltaSink, ModelError};
use crate::protocol::ids::CallId;
use crate::protocol::message::{Message, ToolAnswer, ToolCall};
use async_trait::async_trait;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Plays a transcript.
#[derive(Debug)]
pub struct ScriptedModel {
    name: String,
    turns: Vec<Turn>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transcript {
    version: u32,
    name: String,
    /// For a reader of the file.
    #[serde(default, rename = "about")]
    _about: String,
    turns: Vec<Turn>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    #[serde(default)]
    text: String,
    #[serde(default)]
    calls: Vec<Call>,
    /// A pattern that the last tool answer must match.
    #[serde(default, with = "pattern::maybe")]
    expects: Option<Regex>,
    #[serde(default)]
    values: BTreeMap<String, Source>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    tool: String,
    arguments: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    /// The latest answer of this tool.
    #[serde(default)]
    from_tool: Option<String>,
    #[serde(default)]
    from_task: bool,
    /// Its first group is the value.
    #[serde(with = "pattern")]
    regex: Regex,
}

mod pattern {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Regex, D::Error> {
        let text = String::deserialize(from)?;
        Regex::new(&text).map_err(D::Error::custom)
    }

    pub(super) mod maybe {
        use super::{Deserializer, Regex};

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Regex>, D::Error> {
            super::deserialize(from).map(Some)
        }
    }
}

impl ScriptedModel {
    /// Reads a transcript; everything in it that could not work is refused here.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        let transcript: Transcript =
            serde_json::from_str(text).map_err(|error| bad("scripted", 0, error.to_string()))?;
        let model = Self {
            name: transcript.name,
            turns: transcript.turns,
        };
        if transcript.version != 1 {
            let why = format!("transcript version {} is not 1", transcript.version);
            return Err(model.fails(0, why));
        }
        for (at, turn) in model.turns.iter().enumerate() {
            turn.check().map_err(|why| model.fails(at, why))?;
        }
        Ok(model)
    }

    fn play(&self, messages: &[Message]) -> Result<ChatAnswer, ModelError> {
        let at = messages
            .iter()
            .filter(|message| matches!(message, Message::Assistant { .. }))
            .count();
        let turn = self
            .turns
            .get(at)
            .ok_or_else(|| self.fails(at, "the transcript has no further turn".into()))?;
        turn.speak(at, messages).map_err(|why| self.fails(at, why))
    }

    fn fails(&self, at: usize, why: String) -> ModelError {
        bad(&self.name, at + 1, why)
    }
}

fn bad(model: &str, turn: usize, why: String) -> ModelError {
    ModelError::Script {
        model: model.into(),
        turn,
        why,
        remedy: "a scripted model can only follow its transcript: use a real one (`fumehood run --model`)"
            .into(),
    }
}

/// How a tool begins that was not allowed to act.
const NO: [&str; 2] = ["Not run: ", "Not cloned: "];

/// A transcript has one way through. A person's no is none of its mistakes.
const DECLINED: &str = "This was not allowed, and the transcript that I follow has no other way. A real model would read your reason, and try another.";

impl Turn {
    fn check(&self) -> Result<(), String> {
        for (name, source) in &self.values {
            if source.from_task == source.from_tool.is_some() {
                return Err(format!("value {name:?} needs from_tool or from_task"));
            }
            if source.regex.captures_len() < 2 {
                return Err(format!("the pattern of {name:?} has no group"));
            }
        }
        let blank = self.values.keys().map(|name| (name.clone(), String::new()));
        self.filled(&blank.collect()).map(drop)
    }

    fn speak(&self, at: usize, messages: &[Message]) -> Result<ChatAnswer, String> {
        if let Some(pattern) = &self.expects {
            let last = answers(messages).next_back();
            let text = last.map_or("", |answer| answer.text.as_str());
            if !pattern.is_match(text) && NO.iter().any(|no| text.starts_with(no)) {
                return Ok(ChatAnswer {
                    text: DECLINED.to_owned(),
                    calls: Vec::new(),
                    usage: None,
                });
            }
            if !pattern.is_match(text) {
                return Err(format!(
                    "the last tool answer was expected to match {:?}; it does not",
                    pattern.as_str()
                ));
            }
        }
        let mut values = BTreeMap::new();
        for (name, source) in &self.values {
            values.insert(name.clone(), source.find(messages)?);
        }
        let (text, arguments) = self.filled(&values)?;
        let calls = self.calls.iter().zip(arguments).enumerate();
        Ok(ChatAnswer {
            text,
            calls: calls
                .map(|(n, (call, arguments))| ToolCall {
                    id: CallId::new(format!("call-{}-{}", at + 1, n + 1)),
                    name: call.tool.clone(),
                    arguments: arguments.to_string(),
                })
                .collect(),
            usage: None,
        })
    }

    fn filled(&self, values: &BTreeMap<String, String>) -> Result<(String, Vec<Value>), String> {
        let arguments = self
            .calls
            .iter()
            .map(|call| fill_all(&call.arguments, values));
        Ok((
            fill(&self.text, values)?,
            arguments.collect::<Result<_, _>>()?,
        ))
    }
}

impl Source {
    fn find(&self, messages: &[Message]) -> Result<String, String> {
        let (whose, text) = match &self.from_tool {
            Some(tool) => {
                let answer = answers(messages).rfind(|answer| answer.name == *tool);
                let text = answer.map(|answer| answer.text.as_str());
                (format!("the last answer of {tool}"), text)
            }
            None => {
                let task = messages.iter().find_map(|message| match message {
                    Message::User { text } => Some(text.as_str()),
                    _ => None,
                });
                ("the task".into(), task)
            }
        };
        let group = self
            .regex
            .captures(text.unwrap_or(""))
            .and_then(|found| found.get(1));
        group
            .map(|group| group.as_str().to_owned())
            .ok_or_else(|| format!("{whose} holds nothing like {:?}", self.regex.as_str()))
    }
}

fn answers(messages: &[Message]) -> impl DoubleEndedIterator<Item = &ToolAnswer> {
    messages.iter().filter_map(|message| match message {
        Message::Tool(answer) => Some(answer),
        _ => None,
    })
}

/// Puts values where `{{name}}` stands. Braces around anything but a name are left alone.
fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let name = after.split_once("}}").map(|(name, _)| name);
        let is_name = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        match name.filter(is_name) {
            None => {
                out.push_str("{{");
                rest = after;
            }
            Some(name) => {
                let value = values
                    .get(name)
                    .ok_or_else(|| format!("no value is named {name:?}"))?;
                out.push_str(value);
                rest = &after[name.len() + 2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn fill_all(value: &Value, values: &BTreeMap<String, String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, values)?),
        Value::Array(list) => Value::Array(
            list.iter()
                .map(|item| fill_all(item, values))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| Ok((key.clone(), fill_all(item, values)?)))
                .collect::<Result<_, String>>()?,
        ),
        other => other.clone(),
    })
}

#[async_trait]
impl ChatModel for ScriptedModel {
    fn name(&self) -> &str {
        &self.name
    }

    /// A transcript does not forget.
    fn window(&self) -> u64 {
        u64::MAX
    }

    async fn answer(
        &self,
        request: ChatRequest<'_>,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, ModelError> {
        let answer = self.play(request.messages)?;
        for word in answer.text.split_inclusive(' ') {
            delta(Delta::Text(word));
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "scripted_tests.rs"]
mod tests;
