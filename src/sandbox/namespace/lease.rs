//! What this backend holds for one sandbox: init's outer half, and the cgroups.
//!
//! ```text
//!   pipe closed ─▶ init kills all and ends ─▶ outer half removes the cgroups and ends
//!                     └ not in time ─▶ outer half killed, init dies with it ─▶ cgroups removed here
//! ```

use super::cgroup::MadeGroups;
use super::resident::resident;
use crate::sandbox::backend::{Lease, SandboxError};
use crate::sandbox::counts::Counts;
use crate::sandbox::last_words::LastWords;
use crate::sandbox::owner::{Life, Owner};
use crate::sandbox::wire::StepLimits;
use async_trait::async_trait;
use std::io;
use std::time::Duration;
use tokio::process::Child;
use tokio::time::{Instant, timeout};

/// How long a sandbox may take to end by itself after its pipe closed.
const BY_ITSELF: Duration = Duration::from_secs(5);

/// How long what was killed may take to be gone, where hundreds go at once.
const BY_FORCE: Duration = Duration::from_secs(30);

pub(super) struct NamespaceLease {
    pub(super) outer: Child,
    pub(super) groups: MadeGroups,
    /// PID 1 of the sandbox: a process of this host, told from a later one by its start.
    pub(super) init: Owner,
    pub(super) words: LastWords,
    pub(super) step_limits: StepLimits,
    pub(super) memory: Memory,
}

/// Who counts memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Charged,
    Watched { limit: Option<u64> },
}

#[async_trait]
impl Lease for NamespaceLease {
    async fn counts(&self) -> Counts {
        self.groups.counted_in().read()
    }

    async fn resident(&self) -> Option<u64> {
        let Memory::Watched { limit } = self.memory else {
            return None;
        };
        let pid = self.init.pid;
        tokio::task::spawn_blocking(move || resident(pid, limit))
            .await
            .ok()
    }

    async fn last_words(&self) -> String {
        self.words.text()
    }

    async fn end(mut self: Box<Self>) -> Result<(), SandboxError> {
        if timeout(BY_ITSELF, self.outer.wait()).await.is_err() {
            self.outer.kill().await.map_err(|source| SandboxError::Io {
                context: "failed to kill init".to_owned(),
                source,
            })?;
        }
        wait_until_gone(self.init).await?;
        self.groups.remove().await
    }

    fn step_limits(&self) -> StepLimits {
        self.step_limits.clone()
    }
}

/// The outer half reaps PID 1 before it ends; killed, it leaves that to whoever adopts it.
async fn wait_until_gone(init: Owner) -> Result<(), SandboxError> {
    let start = Instant::now();
    while init.life() == Life::Alive {
        if start.elapsed() > BY_FORCE {
            return Err(SandboxError::Io {
                context: format!("init (process {}) was killed and is still there", init.pid),
                source: io::ErrorKind::TimedOut.into(),
            });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
