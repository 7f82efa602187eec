//! `runs attach`: a step's output so far, then as it comes, then its exit code. Of an agent's run, all that
//! happens: see [`look`].
//!
//! Read from the run's folder, so that it needs nobody's help: the same for a step that runs, one that
//! has ended, and one whose process was killed.

use super::{LINE, failed};
use crate::cli::doors::{Answers, Show};
use crate::cli::exec::tell;
use crate::cli::failure::{self, Failure};
use crate::cli::look::{self, How};
use crate::cli::outlet::Outlet;
use crate::cli::{say, signals};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::holder;
use crate::protocol::event::Event;
use crate::protocol::ids::StepNumber;
use crate::protocol::outcome::Exit;
use crate::record::{LogFollower, RecordError, StoredRun, Stream};
use std::fs;
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const OFTEN: Duration = Duration::from_millis(50);

pub(super) async fn attach(
    config: &Config,
    run: &StoredRun,
    step: Option<StepNumber>,
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_or_look_away().map_err(|e| Failure::of(&e, failure::EXEC_OWN))?;
    if step.is_none() && run.summary().model.is_some() {
        let how = How {
            show: Show::Transcript,
            answers: Answers::of(false),
        };
        return look::to_the_end(config, run, (how, &cancel)).await;
    }
    attach_step(run, step, &cancel).await
}

async fn attach_step(
    run: &StoredRun,
    step: Option<StepNumber>,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let mut watch = Watch { run, seen: None };
    let begun = tokio::select! {
        begun = begun(&mut watch, step) => begun.map_err(own)?,
        () = cancel.cancelled() => return Ok(left()),
    };
    let Some(step) = begun else {
        let why = format!("run {} has no such step", run.id());
        return Err(Failure::new(why, failure::EXEC_OWN));
    };
    say(&format!(
        "fumehood: run {}, step {step}{}",
        run.id(),
        keys(run)
    ));
    let mut out = Along::new(run, step, Stream::Stdout);
    let mut err = Along::new(run, step, Stream::Stderr);
    let Some(end) = follow(&mut watch, step, (&mut out, &mut err), cancel).await? else {
        return Ok(left());
    };
    let (out_bytes, err_bytes) = match &end {
        End::Ended(exit) => (exit.usage.stdout_bytes, exit.usage.stderr_bytes),
        End::NotStarted(_) | End::Crashed => (0, 0),
    };
    out.finish(out_bytes).await.map_err(unreadable)?;
    err.finish(err_bytes).await.map_err(unreadable)?;
    match end {
        End::Ended(exit) => {
            for alarm in &exit.alarms {
                say(&format!(
                    "fumehood: noticed: {}",
                    visible(&alarm.to_string())
                ));
            }
            tell(&exit);
            let code = u8::try_from(exit.outcome.exit_code()).unwrap_or(failure::EXEC_OWN);
            Ok(ExitCode::from(code))
        }
        End::NotStarted(why) => {
            let why = format!("it was not started: {}", visible(&why));
            Err(Failure::new(why, failure::EXEC_OWN))
        }
        End::Crashed => Err(Failure::new(
            format!("run {} ended without telling of its step", run.id()),
            failure::EXEC_OWN,
        )
        .remedy(Some(format!("fumehood runs show {}", run.id())))),
    }
}

/// Shows what comes until the end; `None` where the person left before it.
async fn follow(
    watch: &mut Watch<'_>,
    step: StepNumber,
    (out, err): (&mut Along, &mut Along),
    cancel: &CancellationToken,
) -> Result<Option<End>, Failure> {
    let mut asked = false;
    loop {
        // Before the logs: what was written before the end is in them.
        let end = watch.end(step).map_err(own)?;
        out.show().await.map_err(unreadable)?;
        err.show().await.map_err(unreadable)?;
        if end.is_some() {
            return Ok(end);
        }
        tokio::select! {
            () = tokio::time::sleep(OFTEN) => {}
            () = cancel.cancelled(), if !asked => {
                asked = true;
                if holder::stop_step(watch.run.dir(), step).await.is_err() {
                    return Ok(None);
                }
            }
        }
    }
}

/// What ends a run and what only the looking: nobody should have to try.
fn keys(run: &StoredRun) -> &'static str {
    match holder::is_held(run.dir()) {
        true => " (Ctrl-C stops it; it goes on when this command is killed or its terminal closed)",
        false => "",
    }
}

fn left() -> ExitCode {
    say("fumehood: no longer looking; it goes on");
    ExitCode::from(failure::INTERRUPTED)
}

fn own(error: RecordError) -> Failure {
    Failure {
        code: failure::EXEC_OWN,
        ..failed(error)
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new("failed to pass the log on", failure::EXEC_OWN).because(&error)
}

/// How a step ended, as the record tells.
#[derive(Clone)]
enum End {
    Ended(Exit),
    NotStarted(String),
    /// The run is over, and says nothing of it.
    Crashed,
}

/// The record, looked at again when it has grown.
struct Watch<'a> {
    run: &'a StoredRun,
    /// Its size at the last look.
    seen: Option<u64>,
}

impl Watch<'_> {
    /// The end of a step, once it is there.
    fn end(&mut self, step: StepNumber) -> Result<Option<End>, RecordError> {
        // Before the record: what it says last was said before nobody held it.
        let running = self.run.is_running()?;
        if !self.has_grown() && running {
            return Ok(None);
        }
        for record in self.run.events()? {
            match record?.event {
                Event::StepEnded { step: of, exit, .. } if of == step => {
                    return Ok(Some(End::Ended(exit)));
                }
                Event::StepNotStarted { step: of, why } if of == step => {
                    return Ok(Some(End::NotStarted(why)));
                }
                _ => {}
            }
        }
        Ok((!running).then_some(End::Crashed))
    }

    /// The newest step that was started.
    fn newest(&mut self) -> Result<Option<StepNumber>, RecordError> {
        let mut newest = None;
        for record in self.run.events()? {
            if let Event::StepStarted { step, .. } = record?.event {
                newest = newest.max(Some(step));
            }
        }
        Ok(newest)
    }

    fn has_grown(&mut self) -> bool {
        let size = fs::metadata(self.run.events_path()).map_or(0, |found| found.len());
        self.seen.replace(size) != Some(size)
    }
}

/// The step that is meant: that one, or the newest. It is waited for while the run goes on.
async fn begun(
    watch: &mut Watch<'_>,
    given: Option<StepNumber>,
) -> Result<Option<StepNumber>, RecordError> {
    loop {
        let running = watch.run.is_running()?;
        let newest = watch.newest()?;
        match (given, newest) {
            (Some(given), Some(newest)) if given <= newest => return Ok(Some(given)),
            (None, Some(newest)) => return Ok(Some(newest)),
            _ if !running => return Ok(None),
            _ => tokio::time::sleep(OFTEN).await,
        }
    }
}

/// One stream.
struct Along {
    log: LogFollower,
    outlet: Outlet,
    buffer: Vec<u8>,
}

impl Along {
    fn new(run: &StoredRun, step: StepNumber, stream: Stream) -> Self {
        Self {
            log: run.follow(step, stream),
            outlet: match stream {
                Stream::Stdout => Outlet::stdout(LINE).again(),
                Stream::Stderr => Outlet::stderr(LINE).again(),
            },
            buffer: vec![0; 64 * 1024],
        }
    }

    /// What has come. A reader that is gone takes nothing, and that is its choice.
    async fn show(&mut self) -> io::Result<()> {
        loop {
            let count = self.log.read(&mut self.buffer)?;
            if count == 0 {
                return Ok(());
            }
            let _ = self.outlet.write_all(&self.buffer[..count]).await;
        }
    }

    async fn finish(mut self, total: u64) -> io::Result<()> {
        let rest = self.log.rest(total)?;
        let _ = self.outlet.write_all(&rest).await;
        self.outlet.finish().await
    }
}
