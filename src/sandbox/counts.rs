//! What the kernel counts in a sandbox's cgroups: kills for memory, processes that were refused, slices
//! of processor time that were used up, memory in use. Read from the host, on both backends.

use std::fs;
use std::path::{Path, PathBuf};

/// `None` is what nobody counts here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kills by the memory controller since the start.
    pub oom_kills: Option<u64>,
    /// Processes and threads that were not made, for there were too many.
    pub pids_refused: Option<u64>,
    pub cpu: Option<Slices>,
    /// Bytes in use that nobody can take back: without the cache of files.
    pub memory: Option<u64>,
}

/// Slices of time in which the sandbox ran, and those in which it was held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slices {
    pub all: u64,
    pub held_back: u64,
}

/// The folders of the controllers, where there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CountedIn {
    pub(super) memory: Option<PathBuf>,
    pub(super) pids: Option<PathBuf>,
    pub(super) cpu: Option<PathBuf>,
}

impl CountedIn {
    pub(super) fn read(&self) -> Counts {
        let text =
            |dir: &Option<PathBuf>, file: &str| fs::read_to_string(dir.as_ref()?.join(file)).ok();
        // Version 2, then version 1; the lines are the same.
        let of_memory =
            |two: &str, one: &str| text(&self.memory, two).or_else(|| text(&self.memory, one));
        let events = of_memory("memory.events", "memory.oom_control");
        let used = of_memory("memory.current", "memory.usage_in_bytes");
        Counts {
            oom_kills: events.and_then(|text| value(&text, "oom_kill")),
            pids_refused: text(&self.pids, "pids.events").and_then(|text| value(&text, "max")),
            cpu: text(&self.cpu, "cpu.stat").and_then(|text| slices(&text)),
            memory: used
                .zip(text(&self.memory, "memory.stat"))
                .and_then(|(used, stat)| in_use(&used, &stat)),
        }
    }

    /// Those of an engine's container, from `/proc/PID/cgroup` of its first process. The id must be in
    /// the path: the pid may be another machine's, or another process by now.
    pub(super) fn of_container(pid: i64, id: &str) -> Self {
        let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return Self::default();
        };
        let there = |dir: PathBuf| dir.is_dir().then_some(dir);
        Self {
            memory: folder(&groups, id, "memory").and_then(there),
            pids: folder(&groups, id, "pids").and_then(there),
            cpu: folder(&groups, id, "cpu").and_then(there),
        }
    }
}

/// Lines are `number:controllers:path`; version 2 has no controllers.
fn folder(groups: &str, id: &str, controller: &str) -> Option<PathBuf> {
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
    of(controller)
        .map(|path| base.join(controller).join(path))
        .or_else(|| of("").map(|path| base.join(path)))
}

/// `name number`, a line of its own. `failcnt` says nothing: it counts limit hits, not kills.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, count) = line.split_once(' ')?;
        (found == name).then(|| count.trim().parse().ok())?
    })
}

fn slices(text: &str) -> Option<Slices> {
    Some(Slices {
        all: value(text, "nr_periods")?,
        held_back: value(text, "nr_throttled")?,
    })
}

/// Pages of files are the kernel's to take back.
fn in_use(used: &str, stat: &str) -> Option<u64> {
    let pages = |total: &str, own: &str| value(stat, total).or_else(|| value(stat, own));
    let cache = pages("total_inactive_file", "inactive_file")?
        .saturating_add(pages("total_active_file", "active_file")?);
    Some(used.trim().parse::<u64>().ok()?.saturating_sub(cache))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_a_container_are_found_on_both_versions() {
        let v1 =
            "9:pids:/docker/abc\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/docker/abc\n";
        let at = |controller| folder(v1, "abc", controller).unwrap();
        assert_eq!(at("memory"), Path::new("/sys/fs/cgroup/memory/docker/abc"));
        assert_eq!(at("pids"), Path::new("/sys/fs/cgroup/pids/docker/abc"));
        assert_eq!(at("cpu"), Path::new("/sys/fs/cgroup/cpu/docker/abc"));
        let v2 = "0::/system.slice/docker-abc.scope\n";
        assert_eq!(
            folder(v2, "abc", "memory"),
            Some("/sys/fs/cgroup/system.slice/docker-abc.scope".into())
        );
    }

    #[test]
    fn another_process_is_not_taken_for_the_container() {
        let others = "4:memory:/user.slice\n0::/\n";
        assert_eq!(folder(others, "abc", "memory"), None);
        assert_eq!(CountedIn::of_container(-1, "abc"), CountedIn::default());
        assert_eq!(CountedIn::default().read(), Counts::default());
    }

    #[test]
    fn kills_are_not_limit_hits() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(value(v1, "oom_kill"), Some(2));
        assert_eq!(value("max 9\noom 3\noom_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(value("max 9\n", "oom_kill"), None);
    }

    #[test]
    fn what_is_in_use_leaves_the_cache_of_files_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.usage_in_bytes", "5000\n");
        write(
            "memory.stat",
            "inactive_file 7\nactive_file 3\ntotal_inactive_file 900\ntotal_active_file 100\n",
        );
        write("memory.oom_control", "oom_kill 3\n");
        write("pids.events", "max 4\n");
        write(
            "cpu.stat",
            "nr_periods 10\nnr_throttled 6\nthrottled_time 1\n",
        );
        let here = Some(dir.path().to_owned());
        let counted = CountedIn {
            memory: here.clone(),
            pids: here.clone(),
            cpu: here,
        };
        let all = Counts {
            oom_kills: Some(3),
            pids_refused: Some(4),
            cpu: Some(Slices {
                all: 10,
                held_back: 6,
            }),
            memory: Some(4000),
        };
        assert_eq!(counted.read(), all);
        write("memory.current", "3000\n");
        write(
            "memory.stat",
            "anon 1\ninactive_file 300\nactive_file 200\n",
        );
        assert_eq!(counted.read().memory, Some(2500));
    }
}
