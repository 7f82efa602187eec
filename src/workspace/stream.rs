//! Files of any size into and out of a workspace, piece by piece, beneath it by descriptor.
//!
//! ```text
//!   receive(path) ─▶ a file without a name in the target's folder ─ write … ─▶ place: named, whole, at once
//!                     └ dropped before: nothing was there
//! ```
//!
//! Where a file system has no files without names, it has a passing one that is removed again.

use super::beneath::{self, Beneath};
use super::error::WorkspaceError;
use super::files::{Written, not_a_file, refuse_protected, temporary_name};
use super::place::Workspace;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::UnlinkatFlags;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file on its way in.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
    file: File,
    /// The name it has until it is placed, where it needs one.
    passing: Option<String>,
    mode: Mode,
}

/// A file on its way out.
#[derive(Debug)]
pub struct Outgoing {
    pub file: File,
    pub bytes: u64,
    pub executable: bool,
}

impl Workspace {
    /// Whether a folder stands there.
    pub fn is_folder(&self, path: &Beneath) -> bool {
        beneath::open_folder(self.fd(), path.as_path()).is_ok()
    }

    /// Begins a file, with the folders it will lie in. `mode` counts where it replaces none.
    pub fn receive(&self, path: &Beneath, mode: u32) -> Result<Incoming, WorkspaceError> {
        refuse_protected(path)?;
        let Some((folder, name)) = beneath::split(path.as_path()) else {
            return Err(not_a_file(path, "the workspace itself"));
        };
        let folder = self.make_folders(folder)?;
        standing(&folder, path, name)?;
        let (file, passing) =
            begin(&folder).map_err(WorkspaceError::io("write", path.as_path()))?;
        let incoming = Incoming {
            path: path.as_path().to_owned(),
            name: name.to_owned(),
            folder,
            file,
            passing,
            mode: Mode::from_bits_truncate(mode & 0o777),
        };
        self.give(&incoming.file)
            .map_err(WorkspaceError::io("write", path.as_path()))?;
        Ok(incoming)
    }

    /// A regular file, open for reading.
    pub fn send(&self, path: &Beneath) -> Result<Outgoing, WorkspaceError> {
        let (file, bytes) = self.open_file(path)?;
        let stat =
            nix::sys::stat::fstat(&file).map_err(WorkspaceError::io("look at", path.as_path()))?;
        Ok(Outgoing {
            file,
            bytes,
            executable: stat.st_mode & 0o111 != 0,
        })
    }
}

impl Incoming {
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WorkspaceError> {
        self.file
            .write_all(bytes)
            .map_err(WorkspaceError::io("write", &self.path))
    }

    /// Gives it its name: from then on it is there, whole.
    pub fn place(mut self) -> Result<Written, WorkspaceError> {
        let path = Beneath::parse(&self.path)?;
        let (written, mode) = match standing(&self.folder, &path, &self.name)? {
            Some(mode) => (Written::Replaced, Mode::from_bits_truncate(mode & 0o777)),
            None => (Written::New, self.mode),
        };
        self.settle(mode)
            .map_err(WorkspaceError::io("write", path.as_path()))?;
        self.passing = None;
        Ok(written)
    }

    fn settle(&mut self, mode: Mode) -> io::Result<()> {
        // After the change of owner, which would clear bits; never a set-uid bit.
        nix::sys::stat::fchmod(&self.file, mode)?;
        let passing = match &self.passing {
            Some(name) => name.clone(),
            None => {
                let name = temporary_name();
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                nix::unistd::linkat(AT_FDCWD, own.as_str(), &self.folder, name.as_str(), follow)?;
                self.passing = Some(name.clone());
                name
            }
        };
        nix::fcntl::renameat(
            &self.folder,
            passing.as_str(),
            &self.folder,
            self.name.as_os_str(),
        )?;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(name) = &self.passing {
            let gone = UnlinkatFlags::NoRemoveDir;
            // It may not have come to exist.
            let _ = nix::unistd::unlinkat(&self.folder, name.as_str(), gone);
        }
    }
}

/// The mode of the file that stands there; anything but a file is in the way.
fn standing(
    folder: &OwnedFd,
    path: &Beneath,
    name: &std::ffi::OsStr,
) -> Result<Option<u32>, WorkspaceError> {
    match beneath::stat_at(folder, name) {
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(WorkspaceError::io("look at", path.as_path())(errno)),
        Ok(found) => match beneath::kind_of(&found) {
            SFlag::S_IFREG => Ok(Some(found.st_mode)),
            other => Err(not_a_file(path, beneath::kind_name(other))),
        },
    }
}

fn begin(folder: &OwnedFd) -> Result<(File, Option<String>), Errno> {
    let private = Mode::from_bits_truncate(0o600);
    let unnamed = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
    match nix::fcntl::openat(folder, ".", unnamed, private) {
        Ok(fd) => Ok((File::from(fd), None)),
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {
            let name = temporary_name();
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let fd = beneath::open(folder, Path::new(&name), flags, private)?;
            Ok((File::from(fd), Some(name)))
        }
        Err(errno) => Err(errno),
    }
}
