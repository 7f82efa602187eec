//! One step, from its request to its end.
//!
//! ```text
//!   asked ──▶ running ──Exited──▶ draining ──both outputs ended──▶ Exit
//!               │ deadline, cancel: TERM to the group, grace ─┐       └ stopped by us: not waited for long
//!               │ memory, disk ───────────────────────────────┴─▶ KILL of everything ─▶ Exited
//!               └ nonsense, a lost connection, a step that will not die ─▶ the sandbox is over
//! ```
//!
//! All of it is one future of the caller's: dropped, it kills its step.

use super::pump::{self, Broken};
use super::reached::{self, Facts};
use super::verdict::{self, Stop};
use super::watch::Presence;
use super::{Sandbox, StepIo};
use crate::protocol::outcome::{Exit, Usage};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::channel::{Channel, Heard, Over, Streams, Ticket};
use crate::sandbox::counts::Counts;
use crate::sandbox::wire::{StartStep, StepExit};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SIGTERM: i32 = 15;

/// How long init may take to kill a step: its own patience, and some.
const KILL: Duration = Duration::from_secs(30);

/// How long the writers of a step that we stopped are waited for: they may be what hangs.
const ABANDON: Duration = Duration::from_secs(2);

/// How long the reason for a broken stream may take to come through.
const REASON: Duration = Duration::from_secs(1);

pub(super) struct Step<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) ticket: Ticket,
    pub(super) order: StartStep,
    pub(super) streams: Streams,
    pub(super) wall: Option<Duration>,
}

/// Kills the step that it is dropped with.
struct Reins<'a> {
    channel: &'a Channel,
    step: u32,
    ended: bool,
}

impl Drop for Reins<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.channel.kill(self.step);
        }
    }
}

/// Why a step has no exit.
enum Lost {
    /// Only the step.
    Step(SandboxError),
    /// The sandbox with it.
    Sandbox(Over),
    /// A stream: with the sandbox, or by nonsense.
    Stream(Broken),
}

impl Step<'_> {
    pub(super) async fn drive(self, io: StepIo<'_>) -> Result<Exit, SandboxError> {
        let Self {
            sandbox,
            mut ticket,
            order,
            mut streams,
            wall,
        } = self;
        let presence = sandbox.watch.enter();
        let before = sandbox.held.counts().await;
        let begun = Instant::now();
        if let Err(error) = sandbox.channel.start(order) {
            return Err(sandbox.not_begun(error).await);
        }
        let mut run = Run {
            sandbox,
            reins: Reins {
                channel: &sandbox.channel,
                step: ticket.step(),
                ended: false,
            },
            presence,
            asked: OnceLock::new(),
            counts: [AtomicU64::new(0), AtomicU64::new(0)],
            begun,
        };
        // Kept until the end is explained: a stream that is dropped changes what init does.
        match run.follow(&mut ticket, &mut streams, io, wall).await {
            Ok((exit, took)) => {
                run.reins.ended = true;
                Ok(run.exit(&exit, took, (wall, before)).await)
            }
            Err(lost) => Err(run.explain(lost).await),
        }
    }
}

/// A step that was asked for.
struct Run<'a> {
    sandbox: &'a Sandbox,
    reins: Reins<'a>,
    presence: Presence,
    /// Why we stopped it, if we did: the first reason.
    asked: OnceLock<Stop>,
    /// Bytes of stdout and stderr.
    counts: [AtomicU64; 2],
    begun: Instant,
}

impl Run<'_> {
    async fn follow(
        &self,
        ticket: &mut Ticket,
        streams: &mut Streams,
        io: StepIo<'_>,
        wall: Option<Duration>,
    ) -> Result<(StepExit, Duration), Lost> {
        let (exited, has_exited) = watch::channel(false);
        let [out, err] = &self.counts;
        let mut output = pin!(async {
            tokio::try_join!(
                pump::output(&mut streams.stdout, io.stdout, has_exited.clone(), out),
                pump::output(&mut streams.stderr, io.stderr, has_exited.clone(), err),
            )
            .map(drop)
        });
        let mut written = false;
        let exit = tokio::select! {
            exit = listen(ticket, io.started) => exit,
            lost = feed(io.stdin, streams.stdin.take()) => Err(lost),
            lost = write_on(output.as_mut(), &mut written) => Err(lost),
            lost = self.stop(wall, &io.cancel) => Err(lost),
            over = self.over() => Err(Lost::Sandbox(over)),
        }?;
        let wall = self.begun.elapsed();
        exited.send_replace(true);
        if !written {
            self.drain(output, &io.cancel).await?;
        }
        Ok((exit, wall))
    }

    /// Waits for a reason to stop the step, and stops it. Returns only when that fails.
    async fn stop(&self, wall: Option<Duration>, cancel: &CancellationToken) -> Lost {
        let deadline = async {
            match wall {
                Some(wall) => sleep((self.begun + wall).duration_since(Instant::now())).await,
                None => pending().await,
            }
        };
        let stop = tokio::select! {
            () = cancel.cancelled() => Stop::Cancelled,
            () = deadline => Stop::TimedOut,
            stop = self.presence.stopped() => stop,
        };
        // The first, and the only one.
        let _ = self.asked.set(stop);
        let Reins { channel, step, .. } = self.reins;
        if matches!(stop, Stop::Cancelled | Stop::TimedOut) {
            channel.signal(step, SIGTERM);
            tokio::select! {
                () = sleep(Duration::from_millis(self.sandbox.spec.stop_grace_ms)) => {}
                _ = self.presence.stopped() => {}
            }
        }
        channel.kill(step);
        sleep(KILL).await;
        Lost::Sandbox(Over::Protocol(format!(
            "step {step} did not end when it was killed"
        )))
    }

    /// Waits for the rest of the output. After a stop of ours, a writer that stands still is left.
    async fn drain(
        &self,
        mut output: Pin<&mut impl Future<Output = Result<(), Broken>>>,
        cancel: &CancellationToken,
    ) -> Result<(), Lost> {
        if self.asked.get().is_none() {
            tokio::select! {
                drained = output.as_mut() => return drained.map_err(Lost::Stream),
                () = cancel.cancelled() => {}
            }
            // What it wrote is not all there: it did not simply end.
            let _ = self.asked.set(Stop::Cancelled);
        }
        timeout(ABANDON, output)
            .await
            .unwrap_or(Ok(()))
            .map_err(Lost::Stream)
    }

    async fn over(&self) -> Over {
        self.reins.channel.ending().reached().await
    }

    async fn explain(&self, lost: Lost) -> SandboxError {
        let over = match lost {
            Lost::Step(error) => return error,
            Lost::Sandbox(over) => over,
            Lost::Stream(broken) => {
                let nonsense = Over::Protocol(broken.describe().to_owned());
                match broken {
                    Broken::Cut => timeout(REASON, self.over()).await.unwrap_or(nonsense),
                    Broken::Stuck | Broken::Endless => nonsense,
                }
            }
        };
        self.reins.channel.fail(over);
        self.sandbox.guardian.verdict().await
    }

    async fn exit(
        &self,
        exit: &StepExit,
        took: Duration,
        (wall, before): (Option<Duration>, Counts),
    ) -> Exit {
        let after = self.sandbox.held.counts().await;
        let (asked, alone) = (self.asked.get().copied(), self.presence.alone());
        let kills = verdict::memory_kills(before.oom_kills, after.oom_kills, exit.oom_kills, alone);
        let outcome = verdict::outcome(exit, asked, kills);
        let [out, err] = &self.counts;
        Exit {
            outcome,
            // Noticed by whoever watches it.
            alarms: Vec::new(),
            reached: reached::reached(&Facts {
                spec: &self.sandbox.spec,
                exit,
                outcome,
                asked,
                wall,
                counts: [before, after],
                alone,
            }),
            usage: Usage {
                wall_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                user_ms: exit.user_us / 1000,
                system_ms: exit.system_us / 1000,
                max_rss: exit.max_rss_kib.saturating_mul(1024),
                stdout_bytes: out.load(Ordering::Relaxed),
                stderr_bytes: err.load(Ordering::Relaxed),
                leftovers: exit.leftovers,
                // Measured by whoever knows what to measure with.
                gpus: Vec::new(),
            },
        }
    }
}

/// Waits for the end, as init tells it.
async fn listen(
    ticket: &mut Ticket,
    mut started: Option<oneshot::Sender<()>>,
) -> Result<StepExit, Lost> {
    loop {
        match ticket.hear().await {
            Heard::Started => {
                if let Some(started) = started.take() {
                    // Who is not interested any more need not be told.
                    let _ = started.send(());
                }
            }
            Heard::Failed(error) => return Err(Lost::Step(SandboxError::NotStarted(error))),
            Heard::Exited(exit) => return Ok(exit),
        }
    }
}

/// Passes input on. Returns only when it cannot be read.
async fn feed(
    from: Option<Box<dyn AsyncRead + Send + Unpin + '_>>,
    to: Option<crate::sandbox::channel::Input>,
) -> Lost {
    if let (Some(from), Some(to)) = (from, to)
        && let Err(source) = pump::input(from, to).await
    {
        return Lost::Step(SandboxError::Io {
            context: "failed to read the step's standard input".to_owned(),
            source,
        });
    }
    pending().await
}

/// Writes output on, and notes when all of it is. Returns only when a stream breaks.
async fn write_on(
    output: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    written: &mut bool,
) -> Lost {
    if let Err(broken) = output.await {
        return Lost::Stream(broken);
    }
    *written = true;
    pending().await
}
