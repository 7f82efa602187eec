//! What is noticed while a step runs: how busy the sandbox's GPUs are, where the driver's library tells
//! it, and what the policy's `[watch]` is about.
//!
//! ```text
//!   every second ─ pulse, GPUs, what was heard ─ alarms (pure) ─▶ record, door
//!                                                     └ stop ─▶ the step is cancelled
//! ```

use super::Bench;
use super::ear::Heard;
use crate::context::alarm::{Alarms, Moment};
use crate::protocol::alarm::{Alarm, AlarmKind, Reaction, WatchRules};
use crate::protocol::device::{GpuSample, GpuUse};
use crate::protocol::event::Event;
use crate::protocol::ids::StepNumber;
use crate::sandbox::Sandbox;
use crate::sandbox::gpu::{Meter, Totals};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Every so many looks at the GPUs one is written into the record.
const TOLD: u32 = 30;

/// What is attended to.
pub(super) struct Attend<'a> {
    step: StepNumber,
    sandbox: &'a Sandbox,
    heard: &'a Heard,
    /// Ends the step, and nothing else.
    stop: &'a CancellationToken,
}

impl<'a> Attend<'a> {
    pub(super) fn new(
        step: StepNumber,
        sandbox: &'a Sandbox,
        (heard, stop): (&'a Heard, &'a CancellationToken),
    ) -> Self {
        Self {
            step,
            sandbox,
            heard,
            stop,
        }
    }
}

/// What was noticed.
#[derive(Default)]
pub(super) struct Noticed {
    pub(super) gpus: Vec<GpuUse>,
    pub(super) alarms: Vec<Alarm>,
}

impl Noticed {
    /// What the step was stopped for.
    pub(super) fn stopped_for(&self) -> Option<AlarmKind> {
        let stop = self.alarms.iter().find(|alarm| alarm.stop);
        stop.map(|alarm| alarm.kind)
    }
}

/// One step under attention.
struct Attention<'a> {
    bench: &'a Bench,
    what: &'a Attend<'a>,
    meter: Option<Arc<Meter>>,
    alarms: Alarms,
    totals: Totals,
    noticed: Noticed,
    begun: Instant,
    looks: u32,
}

impl Bench {
    /// Waits for a step and attends to it meanwhile.
    pub(super) async fn attended<T>(
        &self,
        what: &Attend<'_>,
        running: impl Future<Output = T>,
    ) -> (T, Noticed) {
        tokio::pin!(running);
        let meter = tokio::select! {
            done = &mut running => return (done, Noticed::default()),
            meter = self.meter() => meter,
        };
        let rules = &self.setup.policy.watch;
        if meter.is_none() && is_idle(rules) {
            return (running.await, Noticed::default());
        }
        let mut attention = Attention {
            bench: self,
            what,
            meter,
            alarms: Alarms::new(rules.clone()),
            totals: Totals::default(),
            noticed: Noticed::default(),
            begun: Instant::now(),
            looks: 0,
        };
        loop {
            tokio::select! {
                done = &mut running => return (done, attention.end()),
                () = attention.look() => {}
            }
        }
    }

    /// Loaded with the first step that has GPUs.
    async fn meter(&self) -> Option<Arc<Meter>> {
        if self.setup.spec.devices.gpus.is_empty() {
            return None;
        }
        let open = || async {
            let setup = self.setup.clone();
            let opening = tokio::task::spawn_blocking(move || Meter::open(&setup.spec));
            opening.await.ok().flatten().map(Arc::new)
        };
        self.meter.get_or_init(open).await.clone()
    }
}

/// Whether nothing is watched for.
fn is_idle(rules: &WatchRules) -> bool {
    let off = [rules.loss, rules.memory, rules.disk] == [Reaction::Off; 3];
    off && rules.silence_ms.is_none()
}

impl Attention<'_> {
    async fn look(&mut self) {
        sleep(LOOK).await;
        let gpus = match &self.meter {
            Some(meter) => sample(meter.clone()).await,
            None => Vec::new(),
        };
        let pulse = self.what.sandbox.pulse().await;
        self.totals.add(&gpus);
        if self.looks.is_multiple_of(TOLD) && !gpus.is_empty() {
            let step = self.what.step;
            // A record that cannot be written is found out by the end of the step at the latest.
            let _ = self.bench.setup.desk.emit(&Event::GpusSampled {
                step,
                gpus: gpus.clone(),
            });
        }
        self.looks += 1;
        let heard = self.what.heard;
        let bad_loss = heard.bad_loss();
        let alarms = self.alarms.look(&Moment {
            at_ms: ms(self.begun.elapsed()),
            output_ms: heard
                .last()
                .map_or(0, |at| ms(at.duration_since(self.begun))),
            bad_loss: bad_loss.as_deref(),
            pulse,
            gpus: &gpus,
        });
        self.tell(alarms);
        if self.noticed.stopped_for().is_some() {
            self.what.stop.cancel();
        }
    }

    /// It is over: a bad loss at the very end is told, and nothing is left to stop.
    fn end(mut self) -> Noticed {
        if let Some(line) = self.what.heard.bad_loss() {
            let now = ms(self.begun.elapsed());
            let mut alarms = self.alarms.look(&Moment {
                at_ms: now,
                output_ms: now,
                bad_loss: Some(&line),
                pulse: Default::default(),
                gpus: &[],
            });
            for alarm in &mut alarms {
                alarm.stop = false;
            }
            self.tell(alarms);
        }
        self.noticed.gpus = self.totals.uses();
        self.noticed
    }

    fn tell(&mut self, alarms: Vec<Alarm>) {
        for alarm in alarms {
            // As above.
            let _ = self.bench.setup.desk.emit(&Event::Alarm {
                step: self.what.step,
                alarm: alarm.clone(),
            });
            self.noticed.alarms.push(alarm);
        }
    }
}

/// The driver takes as long as it takes: not on a thread that others wait for.
async fn sample(meter: Arc<Meter>) -> Vec<GpuSample> {
    let looking = tokio::task::spawn_blocking(move || meter.sample());
    looking.await.unwrap_or_default()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
