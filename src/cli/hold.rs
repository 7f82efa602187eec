//! Starting a holder, and being one.
//!
//! ```text
//!   this command ── spawns itself: hold … ──▶ setsid ─ open the run ─ socket ─ name ─ sandbox up
//!        │              its errors on our standard error             │
//!        ◀─────────────── one line on its standard output ───────────┤ up
//!                                                                    ▼ stdio to holder.log, serving
//! ```
//!
//! A holder that does not come up has said why on standard error, and its exit code is ours.

use super::args::{HoldArgs, SandboxArgs};
use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::request;
use super::signals;
use crate::app::{self, OpenedRun, RunStart};
use crate::config::Config;
use crate::holder::{
    BoxName, Boxes, End, Holder, HolderDoor, HolderError, HolderSetup, Listener, Service, listen,
};
use crate::policy::model::OnDisconnect;
use crate::protocol::event::Event;
use crate::protocol::ids::RunId;
use crate::record::StoredRun;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// What a holder writes once its stdio is its own.
const LOG: &str = "holder.log";

/// How long a holder that is told to end while it comes up may take.
const GRACE: Duration = Duration::from_secs(20);

/// How long a holder may take to be gone after it said that the run is closed.
const GONE: Duration = Duration::from_secs(10);

/// Bytes of the one line.
const MAX_LINE: u64 = 64 * 1024;

/// A holder to be started.
pub(super) struct Hold<'a> {
    pub(super) sandbox: &'a SandboxArgs,
    pub(super) service: Held<'a>,
}

pub(super) enum Held<'a> {
    Box {
        name: &'a BoxName,
        idle_timeout: &'a str,
    },
    /// One execution of this.
    Once(&'a [Vec<u8>]),
}

/// What came of it.
pub(super) enum Launched {
    Up(Up),
    /// It has said why.
    Ended(ExitCode),
}

/// The one line of a holder that is up.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Up {
    pub(super) run: RunId,
    pub(super) dir: PathBuf,
    pub(super) name: Option<String>,
}

/// Starts it and waits until it is up. Cancelled meanwhile, it is ended.
pub(super) async fn launch(
    hold: Hold<'_>,
    cancel: &CancellationToken,
) -> Result<Launched, Failure> {
    let own = match hold.service {
        Held::Box { .. } => failure::SANDBOX,
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
pub(super) async fn over(run: &StoredRun) -> bool {
    let gone = async {
        // What cannot be read any more is gone, too.
        while !run.is_over().unwrap_or(true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GONE, gone).await.is_ok()
}

/// The process itself.
pub(super) async fn hold(config: &Config, args: HoldArgs) -> Result<ExitCode, Failure> {
    let own = match args.once {
        true => failure::EXEC_OWN,
        false => failure::SANDBOX,
    };
    // A leader of a group cannot; then it was started by something else, which sees to it.
    let _ = nix::unistd::setsid();
    let stop = signals::cancel_on_signals().map_err(|error| Failure::of(&error, own))?;
    let service = match args.once {
        true => Service::Once,
        false => Service::Box {
            idle: idle(&args.idle_timeout)?,
        },
    };
    let boxes = Boxes::open(&config.state);
    let name = args.name.as_deref().map(BoxName::parse).transpose();
    let name = name.map_err(holder_usage)?;
    if let Some(name) = &name {
        boxes.check_free(name).map_err(holder_usage)?;
        // Names of killed boxes go; one that does not is swept by the next look.
        let _ = boxes.list();
    }
    let (run, door) = open(config, &args, (own, stop.clone())).await?;
    let listener = match up(&boxes, name.as_ref(), &run, own).await {
        Ok(listener) => listener,
        Err(failure) => {
            withdraw(&boxes, name.as_ref(), run.record.run());
            return Err(undone(run, failure).await);
        }
    };
    drop(door);
    let setup = HolderSetup {
        bench: run.bench.clone(),
        stop,
        service,
    };
    let code = serve(run, (boxes, name), (setup, listener)).await;
    Ok(ExitCode::from(code))
}

/// `30m`, or `unlimited`.
fn idle(text: &str) -> Result<Option<Duration>, Failure> {
    match text {
        "unlimited" => Ok(None),
        text => {
            request::duration_ms("--idle-timeout", text).map(|ms| Some(Duration::from_millis(ms)))
        }
    }
}

async fn open(
    config: &Config,
    args: &HoldArgs,
    (own, cancel): (u8, CancellationToken),
) -> Result<(OpenedRun, Arc<HolderDoor>), Failure> {
    let request = request::sandbox(config, &args.sandbox).map_err(|failure| match args.once {
        true => super::exec::own(failure),
        false => failure,
    })?;
    let goes_on = request.policy.lifecycle.on_disconnect == OnDisconnect::Finish;
    let terminal = Arc::new(TerminalDoor::new(Show::Quiet, Answers::Nobody));
    let door = Arc::new(HolderDoor::new(terminal));
    let argv: Vec<Vec<u8>> = args
        .command
        .iter()
        .cloned()
        .map(OsStringExt::into_vec)
        .collect();
    let start = RunStart {
        command: if args.once { "exec" } else { "box" },
        task: match args.once {
            true => app::said(&argv),
            false => args.name.clone().unwrap_or_default(),
        },
        model: None,
        cancel,
    };
    let run = app::open_run(config, request, start, door.clone())
        .await
        .map_err(|error| {
            let code = match args.once {
                true => own,
                false => request::app_code(&error),
            };
            request::app_failure(&error, code)
        })?;
    if goes_on {
        let text = format!(
            "on_disconnect is finish: what runs goes on when its terminal goes away; fumehood runs attach {} takes it up again",
            run.record.run()
        );
        run.desk
            .emit(&Event::Notice { text })
            .map_err(|stop| Failure::new(&stop, own).remedy(stop.remedy()))?;
    }
    Ok((run, door))
}

/// A box has a name, and a sandbox that is warm.
async fn up(
    boxes: &Boxes,
    name: Option<&BoxName>,
    run: &OpenedRun,
    own: u8,
) -> Result<Listener, Failure> {
    if let Some(name) = name {
        boxes
            .register(name, run.record.run())
            .map_err(holder_usage)?;
        run.bench
            .warm()
            .await
            .map_err(|stop| Failure::new(&stop, own).remedy(stop.remedy()))?;
    }
    let listener = listen(run.record.dir()).map_err(|error| holder_failure(&error, own))?;
    report(run, name)?;
    Ok(listener)
}

/// A name that is left over is swept by the next look.
fn withdraw(boxes: &Boxes, name: Option<&BoxName>, run: &RunId) {
    if let Some(name) = name {
        let _ = boxes.release(name, run);
    }
}

/// The one line, and the stdio's end: from here on it is on its own.
fn report(run: &OpenedRun, name: Option<&BoxName>) -> Result<(), Failure> {
    let up = Up {
        run: run.record.run().clone(),
        dir: run.record.dir().to_owned(),
        name: name.map(|name| name.as_str().to_owned()),
    };
    let said = serde_json::to_string(&up)
        .map_err(io::Error::from)
        .and_then(|line| {
            let mut out = io::stdout().lock();
            // Whoever started it may be gone: then nobody wants it.
            writeln!(out, "{line}").and_then(|()| out.flush())?;
            quiet(run.record.dir())
        });
    said.map_err(|error| {
        Failure::new("failed to leave the terminal", failure::SANDBOX).because(&error)
    })
}

fn quiet(run_dir: &Path) -> io::Result<()> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(run_dir.join(LOG))?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    // No folder of the user's is kept busy by it.
    std::env::set_current_dir("/")
}

async fn undone(run: OpenedRun, failure: Failure) -> Failure {
    let end = app::RunEnd {
        stop: crate::protocol::stop::StopReason::Sandbox {
            error: failure.message.clone(),
        },
        exit_code: i32::from(failure.code),
        text: String::new(),
    };
    // What went wrong first says more than a failure to clean up after it.
    let _ = run.close(end).await;
    failure
}

async fn serve(
    run: OpenedRun,
    (boxes, name): (Boxes, Option<BoxName>),
    (setup, listener): (HolderSetup, Listener),
) -> u8 {
    let holder = Holder::new(setup);
    let served = holder
        .serve(listener, async |end: End| {
            let id = run.record.run().clone();
            let closed = run.close(end.run_end()).await;
            withdraw(&boxes, name.as_ref(), &id);
            closed.map(drop)
        })
        .await;
    match served {
        Ok(()) => 0,
        // Into its log: its clients were told.
        Err(error) => {
            request::app_failure(&error, failure::SANDBOX).report();
            failure::SANDBOX
        }
    }
}

/// A name that cannot be, or is taken.
pub(super) fn holder_usage(error: HolderError) -> Failure {
    holder_failure(&error, failure::USAGE)
}

pub(super) fn holder_failure(error: &HolderError, code: u8) -> Failure {
    Failure::of(error, code).remedy(error.remedy())
}
