//! What this backend holds for one sandbox: a container that removes itself.
//!
//! ```text
//!   pipe closed ─▶ init kills all and ends ─▶ engine removes the container
//!                     └ not gone in time ─▶ removed by force ─▶ still there: an error
//! ```

use super::engine::{self, Engine};
use crate::protocol::spec::SandboxSpec;
use crate::sandbox::backend::{Lease, SandboxError};
use crate::sandbox::counts::{CountedIn, Counts};
use crate::sandbox::last_words::LastWords;
use crate::sandbox::wire::StepLimits;
use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use std::time::Duration;

/// How long a container may take to end by itself after its pipe closed.
const BY_ITSELF: Duration = Duration::from_secs(5);

/// How long the engine may take to remove it by force.
const BY_FORCE: Duration = Duration::from_secs(20);

/// Steps go before init when memory runs out, so that init can say so.
const STEP_OOM_SCORE_ADJ: i32 = 200;

pub(super) struct ContainerLease {
    pub(super) engine: Engine,
    pub(super) name: String,
    pub(super) words: LastWords,
    /// Where the kernel counts for this container, as far as this machine shows it.
    pub(super) counted_in: CountedIn,
    pub(super) step_limits: StepLimits,
}

#[async_trait]
impl Lease for ContainerLease {
    async fn counts(&self) -> Counts {
        self.counted_in.read()
    }

    async fn resident(&self) -> Option<u64> {
        None
    }

    async fn last_words(&self) -> String {
        self.words.text()
    }

    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        if tokio::time::timeout(BY_ITSELF, gone(&self.engine, &self.name))
            .await
            .is_ok()
        {
            return Ok(());
        }
        remove(&self.engine, &self.name).await
    }

    fn step_limits(&self) -> StepLimits {
        self.step_limits.clone()
    }
}

/// What the engine does not hold for each process by itself.
pub(super) fn step_limits(spec: &SandboxSpec) -> StepLimits {
    StepLimits {
        open_files: spec.limits.open_files,
        file_size: spec.limits.file_size,
        // The container's cgroup counts processes and shares the processor.
        processes: None,
        cores: None,
        oom_score_adj: STEP_OOM_SCORE_ADJ,
    }
}

/// Removes a container by force and returns when it is gone.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), SandboxError> {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    match engine.client.remove_container(name, Some(options)).await {
        Ok(()) => return Ok(()),
        // Not there, or being removed already.
        Err(error) if matches!(engine::status(&error), Some(404 | 409)) => {}
        Err(error) => return Err(engine::failed("remove container", &error)),
    }
    tokio::time::timeout(BY_FORCE, gone(engine, name))
        .await
        .map_err(|_| SandboxError::Engine {
            call: "remove container".to_owned(),
            message: format!("{name} is still there"),
            remedy: format!("`docker rm -f {name}`; the engine's log says why it stays"),
        })
}

/// Resolves when the engine has no such container any more.
async fn gone(engine: &Engine, name: &str) {
    let options = WaitContainerOptionsBuilder::default()
        .condition("removed")
        .build();
    let mut wait = engine.client.wait_container(name, Some(options));
    match wait.next().await {
        // How it ended is init's to say.
        Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => return,
        Some(Err(error)) if engine::status(&error) == Some(404) => return,
        _ => {}
    }
    // An engine that does not know this way of waiting.
    while engine
        .client
        .inspect_container(name, None)
        .await
        .map_or_else(|error| engine::status(&error) != Some(404), |_| true)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
