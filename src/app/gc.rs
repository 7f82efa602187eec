//! Clearing up on the user's word: runs that have ended, and what killed ones left.
//!
//! ```text
//!   ended, old enough ─▶ head kept ─▶ out of sight ─▶ removed by descriptor, links not followed
//!   killed ─▶ homes and workspaces past their time; images half made; containers and cgroups whose
//!             owner is dead
//! ```

use super::{AppError, install_init};
use crate::config::Config;
use crate::protocol::ids::RunId;
use crate::record::RunStore;
use crate::sandbox::docker::DockerBackend;
use crate::sandbox::namespace::NamespaceBackend;
use crate::workspace::{remove_tree, size_on_disk};
use std::path::Path;
use std::time::Duration;

/// One run that went, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    pub run: RunId,
    pub what: String,
    pub last: String,
    /// On disk.
    pub bytes: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Collected {
    pub runs: Vec<Forgotten>,
    /// Sandboxes of killed runs that were cleared away, by name.
    pub swept: Vec<String>,
    /// What resisted, in words.
    pub failures: Vec<String>,
}

/// Names the ended runs of this age; with `remove`, removes them and all that is left over.
pub async fn collect(
    config: &Config,
    age: Duration,
    remove: Option<Removal>,
) -> Result<Collected, AppError> {
    let store = RunStore::open(&config.state);
    let mut collected = Collected::default();
    for ended in store.ended_for(age)? {
        let summary = ended.run().summary();
        let forgotten = Forgotten {
            run: summary.run,
            what: format!("{}: {}", summary.command, summary.task),
            last: summary.last,
            bytes: size_on_disk(ended.run().dir()),
        };
        if remove.is_some() {
            // Without its head kept nothing is removed.
            let passing = store.bury(&ended)?;
            gone(&passing, &mut collected);
        }
        collected.runs.push(forgotten);
    }
    if remove.is_some() {
        for path in store.half_gone().into_iter().chain(store.past_its_time()?) {
            gone(&path, &mut collected);
        }
        for path in super::images::image_store(config).left_behind()? {
            gone(&path, &mut collected);
        }
        sweep(config, &mut collected).await;
    }
    Ok(collected)
}

/// That things are really to be removed.
#[derive(Debug, Clone, Copy)]
pub struct Removal;

fn gone(path: &Path, collected: &mut Collected) {
    if let Err(error) = remove_tree(path) {
        let why = std::error::Error::source(&error).map(|why| format!(": {why}"));
        collected
            .failures
            .push(format!("{error}{}", why.unwrap_or_default()));
    }
}

/// On both backends, whichever a run used. An engine that is not there has left nothing to reach.
async fn sweep(config: &Config, collected: &mut Collected) {
    let init = match install_init(config) {
        Ok(init) => init,
        Err(error) => return collected.failures.push(error.to_string()),
    };
    let namespace = async { NamespaceBackend::new(init.clone())?.sweep().await };
    match namespace.await {
        Ok(names) => collected.swept.extend(names),
        Err(error) => collected.failures.push(error.to_string()),
    }
    if let Ok(engine) = DockerBackend::connect(init, config.docker_host.as_deref()).await {
        match engine.sweep().await {
            Ok(names) => collected.swept.extend(names),
            Err(error) => collected.failures.push(error.to_string()),
        }
    }
}
