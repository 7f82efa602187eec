//! From a call as the model wrote it to the tool it names.

use super::{CallContext, Tool, ToolOutput, ToolStop};
use crate::context::sanitise::sanitise;
use crate::protocol::message::{ToolAnswer, ToolCall, ToolSpec};
use serde_json::Value;

/// Bytes of one line of an answer.
const MAX_LINE: usize = 64 * 1024;

/// The tools of a run, by name.
pub struct Router {
    tools: Vec<Box<dyn Tool>>,
}

impl Router {
    pub fn new(tools: Vec<Box<dyn Tool>>) -> Self {
        Self { tools }
    }

    /// What the model is told, in a constant order.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|tool| tool.spec()).collect()
    }

    /// Carries out a call; what cannot be routed is answered at once.
    pub async fn call(
        &self,
        call: &ToolCall,
        context: &CallContext,
    ) -> Result<ToolAnswer, ToolStop> {
        let output = match self.find(&call.name) {
            Err(unknown) => unknown,
            Ok(tool) => match arguments(call, &tool.spec()) {
                Err(unreadable) => unreadable,
                Ok(arguments) => tool.call(arguments, context).await?,
            },
        };
        Ok(ToolAnswer {
            id: call.id.clone(),
            name: call.name.clone(),
            // Tools sanitise what they pass on; words of a library about the model's own text (an unknown
            // field) may still hold anything.
            text: sanitise(output.text.as_bytes(), MAX_LINE),
            ok: output.ok,
        })
    }

    fn find(&self, name: &str) -> Result<&dyn Tool, ToolOutput> {
        self.tools
            .iter()
            .find(|tool| tool.spec().name == name)
            .map(AsRef::as_ref)
            .ok_or_else(|| {
                let known: Vec<_> = self.tools.iter().map(|tool| tool.spec().name).collect();
                ToolOutput::failed(format!(
                    "There is no tool {name:?}. The tools are: {}.",
                    known.join(", ")
                ))
            })
    }
}

/// Servers send an empty text for "no arguments".
fn arguments(call: &ToolCall, spec: &ToolSpec) -> Result<Value, ToolOutput> {
    let text = match call.arguments.trim() {
        "" => "{}",
        text => text,
    };
    let why = match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => return Ok(value),
        Ok(_) => "they are not an object".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ToolOutput::failed(format!(
        "The arguments of {} are not a JSON object: {why}. Nothing was done. Send the call again; the schema is {}",
        spec.name, spec.schema
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::CallId;
    use async_trait::async_trait;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    struct Echo;

    #[async_trait]
    impl Tool for Echo {
        fn spec(&self) -> ToolSpec {
            ToolSpec {
                name: "echo".into(),
                description: "says it again".into(),
                schema: json!({"type": "object", "properties": {"text": {"type": "string"}}}),
            }
        }
        async fn call(&self, arguments: Value, _: &CallContext) -> Result<ToolOutput, ToolStop> {
            Ok(ToolOutput::ok(arguments.to_string()))
        }
    }

    async fn answer(name: &str, arguments: &str) -> ToolAnswer {
        let call = ToolCall {
            id: CallId::new("1"),
            name: name.into(),
            arguments: arguments.into(),
        };
        let context = CallContext {
            call: call.id.clone(),
            cancel: CancellationToken::new(),
        };
        Router::new(vec![Box::new(Echo)])
            .call(&call, &context)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_unknown_tool_is_answered_with_the_names_there_are() {
        let answer = answer("shell", "{}").await;
        assert!(!answer.ok);
        assert!(answer.text.contains("echo"), "{}", answer.text);
    }

    #[tokio::test]
    async fn arguments_that_do_not_parse_are_answered_with_the_schema() {
        for text in ["{\"text\": ", "[1]", "\"x\"", "nonsense"] {
            let answer = answer("echo", text).await;
            assert!(!answer.ok, "{text}");
            assert!(answer.text.contains("properties"), "{}", answer.text);
        }
    }

    #[tokio::test]
    async fn empty_arguments_are_an_empty_object() {
        assert_eq!(answer("echo", " ").await.text, "{}");
    }
}
