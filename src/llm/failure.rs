//! What a server's refusal means: an error for a person, and whether trying again may help. Pure.

use super::ModelError;
use super::endpoint::Endpoint;
use super::retry::Cause;
use crate::context::sanitise::sanitise;
use regex::Regex;
use serde_json::Value;
use std::time::Duration;

/// One failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub(super) error: ModelError,
    /// `None`: trying again gives the same.
    pub(super) cause: Option<Cause>,
}

/// Longest text of a server that is passed on.
const MAX_MESSAGE: usize = 600;

/// What servers say when the conversation is too long. llama.cpp, vLLM, OpenAI, Ollama, LM Studio.
const TOO_LONG: &[&str] = &[
    "exceed_context_size",
    "exceeds the available context",
    "context_length_exceeded",
    "maximum context length",
    "maximum model length",
    "context length",
    "context window",
    "context size",
    "prompt is too long",
    "input length exceeds",
    "too many tokens",
];

/// The failure behind an HTTP status and the start of its body.
pub(super) fn of_status(
    endpoint: &Endpoint,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Failure {
    let message = message_of(endpoint, body);
    let lower = message.to_lowercase();
    let model = endpoint.given.clone();
    if matches!(status, 401 | 403) {
        let error = ModelError::Unauthorized {
            model,
            url: endpoint.base.to_string(),
            status,
            remedy: endpoint.key_remedy(),
        };
        return Failure { error, cause: None };
    }
    if status != 429 && TOO_LONG.iter().any(|words| lower.contains(words)) {
        let error = ModelError::ContextFull { model, message };
        return Failure { error, cause: None };
    }
    let cause = match status {
        429 if lower.contains("quota") || lower.contains("billing") => None,
        429 | 503 => Some(Cause::Busy { retry_after }),
        408 | 500 | 502 | 504..=599 => Some(Cause::Server),
        _ => None,
    };
    let error = ModelError::Status {
        remedy: remedy(endpoint, status, &lower),
        model,
        status,
        message,
    };
    Failure { error, cause }
}

/// The failure behind an error that came as an event of a stream.
pub(super) fn of_event(endpoint: &Endpoint, error: &Value) -> Failure {
    let code = [error.get("code"), error.get("status")]
        .into_iter()
        .flatten()
        .filter_map(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()))
        .find_map(|code| u16::try_from(code).ok().filter(|c| (400..600).contains(c)));
    let body = serde_json::json!({ "error": error }).to_string();
    of_status(endpoint, code.unwrap_or(500), body.as_bytes(), None)
}

/// Nobody answered at the address.
pub(super) fn unreachable(endpoint: &Endpoint, why: &str) -> Failure {
    Failure {
        error: ModelError::Unreachable {
            model: endpoint.given.clone(),
            url: endpoint.base.to_string(),
            why: clean(endpoint, why),
            remedy: endpoint.address_remedy(),
        },
        cause: Some(Cause::Unreachable),
    }
}

/// The answer stopped before its end.
pub(super) fn truncated(endpoint: &Endpoint, why: &str, cause: Option<Cause>) -> Failure {
    let remedy = match why {
        "length" => {
            "the server's limit on an answer was reached: raise its output limit or its context size"
        }
        "content_filter" => "the server's filter stopped the answer: say the task in other words",
        _ => "see the server's own log; a server out of memory ends like this",
    };
    Failure {
        error: ModelError::Truncated {
            model: endpoint.given.clone(),
            why: clean(endpoint, why),
            remedy: remedy.into(),
        },
        cause,
    }
}

fn remedy(endpoint: &Endpoint, status: u16, lower: &str) -> String {
    let list = endpoint.at("models");
    if lower.contains("jinja") {
        return "start llama-server with --jinja: without it there are no tools".into();
    }
    if (400..500).contains(&status) && lower.contains("tool") {
        return "tools must be enabled on the server, and the model must know them: choose a model with tool calls".into();
    }
    match status {
        300..400 => {
            "the server sends elsewhere: set the BASE_URL variable to its final address".into()
        }
        404 if endpoint.provider.prefix == "ollama" => format!(
            "get it with `ollama pull {}`; `ollama list` shows what is there",
            endpoint.model
        ),
        400 | 404 if lower.contains("model") => {
            format!("{list} lists the models that the server has")
        }
        404 => format!("is this a Chat Completions server? {list} should list its models"),
        429 => "the server limits requests: wait, or check the plan of the key".into(),
        200..300 => "is this a Chat Completions server that streams?".into(),
        _ => "see the server's own log".into(),
    }
}

/// The words of a server: its JSON message where there is one, bounded, clean, without keys.
fn message_of(endpoint: &Endpoint, body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => json_message(&value).unwrap_or_else(|| value.to_string()),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let clean = clean(endpoint, &text);
    match clean.is_empty() {
        true => "(no explanation)".into(),
        false => clean,
    }
}

fn json_message(value: &Value) -> Option<String> {
    let error = value.get("error").unwrap_or(value);
    let text = [Some(error), error.get("message"), error.get("detail")]
        .into_iter()
        .flatten()
        .find_map(Value::as_str)?;
    // The kind is what tells a full context apart on some servers.
    match error.get("type").and_then(Value::as_str) {
        Some(kind) => Some(format!("{text} ({kind})")),
        None => Some(text.to_owned()),
    }
}

fn clean(endpoint: &Endpoint, text: &str) -> String {
    let mut text = sanitise(text.as_bytes(), MAX_MESSAGE * 4);
    if let Some(key) = &endpoint.key {
        text = text.replace(key.expose(), "[key]");
    }
    let looks_like_a_key = Regex::new(r"\b(sk|hf|gsk|pk)[-_][A-Za-z0-9_*-]{6,}|(?i:bearer)\s+\S+")
        .expect("a constant that compiles");
    let text = looks_like_a_key.replace_all(&text, "[key]");
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = one_line.floor_char_boundary(MAX_MESSAGE);
    match end < one_line.len() {
        true => format!("{}…", &one_line[..end]),
        false => one_line,
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
