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

mod agent;
mod launch;

pub(super) use launch::{Held, Hold, Launched, Up, launch, over};

use super::args::HoldArgs;
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
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What a holder writes once its stdio is its own.
const LOG: &str = "holder.log";

/// The process itself.
pub(super) async fn hold(config: &Config, args: HoldArgs) -> Result<ExitCode, Failure> {
    let own = match args.once {
        true => failure::EXEC_OWN,
        false => failure::SANDBOX,
    };
    // A leader of a group cannot; then it was started by something else, which sees to it.
    let _ = nix::unistd::setsid();
    shed();
    let stop = signals::cancel_on_signals().map_err(|error| Failure::of(&error, own))?;
    if let Some(model) = &args.model {
        return agent::hold(config, &args, (model, stop)).await;
    }
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
    let holder = Holder::new(HolderSetup {
        bench: run.bench.clone(),
        stop,
        service,
    });
    let code = serve(run, (boxes, name), (holder, listener)).await;
    Ok(ExitCode::from(code))
}

/// Closes what came down from whoever started it, a lock of a script's for one: it would be held as long
/// as the box. What this process opened itself is closed at an exec, and told by that.
fn shed() {
    const CLOSED_AT_EXEC: u32 = nix::libc::O_CLOEXEC.cast_unsigned();
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open: Vec<i32> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        let told = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_some_and(|flags| flags & CLOSED_AT_EXEC == 0) {
            // One that is gone already is what was wanted.
            let _ = nix::unistd::close(fd);
        }
    }
}

/// The door of the process itself: its starter's standard error, then its log.
fn quietly() -> Arc<TerminalDoor> {
    Arc::new(TerminalDoor::new(Show::Quiet, Answers::Nobody))
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
    let door = Arc::new(HolderDoor::new(quietly()));
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
        say_it_goes_on(&run, own)?;
    }
    Ok((run, door))
}

fn say_it_goes_on(run: &OpenedRun, own: u8) -> Result<(), Failure> {
    let text = format!(
        "on_disconnect is finish: what runs goes on when its terminal goes away; fumehood runs attach {} takes it up again",
        run.record.run()
    );
    run.desk
        .emit(&Event::Notice { text })
        .map_err(|stop| Failure::new(&stop, own).remedy(stop.remedy()))
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
    (holder, listener): (Arc<Holder>, Listener),
) -> u8 {
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
