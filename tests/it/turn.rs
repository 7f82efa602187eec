//! The agent's loop with a canned model and canned tools: what happens, in which order, and that every
//! call is answered whatever happens.

use async_trait::async_trait;
use fumehood::agent::{Agent, AgentEnd, Caps, Driver, Operation};
use fumehood::llm::{ChatAnswer, ChatModel, ChatRequest, Delta, DeltaSink, ModelError};
use fumehood::protocol::event::{Approver, Event};
use fumehood::protocol::ids::CallId;
use fumehood::protocol::message::{Message, TokenUsage, ToolCall, ToolSpec};
use fumehood::protocol::question::{Answer, QuestionView};
use fumehood::protocol::stop::StopReason;
use fumehood::record::{RunRecord, RunStore, new_run_id};
use fumehood::tools::desk::Desk;
use fumehood::tools::door::{Answered, Door};
use fumehood::tools::{CallContext, Router, Tool, ToolOutput, ToolStop};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Says its turns one after another, and keeps what it was asked.
#[derive(Default)]
struct Canned {
    turns: Mutex<VecDeque<Result<ChatAnswer, ModelError>>>,
    asked: Mutex<Vec<Vec<Message>>>,
    window: u64,
    /// Never answers.
    silent: bool,
}

#[async_trait]
impl ChatModel for Canned {
    fn name(&self) -> &str {
        "canned/model"
    }
    fn window(&self) -> u64 {
        self.window
    }
    async fn answer(
        &self,
        request: ChatRequest<'_>,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, ModelError> {
        self.asked.lock().unwrap().push(request.messages.to_vec());
        if self.silent {
            std::future::pending::<()>().await;
        }
        let turn = self.turns.lock().unwrap().pop_front();
        let turn = turn.unwrap_or_else(|| Ok(says("(the script is over)", &[])));
        if let Ok(answer) = &turn {
            delta(Delta::Text(&answer.text));
        }
        turn
    }
}

fn says(text: &str, calls: &[(&str, Value)]) -> ChatAnswer {
    static N: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    ChatAnswer {
        text: text.into(),
        calls: calls
            .iter()
            .map(|(name, arguments)| ToolCall {
                id: CallId::new(format!(
                    "c{}",
                    N.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                )),
                name: (*name).into(),
                arguments: arguments.to_string(),
            })
            .collect(),
        usage: Some(TokenUsage {
            input: 10,
            output: 5,
        }),
    }
}

/// What a call of the one tool leads to.
#[derive(Clone)]
enum Act {
    Echo,
    Stop(ToolStop),
    /// Waits until it is cancelled.
    Wait,
    /// Cancels the run itself, and then answers.
    Interrupts,
    /// Counts, so that no two answers are alike.
    Count,
}

struct Probe(Act, Mutex<u32>);

#[async_trait]
impl Tool for Probe {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "probe".into(),
            description: "a probe".into(),
            schema: json!({"type": "object"}),
        }
    }
    async fn call(&self, arguments: Value, context: &CallContext) -> Result<ToolOutput, ToolStop> {
        match &self.0 {
            Act::Echo => Ok(ToolOutput::ok(arguments.to_string())),
            Act::Stop(stop) => Err(stop.clone()),
            Act::Wait => {
                context.cancel.cancelled().await;
                Err(ToolStop::Interrupted)
            }
            Act::Interrupts => {
                context.cancel.cancel();
                Ok(ToolOutput::ok("done all the same"))
            }
            Act::Count => {
                let mut count = self.1.lock().unwrap();
                *count += 1;
                Ok(ToolOutput::ok(format!(
                    "result {}",
                    "x".repeat(*count as usize)
                )))
            }
        }
    }
}

#[derive(Default)]
struct Watching(Mutex<Vec<Event>>);

#[async_trait]
impl Door for Watching {
    fn show(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
    async fn ask(&self, _: &QuestionView) -> Answered {
        Answered {
            answer: Answer::Abort,
            approver: Approver::Person,
        }
    }
}

struct Scene {
    _home: TempDir,
    record: Arc<RunRecord>,
    model: Arc<Canned>,
    door: Arc<Watching>,
    cancel: CancellationToken,
    act: Act,
    turns: u32,
}

impl Scene {
    fn new(act: Act, turns: impl IntoIterator<Item = ChatAnswer>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = RunStore::open(&home.path().join("state"));
        Self {
            record: Arc::new(store.create(&new_run_id()).unwrap()),
            _home: home,
            model: Arc::new(Canned {
                turns: Mutex::new(turns.into_iter().map(Ok).collect()),
                window: 100_000,
                ..Canned::default()
            }),
            door: Arc::default(),
            cancel: CancellationToken::new(),
            act,
            turns: 10,
        }
    }

    fn model(&mut self) -> &mut Canned {
        Arc::get_mut(&mut self.model).unwrap()
    }

    fn driver(&self) -> Driver {
        let agent = Agent {
            model: self.model.clone(),
            router: Router::new(vec![Box::new(Probe(self.act.clone(), Mutex::new(0)))]),
            desk: Desk::new(self.record.clone(), self.door.clone()),
            caps: Caps { turns: self.turns },
        };
        Driver::new(agent, self.cancel.clone())
    }

    async fn run(&self) -> AgentEnd {
        let end = self.driver().run_task("system".into(), "task".into());
        tokio::time::timeout(std::time::Duration::from_secs(20), end)
            .await
            .expect("the agent hangs")
    }

    fn shown(&self) -> Vec<Event> {
        self.door.0.lock().unwrap().clone()
    }

    /// Calls and answers in the record are the same, each once, in order.
    fn every_call_is_answered_once(&self) {
        let (mut called, mut answered) = (Vec::new(), Vec::new());
        for event in self.shown() {
            match event {
                Event::ToolCalled { call, .. } => called.push(call),
                Event::ToolAnswered { call, .. } => answered.push(call),
                _ => {}
            }
        }
        let announced: Vec<_> = answered.iter().take(called.len()).cloned().collect();
        assert_eq!(called, announced, "answers in the order of calls");
        let asked = self.model.asked.lock().unwrap();
        for messages in asked.iter() {
            for (at, message) in messages.iter().enumerate() {
                if let Message::Assistant { calls, .. } = message {
                    let after: Vec<_> = messages[at + 1..].iter().take(calls.len()).collect();
                    assert_eq!(after.len(), calls.len());
                    for (call, answer) in calls.iter().zip(after) {
                        assert!(matches!(answer, Message::Tool(tool) if tool.id == call.id));
                    }
                }
            }
        }
    }

    fn last_asked(&self) -> String {
        format!("{:?}", self.model.asked.lock().unwrap().last().unwrap())
    }
}

#[tokio::test]
async fn a_call_is_answered_and_the_last_words_are_the_answer() {
    let scene = Scene::new(
        Act::Echo,
        [
            says("I try.", &[("probe", json!({"n": 1}))]),
            says("Done: 1.", &[]),
        ],
    );
    let end = scene.run().await;
    assert_eq!(
        (end.stop, end.text.as_str()),
        (StopReason::Finished, "Done: 1.")
    );
    scene.every_call_is_answered_once();
    let order: Vec<_> = scene
        .shown()
        .iter()
        .filter(|event| !event.is_transient())
        .map(|event| {
            serde_json::to_value(event).unwrap()["type"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        order,
        [
            "user-input",
            "model-answered",
            "tool-called",
            "tool-answered",
            "model-answered"
        ]
    );
}

#[tokio::test]
async fn unknown_tools_and_bad_arguments_are_answers_that_help() {
    let mut bad = says("", &[("probe", json!({})), ("shell", json!({}))]);
    bad.calls[0].arguments = "{\"n\": ".into();
    let scene = Scene::new(Act::Echo, [bad, says("I see.", &[])]);
    assert_eq!(scene.run().await.stop, StopReason::Finished);
    scene.every_call_is_answered_once();
    let told = scene.last_asked();
    assert!(
        told.contains("schema") && told.contains("There is no tool"),
        "{told}"
    );
}

#[tokio::test]
async fn a_stop_answers_the_calls_that_are_open() {
    let stop = ToolStop::Aborted { why: "no".into() };
    let scene = Scene::new(
        Act::Stop(stop),
        [says(
            "",
            &[("probe", json!({"n": 1})), ("probe", json!({"n": 2}))],
        )],
    );
    let end = scene.run().await;
    assert!(matches!(end.stop, StopReason::Denied { .. }), "{end:?}");
    let answers = scene
        .shown()
        .iter()
        .filter(|e| matches!(e, Event::ToolAnswered { .. }))
        .count();
    assert_eq!(
        answers, 2,
        "the second call was never made, and is answered"
    );
}

#[tokio::test]
async fn an_interrupt_ends_a_waiting_call_and_answers_the_rest() {
    let scene = Scene::new(
        Act::Wait,
        [says(
            "",
            &[("probe", json!({})), ("probe", json!({"n": 2}))],
        )],
    );
    let cancel = scene.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert_eq!(scene.run().await.stop, StopReason::Interrupted);
    let answers = scene
        .shown()
        .iter()
        .filter(|e| matches!(e, Event::ToolAnswered { .. }))
        .count();
    assert_eq!(answers, 2);
}

#[tokio::test]
async fn after_an_interrupt_no_further_call_is_made() {
    let scene = Scene::new(
        Act::Interrupts,
        [says(
            "",
            &[("probe", json!({})), ("probe", json!({"n": 2}))],
        )],
    );
    assert_eq!(scene.run().await.stop, StopReason::Interrupted);
    let texts: Vec<_> = scene
        .shown()
        .into_iter()
        .filter_map(|event| match event {
            Event::ToolAnswered { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["done all the same", "interrupted"]);
}

#[tokio::test]
async fn an_interrupt_ends_a_model_that_does_not_answer() {
    let mut scene = Scene::new(Act::Echo, []);
    scene.model().silent = true;
    let cancel = scene.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert_eq!(scene.run().await.stop, StopReason::Interrupted);
}

#[tokio::test]
async fn a_model_in_circles_is_nudged_once_and_then_stopped() {
    let again = || says("", &[("probe", json!({"same": true}))]);
    let mut scene = Scene::new(Act::Echo, (0..40).map(|_| again()));
    scene.turns = 40;
    let end = scene.run().await;
    assert!(matches!(end.stop, StopReason::DoomLoop { .. }), "{end:?}");
    let nudges = scene
        .shown()
        .iter()
        .filter(|e| matches!(e, Event::Notice { .. }))
        .count();
    assert_eq!(nudges, 1);
    assert!(scene.model.asked.lock().unwrap().len() < 20);
}

#[tokio::test]
async fn the_same_call_with_another_result_is_no_circle() {
    let again = || says("", &[("probe", json!({"same": true}))]);
    let turns = (0..9).map(|_| again()).chain([says("Done.", &[])]);
    let scene = Scene::new(Act::Count, turns);
    assert_eq!(scene.run().await.stop, StopReason::Finished);
}

#[tokio::test]
async fn the_cap_on_turns_is_a_stop_of_its_own() {
    let mut scene = Scene::new(
        Act::Count,
        (0..9).map(|n| says("", &[("probe", json!({"n": n}))])),
    );
    scene.turns = 3;
    assert_eq!(
        scene.run().await.stop,
        StopReason::IterationCap { turns: 3 }
    );
    assert_eq!(scene.model.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_full_window_is_an_honest_stop_before_the_question() {
    let mut scene = Scene::new(Act::Echo, []);
    scene.model().window = 900;
    let end = scene.run().await;
    assert!(
        matches!(end.stop, StopReason::ContextFull { window: 900, .. }),
        "{end:?}"
    );
    assert!(end.remedy.is_some());
    assert!(scene.model.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_model_that_fails_ends_the_run_with_its_remedy() {
    let mut scene = Scene::new(Act::Echo, []);
    scene.model().turns = Mutex::new(VecDeque::from([Err(ModelError::Truncated {
        model: "m".into(),
        why: "gone".into(),
        remedy: "again".into(),
    })]));
    let end = scene.run().await;
    assert!(matches!(end.stop, StopReason::Model { .. }));
    assert_eq!(end.remedy.as_deref(), Some("again"));
}

#[tokio::test]
async fn words_of_the_model_reach_nobody_unsanitised() {
    let scene = Scene::new(
        Act::Echo,
        [
            says(
                "\u{1b}]52;c;AAAA\u{7}x",
                &[("pro\u{1b}[31mbe", json!({"a": "\u{202e}"}))],
            ),
            says("\u{1b}[2Jend", &[]),
        ],
    );
    let end = scene.run().await;
    assert_eq!(end.text, "end");
    let all = serde_json::to_string(&scene.shown()).unwrap();
    assert!(
        !all.contains("\\u001b") && !all.contains('\u{202e}'),
        "{all}"
    );
}

#[tokio::test]
async fn words_to_a_working_agent_are_read_between_its_calls() {
    let scene = Scene::new(
        Act::Count,
        [says("", &[("probe", json!({}))]), says("As you like.", &[])],
    );
    let driver = scene.driver();
    let queue = driver.queue();
    queue
        .lock()
        .unwrap()
        .submit(Operation::UserInput("task".into()));
    queue
        .lock()
        .unwrap()
        .submit(Operation::UserInput("rather this".into()));
    let end = driver
        .run_task("system".into(), "and a last one".into())
        .await;
    assert_eq!(end.stop, StopReason::Finished);
    let asked = format!("{:?}", scene.model.asked.lock().unwrap()[1]);
    assert!(asked.contains("rather this"), "{asked}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let scene = Scene::new(Act::Echo, [says("", &[("probe", json!({}))])]);
    // Larger than a record may be.
    let end = scene
        .driver()
        .run_task("system".into(), "x".repeat(40 << 20))
        .await;
    assert!(
        matches!(end.stop, StopReason::Sandbox { .. }),
        "{:?}",
        end.stop
    );
    assert!(
        scene.model.asked.lock().unwrap().is_empty(),
        "the model was not even asked"
    );
}
