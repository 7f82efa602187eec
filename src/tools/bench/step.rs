//! The act itself: announced on disk, done, told.

use super::attend::{Attend, Noticed};
use super::ear::Heard;
use super::gpu_time::Taken;
use super::{Bench, BenchIo, Executed, Seen, broken, reached};
use crate::context::sanitise::visible;
use crate::policy::action::{ExecAction, Origin};
use crate::policy::permit::Permit;
use crate::protocol::event::Event;
use crate::protocol::ids::StepNumber;
use crate::protocol::outcome::{Exit, Outcome};
use crate::record::{LogSummary, LogWriter, RunRecord, Stream};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::{Sandbox, StepIo};
use crate::tools::tee::Tee;
use crate::tools::{Passing, ToolStop};
use crate::workspace::changes;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

impl Bench {
    /// The act itself: announced on disk, done, told.
    pub(super) async fn start(
        &self,
        permit: Permit<ExecAction>,
        (sandbox, time): (&Sandbox, Taken<'_>),
        before: &Seen,
        io: BenchIo<'_>,
    ) -> Result<Executed, ToolStop> {
        let step = io.step;
        let act = permit.act();
        let origin = act.origin;
        self.setup.desk.emit(&Event::StepStarted {
            step,
            argv: act
                .argv
                .iter()
                .map(|word| visible(&String::from_utf8_lossy(word)))
                .collect(),
            cwd: act.cwd.clone(),
            digest: permit.digest().clone(),
        })?;
        let how = (self.setup.desk.redactor(), io.passing);
        let heard = Heard::default();
        let to = |stream| Ok((self.log(step, stream)?, heard.ear()));
        let mut stdout = Tee::new(to(Stream::Stdout)?, io.stdout, how);
        let mut stderr = Tee::new(to(Stream::Stderr)?, io.stderr, how);
        let stop = io.cancel.child_token();
        let streams = StepIo {
            stdin: io.stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
            cancel: stop.clone(),
            started: None,
        };
        let attend = Attend::new(step, sandbox, (&heard, &stop));
        let running = sandbox.step(permit, streams);
        let (ended, noticed) = tokio::select! {
            ended = self.attended(&attend, running) => ended,
            never = time.watch(&stop) => match never {},
        };
        let (stdout, mut found) = stdout.into_log();
        let (stderr, found_there) = stderr.into_log();
        let logs = [stdout.finish(), stderr.finish()];
        found.extend(found_there);
        self.tell_found(&found, io.passing)?;
        match ended {
            Ok(mut exit) => {
                add_noticed(&mut exit, noticed, &io.cancel);
                time.add(&mut exit, &io.cancel);
                let dropped = self.add_reached(&mut exit, &heard, &logs);
                self.tell_end(step, exit, dropped, (before, origin)).await
            }
            Err(SandboxError::NotStarted(error)) => {
                self.setup.desk.emit(&Event::StepNotStarted {
                    step,
                    why: format!("{error:?}"),
                })?;
                Ok(Executed::NotStarted(error))
            }
            // The step alone: others run on in it.
            Err(error @ SandboxError::Refused { .. }) => Err(broken(error)),
            Err(error) => {
                // It is gone, whatever it was: the next execution gets a new one, unless one beside this
                // has got it already.
                let mut held = self.sandbox.lock().await;
                held.take_if(|held| std::ptr::eq(&**held, sandbox));
                Err(broken(error))
            }
        }
    }

    /// Whose values were in the output: a reader shall know what the `*` are.
    fn tell_found(&self, found: &BTreeSet<String>, passing: Passing) -> Result<(), ToolStop> {
        if found.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = found.iter().map(String::as_str).collect();
        let done = match passing {
            Passing::Redacted => "each is replaced by *",
            Passing::Raw => "they were passed on as --raw asks, and are replaced by * in the log",
        };
        let text = format!(
            "the output held known secrets ({}): {done}",
            names.join(", ")
        );
        self.setup.desk.emit(&Event::Notice { text })
    }

    /// Adds the limits that show in its output alone. Gives the bytes that are in no log.
    fn add_reached(&self, exit: &mut Exit, heard: &Heard, logs: &[LogSummary]) -> u64 {
        let hints = reached::said(&heard.complaints(), exit, &self.setup.spec);
        exit.reached.extend(hints);
        let dropped = logs.iter().map(|log| log.dropped).sum();
        let failure = logs.iter().find_map(|log| log.failure.as_ref());
        let why = failure.map(|error| visible(&error.to_string()));
        let most = self.setup.policy.limits.log_bytes;
        exit.reached
            .extend(reached::log(dropped, why.as_deref(), most));
        dropped
    }

    pub(super) async fn tell_end(
        &self,
        step: StepNumber,
        exit: Exit,
        log_dropped: u64,
        (before, origin): (&Seen, Origin),
    ) -> Result<Executed, ToolStop> {
        let after = self.look(origin).await?;
        let changed: Vec<String> = changes(&before.tree, &after.tree)
            .iter()
            .map(|change| visible(&change.path.to_string_lossy()))
            .collect();
        self.setup.desk.emit(&Event::StepEnded {
            step,
            exit: exit.clone(),
            log: RunRecord::step_log_name(step, Stream::Stdout),
            log_dropped,
            changed: changed.clone(),
        })?;
        Ok(Executed::Ran {
            exit,
            changed,
            blocked: self.blocked.take(),
        })
    }

    pub(super) fn log(&self, step: StepNumber, stream: Stream) -> Result<LogWriter, ToolStop> {
        let bytes = self.setup.policy.limits.log_bytes;
        self.setup
            .desk
            .record()
            .step_log(step, stream, bytes)
            .map_err(|error| ToolStop::Record {
                error: error.to_string(),
            })
    }
}

/// A step that was stopped for what was noticed ended by that, unless a person stopped it as well.
fn add_noticed(exit: &mut Exit, noticed: Noticed, cancel: &CancellationToken) {
    if let Some(kind) = noticed.stopped_for()
        && exit.outcome == Outcome::Cancelled
        && !cancel.is_cancelled()
    {
        exit.outcome = Outcome::Stopped(kind);
    }
    exit.usage.gpus = noticed.gpus;
    exit.alarms = noticed.alarms;
}
