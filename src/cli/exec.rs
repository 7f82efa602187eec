//! `fumehood exec`: one command in a sandbox, as transparent as a shell would run it.
//!
//! Standard input passes through; output and errors stay apart. To a pipe or a file go the very bytes;
//! to a terminal they go sanitised. What Fumehood itself has to say goes to standard error.

use super::args::ExecArgs;
use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::outlet::Outlet;
use super::request;
use super::signals;
use crate::app::{self, OpenedRun, RunEnd, RunStart};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::action::Origin;
use crate::protocol::outcome::{Exit, Outcome};
use crate::protocol::spec::WORKSPACE_TARGET;
use crate::protocol::stop::StopReason;
use crate::tools::ToolStop;
use crate::tools::bench::{BenchIo, ExecRequest, Executed};
use crate::tools::exec::{not_started, not_started_remedy};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the command and gives its exit code.
pub(super) async fn exec(config: &Config, args: ExecArgs) -> Result<ExitCode, Failure> {
    let wall_ms = args
        .timeout
        .as_deref()
        .map(|text| request::duration_ms("--timeout", text))
        .transpose()
        .map_err(own)?;
    let command = ExecRequest {
        origin: Origin::Typed,
        argv: args
            .command
            .into_iter()
            .map(OsStringExt::into_vec)
            .collect(),
        cwd: args.cwd.unwrap_or_else(|| WORKSPACE_TARGET.to_owned()),
        env: BTreeMap::new(),
        wall_ms,
    };
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::EXEC_OWN))?;
    let request = request::sandbox(config, &args.sandbox).map_err(own)?;
    let door = Arc::new(TerminalDoor::new(
        Show::Quiet,
        Answers::of(args.sandbox.yes),
    ));
    let start = RunStart {
        command: "exec",
        task: said(&command.argv),
        model: None,
        cancel: cancel.clone(),
    };
    let run = app::open_run(config, request, start, door)
        .await
        .map_err(|error| request::app_failure(&error, failure::EXEC_OWN))?;
    let (mut stdout, mut stderr) = (
        Outlet::stdout(run.bench.max_line()),
        Outlet::stderr(run.bench.max_line()),
    );
    let io = BenchIo {
        step: run.bench.next_step(),
        stdin: Some(Box::new(tokio::io::stdin())),
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel,
    };
    let executed = run.bench.exec(&command, io).await;
    let lost = stdout.finish().await.and(stderr.finish().await);
    let id = run.record.run().clone();
    let code = finish(run, &command, executed).await?;
    match lost {
        Ok(()) => Ok(code),
        Err(error) => Err(
            Failure::new("failed to write the program's output", failure::EXEC_OWN)
                .because(&error)
                .remedy(Some(format!(
                    "what it said is kept: `fumehood runs logs {id}`"
                ))),
        ),
    }
}

/// The argument list on one line, for the record.
fn said(argv: &[Vec<u8>]) -> String {
    let words = argv
        .iter()
        .map(|word| visible(&String::from_utf8_lossy(word)));
    words.collect::<Vec<_>>().join(" ")
}

/// Everything that is Fumehood's own is 125 here, usage and policy included.
fn own(failure: Failure) -> Failure {
    Failure {
        code: failure::EXEC_OWN,
        ..failure
    }
}

async fn finish(
    run: OpenedRun,
    command: &ExecRequest,
    executed: Result<Executed, ToolStop>,
) -> Result<ExitCode, Failure> {
    let (stop, answer) = match executed {
        Ok(Executed::Ran { exit, .. }) => {
            tell(&exit);
            let code = u8::try_from(exit.outcome.exit_code()).unwrap_or(failure::EXEC_OWN);
            let stop = match exit.outcome {
                Outcome::Cancelled => StopReason::Interrupted,
                _ => StopReason::Finished,
            };
            (stop, Ok(code))
        }
        Ok(Executed::Denied(denial)) => (
            StopReason::Denied {
                why: denial.to_string(),
            },
            Err(Failure::new(&denial, failure::EXEC_DENIED)),
        ),
        Ok(Executed::NotStarted(error)) => {
            let code = request::not_started_code(&error);
            let why = not_started(&error, command);
            let failure = Failure::new(why, code).remedy(not_started_remedy(&error));
            (StopReason::Finished, Err(failure))
        }
        Err(stop) => {
            let (reason, failure) = request::stopped(&stop, failure::EXEC_OWN);
            (reason, Err(failure))
        }
    };
    // What went wrong first says more than a failure to clean up after it.
    let end = RunEnd {
        stop,
        exit_code: i32::from(
            answer
                .as_ref()
                .map_or_else(|failure| failure.code, |code| *code),
        ),
        text: String::new(),
    };
    match (answer, run.close(end).await) {
        (Ok(code), Ok(_)) => Ok(ExitCode::from(code)),
        (Ok(_), Err(error)) => Err(request::app_failure(&error, failure::EXEC_OWN)),
        (Err(failure), _) => Err(failure),
    }
}

/// One line where the exit code alone would not say it.
fn tell(exit: &Exit) {
    let leftovers = exit.usage.leftovers;
    match exit.outcome {
        Outcome::Code(_) | Outcome::Signal(_) => {}
        outcome => super::say(&format!("fumehood: {outcome}")),
    }
    if leftovers > 0 && std::io::stderr().is_terminal() {
        let left = match leftovers {
            1 => "1 process left running was".to_owned(),
            many => format!("{many} processes left running were"),
        };
        super::say(&format!("fumehood: {left} ended with it"));
    }
}
