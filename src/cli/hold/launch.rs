//! Starting a holder: this program again, and one line from it when it is up.

use crate::cli::args::{AnswersArg, RunArgs, SandboxArgs};
use crate::cli::failure::{self, Failure};
use crate::holder::BoxName;
use crate::protocol::ids::RunId;
use crate::record::StoredRun;
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long a holder that is told to end while it comes up may take.
const GRACE: Duration = Duration::from_secs(60);

/// How long a holder may take to be gone after it said that the run is closed.
const GONE: Duration = Duration::from_secs(60);

/// Bytes of the one line.
const MAX_LINE: u64 = 64 * 1024;

/// A holder to be started.
pub(in super::super) struct Hold<'a> {
    pub(in super::super) sandbox: &'a SandboxArgs,
    pub(in super::super) service: Held<'a>,
}

pub(in super::super) enum Held<'a> {
    Box {
        name: &'a BoxName,
        idle_timeout: &'a str,
    },
    /// One execution of this.
    Once(&'a [Vec<u8>]),
    Agent(&'a RunArgs, AnswersArg),
}

/// What came of it.
pub(in super::super) enum Launched {
    Up(Up),
    /// It has said why.
    Ended(ExitCode),
}

/// The one line of a holder that is up.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Up {
    pub(in super::super) run: RunId,
    pub(in super::super) dir: PathBuf,
    pub(in super::super) name: Option<String>,
}

/// Starts it and waits until it is up. Cancelled meanwhile, it is ended.
pub(in super::super) async fn launch(
    hold: Hold<'_>,
    cancel: &CancellationToken,
) -> Result<Launched, Failure> {
    let own = match hold.service {
        Held::Box { .. } | Held::Agent(..) => failure::SANDBOX,
        Held::Once(_) => failure::EXEC_OWN,
    };
    let mut child = command(&hold)
        .spawn()
        .map_err(|error| Failure::new("failed to start the holder", own).because(&error))?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Failure::new("the holder has no standard output", own));
    };
    let mut line = Vec::new();
    let mut reader = BufReader::new(stdout.take(MAX_LINE));
    tokio::select! {
        // An error is the end of it, too.
        _ = reader.read_until(b'\n', &mut line) => {}
        () = cancel.cancelled() => {
            end(&mut child).await;
            return Err(Failure::new("interrupted", failure::INTERRUPTED));
        }
    }
    match serde_json::from_slice(&line) {
        Ok(up) => Ok(Launched::Up(up)),
        Err(_) => ended(child, own).await,
    }
}

fn command(hold: &Hold<'_>) -> Command {
    // This very program, also where its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("fumehood")
        .arg("hold")
        .args(hold.sandbox.retyped())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(false);
    match &hold.service {
        Held::Box { name, idle_timeout } => {
            command.args(["--idle-timeout", idle_timeout, "--name", name.as_str()]);
        }
        Held::Once(argv) => {
            command.args(["--once", "--"]);
            command.args(argv.iter().map(|word| OsStr::from_bytes(word)));
        }
        Held::Agent(args, answers) => {
            command.args(["--model", &args.model]);
            command.args(["--max-turns", &args.max_turns.to_string()]);
            if let Some(window) = args.window {
                command.args(["--window", &window.to_string()]);
            }
            let answers = answers.to_possible_value();
            let answers = answers.as_ref().map_or("nobody", |word| word.get_name());
            command.args(["--answers", answers, "--", &args.task]);
        }
    }
    command
}

async fn ended(mut child: Child, own: u8) -> Result<Launched, Failure> {
    let status = child
        .wait()
        .await
        .map_err(|error| Failure::new("the holder is lost", own).because(&error))?;
    match (status.code(), status.signal()) {
        (Some(code), _) if code != 0 => {
            let code = u8::try_from(code).unwrap_or(own);
            Ok(Launched::Ended(ExitCode::from(code)))
        }
        (_, Some(signal)) => Err(Failure::new(
            format!("the holder was killed by signal {signal} while it came up"),
            own,
        )),
        _ => Err(Failure::new("the holder ended before it was up", own)),
    }
}

/// TERM, some time, KILL.
async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // Nothing more can be done about one that resists this.
        let _ = child.kill().await;
    }
}

/// Waits until the holder of a closed run is gone, and what it held is free; false where it stays.
pub(in super::super) async fn over(run: &StoredRun) -> bool {
    let gone = async {
        // What cannot be read any more is gone, too.
        while !run.is_over().unwrap_or(true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GONE, gone).await.is_ok()
}
