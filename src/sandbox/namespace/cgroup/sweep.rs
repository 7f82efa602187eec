//! Removes cgroups that a crash left behind: those of ours whose owner is dead.
//!
//! A sandbox removes its own, even when its owner is killed. What stays is from a machine on which
//! the outer half was killed too. A folder is swept only when its name is ours, was given in this pid
//! namespace, and that very owner is gone.

use super::{find, remove_dir};
use crate::sandbox::owner::{self, Life, NAME_PREFIX};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folders that are looked at, and how deep: slices, users and sessions are not deeper.
const MAX_FOLDERS: usize = 20_000;
const MAX_DEPTH: usize = 6;

/// How often the killed are looked for, 5 ms apart.
const ROUNDS: u32 = 200;

/// The folder of a sandbox in this pid namespace.
pub(in super::super) fn folder(name: &str, pid_namespace: u64) -> String {
    format!("{name}@{pid_namespace}")
}

/// Removes them, and returns the names of their sandboxes.
pub(in super::super) async fn sweep(pid_namespace: u64) -> Vec<String> {
    let mut swept = BTreeSet::new();
    for dir in left_behind(&find::tops(), pid_namespace) {
        if empty(&dir).await
            && remove_dir(&dir).is_ok()
            && let Some(name) = name_of(&dir, pid_namespace)
        {
            swept.insert(name);
        }
    }
    swept.into_iter().collect()
}

fn left_behind(tops: &[PathBuf], pid_namespace: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<(PathBuf, usize)> = tops.iter().map(|top| (top.clone(), 0)).collect();
    let mut seen = 0;
    while let Some((dir, depth)) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            seen += 1;
            if seen > MAX_FOLDERS {
                return found;
            }
            let path = entry.path();
            match name_of(&path, pid_namespace) {
                Some(name) if is_dead(&name) => found.push(path),
                Some(_) => {}
                None if depth < MAX_DEPTH => open.push((path, depth + 1)),
                None => {}
            }
        }
    }
    found
}

fn name_of(dir: &Path, pid_namespace: u64) -> Option<String> {
    let (name, namespace) = dir.file_name()?.to_str()?.rsplit_once('@')?;
    let ours = name.starts_with(NAME_PREFIX) && namespace == pid_namespace.to_string();
    ours.then(|| name.to_owned())
}

fn is_dead(name: &str) -> bool {
    owner::owner_in(name).is_some_and(|owner| owner.life() == Life::Dead)
}

/// Kills whoever is still in it; true when nobody is.
async fn empty(dir: &Path) -> bool {
    for _ in 0..ROUNDS {
        let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        let pids: Vec<i32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            return true;
        }
        for pid in pids {
            // 0 is a process of another pid namespace; a signal to it would go to our own group.
            if pid > 0 {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::RunId;
    use crate::sandbox::owner::{Owner, sandbox_name};

    fn left(folders: &[String]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(dir.path().join("user.slice").join(folder)).unwrap();
        }
        let found = left_behind(&[dir.path().to_owned()], 5);
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        found.iter().map(name).collect()
    }

    #[test]
    fn only_folders_of_dead_owners_of_this_pid_namespace_are_swept() {
        let me = Owner::this_process().unwrap();
        let dead = Owner {
            start: me.start - 1,
            ..me
        };
        let run = RunId::new("r");
        let (alive, dead) = (sandbox_name(me, &run, 1), sandbox_name(dead, &run, 1));
        let folders = [
            folder(&alive, 5),
            folder(&dead, 5),
            folder(&dead, 6),
            dead.clone(),
            "postgres@5".into(),
        ];
        assert_eq!(left(&folders), [folder(&dead, 5)]);
    }
}
