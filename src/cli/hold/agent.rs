//! Being the holder of an agent, which works here whoever looks.

use super::{Boxes, quietly, say_it_goes_on, serve, undone, up};
use crate::agent::AgentEnd;
use crate::app::{self, AgentRequest, OpenedRun, RunEnd, RunStart};
use crate::cli::args::{AnswersArg, HoldArgs};
use crate::cli::failure::{self, Failure};
use crate::cli::{request, run};
use crate::config::Config;
use crate::holder::{
    AgentDoor, Audience, End, Holder, HolderSetup, Listener, RunOver, Service, Standing,
};
use crate::llm::ChatModel;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(super) async fn hold(
    config: &Config,
    args: &HoldArgs,
    (model, stop): (&str, CancellationToken),
) -> Result<ExitCode, Failure> {
    let model: Arc<dyn ChatModel> = Arc::from(run::model(config, model, args.window)?);
    let task = args.command.first().and_then(|word| word.to_str());
    let task = task.unwrap_or_default().to_owned();
    let request = request::sandbox(config, &args.sandbox)?;
    let audience = Audience::new(match args.answers {
        AnswersArg::Yes => Standing::Yes,
        AnswersArg::Person => Standing::Person,
        AnswersArg::Nobody => Standing::Nobody,
    });
    let door = Arc::new(AgentDoor::new(audience.clone(), quietly()));
    let start = RunStart {
        command: "run",
        task: task.clone(),
        model: Some(model.name().to_owned()),
        cancel: stop.clone(),
    };
    let run = app::open_run(config, request, start, door)
        .await
        .map_err(|error| request::app_failure(&error, request::app_code(&error)))?;
    let agent = AgentRequest {
        model,
        task,
        max_turns: args.max_turns,
        cancel: stop.clone(),
    };
    let (agent, listener) = match ready(config, &run, agent).await {
        Ok(ready) => ready,
        Err(failure) => return Err(undone(run, failure).await),
    };
    let holder = Holder::new(HolderSetup {
        bench: run.bench.clone(),
        stop,
        service: Service::Agent(audience.clone()),
    });
    let redactor = run.desk.redactor().clone();
    holder.carry(async move {
        let mut end = agent.work().await;
        end.text = redactor.text(&end.text).into_owned();
        audience.is_over(over(&end));
        End::Done(RunEnd {
            exit_code: end.stop.exit_code(),
            stop: end.stop,
            text: end.text,
        })
    });
    let boxes = Boxes::open(&config.state);
    let code = serve(run, (boxes, None), (holder, listener)).await;
    Ok(ExitCode::from(code))
}

async fn ready(
    config: &Config,
    run: &OpenedRun,
    agent: AgentRequest,
) -> Result<(app::ReadyAgent, Listener), Failure> {
    say_it_goes_on(run, failure::SANDBOX)?;
    let agent = app::ready_agent(config, run, agent)
        .map_err(|error| request::app_failure(&error, request::app_code(&error)))?;
    let listener = up(&Boxes::open(&config.state), None, run, failure::SANDBOX).await?;
    Ok((agent, listener))
}

fn over(end: &AgentEnd) -> RunOver {
    RunOver {
        stop: end.stop.clone(),
        text: end.text.clone(),
        remedy: end.remedy.clone(),
        unclosed: None,
    }
}
