//! The process that writes a record, named for people, and for whoever wants it to stop.
//!
//! Whether it lives is not read from here: the kernel frees its lock on the record when it dies, which
//! holds across reused pids and pid namespaces alike. Before a signal both must agree.

use std::fs;
use std::io;
use std::path::Path;

/// A process, by its number and the clock ticks from boot to its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub pid: u32,
    pub start: u64,
}

impl Owner {
    pub(super) fn this_process() -> io::Result<Self> {
        Self::of("self").map(|start| Self {
            pid: std::process::id(),
            start,
        })
    }

    /// Whether the process that has this number now is that one, and has not ended yet.
    pub(super) fn is_seen(&self) -> bool {
        Self::of(&self.pid.to_string()).is_ok_and(|start| start == self.start)
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.start))
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start) = text.trim_end().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    fn of(process: &str) -> io::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The second field is a name in parentheses that may hold anything.
        let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        let mut fields = after_name.split_ascii_whitespace();
        if matches!(fields.next(), Some("Z" | "X")) {
            return Err(io::Error::other("it has ended, and nobody has asked how"));
        }
        fields
            .nth(18)
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::other("/proc/PID/stat has an unknown form"))
    }
}
