//! Who a sandbox belongs to: one process of this machine, and how to tell that it is gone.
//!
//! A pid alone is reused; a pid with the start time of its process is not. What a crash left behind
//! (a container, a cgroup) carries the owner in its name, and is swept only when that very process
//! is dead. Where this process cannot know (another pid namespace, hidden `/proc`), it is not swept.

use crate::protocol::ids::RunId;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Every name of a sandbox starts so.
pub const NAME_PREFIX: &str = "fumehood-";

/// A process: its number and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    pub pid: u32,
    /// Clock ticks from boot to its start (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// Whether an owner still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Alive,
    Dead,
    /// `/proc` does not show processes of others here.
    Unknown,
}

impl Owner {
    /// This very process.
    pub fn this_process() -> io::Result<Self> {
        let pid = std::process::id();
        let start = start_of(pid)?
            .ok_or_else(|| io::Error::other("/proc does not show this process itself"))?;
        Ok(Self { pid, start })
    }

    /// The process that has this number now; `None` where none has.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        Ok(start_of(pid)?.map(|start| Self { pid, start }))
    }

    /// Whether that process still lives, as far as `/proc` of this pid namespace shows.
    pub fn life(&self) -> Life {
        match start_of(self.pid) {
            Ok(Some(start)) if start == self.start => Life::Alive,
            Ok(Some(_)) => Life::Dead,
            // Process 1 belongs to root: where it is not visible, neither are living strangers.
            Ok(None) if matches!(start_of(1), Ok(Some(_))) => Life::Dead,
            Ok(None) | Err(_) => Life::Unknown,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start)
    }
}

/// The name of the `n`th sandbox of a run: `fumehood-<pid>-<start>-<run>-<n>`.
pub fn sandbox_name(owner: Owner, run: &RunId, n: u32) -> String {
    format!("{NAME_PREFIX}{owner}-{run}-{n}")
}

/// The owner that a sandbox's name tells; `None` for a name that is not ours.
pub fn owner_in(name: &str) -> Option<Owner> {
    let mut parts = name.strip_prefix(NAME_PREFIX)?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    let start = parts.next()?.parse().ok()?;
    parts.next().filter(|rest| !rest.is_empty())?;
    Some(Owner { pid, start })
}

/// Effective uid and gid of this process.
pub fn caller() -> (u32, u32) {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

/// The pid namespace of this process: pids of another one mean nothing here.
pub fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

fn start_of(pid: u32) -> io::Result<Option<u64>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse_start(&stat)
            .map(Some)
            .ok_or_else(|| io::Error::other("/proc/PID/stat has an unknown form")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // The process ended between open and read.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Field 22; the second field is a name in parentheses that may hold anything, `)` and spaces too.
fn parse_start(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_its_name_is_read_back() {
        let me = Owner::this_process().unwrap();
        assert_eq!(me.life(), Life::Alive);
        let name = sandbox_name(me, &RunId::new("0192abc"), 3);
        assert_eq!(owner_in(&name), Some(me));
    }

    #[test]
    fn a_reused_pid_is_not_the_owner() {
        let me = Owner::this_process().unwrap();
        let earlier = Owner {
            start: me.start - 1,
            ..me
        };
        assert_eq!(earlier.life(), Life::Dead);
    }

    #[test]
    fn a_pid_that_is_not_there_is_dead() {
        let nobody = Owner {
            pid: 4_194_305,
            start: 1,
        };
        assert_eq!(nobody.life(), Life::Dead);
    }

    #[test]
    fn names_of_others_have_no_owner() {
        for name in [
            "postgres",
            "fumehood-",
            "fumehood-12",
            "fumehood-12-x-r-1",
            "fumehood-1-2-",
        ] {
            assert_eq!(owner_in(name), None, "{name}");
        }
    }

    #[test]
    fn a_process_name_cannot_forge_the_start() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse_start(stat), Some(4711));
    }
}
