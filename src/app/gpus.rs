//! GPUs for a run, waited for where another run has them.

use super::AppError;
use crate::config::Config;
use crate::policy::model::GpuPolicy;
use crate::protocol::event::Event;
use crate::protocol::ids::RunId;
use crate::sandbox::gpu::{self, Claim};
use crate::tools::door::Door;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// The claim, where the policy asks for GPUs, and what to tell about it. Why it waits is shown at
/// once; the record, which begins when the run does, is told afterwards.
pub(super) async fn claim(
    config: &Config,
    policy: &GpuPolicy,
    run: &RunId,
    (door, cancel): (&dyn Door, &CancellationToken),
) -> Result<(Option<Claim>, Vec<String>), AppError> {
    let began = Instant::now();
    let waited = Mutex::new(Vec::new());
    let waiting = |why: &str| {
        let text = why.to_owned();
        door.show(&Event::Notice { text: text.clone() });
        waited
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    };
    let claim = gpu::claim(&config.gpus, policy, run.as_str(), (&waiting, cancel)).await?;
    let mut notes = waited.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !notes.is_empty() {
        notes.push(format!("waited {} s for a GPU", began.elapsed().as_secs()));
    }
    Ok((claim, notes))
}
