//! What a turn costs beside the model and the tool: history, router, doom loop, record.

use super::Lab;
use super::command::on_disk;
use super::table::{Aim, Samples};
use super::warm::millis;
use anyhow::{Result, ensure};
use async_trait::async_trait;
use fumehood::agent::{Agent, Caps, Driver};
use fumehood::llm::{ChatAnswer, ChatModel, ChatRequest, DeltaSink, ModelError};
use fumehood::protocol::event::{Approver, Event};
use fumehood::protocol::ids::CallId;
use fumehood::protocol::message::{TokenUsage, ToolCall, ToolSpec};
use fumehood::protocol::question::{Answer, QuestionView};
use fumehood::protocol::stop::StopReason;
use fumehood::record::{RunStore, new_run_id};
use fumehood::tools::desk::Desk;
use fumehood::tools::door::{Answered, Door};
use fumehood::tools::{CallContext, Router, Tool, ToolOutput, ToolStop};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

const TURNS: u32 = 100;
const ROUNDS: usize = 9;

/// Records of a turn: what the model said, the call, its answer.
const RECORDS: u32 = 3;

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("agent turn") {
        return Ok(());
    }
    let disk = on_disk()?;
    let memory = match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm")?,
        false => on_disk()?,
    };
    let [mut in_memory, mut on_disk, mut floor]: [Samples; 3] = Default::default();
    for _ in 0..ROUNDS {
        in_memory.push(turn(memory.path()).await?);
        on_disk.push(turn(disk.path()).await?);
        floor.push(flushes(disk.path())?);
    }
    let table = &mut lab.table;
    let what = "agent turn, record in memory";
    table.add(what, &in_memory, None, Aim::AtMost(2.0));
    let what = "  what flushing the record to disk adds";
    let peer = Some(("3 bare fdatasync", &floor));
    table.add(what, &on_disk.less(&in_memory), peer, Aim::Told);
    Ok(())
}

/// Milliseconds of one turn, in a run of many.
async fn turn(state: &Path) -> Result<f64> {
    let record = Arc::new(RunStore::open(state).create(&new_run_id())?);
    let agent = Agent {
        model: Arc::new(Canned::default()),
        router: Router::new(vec![Box::new(Nothing)]),
        desk: Desk::new(record, Arc::new(Blind)),
        caps: Caps { turns: TURNS + 1 },
    };
    let driver = Driver::new(agent, CancellationToken::new());
    let begun = Instant::now();
    let end = driver
        .run_task("You measure.".to_owned(), "Measure.".to_owned())
        .await;
    let taken = millis(begun);
    ensure!(
        end.stop == StopReason::Finished,
        "the agent stopped: {:?}",
        end.stop
    );
    Ok(taken / f64::from(TURNS))
}

/// What as many lines as a turn records cost on this disk, with nothing around them.
fn flushes(dir: &Path) -> Result<f64> {
    let mut file = File::create(dir.join("flushes"))?;
    let line = [b'x'; 300];
    let begun = Instant::now();
    for _ in 0..TURNS * RECORDS {
        file.write_all(&line)?;
        file.sync_data()?;
    }
    Ok(millis(begun) / f64::from(TURNS))
}

/// Calls the tool so many times, then is done.
#[derive(Default)]
struct Canned(AtomicU32);

#[async_trait]
impl ChatModel for Canned {
    fn name(&self) -> &str {
        "bench/canned"
    }

    fn window(&self) -> u64 {
        1 << 30
    }

    async fn answer(
        &self,
        _: ChatRequest<'_>,
        _: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, ModelError> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let call = |n: u32| ToolCall {
            id: CallId::new(format!("call_{n}")),
            name: "nothing".to_owned(),
            arguments: json!({"n": n}).to_string(),
        };
        Ok(ChatAnswer {
            text: "One more, with a few words about why it is worth doing.".to_owned(),
            calls: (n < TURNS).then(|| call(n)).into_iter().collect(),
            usage: Some(TokenUsage {
                input: 100,
                output: 10,
            }),
        })
    }
}

/// Does nothing, and says that it did.
struct Nothing;

#[async_trait]
impl Tool for Nothing {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "nothing".to_owned(),
            description: "Does nothing.".to_owned(),
            schema: json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
        }
    }

    async fn call(
        &self,
        arguments: serde_json::Value,
        _: &CallContext,
    ) -> Result<ToolOutput, ToolStop> {
        Ok(ToolOutput::ok(
            format!("nothing done, {arguments}\n").repeat(20),
        ))
    }
}

/// Shows nothing; nobody is there.
struct Blind;

#[async_trait]
impl Door for Blind {
    fn show(&self, _: &Event) {}

    async fn ask(&self, _: &QuestionView) -> Answered {
        Answered {
            answer: Answer::No {
                reason: "nobody is there".to_owned(),
            },
            approver: Approver::NoTerminal,
        }
    }
}
