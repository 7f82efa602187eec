//! What this backend holds for one sandbox: a container that removes itself.
//!
//! ```text
//!   pipe closed ─▶ init kills all and ends ─▶ engine removes the container
//!                     └ not gone in time ─▶ removed by force ─▶ still there: an error
//! ```

use super::engine::{self, Engine};
use crate::protocol::spec::SandboxSpec;
use crate::sandbox::backend::{Lease, SandboxError};
use crate::sandbox::last_words::LastWords;
use crate::sandbox::wire::StepLimits;
use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use std::fs;
use std::path::{Path, PathBuf};
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
    /// Where the kernel counts this container's memory kills.
    pub(super) oom_count: Option<PathBuf>,
    pub(super) step_limits: StepLimits,
}

#[async_trait]
impl Lease for ContainerLease {
    async fn oom_kills(&self) -> Option<u64> {
        parse_oom_kills(&fs::read_to_string(self.oom_count.as_ref()?).ok()?)
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

/// The file in which the kernel counts memory kills of a container, where this machine shows it.
/// The id must be in the path: the pid may be another machine's, or another process by now.
pub(super) fn oom_count(pid: i64, id: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let file = oom_file(&groups, id)?;
    file.exists().then_some(file)
}

/// Lines are `number:controllers:path`; version 2 has no controllers.
fn oom_file(groups: &str, id: &str) -> Option<PathBuf> {
    let of = |wanted: &str| {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let controllers = parts.nth(1)?;
            let path = parts.next()?;
            let found = controllers.split(',').any(|name| name == wanted) && path.contains(id);
            found.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let base = Path::new("/sys/fs/cgroup");
    of("memory")
        .map(|path| base.join("memory").join(path).join("memory.oom_control"))
        .or_else(|| of("").map(|path| base.join(path).join("memory.events")))
}

/// The same line in both versions. `failcnt` says nothing: it counts limit hits, not kills.
fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_memory_kills_is_found_on_both_versions() {
        let v1 = "9:pids:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n";
        assert_eq!(
            oom_file(v1, "abc"),
            Some("/sys/fs/cgroup/memory/docker/abc/memory.oom_control".into())
        );
        let v2 = "0::/system.slice/docker-abc.scope\n";
        assert_eq!(
            oom_file(v2, "abc"),
            Some("/sys/fs/cgroup/system.slice/docker-abc.scope/memory.events".into())
        );
    }

    #[test]
    fn another_process_is_not_taken_for_the_container() {
        assert_eq!(oom_file("4:memory:/user.slice\n0::/\n", "abc"), None);
    }

    #[test]
    fn kills_are_not_limit_hits() {
        assert_eq!(
            parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            Some(2)
        );
        assert_eq!(parse_oom_kills("max 9\noom 3\noom_kill 1\n"), Some(1));
        assert_eq!(parse_oom_kills("max 9\n"), None);
    }
}
