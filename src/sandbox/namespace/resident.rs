//! How much memory a sandbox holds, where no cgroup counts: the sum over its processes, found from
//! PID 1 downwards.
//!
//! What counts is what nobody can take back: private and shared memory. Pages of files are the kernel's
//! cache, mapped or not: a data set that is mapped whole is no use of memory, here as in a cgroup.
//!
//! Resident sets count a shared page once for each process, so a sum over the limit is not believed:
//! it is counted again by share (PSS), which is right and slow. What is held without a mapping is not
//! seen by either; the sandbox's filter refuses the ways to do that, and `/tmp` and `/dev/shm` have
//! sizes of their own.

use std::fs;
use std::path::PathBuf;

/// More processes than this are more than any limit on them.
const MAX_PROCESSES: usize = 65_536;

/// Bytes of all processes at and below `pid`; by share where the plain sum is over `limit`.
pub(super) fn resident(pid: u32, limit: Option<u64>) -> u64 {
    let processes = tree(pid);
    let plain = processes.iter().filter_map(|&pid| plain(pid)).sum();
    match limit {
        Some(limit) if plain > limit => {
            let shares = |&pid: &u32| share(pid).or_else(|| self::plain(pid));
            processes.iter().filter_map(shares).sum()
        }
        _ => plain,
    }
}

/// Whether this kernel tells a process's children.
pub(super) fn can_be_watched() -> bool {
    fs::read_to_string("/proc/thread-self/children").is_ok()
}

fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        if found.len() < MAX_PROCESSES {
            found.extend(children(parent));
        }
    }
    found
}

/// Of every thread: each has those it started.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            let pids = list.split_ascii_whitespace();
            pids.filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

fn plain(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(proc_file(pid, "status")).ok()?;
    // None for one that is ending: its memory is gone.
    Some(kib(&text, "RssAnon:")? + kib(&text, "RssShmem:")?)
}

fn share(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(proc_file(pid, "smaps_rollup")).ok()?;
    let parts = || Some(kib(&text, "Pss_Anon:")? + kib(&text, "Pss_Shmem:")?);
    parts().or_else(|| kib(&text, "Pss:"))
}

/// The bytes of a line such as `Pss:    4 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn proc_file(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn this_process_and_its_children_are_counted() {
        assert!(can_be_watched());
        let me = std::process::id();
        let mut child = Command::new("/bin/cat")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let found = tree(me);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()) && found[0] == me, "{found:?}");
        assert!(resident(me, None) > 1 << 20);
    }

    #[test]
    fn a_sum_over_the_limit_is_counted_by_share() {
        let me = std::process::id();
        let (plain, shared) = (resident(me, None), resident(me, Some(1)));
        // Tests run side by side, so it grows a little in between.
        assert!(
            shared > 0 && shared <= plain + (1 << 20),
            "{shared} {plain}"
        );
    }

    #[test]
    fn a_line_is_not_taken_for_another() {
        let text = "5-7 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss:  4 kB\nPss_Dirty: 2 kB\n";
        assert_eq!(kib(text, "Pss:"), Some(4096));
        assert_eq!(kib(text, "Pss_Anon:"), None);
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing() {
        assert_eq!(resident(4_194_304, Some(0)), 0);
    }
}
