//! `allow_host`: one more host for the rest of the run, if a person says so.

use super::bench::Bench;
use super::desk::{About, Patience, Settled};
use super::{CallContext, Tool, ToolOutput, ToolStop};
use crate::context::sanitise::visible;
use crate::policy::action::HostAction;
use crate::policy::gate::decide_host_action;
use crate::protocol::event::Event;
use crate::protocol::message::ToolSpec;
use crate::protocol::question::{HostView, QuestionBody};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The port that is meant where none is said.
const HTTPS: u16 = 443;

/// Longest reason that is shown.
const MAX_REASON: usize = 400;

/// The tool.
pub struct HostTool {
    bench: Arc<Bench>,
}

impl HostTool {
    pub fn new(bench: Arc<Bench>) -> Self {
        Self { bench }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    host: String,
    port: Option<u16>,
    reason: String,
}

#[async_trait]
impl Tool for HostTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "allow_host".into(),
            description: "Asks a person whether one more host may be reached from the sandbox for \
                the rest of this run. Use it when a command was blocked and cannot do without that \
                host; say what it is needed for."
                .into(),
            schema: json!({
                "type": "object",
                "properties": {
                    "host": {"type": "string", "description": "an exact host name"},
                    "port": {"type": "integer", "description": "default 443"},
                    "reason": {"type": "string", "description": "what it is needed for"}
                },
                "required": ["host", "reason"],
                "additionalProperties": false
            }),
        }
    }

    async fn call(&self, arguments: Value, context: &CallContext) -> Result<ToolOutput, ToolStop> {
        let arguments: Arguments = match serde_json::from_value(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return Ok(ToolOutput::failed(format!("allow_host: {error}"))),
        };
        let act = HostAction {
            run: self.bench.run().clone(),
            host: arguments.host,
            port: arguments.port.unwrap_or(HTTPS),
            policy: self.bench.policy_digest().clone(),
        };
        let about = About::act(&act);
        let reason: String = visible(&arguments.reason)
            .chars()
            .take(MAX_REASON)
            .collect();
        let verdict = decide_host_action(self.bench.policy(), act);
        let limit = self.bench.policy().approval.timeout_ms;
        let patience = Patience {
            timeout: limit.map(Duration::from_millis),
            cancel: context.cancel.clone(),
        };
        let view = |act: &HostAction| {
            QuestionBody::Host(HostView {
                host: visible(&act.host),
                port: act.port,
                reason,
                secrets: (self.bench.policy().secrets.iter())
                    .map(|secret| secret.name.clone())
                    .collect(),
            })
        };
        let desk = self.bench.desk();
        match desk.settle(about, verdict, view, &patience).await? {
            Settled::Denied(denial) => Ok(ToolOutput::failed(format!("Not allowed: {denial}."))),
            Settled::Granted { permit, .. } => {
                let at = self.bench.grant(permit);
                let text = format!("{at} may be reached for the rest of this run");
                desk.emit(&Event::Notice { text: text.clone() })?;
                Ok(ToolOutput::ok(format!("{text}.")))
            }
        }
    }
}
