//! How busy the sandbox's GPUs are while a step runs, where the driver's library tells it.

use super::Bench;
use crate::protocol::device::{GpuSample, GpuUse};
use crate::protocol::event::Event;
use crate::protocol::ids::StepNumber;
use crate::sandbox::gpu::{Meter, Totals};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Every so many looks one is written into the record.
const TOLD: u32 = 30;

impl Bench {
    /// Waits for a step and measures meanwhile.
    pub(super) async fn measured<T>(
        &self,
        step: StepNumber,
        running: impl Future<Output = T>,
    ) -> (T, Vec<GpuUse>) {
        tokio::pin!(running);
        let mut totals = Totals::default();
        let meter = tokio::select! {
            done = &mut running => return (done, Vec::new()),
            meter = self.meter() => meter,
        };
        let Some(meter) = meter else {
            return (running.await, Vec::new());
        };
        let mut looks = 0;
        loop {
            let seen = tokio::select! {
                done = &mut running => return (done, totals.uses()),
                seen = look(meter.clone()) => seen,
            };
            totals.add(&seen);
            if looks % TOLD == 0 && !seen.is_empty() {
                // A record that cannot be written is found out by the end of the step at the latest.
                let _ = self
                    .setup
                    .desk
                    .emit(&Event::GpusSampled { step, gpus: seen });
            }
            looks += 1;
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

/// The driver takes as long as it takes: not on a thread that others wait for.
async fn look(meter: Arc<Meter>) -> Vec<GpuSample> {
    sleep(LOOK).await;
    let looking = tokio::task::spawn_blocking(move || meter.sample());
    looking.await.unwrap_or_default()
}
