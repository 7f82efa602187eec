//! Taking a whole tree away, whatever a program made of it.
//!
//! Iterative, with two descriptors however deep it is: a folder within a folder is first brought up to
//! the top, then emptied like the others. Links go, not what they name; nothing on another mount is
//! touched.

use super::beneath;
use super::error::WorkspaceError;
use super::walk;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Removes what stands at an absolute path of ours, if anything does.
pub fn remove_tree(path: &Path) -> Result<(), WorkspaceError> {
    let Some((parent, name)) = beneath::split(path) else {
        return Err(WorkspaceError::Path {
            path: path.to_owned(),
            why: "it has no parent",
        });
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent =
        fcntl::open(parent, flags, Mode::empty()).map_err(WorkspaceError::io("open", parent))?;
    remove(parent.as_fd(), name).map_err(WorkspaceError::io("remove", path))
}

/// Bytes on disk of what stands there, links not followed; what cannot be looked at is not counted.
pub fn size_on_disk(path: &Path) -> u64 {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(root) = fcntl::open(path, flags, Mode::empty()) else {
        return 0;
    };
    let mut bytes = 0u64;
    let walk = walk::Walk {
        root: root.as_fd(),
        max: walk::MAX_ENTRIES,
        unlock: None,
    };
    // An error ends the counting, and what was counted stands.
    let _ = walk.run(&mut |met| {
        bytes = bytes.saturating_add(met.node.stamp.on_disk);
        Ok(walk::Descend::Into)
    });
    bytes
}

/// Removes a name in a folder and all beneath it.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    if unlinked(parent, name)? {
        return Ok(());
    }
    let top = open_own(parent, name)?;
    let mut lift = Lift {
        top: top.as_fd(),
        waiting: Vec::new(),
        next: 0,
    };
    for name in names(&top)? {
        if !unlinked(top.as_fd(), &name)? {
            lift.waiting.push(name);
        }
    }
    while let Some(name) = lift.waiting.pop() {
        let folder = match open_own(top.as_fd(), &name) {
            Err(Errno::ENOENT) => continue,
            opened => opened?,
        };
        for inner in names(&folder)? {
            if !unlinked(folder.as_fd(), &inner)? {
                lift.up(folder.as_fd(), &inner)?;
            }
        }
        unlinkat(&top, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

/// Folders that wait at the top to be emptied.
struct Lift<'a> {
    top: BorrowedFd<'a>,
    waiting: Vec<OsString>,
    next: u64,
}

impl Lift<'_> {
    fn up(&mut self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        match unlinkat(folder, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EACCES) => {}
            removed => return removed,
        }
        loop {
            let fresh = OsString::from(format!(".removing-{}", self.next));
            self.next += 1;
            match fcntl::renameat(folder, name, self.top, fresh.as_os_str()) {
                Ok(()) => {
                    self.waiting.push(fresh);
                    return Ok(());
                }
                // The name is taken.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                // A folder that is moved must be writable itself.
                Err(Errno::EACCES) => drop(open_own(folder, name)?),
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// True when it is gone; false for a folder.
fn unlinked(folder: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EISDIR) => Ok(false),
        Err(errno) => match beneath::stat_at(folder, name) {
            Ok(stat) if beneath::kind_of(&stat) == nix::sys::stat::SFlag::S_IFDIR => Ok(false),
            _ => Err(errno),
        },
    }
}

/// Opens a folder on the same mount, and makes it one that we may empty.
fn open_own(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let at = open_here(parent, name, OFlag::O_PATH)?;
    let stat = nix::sys::stat::fstat(&at)?;
    if stat.st_mode & 0o700 != 0o700 {
        beneath::set_mode(&at, 0o700)?;
    }
    open_here(parent, name, OFlag::O_RDONLY)
}

fn open_here(parent: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match fcntl::openat2(parent, name, how) {
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let opened = fcntl::openat(parent, name, flags, Mode::empty())?;
            let device = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).map(|stat| stat.st_dev);
            match device(parent)? == device(opened.as_fd())? {
                true => Ok(opened),
                false => Err(Errno::EXDEV),
            }
        }
        opened => opened,
    }
}

fn names(folder: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    walk::names(folder.as_fd(), Path::new(""), usize::MAX).map_err(|error| match error {
        WorkspaceError::Io { source, .. } => {
            source.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        }
        _ => Errno::EIO,
    })
}
