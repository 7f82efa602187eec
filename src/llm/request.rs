//! Our messages as a Chat Completions request. Pure.
//!
//! A server refuses a whole conversation for one odd entry of its history, so what a model once got
//! wrong (a name that is none, arguments that are no JSON) is sent back in a form that any server takes.

use super::ChatRequest;
use crate::protocol::message::{Message, ToolCall, ToolSpec};
use serde_json::{Value, json};

/// The body of `POST …/chat/completions`.
pub(super) fn body(model: &str, request: ChatRequest<'_>) -> Value {
    let messages: Vec<_> = request.messages.iter().map(message).collect();
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::System { text } => json!({"role": "system", "content": text}),
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Assistant { text, calls } if calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, calls } => json!({
            "role": "assistant",
            "content": if text.is_empty() { Value::Null } else { json!(text) },
            "tool_calls": calls.iter().map(call).collect::<Vec<_>>(),
        }),
        Message::Tool(answer) => json!({
            "role": "tool",
            "tool_call_id": answer.id,
            "content": answer.text,
        }),
    }
}

fn tool(spec: &ToolSpec) -> Value {
    json!({"type": "function", "function": {
        "name": spec.name,
        "description": spec.description,
        "parameters": spec.schema,
    }})
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {
        "name": name(&call.name),
        "arguments": arguments(&call.arguments),
    }})
}

/// Servers accept letters, digits, `_` and `-`, at most 64 of them.
fn name(given: &str) -> String {
    let name: String = given
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    match name.is_empty() {
        true => "unknown".into(),
        false => name,
    }
}

/// Servers parse the arguments of earlier calls, and fail where they are no object.
fn arguments(given: &str) -> String {
    if given.trim().is_empty() {
        return "{}".into();
    }
    match serde_json::from_str::<Value>(given) {
        Ok(value) if value.is_object() => given.to_owned(),
        _ => json!({"not_json": given}).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::CallId;
    use crate::protocol::message::ToolAnswer;

    fn conversation(calls: &[(&str, &str)]) -> Vec<Message> {
        let calls: Vec<_> = (0..)
            .zip(calls)
            .map(|(n, (name, arguments))| ToolCall {
                id: CallId::new(format!("c{n}")),
                name: (*name).into(),
                arguments: (*arguments).into(),
            })
            .collect();
        let answers: Vec<_> = calls
            .iter()
            .map(|call| {
                Message::Tool(ToolAnswer {
                    id: call.id.clone(),
                    name: call.name.clone(),
                    text: "done".into(),
                    ok: true,
                })
            })
            .collect();
        let mut messages = vec![
            Message::System { text: "s".into() },
            Message::User { text: "u".into() },
            Message::Assistant {
                text: String::new(),
                calls,
            },
        ];
        messages.extend(answers);
        messages
    }

    #[test]
    fn a_conversation_with_calls_is_what_the_wire_format_says() {
        let messages = conversation(&[("exec", "{\"command\":\"ls\"}")]);
        let tools = [ToolSpec {
            name: "exec".into(),
            description: "runs".into(),
            schema: json!({"type": "object"}),
        }];
        let request = ChatRequest {
            messages: &messages,
            tools: &tools,
        };
        insta::assert_json_snapshot!(body("qwen-high", request));
    }

    #[test]
    fn what_a_model_got_wrong_is_sent_back_in_a_form_any_server_takes() {
        let long = "x".repeat(100);
        let messages = conversation(&[("rm -rf\n/", "{\"cut"), ("", ""), (&long, "[1]")]);
        let request = ChatRequest {
            messages: &messages,
            tools: &[],
        };
        let body = body("m", request);
        let calls = body["messages"][2]["tool_calls"].as_array().unwrap();
        assert_eq!(calls[0]["function"]["name"], "rm_-rf__");
        assert_eq!(
            calls[0]["function"]["arguments"],
            r#"{"not_json":"{\"cut"}"#
        );
        assert_eq!(calls[1]["function"]["name"], "unknown");
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        assert_eq!(calls[2]["function"]["name"].as_str().unwrap().len(), 64);
        assert!(
            body.get("tools").is_none(),
            "an empty list is refused by some"
        );
    }
}
