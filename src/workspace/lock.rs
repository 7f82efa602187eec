//! One run at a time on one folder: two would undo each other's work and each other's guards.
//!
//! ```text
//!   the folder itself            flock: any user's run on it, with any state folder
//!   STATE/workspaces/D-I.lock    flock, and who holds it in words: run, process, path
//! ```
//!
//! Nothing is written into the user's folder. Folders within each other exclude each other too, among
//! the runs of one state folder. The kernel frees both locks when the process dies.

use super::error::WorkspaceError;
use crate::protocol::ids::RunId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FOLDER: &str = "workspaces";

/// Held as long as the run works on the folder.
#[derive(Debug)]
pub(super) struct FolderLock {
    _folder: File,
    _named: File,
}

/// Who holds a lock, as the lock file tells.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    run: RunId,
    pid: Option<u32>,
    path: PathBuf,
}

/// What is locked: the folder, and what it is known by.
pub(super) struct Locked<'a> {
    pub(super) path: &'a Path,
    pub(super) folder: BorrowedFd<'a>,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FolderLock {
    pub(super) fn take(
        state: &Path,
        wanted: &Locked<'_>,
        run: &RunId,
    ) -> Result<Self, WorkspaceError> {
        let locks = state.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&locks)
            .map_err(WorkspaceError::io("create", &locks))?;
        // Held while looking and taking, so that two runs on nested folders cannot pass each other.
        let gate = open(&locks.join("gate")).map_err(WorkspaceError::io("open", &locks))?;
        gate.lock().map_err(WorkspaceError::io("lock", &locks))?;
        refuse_nested(&locks, wanted)?;
        let path = path_beside(state, wanted.device, wanted.inode, "lock");
        let mut named = open(&path).map_err(WorkspaceError::io("open", &path))?;
        if let Err(TryLockError::WouldBlock) = named.try_lock() {
            return Err(busy(wanted.path, read(&path)));
        }
        let folder = lock_folder(wanted)?;
        write(&mut named, wanted.path, run).map_err(WorkspaceError::io("write", &path))?;
        Ok(Self {
            _folder: folder,
            _named: named,
        })
    }
}

/// A file of ours about a folder of the user's.
pub(super) fn path_beside(state: &Path, device: u64, inode: u64, end: &str) -> PathBuf {
    state.join(FOLDER).join(format!("{device}-{inode}.{end}"))
}

/// File systems that cannot lock a folder leave it to the named lock.
fn lock_folder(wanted: &Locked<'_>) -> Result<File, WorkspaceError> {
    let folder = wanted
        .folder
        .as_fd()
        .try_clone_to_owned()
        .map_err(WorkspaceError::io("open", wanted.path))?;
    // Its own open file description: a duplicate would share the caller's lock.
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY;
    let folder: File =
        super::beneath::open(&folder, Path::new(""), flags, nix::sys::stat::Mode::empty())
            .map_err(WorkspaceError::io("open", wanted.path))?
            .into();
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Err(busy(wanted.path, None)),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(folder),
    }
}

fn refuse_nested(locks: &Path, wanted: &Locked<'_>) -> Result<(), WorkspaceError> {
    let entries = fs::read_dir(locks).map_err(WorkspaceError::io("read", locks))?;
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let held = path.extension().is_some_and(|end| end == "lock")
            && File::open(&path)
                .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
        let Some(holder) = held.then(|| read(&path)).flatten() else {
            continue;
        };
        if holder.path != wanted.path
            && (holder.path.starts_with(wanted.path) || wanted.path.starts_with(&holder.path))
        {
            return Err(busy(&holder.path.clone(), Some(holder)));
        }
    }
    Ok(())
}

fn busy(dir: &Path, holder: Option<Holder>) -> WorkspaceError {
    let (run, pid) = match holder {
        Some(holder) => (holder.run, holder.pid),
        None => (RunId::new("of another user"), None),
    };
    WorkspaceError::Busy {
        dir: dir.to_owned(),
        run,
        pid,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn write(file: &mut File, path: &Path, run: &RunId) -> io::Result<()> {
    file.set_len(0)?;
    let mut text = format!("{run} {}\n", std::process::id()).into_bytes();
    text.extend_from_slice(path.as_os_str().as_bytes());
    file.write_all(&text)
}

fn read(path: &Path) -> Option<Holder> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (run, pid) = std::str::from_utf8(&bytes[..end]).ok()?.split_once(' ')?;
    Some(Holder {
        run: RunId::new(run),
        pid: pid.parse().ok(),
        path: PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[end + 1..])),
    })
}
