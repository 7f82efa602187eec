//! The process that writes a record, named for people.
//!
//! Whether it lives is not read from here: the kernel frees its lock on the record when it dies, which
//! holds across reused pids and pid namespaces alike.

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
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The second field is a name in parentheses that may hold anything.
        let start = stat
            .rfind(')')
            .and_then(|end| stat[end + 1..].split_ascii_whitespace().nth(19))
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::other("/proc/self/stat has an unknown form"))?;
        Ok(Self {
            pid: std::process::id(),
            start,
        })
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
}
