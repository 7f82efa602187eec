//! Looking at a whole tree: by descriptors, no link followed, nothing opened but folders, bounded.
//!
//! Level by level and without recursion, so that neither depth nor breadth costs more than the list of
//! folders still to be opened. Each folder is opened anew from the root: what was moved meanwhile is
//! simply not there any more.

use super::before::Before;
use super::beneath::{self, MAX_PATH};
use super::error::WorkspaceError;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Entries that are looked at; more is no workspace.
pub const MAX_ENTRIES: usize = 1_000_000;

/// Bytes of all their paths together.
const MAX_PATH_BYTES: usize = 512 * 1024 * 1024;

/// What a thing is known by: no program without privileges can change it and keep all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    pub mode: u32,
    pub links: u64,
    pub owner: u32,
    /// Bytes on disk.
    pub on_disk: u64,
}

impl Stamp {
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.unsigned_abs(),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode & 0o7777,
            links: wide(stat.st_nlink),
            owner: stat.st_uid,
            on_disk: stat.st_blocks.unsigned_abs().saturating_mul(512),
        }
    }

    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The same file with the same bytes, as far as stamps tell.
    pub(super) fn is_unchanged(&self, later: &Self) -> bool {
        self.identity() == later.identity()
            && self.size == later.size
            && self.mtime == later.mtime
            && self.ctime == later.ctime
    }

    pub(super) fn is_executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// `nlink_t` is narrower on some machines.
fn wide(count: impl Into<u64>) -> u64 {
    count.into()
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// A folder that this user may not look into.
    Closed,
    /// A folder whose contents have paths too long to name.
    TooDeep,
    /// A symbolic link and what it names.
    Link(PathBuf),
    /// A named pipe, a socket, a device: in words.
    Special(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) stamp: Stamp,
}

/// Everything below a root, by its path.
pub(super) type Tree = BTreeMap<PathBuf, Node>;

/// One thing as it is met; `folder` is the open folder it lies in.
pub(super) struct Met<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) name: &'a OsStr,
    pub(super) path: PathBuf,
    pub(super) node: Node,
}

/// Whether to look into a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Descend {
    Into,
    Past,
}

/// How to walk.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) max: usize,
    /// Folders of ours that are closed to us are opened, but for those that were closed before.
    pub(super) unlock: Option<&'a Before>,
}

type Meet<'m> = &'m mut dyn FnMut(Met<'_>) -> Result<Descend, WorkspaceError>;

impl Walk<'_> {
    /// Meets everything below the root, level by level. `meet` says of each folder whether it is looked
    /// into; one that cannot be is met again as [`Kind::Closed`].
    pub(super) fn run(&self, meet: Meet<'_>) -> Result<(), WorkspaceError> {
        let root = beneath::open_folder(self.root, Path::new(""))
            .map_err(WorkspaceError::io("open", Path::new(".")))?;
        let mut count = Count::default();
        let mut open = VecDeque::new();
        self.meet_all(&root, Path::new(""), &mut count, &mut |met| {
            note(&mut open, met, meet)
        })?;
        while let Some((path, stamp)) = open.pop_front() {
            match self.open(&path, &stamp) {
                Ok(folder) => self.meet_all(&folder, &path, &mut count, &mut |met| {
                    note(&mut open, met, meet)
                })?,
                // Gone, or another thing by now.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(Errno::EACCES | Errno::EPERM) => meet_closed(self.root, path, stamp, meet)?,
                Err(errno) => return Err(WorkspaceError::io("open", &path)(errno)),
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, stamp: &Stamp) -> Result<OwnedFd, Errno> {
        match (beneath::open_folder(self.root, path), self.unlock) {
            (Err(Errno::EACCES), Some(before)) if !before.was_closed(path) => {
                beneath::unlock(self.root, path, stamp.mode)?;
                beneath::open_folder(self.root, path)
            }
            (opened, _) => opened,
        }
    }

    fn meet_all(
        &self,
        folder: &OwnedFd,
        path: &Path,
        count: &mut Count,
        meet: Meet<'_>,
    ) -> Result<(), WorkspaceError> {
        for name in names(folder.as_fd(), path, self.max)? {
            let Ok(stat) = beneath::stat_at(folder, name.as_os_str()) else {
                continue;
            };
            let inner = path.join(&name);
            count.add(&inner, self.max)?;
            let Some(kind) = kind(folder.as_fd(), &name, &stat, &inner) else {
                continue;
            };
            let stamp = Stamp::of(&stat);
            meet(Met {
                folder: folder.as_fd(),
                name: &name,
                path: inner,
                node: Node { kind, stamp },
            })?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Count {
    entries: usize,
    path_bytes: usize,
}

impl Count {
    fn add(&mut self, path: &Path, max: usize) -> Result<(), WorkspaceError> {
        self.entries += 1;
        self.path_bytes += path.as_os_str().len();
        match self.entries > max || self.path_bytes > MAX_PATH_BYTES {
            true => Err(WorkspaceError::TooMany { max }),
            false => Ok(()),
        }
    }
}

/// Meets one thing; a folder to be looked into is noted.
fn note(
    open: &mut VecDeque<(PathBuf, Stamp)>,
    met: Met<'_>,
    meet: Meet<'_>,
) -> Result<Descend, WorkspaceError> {
    let folder = (met.node.kind == Kind::Folder).then(|| (met.path.clone(), met.node.stamp));
    let descend = meet(met)?;
    if let (Some(folder), Descend::Into) = (folder, descend) {
        open.push_back(folder);
    }
    Ok(descend)
}

fn meet_closed(
    root: BorrowedFd<'_>,
    path: PathBuf,
    stamp: Stamp,
    meet: Meet<'_>,
) -> Result<(), WorkspaceError> {
    let Some(name) = path.file_name().map(OsStr::to_owned) else {
        return Ok(());
    };
    let kind = Kind::Closed;
    meet(Met {
        folder: root,
        name: &name,
        path,
        node: Node { kind, stamp },
    })
    .map(drop)
}

/// The whole tree, at once; what lies in a folder with a trap's name belongs to it and is left out.
pub(super) fn tree(walk: Walk<'_>) -> Result<Tree, WorkspaceError> {
    let mut tree = Tree::new();
    walk.run(&mut |met| {
        let descend = match super::traps::is_trap(&met.path) {
            true => Descend::Past,
            false => Descend::Into,
        };
        tree.insert(met.path, met.node);
        Ok(descend)
    })?;
    Ok(tree)
}

fn kind(folder: BorrowedFd<'_>, name: &OsStr, stat: &FileStat, path: &Path) -> Option<Kind> {
    Some(match beneath::kind_of(stat) {
        SFlag::S_IFREG => Kind::File,
        // The longest name must still fit behind it.
        SFlag::S_IFDIR if path.as_os_str().len() + 256 > MAX_PATH => Kind::TooDeep,
        SFlag::S_IFDIR => Kind::Folder,
        SFlag::S_IFLNK => Kind::Link(nix::fcntl::readlinkat(folder, name).ok()?.into()),
        other => Kind::Special(beneath::kind_name(other)),
    })
}

/// Names in an open folder, sorted; an error when there are more than `max`.
pub(super) fn names(
    folder: BorrowedFd<'_>,
    path: &Path,
    max: usize,
) -> Result<Vec<OsString>, WorkspaceError> {
    let own =
        beneath::open_folder(folder, Path::new("")).map_err(WorkspaceError::io("open", path))?;
    let mut dir = nix::dir::Dir::from_fd(own).map_err(WorkspaceError::io("read", path))?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(WorkspaceError::io("read", path))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == max {
            return Err(WorkspaceError::TooMany { max });
        }
        names.push(OsStr::from_bytes(name).to_owned());
    }
    names.sort();
    Ok(names)
}
