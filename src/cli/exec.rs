//! `fumehood exec`: one command in a sandbox, as transparent as a shell would run it.
//!
//! Standard input passes through; output and errors stay apart. To a pipe or a file go the very bytes but
//! for known secrets (with `--raw` also these); to a terminal they go sanitised. What Fumehood itself has to say goes to standard error.

use super::args::{ExecArgs, SandboxArgs};
use super::client;
use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::hold::{Held, Hold, Launched, launch, over};
use super::input::Input;
use super::outlet::Outlet;
use super::request;
use super::signals;
use crate::app::{self, RunStart, SandboxRequest};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::action::Origin;
use crate::policy::model::OnDisconnect;
use crate::protocol::outcome::{Exit, Outcome};
use crate::protocol::spec::WORKSPACE_TARGET;
use crate::record::RunStore;
use crate::tools::bench::{BenchIo, ExecRequest, Executed};
use crate::tools::exec::{not_started, not_started_remedy};
use crate::tools::{Passing, ToolStop};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the command and gives its exit code.
pub(super) async fn exec(config: &Config, args: ExecArgs) -> Result<ExitCode, Failure> {
    let wall_ms = request::timeout(args.timeout.as_deref()).map_err(own)?;
    let passing = passing(args.raw);
    let argv = args.command.into_iter().map(OsStringExt::into_vec);
    let command = ExecRequest {
        origin: Origin::Typed,
        argv: argv.collect(),
        cwd: args.cwd.unwrap_or_else(|| WORKSPACE_TARGET.to_owned()),
        env: BTreeMap::new(),
        wall_ms,
    };
    let request = request::sandbox(config, &args.sandbox).map_err(own)?;
    match request.policy.lifecycle.on_disconnect {
        OnDisconnect::Stop => here(config, request, &command, (args.sandbox.yes, passing)).await,
        OnDisconnect::Finish => held(config, &args.sandbox, &command, passing).await,
    }
}

/// What a pipe or a file gets.
pub(super) fn passing(raw: bool) -> Passing {
    match raw {
        true => Passing::Raw,
        false => Passing::Redacted,
    }
}

/// In this very process: with it, the step ends.
async fn here(
    config: &Config,
    request: SandboxRequest,
    command: &ExecRequest,
    (yes, passing): (bool, Passing),
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::EXEC_OWN))?;
    let door = Arc::new(TerminalDoor::new(Show::Quiet, Answers::of(yes)));
    let start = RunStart {
        command: "exec",
        task: app::said(&command.argv),
        model: None,
        cancel: cancel.clone(),
    };
    let run = app::open_run(config, request, start, door)
        .await
        .map_err(|error| request::app_failure(&error, failure::EXEC_OWN))?;
    let (mut stdout, mut stderr) = (
        Outlet::stdout(run.bench.max_line()).knowing(run.desk.redactor()),
        Outlet::stderr(run.bench.max_line()).knowing(run.desk.redactor()),
    );
    let io = BenchIo {
        step: run.bench.next_step(),
        stdin: Some(Box::new(Input::standard())),
        stdout: &mut stdout,
        stderr: &mut stderr,
        passing,
        cancel,
    };
    let executed = run.bench.exec(command, io).await;
    let lost = stdout.finish().await.and(stderr.finish().await);
    let id = run.record.run().clone();
    let answer = told(command, &executed);
    // What went wrong first says more than a failure to clean up after it.
    match (answer, run.close(app::exec_end(&executed)).await) {
        (Ok(code), Ok(_)) => lost
            .map(|()| code)
            .map_err(|error| unwritten(&error, id.as_str())),
        (Ok(_), Err(error)) => Err(request::app_failure(&error, failure::EXEC_OWN)),
        (Err(failure), _) => Err(failure),
    }
}

/// In a process of its own, which goes on when this one goes away.
async fn held(
    config: &Config,
    sandbox: &SandboxArgs,
    command: &ExecRequest,
    passing: Passing,
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_but_leave().map_err(|e| Failure::of(&e, failure::EXEC_OWN))?;
    let hold = Hold {
        sandbox,
        service: Held::Once(&command.argv),
    };
    let up = match launch(hold, &cancel).await? {
        Launched::Up(up) => up,
        Launched::Ended(code) => return Ok(code),
    };
    let done = client::exec(
        &up.dir,
        (command, passing),
        Answers::of(sandbox.yes),
        &cancel,
    )
    .await;
    if let Ok(run) = RunStore::open(&config.state).find(up.run.as_str()) {
        // One that does not go is no matter of this command's.
        let _ = over(&run).await;
    }
    done
}

/// Our own standard output or error took no more, for want of space.
pub(super) fn unwritten(error: &std::io::Error, run: &str) -> Failure {
    Failure::new("failed to write the program's output", failure::EXEC_OWN)
        .because(error)
        .remedy(Some(format!(
            "what it said is kept: `fumehood runs logs {run}`"
        )))
}

/// Everything that is Fumehood's own is 125 here, usage and policy included.
pub(super) fn own(failure: Failure) -> Failure {
    Failure {
        code: failure::EXEC_OWN,
        ..failure
    }
}

/// Says how it ended, and gives the exit code.
pub(super) fn told(
    command: &ExecRequest,
    executed: &Result<Executed, ToolStop>,
) -> Result<ExitCode, Failure> {
    let code = u8::try_from(app::exec_end(executed).exit_code).unwrap_or(failure::EXEC_OWN);
    match executed {
        Ok(Executed::Ran { exit, .. }) => {
            tell(exit);
            Ok(ExitCode::from(code))
        }
        Ok(Executed::Denied(denial)) => Err(Failure::new(denial, code)),
        Ok(Executed::NotStarted(error)) => {
            Err(Failure::new(not_started(error, command), code).remedy(not_started_remedy(error)))
        }
        Err(stop) => Err(Failure::new(stop, code).remedy(stop.remedy())),
    }
}

/// One line where the exit code alone would not say it.
pub(super) fn tell(exit: &Exit) {
    let leftovers = exit.usage.leftovers;
    match exit.outcome {
        Outcome::Code(_) | Outcome::Signal(_) => {}
        outcome => super::say(&format!("fumehood: {outcome}")),
    }
    // One that coped with a limit has nothing to be told; the record has it.
    for reached in exit.reached.iter().filter(|_| !exit.outcome.is_success()) {
        super::say(&format!("fumehood: {}", visible(&reached.to_string())));
    }
    if leftovers > 0 && std::io::stderr().is_terminal() {
        let left = match leftovers {
            1 => "1 process left running was".to_owned(),
            many => format!("{many} processes left running were"),
        };
        super::say(&format!("fumehood: {left} ended with it"));
    }
}
