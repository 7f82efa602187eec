//! Our own reading and writing beneath a workspace, on a person's or a model's behalf.
//!
//! Regular files only; a named pipe does not hang us, a link is not followed. A write appears at once
//! and whole or not at all, belongs to whom the workspace is worked on as, keeps the mode of the file
//! it replaces, and never carries a set-uid bit. What programs outside the sandbox act upon (`.git` and
//! the like) is not written.

use super::beneath::{self, Beneath};
use super::error::{Nearest, WorkspaceError};
use super::place::Workspace;
use super::traps;
use super::walk;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest file that is edited.
pub const MAX_EDIT: u64 = 16 * 1024 * 1024;

/// Names in one folder that are looked at.
const MAX_LISTED: usize = 100_000;

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the listed folder.
    pub path: PathBuf,
    pub kind: ListedKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKind {
    File {
        bytes: u64,
    },
    Folder,
    /// With what it names.
    Link {
        target: PathBuf,
    },
    /// A named pipe, a socket, a device.
    Other(&'static str),
}

/// A listing, and whether it is all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<Listed>,
    /// True when there is more than was asked for.
    pub cut: bool,
}

/// What an edit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The line where the new text begins, from 1.
    pub line: usize,
    pub before: String,
    pub after: String,
}

impl Workspace {
    /// The bytes of a regular file, if there are no more than `max`.
    pub fn read(&self, path: &Beneath, max: u64) -> Result<Vec<u8>, WorkspaceError> {
        let (file, size) = self.open_file(path)?;
        let too_large = |bytes| WorkspaceError::TooLarge {
            path: path.as_path().to_owned(),
            bytes,
            max,
        };
        if size > max {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(WorkspaceError::io("read", path.as_path()))?;
        match bytes.len() as u64 > max {
            true => Err(too_large(bytes.len() as u64)),
            false => Ok(bytes),
        }
    }

    /// The same as text.
    pub fn read_text(&self, path: &Beneath, max: u64) -> Result<String, WorkspaceError> {
        String::from_utf8(self.read(path, max)?).map_err(|error| WorkspaceError::NotText {
            path: path.as_path().to_owned(),
            at: error.utf8_error().valid_up_to(),
        })
    }

    /// Puts a file there, with the folders it lies in; tells whether it is new.
    pub fn write(&self, path: &Beneath, content: &[u8]) -> Result<Written, WorkspaceError> {
        refuse_protected(path)?;
        let Some((folder, name)) = beneath::split(path.as_path()) else {
            return Err(not_a_file(path, "the workspace itself"));
        };
        let folder = self.make_folders(folder)?;
        let (written, mode) = match beneath::stat_at(&folder, name) {
            Err(Errno::ENOENT) => (Written::New, 0o644),
            Err(errno) => return Err(WorkspaceError::io("look at", path.as_path())(errno)),
            Ok(found) => match beneath::kind_of(&found) {
                SFlag::S_IFREG => (Written::Replaced, found.st_mode & 0o777),
                other => return Err(not_a_file(path, beneath::kind_name(other))),
            },
        };
        let temporary = temporary_name();
        self.fill(&folder, &temporary, content, Mode::from_bits_truncate(mode))
            .and_then(|()| {
                nix::fcntl::renameat(&folder, temporary.as_str(), &folder, name)
                    .map_err(std::io::Error::from)
            })
            .map_err(|error| {
                let gone = nix::unistd::UnlinkatFlags::NoRemoveDir;
                // It may not have come to exist.
                let _ = nix::unistd::unlinkat(&folder, temporary.as_str(), gone);
                WorkspaceError::io("write", path.as_path())(error)
            })?;
        Ok(written)
    }

    /// What a file becomes with `old`, which must be in it exactly once, replaced. Nothing is written.
    pub fn edited(&self, path: &Beneath, old: &str, new: &str) -> Result<Edited, WorkspaceError> {
        let bad = |why| WorkspaceError::BadEdit {
            path: path.as_path().to_owned(),
            why,
        };
        if old.is_empty() {
            return Err(bad("the text to replace is empty"));
        }
        if old == new {
            return Err(bad("old and new text are the same"));
        }
        let before = self.read_text(path, MAX_EDIT)?;
        let at = match (before.find(old), before.matches(old).count()) {
            (Some(at), 1) => at,
            (Some(_), count) => {
                return Err(WorkspaceError::ManyMatches {
                    path: path.as_path().to_owned(),
                    count,
                });
            }
            (None, _) => {
                return Err(WorkspaceError::NoMatch {
                    path: path.as_path().to_owned(),
                    nearest: nearest(&before, old),
                });
            }
        };
        let after = format!("{}{new}{}", &before[..at], &before[at + old.len()..]);
        Ok(Edited {
            line: before[..at].matches('\n').count() + 1,
            before,
            after,
        })
    }

    /// What a folder holds, down to `depth` levels (1: itself only), sorted, at most `max` entries.
    pub fn list(
        &self,
        path: &Beneath,
        depth: usize,
        max: usize,
    ) -> Result<Listing, WorkspaceError> {
        let mut found = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        let mut cut = false;
        while let Some(inner) = open.pop() {
            let at = path.as_path().join(&inner);
            let folder = match beneath::open_folder(self.fd(), &at) {
                Ok(folder) => folder,
                Err(errno) if inner.as_os_str().is_empty() => return Err(open_error(&at, errno)),
                // Gone or closed meanwhile.
                Err(_) => continue,
            };
            for name in walk::names(folder.as_fd(), &at, MAX_LISTED)? {
                cut |= found.len() >= max;
                let Some(kind) = listed_kind(folder.as_fd(), &name).filter(|_| !cut) else {
                    continue;
                };
                let inner = inner.join(name);
                if kind == ListedKind::Folder && inner.components().count() < depth {
                    open.push(inner.clone());
                }
                found.insert(inner, kind);
            }
        }
        let entries = found
            .into_iter()
            .map(|(path, kind)| Listed { path, kind })
            .collect();
        Ok(Listing { entries, cut })
    }

    /// A regular file, open, and its size.
    pub(super) fn open_file(&self, path: &Beneath) -> Result<(File, u64), WorkspaceError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = beneath::open(self.fd(), path.as_path(), flags, Mode::empty())
            .map_err(|errno| open_error(path.as_path(), errno))?;
        let stat =
            nix::sys::stat::fstat(&fd).map_err(WorkspaceError::io("look at", path.as_path()))?;
        match beneath::kind_of(&stat) {
            SFlag::S_IFREG => Ok((File::from(fd), stat.st_size.unsigned_abs())),
            other => Err(not_a_file(path, beneath::kind_name(other))),
        }
    }

    fn fill(
        &self,
        folder: &OwnedFd,
        name: &str,
        content: &[u8],
        mode: Mode,
    ) -> std::io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let fd = beneath::open(
            folder,
            Path::new(name),
            flags,
            Mode::from_bits_truncate(0o600),
        )?;
        let mut file = File::from(fd);
        file.write_all(content)?;
        self.give(&file)?;
        // After the change of owner, which would clear bits; never a set-uid bit.
        nix::sys::stat::fchmod(&file, mode & Mode::from_bits_truncate(0o777))?;
        Ok(())
    }

    /// Opens a folder, making what of it is missing.
    pub(super) fn make_folders(&self, path: &Path) -> Result<OwnedFd, WorkspaceError> {
        let mut at = beneath::open_folder(self.fd(), Path::new(""))
            .map_err(WorkspaceError::io("open", path))?;
        for name in path.iter() {
            let made = nix::sys::stat::mkdirat(&at, name, Mode::from_bits_truncate(0o755));
            match made {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(WorkspaceError::io("create", path)(errno)),
            }
            let next = beneath::open_folder(&at, Path::new(name))
                .map_err(|errno| open_error(path, errno))?;
            if made.is_ok() {
                self.give(&next)
                    .and_then(|()| nix::sys::stat::fchmod(&next, Mode::from_bits_truncate(0o755)))
                    .map_err(WorkspaceError::io("create", path))?;
            }
            at = next;
        }
        Ok(at)
    }
}

fn listed_kind(folder: BorrowedFd<'_>, name: &OsStr) -> Option<ListedKind> {
    let stat = beneath::stat_at(folder, name).ok()?;
    Some(match beneath::kind_of(&stat) {
        SFlag::S_IFREG => ListedKind::File {
            bytes: stat.st_size.unsigned_abs(),
        },
        SFlag::S_IFDIR => ListedKind::Folder,
        SFlag::S_IFLNK => ListedKind::Link {
            target: nix::fcntl::readlinkat(folder, name).ok()?.into(),
        },
        other => ListedKind::Other(beneath::kind_name(other)),
    })
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    New,
    Replaced,
}

pub(super) fn refuse_protected(path: &Beneath) -> Result<(), WorkspaceError> {
    let name = path.as_path().iter().find(|name| traps::is_trap_name(name));
    match name {
        Some(name) => Err(WorkspaceError::Protected {
            path: path.as_path().to_owned(),
            name: name.to_string_lossy().into_owned(),
        }),
        None => Ok(()),
    }
}

pub(super) fn not_a_file(path: &Beneath, found: &'static str) -> WorkspaceError {
    WorkspaceError::Kind {
        path: path.as_path().to_owned(),
        found,
        wanted: "a file",
    }
}

/// What the kernel says of a link where none may be, in words.
fn open_error(path: &Path, errno: Errno) -> WorkspaceError {
    let kind = |found, wanted| WorkspaceError::Kind {
        path: path.to_owned(),
        found,
        wanted,
    };
    match errno {
        Errno::ELOOP => kind("a link, or beneath one", "followed"),
        Errno::ENOTDIR => kind("no folder, or beneath a file", "a folder"),
        Errno::ENXIO => kind("a named pipe or a device", "a file"),
        errno => WorkspaceError::io("open", path)(errno),
    }
}

pub(super) fn temporary_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".fumehood-{}-{n}.tmp", std::process::id())
}

/// The line that is most like the first line of what was looked for.
fn nearest(text: &str, wanted: &str) -> Option<Nearest> {
    const MAX_LINES: usize = 20_000;
    const MAX_WIDTH: usize = 200;
    let wanted = wanted
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    let cut = |line: &str| line.chars().take(MAX_WIDTH).collect::<String>();
    let wanted = cut(wanted);
    text.lines()
        .take(MAX_LINES)
        .enumerate()
        .map(|(index, line)| {
            let line = cut(line.trim());
            (
                strsim::normalized_levenshtein(&line, &wanted),
                index + 1,
                line,
            )
        })
        .filter(|(likeness, ..)| *likeness > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
        .map(|(_, line, text)| Nearest { line, text })
}
