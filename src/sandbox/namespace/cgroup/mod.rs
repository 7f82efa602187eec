//! Cgroups of a sandbox: found once, made and limited for each, joined by init, removed at the end.
//!
//! ```text
//!   version 1    one folder in each of memory, pids, cpu, below this process's own; root only
//!   version 2    one folder, beside this process's own or further up, wherever the folder above hands
//!                the controllers down; root, or a user to whom the subtree was delegated
//! ```
//!
//! A folder is named after the sandbox and the pid namespace that its owner's pid means something in,
//! so that a sweep can tell a dead owner from a stranger.

mod find;
mod sweep;

pub(super) use find::Cgroups;
pub(super) use sweep::{folder, sweep};

use crate::protocol::spec::Limits;
use crate::sandbox::backend::SandboxError;
use crate::sandbox::counts::CountedIn;
use crate::sandbox::wire::{CgroupJoin, WorldCgroup};
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Microseconds over which the share of the processor is counted.
const PERIOD_US: u64 = 100_000;

/// The smallest quota the kernel takes.
const MIN_QUOTA_US: u64 = 1_000;

/// How long an emptied folder may stay busy, where hundreds go at once.
const REMOVAL: Duration = Duration::from_secs(30);

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Which limits the kernel holds through a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Enforced {
    pub(super) memory: bool,
    pub(super) pids: bool,
    pub(super) cpu: bool,
}

/// A folder below which folders of sandboxes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) dir: PathBuf,
    pub(super) join: CgroupJoin,
    pub(super) controllers: Vec<Controller>,
}

/// The folders of one sandbox. Dropped, those that are empty go; init's outer half removes them when
/// it ends, and [`remove`](Self::remove) makes sure.
#[derive(Debug)]
pub(super) struct MadeGroups {
    dirs: Vec<(PathBuf, Base)>,
}

impl MadeGroups {
    /// For where there is none.
    pub(super) fn none() -> Self {
        Self { dirs: Vec::new() }
    }

    /// Makes a folder below each base and writes the limits.
    pub(super) fn make(
        bases: &[Base],
        folder: &str,
        limits: Option<&Limits>,
    ) -> Result<Self, SandboxError> {
        let mut made = Self::none();
        for base in bases {
            let dir = base.dir.join(folder);
            fs::create_dir(&dir).map_err(|error| failed("make", &dir, error))?;
            made.dirs.push((dir.clone(), base.clone()));
            for (file, value) in settings(base, limits, &dir) {
                let path = dir.join(&file);
                fs::write(&path, &value).map_err(|error| failed("set", &path, error))?;
            }
        }
        Ok(made)
    }

    pub(super) fn enforced(&self) -> Enforced {
        let has = |wanted| {
            self.dirs
                .iter()
                .any(|(_, base)| base.controllers.contains(&wanted))
        };
        Enforced {
            memory: has(Controller::Memory),
            pids: has(Controller::Pids),
            cpu: has(Controller::Cpu),
        }
    }

    pub(super) fn to_join(&self) -> Vec<WorldCgroup> {
        self.dirs
            .iter()
            .filter_map(|(dir, base)| {
                Some(WorldCgroup {
                    dir: dir.to_str()?.to_owned(),
                    join: base.join,
                })
            })
            .collect()
    }

    /// Where the kernel counts for this sandbox.
    pub(super) fn counted_in(&self) -> CountedIn {
        let dir = |wanted| {
            self.dirs
                .iter()
                .find(|(_, base)| base.controllers.contains(&wanted))
                .map(|(dir, _)| dir.clone())
        };
        CountedIn {
            memory: dir(Controller::Memory),
            pids: dir(Controller::Pids),
            cpu: dir(Controller::Cpu),
        }
    }

    /// Removes what is still there; waits for processes that are on their way out.
    pub(super) async fn remove(self) -> Result<(), SandboxError> {
        let start = Instant::now();
        for (dir, _) in &self.dirs {
            loop {
                match remove_dir(dir) {
                    Ok(()) => break,
                    Err(Errno::EBUSY) if start.elapsed() < REMOVAL => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(errno) => return Err(failed("remove", dir, errno.into())),
                }
            }
        }
        Ok(())
    }
}

impl Drop for MadeGroups {
    fn drop(&mut self) {
        for (dir, _) in &self.dirs {
            // Busy: its outer half removes it.
            let _ = remove_dir(dir);
        }
    }
}

/// A folder that is not there counts as removed.
pub(super) fn remove_dir(dir: &Path) -> nix::Result<()> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    }
}

/// Files to write, in an order the kernel accepts: on version 1 the sum with swap is never to be the
/// smaller of the two.
fn settings(base: &Base, limits: Option<&Limits>, dir: &Path) -> Vec<(String, String)> {
    let Some(limits) = limits else {
        return Vec::new();
    };
    let mut files: Vec<(&str, String)> = Vec::new();
    for controller in &base.controllers {
        match (controller, base.join) {
            (Controller::Memory, CgroupJoin::Tasks) => {
                files.extend(memory_1(
                    limits,
                    dir.join("memory.memsw.limit_in_bytes").exists(),
                ));
            }
            (Controller::Memory, CgroupJoin::Clone) => files.extend(memory_2(limits)),
            (Controller::Pids, _) => {
                files.extend(limits.pids.map(|pids| ("pids.max", pids.to_string())));
            }
            (Controller::Cpu, join) => files.extend(
                limits
                    .cpus
                    .map(|cpus| cpu(cpus, join))
                    .into_iter()
                    .flatten(),
            ),
        }
    }
    files
        .into_iter()
        .map(|(file, value)| (file.to_owned(), value))
        .collect()
}

fn memory_1(limits: &Limits, counts_swap: bool) -> Vec<(&'static str, String)> {
    let Some(memory) = limits.memory else {
        return Vec::new();
    };
    let mut files = vec![("memory.limit_in_bytes", memory.to_string())];
    match (limits.swap, counts_swap) {
        (Some(swap), true) => {
            let sum = memory.saturating_add(swap);
            files.push(("memory.memsw.limit_in_bytes", sum.to_string()));
        }
        // Not counted, so not used.
        (Some(_), false) => files.push(("memory.swappiness", "0".to_owned())),
        (None, _) => {}
    }
    files
}

fn memory_2(limits: &Limits) -> Vec<(&'static str, String)> {
    let memory = limits.memory.map(|bytes| ("memory.max", bytes.to_string()));
    let swap = limits
        .swap
        .map(|bytes| ("memory.swap.max", bytes.to_string()));
    memory.into_iter().chain(swap).collect()
}

fn cpu(cpus: f64, join: CgroupJoin) -> Vec<(&'static str, String)> {
    // From a float: saturates.
    let quota = ((cpus * PERIOD_US as f64) as u64).max(MIN_QUOTA_US);
    match join {
        CgroupJoin::Tasks => vec![
            ("cpu.cfs_period_us", PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", quota.to_string()),
        ],
        CgroupJoin::Clone => vec![("cpu.max", format!("{quota} {PERIOD_US}"))],
    }
}

fn failed(verb: &str, path: &Path, source: io::Error) -> SandboxError {
    SandboxError::Io {
        context: format!("failed to {verb} cgroup {}", path.display()),
        source,
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
