//! At the end of a run: what may not stay in the workspace is moved into the record, and named.
//!
//! Called when nothing runs in the workspace any more. What cannot be moved is named as such, and the
//! rest goes on.

use super::beneath;
use super::error::WorkspaceError;
use super::place::Workspace;
use super::remove;
use super::snapshot;
use super::traps::{self, Finding, Why};
use super::walk;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::sys::stat::{Mode, SFlag};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is copied at most, where a move would cross file systems.
const MAX_COPIED_BYTES: u64 = 4 * 1024 * 1024 * 1024;
const MAX_COPIED_ENTRIES: usize = 200_000;

/// Something that did not stay as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Relative to the workspace.
    pub path: PathBuf,
    pub why: Why,
    pub done: Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Into the record, under this name.
    Moved(String),
    BitsTaken,
    /// It is still there.
    Failed(String),
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::TooDeep => write!(
                f,
                "{}/…: {}",
                snapshot::shortened(&self.path).display(),
                self.why
            )?,
            _ => write!(f, "{}: {}", self.path.display(), self.why)?,
        }
        match &self.done {
            Done::Moved(_) | Done::BitsTaken => Ok(()),
            Done::Failed(why) => write!(f, "; STILL THERE, moving it failed: {why}"),
        }
    }
}

impl Workspace {
    /// Moves what may not stay to `to`, a folder of ours.
    pub fn quarantine(&self, to: &Path) -> Result<Vec<Quarantined>, WorkspaceError> {
        let now = self.tree(Some(self.stock()))?;
        let found = traps::findings(self.stock(), &now);
        if found.is_empty() {
            self.forget_stock();
            return Ok(Vec::new());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let to_fd =
            fcntl::open(to, flags, Mode::empty()).map_err(WorkspaceError::io("open", to))?;
        let all = found.into_iter().enumerate().map(|(index, finding)| {
            let done = self
                .deal_with(&finding, to_fd.as_fd(), index + 1)
                .unwrap_or_else(|error| Done::Failed(error.to_string()));
            Quarantined {
                path: finding.path.clone(),
                why: finding.why,
                done,
            }
        });
        let all = all.collect();
        self.forget_stock();
        Ok(all)
    }

    fn deal_with(&self, finding: &Finding, to: BorrowedFd<'_>, number: usize) -> io::Result<Done> {
        let path = &finding.path;
        if finding.why == Why::SetId {
            let fd = beneath::open(self.fd(), path, OFlag::O_PATH, Mode::empty())?;
            let stat = nix::sys::stat::fstat(&fd)?;
            beneath::set_mode(&fd, stat.st_mode & 0o1777)?;
            return Ok(Done::BitsTaken);
        }
        let (parent, name) = beneath::split(path).ok_or(io::ErrorKind::InvalidInput)?;
        let folder = beneath::open_folder(self.fd(), parent)?;
        let new_name = format!("{number}-{}", plain(path));
        let moved = with_write_access(&folder, || {
            fcntl::renameat(&folder, name, to, new_name.as_str())
        });
        match moved {
            Ok(()) => Ok(Done::Moved(new_name)),
            Err(Errno::EXDEV) => {
                copy(folder.as_fd(), name, to, &new_name)?;
                with_write_access(&folder, || remove::remove(folder.as_fd(), name))?;
                Ok(Done::Moved(new_name))
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A folder that its owner may not write in is made writable for the moment.
fn with_write_access(folder: &OwnedFd, act: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    match act() {
        Err(Errno::EACCES) => {
            let mode = nix::sys::stat::fstat(folder)?.st_mode & 0o7777;
            nix::sys::stat::fchmod(folder, Mode::from_bits_truncate(mode | 0o700))?;
            let acted = act();
            nix::sys::stat::fchmod(folder, Mode::from_bits_truncate(mode))?;
            acted
        }
        acted => acted,
    }
}

/// A name in one piece, of plain characters.
fn plain(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            '/' => '%',
            _ => '?',
        })
        .take(120)
        .collect()
}

/// Copies a tree to another file system: files without their modes, links as they are, the rest not.
fn copy(from: BorrowedFd<'_>, name: &OsStr, to: BorrowedFd<'_>, new_name: &str) -> io::Result<()> {
    let mut waiting = VecDeque::from([(PathBuf::from(name), PathBuf::from(new_name))]);
    let (mut room, mut count) = (MAX_COPIED_BYTES, 0);
    while let Some((source, target)) = waiting.pop_front() {
        count += 1;
        if count > MAX_COPIED_ENTRIES {
            return Err(io::Error::other("it holds too much to be copied"));
        }
        let (Some((folder, last)), Some((to_folder, to_last))) =
            (beneath::split(&source), beneath::split(&target))
        else {
            continue;
        };
        let folder = beneath::open_folder(from, folder)?;
        let to_folder = beneath::open_folder(to, to_folder)?;
        let stat = beneath::stat_at(&folder, last)?;
        match beneath::kind_of(&stat) {
            SFlag::S_IFDIR => {
                nix::sys::stat::mkdirat(&to_folder, to_last, Mode::from_bits_truncate(0o700))?;
                let inside = beneath::open_folder(&folder, Path::new(last))?;
                let names = walk::names(inside.as_fd(), &source, MAX_COPIED_ENTRIES)
                    .map_err(io::Error::other)?;
                waiting.extend(
                    names
                        .into_iter()
                        .map(|name| (source.join(&name), target.join(&name))),
                );
            }
            SFlag::S_IFREG => {
                room = copy_file(folder.as_fd(), last, (to_folder.as_fd(), to_last), room)?;
            }
            SFlag::S_IFLNK => {
                let target = fcntl::readlinkat(&folder, last)?;
                nix::unistd::symlinkat(target.as_os_str(), &to_folder, to_last)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tells how much room is left.
fn copy_file(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    to: (BorrowedFd<'_>, &OsStr),
    room: u64,
) -> io::Result<u64> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let source: File = beneath::open(folder, Path::new(name), flags, Mode::empty())?.into();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let mode = Mode::from_bits_truncate(0o600);
    let mut target: File = beneath::open(to.0, Path::new(to.1), flags, mode)?.into();
    let copied = io::copy(&mut source.take(room + 1), &mut target)?;
    room.checked_sub(copied)
        .ok_or_else(|| io::Error::other("it holds too much to be copied"))
}
