//! `fumehood run` and `fumehood demo`: an agent, watched.

use super::args::{AnswersArg, DemoArgs, RunArgs, SandboxArgs};
use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::hold::{Held, Hold, Launched, launch};
use super::look::{self, How};
use super::request;
use super::signals;
use crate::app::{self, AgentRequest, RunStart, SandboxRequest};
use crate::config::Config;
use crate::llm::{self, ChatModel, LlmConfig, ScriptedModel};
use crate::policy::model::OnDisconnect;
use crate::protocol::stop::StopReason;
use crate::record::{RunStore, Verified};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

/// The demo's model: its part, written down in advance.
const TRANSCRIPT: &str = include_str!("../../examples/demo/transcript.json");

/// The demo's repository.
const REPOSITORY: [(&str, &[u8]); 2] = [
    (
        "README.md",
        include_bytes!("../../examples/demo/iris/README.md"),
    ),
    (
        "iris.csv",
        include_bytes!("../../examples/demo/iris/iris.csv"),
    ),
];

/// The demo ends by itself long before.
const DEMO_TURNS: u32 = 20;

/// An agent with a task and a model.
pub(super) async fn run(config: &Config, args: RunArgs) -> Result<ExitCode, Failure> {
    let model = model(config, &args.model, args.window)?;
    let request = request::sandbox(config, &args.sandbox)?;
    if request.policy.lifecycle.on_disconnect == OnDisconnect::Finish {
        return held(config, &args).await;
    }
    let watched = Watched {
        show: show(args.json),
        answers: Answers::of(args.sandbox.yes),
        command: "run",
        task: args.task,
        max_turns: args.max_turns,
    };
    watch(config, request, Arc::from(model), watched).await
}

/// A model by its name. Nothing is sent yet.
pub(super) fn model(
    config: &Config,
    name: &str,
    window: Option<u64>,
) -> Result<Box<dyn ChatModel>, Failure> {
    let llm = LlmConfig {
        window,
        ..LlmConfig::new(config.environment.clone())
    };
    llm::open(name, &llm).map_err(|error| {
        let remedy = error.remedy().to_owned();
        Failure::of(&error, failure::USAGE).remedy(Some(remedy))
    })
}

/// In a process of its own, which goes on when this one goes away; this one looks, and answers.
async fn held(config: &Config, args: &RunArgs) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_but_leave().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let answers = Answers::of(args.sandbox.yes);
    let hold = Hold {
        sandbox: &args.sandbox,
        service: Held::Agent(
            args,
            match answers {
                Answers::Yes => AnswersArg::Yes,
                Answers::Person => AnswersArg::Person,
                Answers::Nobody => AnswersArg::Nobody,
            },
        ),
    };
    let up = match launch(hold, &cancel).await? {
        Launched::Up(up) => up,
        Launched::Ended(code) => return Ok(code),
    };
    let run = RunStore::open(&config.state)
        .find(up.run.as_str())
        .map_err(|error| Failure::of(&error, failure::SANDBOX))?;
    let how = How {
        show: show(args.json),
        answers,
    };
    look::to_the_end(config, &run, (how, &cancel)).await
}

/// The whole job with a scripted model.
pub(super) async fn demo(config: &Config, args: DemoArgs) -> Result<ExitCode, Failure> {
    let model = ScriptedModel::from_json(TRANSCRIPT)
        .map_err(|error| Failure::of(&error, failure::USAGE))?;
    let remote = app::lay_down_remote(config, "iris", &REPOSITORY)
        .map_err(|error| request::app_failure(&error, failure::SANDBOX))?;
    let sandbox = SandboxArgs {
        policy: "dev-loop".to_owned(),
        backend: args.backend,
        image: args.image,
        set: vec![format!("git.remotes=[{remote:?}]")],
        yes: args.yes,
        ..SandboxArgs::default()
    };
    if !args.json {
        super::say(
            "This is a demo: the model's part is scripted (examples/demo/transcript.json), everything else is real.\n",
        );
    }
    let watched = Watched {
        show: show(args.json),
        answers: Answers::of(args.yes),
        command: "demo",
        task: format!("Fit a classifier to the data set in {remote} and report its test accuracy."),
        max_turns: DEMO_TURNS,
    };
    let request = request::sandbox(config, &sandbox)?;
    watch(config, request, Arc::new(model), watched).await
}

struct Watched {
    show: Show,
    answers: Answers,
    command: &'static str,
    task: String,
    max_turns: u32,
}

fn show(json: bool) -> Show {
    match json {
        true => Show::JsonLines,
        false => Show::Transcript,
    }
}

async fn watch(
    config: &Config,
    request: SandboxRequest,
    model: Arc<dyn ChatModel>,
    watched: Watched,
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let door = Arc::new(TerminalDoor::new(watched.show, watched.answers));
    let start = RunStart {
        command: watched.command,
        task: watched.task.clone(),
        model: Some(model.name().to_owned()),
        cancel: cancel.clone(),
    };
    let run = app::open_run(config, request, start, door)
        .await
        .map_err(|error| request::app_failure(&error, request::app_code(&error)))?;
    let (record, id) = (run.record.clone(), run.record.run().clone());
    let agent = AgentRequest {
        model,
        task: watched.task,
        max_turns: watched.max_turns,
        cancel,
    };
    let end = app::ready_agent(config, &run, agent)
        .map_err(|error| request::app_failure(&error, request::app_code(&error)))?
        .work()
        .await;
    let (stop, text, remedy) = (end.stop.clone(), end.text.clone(), end.remedy);
    let code = run
        .close(app::RunEnd {
            exit_code: end.stop.exit_code(),
            stop: end.stop,
            text: end.text,
        })
        .await
        .map_err(|error| request::app_failure(&error, failure::SANDBOX))?;
    if watched.show == Show::Transcript {
        tell(&stop, &text, remedy.as_deref());
        verified(config, &id, record.dir());
    }
    Ok(ExitCode::from(
        u8::try_from(code).unwrap_or(failure::SANDBOX),
    ))
}

/// The answer also goes to standard output where that is no terminal: that is what was asked for.
pub(super) fn tell(stop: &StopReason, text: &str, remedy: Option<&str>) {
    if *stop == StopReason::Finished && !std::io::stdout().is_terminal() {
        // A reader that is gone wanted no answer.
        let _ = super::print(text);
    }
    if let Some(remedy) = remedy {
        super::say(&format!("help: {remedy}"));
    }
}

/// Where the record is, and that it is whole.
pub(super) fn verified(config: &Config, run: &crate::protocol::ids::RunId, dir: &std::path::Path) {
    let said = match app::verify(config, run) {
        Ok(Verified::Intact { records, head }) => {
            format!("{records} records, intact, ending in {}", head.hash)
        }
        Ok(Verified::Torn { records, .. }) => format!("{records} records, the last line torn"),
        Ok(Verified::Broken { line, why }) => format!("BROKEN at line {line}: {why}"),
        Err(error) => format!("cannot be verified: {error}"),
    };
    super::say(&format!(
        "\nrecord {}\n       {said}\n       fumehood runs show {run}",
        dir.display()
    ));
}
