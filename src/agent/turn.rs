//! One turn: from an input to an answer, however many calls lie between.
//!
//! ```text
//!   ┌▶ cap reached? window full? ──yes──▶ stop
//!   │  ask the model ── no call ──▶ answered
//!   │  each call, in order: routed ─▶ one answer     a stop or an interrupt answers the rest
//!   │  going in circles? one nudge; again: stop
//!   └─ words from the person? into the history
//! ```

use super::queue::Queue;
use super::{Agent, AgentEnd};
use crate::context::doom_loop::{Advice, DoomLoop};
use crate::context::history::History;
use crate::context::redact::Redacting;
use crate::context::sanitise::{Sanitiser, sanitise};
use crate::llm::{ChatAnswer, ChatRequest, Delta, ModelError};
use crate::protocol::event::Event;
use crate::protocol::message::{ToolAnswer, ToolCall, ToolSpec};
use crate::protocol::stop::StopReason;
use crate::tools::desk::Desk;
use crate::tools::{CallContext, ToolStop};
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Tokens left for an answer: a conversation that comes closer to the window is full.
const ANSWER_TOKENS: u64 = 1024;

/// Bytes of a line of the model's words.
const MAX_LINE: usize = 64 * 1024;

/// How a turn ended.
pub(super) enum TurnEnd {
    Answered(String),
    Stopped(AgentEnd),
}

/// The parts of a turn that stay the same.
struct Turn<'a> {
    agent: &'a Agent,
    queue: &'a Mutex<Queue>,
    cancel: &'a CancellationToken,
    tools: Vec<ToolSpec>,
}

/// Runs one turn. The history comes back whole: every call in it has its answer.
pub(super) async fn run(
    agent: &Agent,
    mut history: History,
    queue: &Mutex<Queue>,
    cancel: &CancellationToken,
) -> (History, TurnEnd) {
    let turn = Turn {
        agent,
        queue,
        cancel,
        tools: agent.router.specs(),
    };
    let end = match turn.go(&mut history).await {
        Ok(text) => TurnEnd::Answered(text),
        Err(end) => TurnEnd::Stopped(end),
    };
    (history, end)
}

impl Turn<'_> {
    async fn go(&self, history: &mut History) -> Result<String, AgentEnd> {
        let mut doom = DoomLoop::new();
        for number in 1..=self.agent.caps.turns {
            self.check_window(history)?;
            let answer = self.ask(history, number).await?;
            let calls = answer.calls;
            history
                .assistant(answer.text.clone(), calls.clone())
                .map_err(|error| nonsense(&error.to_string()))?;
            if calls.is_empty() {
                return Ok(sanitise(answer.text.as_bytes(), MAX_LINE));
            }
            for call in &calls {
                self.call(history, call, &mut doom).await?;
            }
            self.advise(history, &mut doom)?;
            self.steer(history)?;
        }
        Err(AgentEnd {
            remedy: Some("give it more with --max-turns, or a smaller task".to_owned()),
            ..AgentEnd::stopped(StopReason::IterationCap {
                turns: self.agent.caps.turns,
            })
        })
    }

    fn check_window(&self, history: &History) -> Result<(), AgentEnd> {
        let (tokens, window) = (history.tokens(), self.agent.model.window());
        match tokens + ANSWER_TOKENS > window {
            true => Err(self.full(tokens)),
            false => Ok(()),
        }
    }

    fn full(&self, tokens: u64) -> AgentEnd {
        AgentEnd {
            remedy: Some(
                "use a model with a larger window (--window where the server does not say), or a smaller task"
                    .to_owned(),
            ),
            ..AgentEnd::stopped(StopReason::ContextFull {
                tokens,
                window: self.agent.model.window(),
            })
        }
    }

    /// One answer of the model, shown as it streams, then recorded.
    async fn ask(&self, history: &mut History, turn: u32) -> Result<ChatAnswer, AgentEnd> {
        let messages = history
            .view()
            .map_err(|error| nonsense(&error.to_string()))?;
        let request = ChatRequest {
            messages,
            tools: &self.tools,
        };
        let mut words = Words::new(&self.agent.desk);
        let answered = {
            let mut sink = |delta: Delta<'_>| words.take(delta);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => None,
                answered = self.agent.model.answer(request, &mut sink) => Some(answered),
            }
        };
        words.finish();
        let answer = match answered {
            None => return Err(AgentEnd::stopped(StopReason::Interrupted)),
            Some(Ok(answer)) => answer,
            Some(Err(ModelError::ContextFull { .. })) => return Err(self.full(history.tokens())),
            Some(Err(error)) => return Err(model_failed(&error)),
        };
        if let Some(usage) = answer.usage {
            history.counted(usage);
        }
        let usage = answer.usage.unwrap_or_default();
        self.emit(&Event::ModelAnswered {
            turn,
            text: sanitise(answer.text.as_bytes(), MAX_LINE),
            input_tokens: usage.input,
            output_tokens: usage.output,
        })?;
        Ok(answer)
    }

    /// Exactly one answer for the call; a stop answers all that are open.
    async fn call(
        &self,
        history: &mut History,
        call: &ToolCall,
        doom: &mut DoomLoop,
    ) -> Result<(), AgentEnd> {
        self.emit(&Event::ToolCalled {
            call: call.id.clone(),
            name: shown(&call.name),
            arguments: shown(&call.arguments),
        })?;
        let context = CallContext {
            call: call.id.clone(),
            cancel: self.cancel.clone(),
        };
        let routed = match self.cancel.is_cancelled() {
            true => Err(ToolStop::Interrupted),
            false => self.agent.router.call(call, &context).await,
        };
        match routed {
            Ok(answer) => {
                let text = self.agent.desk.redactor().text(&answer.text).into_owned();
                let answer = ToolAnswer { text, ..answer };
                doom.note(&call.name, &call.arguments, &answer.text);
                self.answered(&answer)?;
                history
                    .answer(answer)
                    .map_err(|error| nonsense(&error.to_string()))
            }
            Err(stop) => {
                // Each open call is answered, in the history and in the record.
                let why = stop.to_string();
                for answer in history.answer_open(&self.agent.desk.redactor().text(&why)) {
                    self.answered(&answer)?;
                }
                Err(AgentEnd::by_tool(&stop))
            }
        }
    }

    fn answered(&self, answer: &ToolAnswer) -> Result<(), AgentEnd> {
        self.emit(&Event::ToolAnswered {
            call: answer.id.clone(),
            name: shown(&answer.name),
            ok: answer.ok,
            text: answer.text.clone(),
        })
    }

    fn advise(&self, history: &mut History, doom: &mut DoomLoop) -> Result<(), AgentEnd> {
        match doom.advise() {
            Advice::GoOn => Ok(()),
            Advice::Nudge { text } => {
                self.emit(&Event::Notice { text: text.clone() })?;
                history
                    .user(text)
                    .map_err(|error| nonsense(&error.to_string()))
            }
            Advice::Stop { pattern } => Err(AgentEnd {
                remedy: Some("read its last steps with `fumehood runs show`; a clearer task or another model may help".to_owned()),
                ..AgentEnd::stopped(StopReason::DoomLoop { pattern })
            }),
        }
    }

    fn steer(&self, history: &mut History) -> Result<(), AgentEnd> {
        loop {
            let words = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .steering();
            let Some(text) = words else {
                return Ok(());
            };
            self.emit(&Event::UserInput { text: text.clone() })?;
            history
                .user(self.agent.desk.redactor().text(&text))
                .map_err(|error| nonsense(&error.to_string()))?;
        }
    }

    fn emit(&self, event: &Event) -> Result<(), AgentEnd> {
        self.agent
            .desk
            .emit(event)
            .map_err(|stop| AgentEnd::by_tool(&stop))
    }
}

/// The model's words on their way to the eyes: sanitised, line by line, known values replaced.
struct Words<'a> {
    desk: &'a Desk,
    sanitiser: Sanitiser,
    redacting: Redacting,
}

impl<'a> Words<'a> {
    fn new(desk: &'a Desk) -> Self {
        Self {
            desk,
            sanitiser: Sanitiser::new(MAX_LINE),
            redacting: desk.redactor().stream(),
        }
    }

    fn take(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Text(text) => {
                let text = self.sanitiser.push(text.as_bytes());
                self.show(text);
            }
            Delta::Restart { why, wait_ms } => {
                let rest = self.sanitiser.finish();
                self.show(rest);
                // A record that failed here fails at the next event too, and stops the run there.
                let _ = self.desk.emit(&Event::Notice {
                    text: format!(
                        "the model failed ({}); asking again in {:.1} s",
                        shown(why),
                        wait_ms as f64 / 1000.0
                    ),
                });
            }
        }
    }

    fn finish(mut self) {
        let rest = self.sanitiser.finish();
        self.show(rest);
        let mut decided = Vec::new();
        self.redacting.finish(&mut decided);
        self.tell(&decided);
    }

    fn show(&mut self, text: String) {
        let mut decided = Vec::new();
        self.redacting.push(text.as_bytes(), &mut decided);
        self.tell(&decided);
    }

    fn tell(&self, decided: &[u8]) {
        let text = String::from_utf8_lossy(decided).into_owned();
        if !text.is_empty() {
            // Transient: it is shown only, and showing does not fail.
            let _ = self.desk.emit(&Event::TextDelta { text });
        }
    }
}

/// Text of the model's as it may be shown and recorded.
fn shown(text: &str) -> String {
    sanitise(text.as_bytes(), MAX_LINE)
}

fn model_failed(error: &ModelError) -> AgentEnd {
    AgentEnd {
        remedy: Some(error.remedy().to_owned()),
        ..AgentEnd::stopped(StopReason::Model {
            error: error.to_string(),
        })
    }
}

/// An answer of a model that cannot be made sense of.
pub(super) fn nonsense(why: &str) -> AgentEnd {
    AgentEnd {
        remedy: Some("try again, or use another model".to_owned()),
        ..AgentEnd::stopped(StopReason::Model {
            error: format!("the answer makes no sense: {why}"),
        })
    }
}
