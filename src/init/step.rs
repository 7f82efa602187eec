//! A step as init sees it: a keeper's reports, three pipes, three streams.

use crate::keeper::{self, Ended, Report, Seat};
use crate::link;
use crate::oom;
use crate::process;
use crate::program::Program;
use crate::pump;
use crate::room;
use crate::serve::Sandbox;
use crate::streams::StepStreams;
use crate::wire::{FromInit, StartError, StartStep, StepExit};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::spawn_local;

/// A keeper's longest report.
const MAX_REPORT: usize = 4096;

/// Init's ends of everything.
struct Desk {
    keeper: Pid,
    stdin: Option<Sender>,
    stdout: Receiver,
    stderr: Receiver,
    report: Receiver,
}

/// Runs a step from its request to its last report.
pub async fn run(sandbox: Rc<Sandbox>, start: StartStep, commands: OwnedFd) {
    let step = start.step;
    let said = match attempt(&sandbox, start, commands).await {
        Ok(exit) => FromInit::Exited(exit),
        Err(Trouble::NotStarted(error)) => FromInit::StartFailed { step, error },
        Err(Trouble::Lost(reason)) => {
            sandbox.fail(format!("step {step}: {reason}"));
            return;
        }
    };
    sandbox.forget(step);
    sandbox.say(said);
}

enum Trouble {
    NotStarted(StartError),
    /// What runs is out of control.
    Lost(&'static str),
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        Self::NotStarted(error)
    }
}

async fn attempt(
    sandbox: &Rc<Sandbox>,
    start: StartStep,
    commands: OwnedFd,
) -> Result<StepExit, Trouble> {
    let (step, stdin) = (start.step, start.stdin);
    let streams = sandbox.streams.take(step, stdin).await;
    let Some(mut streams) = streams else {
        return Err(invalid("its streams were not opened").into());
    };
    sandbox.until_clear().await;
    let oom_before = oom::kills();
    let desk = Program::new(start).and_then(|program| launch(sandbox, &program, stdin, commands));
    let mut desk = match desk {
        Ok(desk) => desk,
        Err(error) => {
            close(&mut streams).await;
            return Err(error.into());
        }
    };
    sandbox.kept_by(step, desk.keeper);
    match hear(sandbox, step, &mut desk.report).await? {
        Report::Started => sandbox.say(FromInit::Started { step }),
        Report::Failed(error) => {
            close(&mut streams).await;
            return Err(error.into());
        }
        _ => return Err(Trouble::Lost("its keeper skipped the start")),
    }
    let (ended, _) = watch::channel(false);
    spawn_pumps(desk.stdin, streams.stdin, &ended);
    for (pipe, stream) in [(desk.stdout, streams.stdout), (desk.stderr, streams.stderr)] {
        spawn_local(pump::output(pipe, stream, ended.subscribe()));
    }
    match hear(sandbox, step, &mut desk.report).await? {
        Report::Ended(report) => {
            ended.send_replace(true);
            Ok(exit(step, report, oom_before))
        }
        _ => Err(Trouble::Lost("its keeper started it twice")),
    }
}

fn spawn_pumps(
    pipe: Option<Sender>,
    stream: Option<crate::streams::Stream>,
    ended: &watch::Sender<bool>,
) {
    if let (Some(pipe), Some(stream)) = (pipe, stream) {
        spawn_local(pump::input(stream, pipe, ended.subscribe()));
    }
}

/// A keeper that ends without its last report was killed.
async fn hear(sandbox: &Sandbox, step: u32, report: &mut Receiver) -> Result<Report, Trouble> {
    loop {
        match link::read_frame(report, MAX_REPORT).await {
            Ok(Some(Report::Crowded)) => sandbox.clear_for(step),
            Ok(Some(Report::Stuck)) => {
                return Err(Trouble::Lost("processes of it could not be killed"));
            }
            Ok(Some(report)) => return Ok(report),
            Ok(None) | Err(_) => return Err(Trouble::Lost("its keeper died")),
        }
    }
}

fn exit(step: u32, ended: Ended, oom_before: Option<u64>) -> StepExit {
    let oom_kills = oom::kills()
        .zip(oom_before)
        .map(|(now, before)| now.saturating_sub(before));
    StepExit {
        step,
        status: ended.status,
        killed: ended.killed,
        leftovers: ended.leftovers,
        user_us: ended.user_us,
        system_us: ended.system_us,
        max_rss_kib: ended.max_rss_kib,
        oom_kills,
        tmp: room::of(c"/tmp"),
        shm: room::of(c"/dev/shm"),
    }
}

async fn close(streams: &mut StepStreams) {
    for stream in [&mut streams.stdout, &mut streams.stderr] {
        // A connection that is gone ends everything elsewhere.
        let _ = stream.shutdown().await;
    }
}

/// Makes the pipes and forks the keeper.
fn launch(
    sandbox: &Sandbox,
    program: &Program,
    stdin: bool,
    commands: OwnedFd,
) -> Result<Desk, StartError> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(resources);
    let (stdin_seat, stdin_desk) = stdin.then(pipe).transpose()?.unzip();
    let (stdout_desk, stdout_seat) = pipe()?;
    let (stderr_desk, stderr_seat) = pipe()?;
    let (report_desk, report_seat) = pipe()?;
    let seat = Seat {
        stdin: stdin_seat,
        stdout: stdout_seat,
        stderr: stderr_seat,
        commands,
        report: report_seat,
    };
    let polled = |error: io::Error| resources(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
    let reader = |fd| Receiver::from_owned_fd(fd).map_err(polled);
    let stdin = stdin_desk
        .map(Sender::from_owned_fd)
        .transpose()
        .map_err(polled)?;
    let (stdout, stderr) = (reader(stdout_desk)?, reader(stderr_desk)?);
    let report = reader(report_desk)?;
    match process::fork().map_err(resources)? {
        None => keeper::main(seat, program, sandbox),
        Some(keeper) => Ok(Desk {
            keeper,
            stdin,
            stdout,
            stderr,
            report,
        }),
    }
}

fn resources(errno: Errno) -> StartError {
    StartError::Resources {
        errno: errno as i32,
    }
}

pub fn invalid(reason: &str) -> StartError {
    StartError::Invalid {
        reason: reason.into(),
    }
}
