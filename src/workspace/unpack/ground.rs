//! Where an archive is unpacked: made beneath one open folder, by descriptor, over no link. Whatever a
//! verdict says, nothing is made elsewhere.

use super::super::error::WorkspaceError;
use super::super::{beneath, remove, walk};
use super::entry::{Fault, Shape};
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// Why something could not be made.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The archive's doing.
    Fault(Fault),
    /// The machine's.
    Errno(Errno),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ELOOP | Errno::ENOTDIR => Self::Fault(Fault::NotAFolder),
            Errno::ENAMETOOLONG => Self::Fault(Fault::NameTooLong),
            errno => Self::Errno(errno),
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// An open folder, and what has been made in it.
pub(super) struct Ground {
    root: OwnedFd,
    shape: Shape,
    /// Uid and gid that everything is given to.
    give_to: Option<(u32, u32)>,
    /// Inodes of the files made.
    files: HashSet<u64>,
    /// Inodes of everything that the present layer made.
    layer: HashSet<u64>,
    /// Entries of one folder mostly come together.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

impl Ground {
    pub(super) fn new(root: OwnedFd, shape: Shape, give_to: Option<(u32, u32)>) -> Self {
        Self {
            root,
            shape,
            give_to,
            files: HashSet::new(),
            layer: HashSet::new(),
            last: None,
        }
    }

    /// What is made from here on covers what was made before.
    pub(super) fn next_layer(&mut self) {
        self.layer.clear();
    }

    /// Bytes that are free for whoever unpacks.
    pub(super) fn free(&self) -> Result<u64, Trouble> {
        let found = nix::sys::statvfs::fstatvfs(&self.root)?;
        Ok(found
            .blocks_available()
            .saturating_mul(found.fragment_size()))
    }

    pub(super) fn make_folder(&mut self, path: &Path, mode: u32) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        if let Some(found) = look(&parent, name)?
            && beneath::kind_of(&found) != SFlag::S_IFDIR
        {
            self.displace(&parent, name, &found)?;
        }
        let folder = self.step_into(parent.as_fd(), name)?;
        stat::fchmod(&folder, Mode::from_bits_truncate(mode))?;
        self.layer.insert(stat::fstat(&folder)?.st_ino);
        Ok(())
    }

    /// A new file, empty and closed to others until it is [`Ground::settle`]d.
    pub(super) fn make_file(&mut self, path: &Path) -> Result<File, Trouble> {
        let (parent, name) = self.parent(path)?;
        self.clear_way(&parent, name)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let private = Mode::from_bits_truncate(0o600);
        let file = fcntl::openat(&*parent, name, flags, private)?;
        let inode = stat::fstat(&file)?.st_ino;
        self.files.insert(inode);
        self.layer.insert(inode);
        Ok(File::from(file))
    }

    /// Owner, mode and time of a file that is written.
    pub(super) fn settle(&self, file: &File, mode: u32, seconds: u64) -> Result<(), Trouble> {
        self.give(file)?;
        // After the change of owner, which would clear bits.
        stat::fchmod(file, Mode::from_bits_truncate(mode))?;
        // Year 9999.
        let seconds = i64::try_from(seconds.min(253_402_300_799)).unwrap_or(0);
        let time = TimeSpec::new(seconds, 0);
        stat::futimens(file, &time, &time)?;
        Ok(())
    }

    /// A link, as a text.
    pub(super) fn make_link(&mut self, path: &Path, target: &Path) -> Result<(), Trouble> {
        let (parent, name) = self.parent(path)?;
        self.clear_way(&parent, name)?;
        nix::unistd::symlinkat(target, &*parent, name)?;
        self.layer.insert(beneath::stat_at(&*parent, name)?.st_ino);
        Ok(())
    }

    /// A second name of a file that was made here.
    pub(super) fn make_hard_link(&mut self, path: &Path, to: &Path) -> Result<(), Trouble> {
        let Some((folder, target)) = beneath::split(to) else {
            return Err(Fault::NoTarget.into());
        };
        let folder = match beneath::open_folder(&self.root, folder) {
            Err(Errno::ENOENT) => return Err(Fault::Foreign.into()),
            opened => opened?,
        };
        let found = look(&folder, target)?.ok_or(Fault::Foreign)?;
        let own = beneath::kind_of(&found) == SFlag::S_IFREG && self.files.contains(&found.st_ino);
        if !own {
            return Err(Fault::Foreign.into());
        }
        let (parent, name) = self.parent(path)?;
        self.clear_way(&parent, name)?;
        // Without `AT_SYMLINK_FOLLOW`: the name itself.
        nix::unistd::linkat(&folder, target, &*parent, name, AtFlags::empty())?;
        Ok(())
    }

    /// Takes away what earlier layers have at a path.
    pub(super) fn hide(&mut self, path: &Path) -> Result<(), Trouble> {
        let Some((folder, name)) = beneath::split(path) else {
            return Ok(());
        };
        self.last = None;
        match beneath::open_folder(&self.root, folder) {
            Err(Errno::ENOENT) => Ok(()),
            opened => self.take_away(opened?.as_fd(), name),
        }
    }

    /// Takes away what earlier layers have in a folder.
    pub(super) fn hide_all(&mut self, folder: &Path) -> Result<(), Trouble> {
        self.last = None;
        match beneath::open_folder(&self.root, folder) {
            Err(Errno::ENOENT) => Ok(()),
            opened => self.take_away_in(&opened?),
        }
    }

    /// As deep as what was made is nested, which is bounded.
    fn take_away(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Trouble> {
        let Some(found) = look(&parent, name)? else {
            return Ok(());
        };
        let of_this_layer = self.layer.contains(&found.st_ino);
        if beneath::kind_of(&found) != SFlag::S_IFDIR {
            if !of_this_layer {
                unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
            }
            return Ok(());
        }
        self.take_away_in(&beneath::open_folder(parent, Path::new(name))?)?;
        if of_this_layer {
            return Ok(());
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            // This layer has put something in it.
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            removed => Ok(removed?),
        }
    }

    fn take_away_in(&self, folder: &OwnedFd) -> Result<(), Trouble> {
        let names = walk::names(folder.as_fd(), Path::new(""), usize::MAX).map_err(errno_of)?;
        for name in names {
            self.take_away(folder.as_fd(), &name)?;
        }
        Ok(())
    }

    /// The folder that something is made in, made where it is not there, and the name in it.
    fn parent<'a>(&mut self, path: &'a Path) -> Result<(Rc<OwnedFd>, &'a OsStr), Trouble> {
        let Some((folder, name)) = beneath::split(path) else {
            return Err(Fault::NoName.into());
        };
        if let Some((known, open)) = &self.last
            && known == folder
        {
            return Ok((open.clone(), name));
        }
        let open = Rc::new(match beneath::open_folder(&self.root, folder) {
            Err(Errno::ENOENT) => self.make_folders(folder)?,
            opened => opened?,
        });
        self.last = Some((folder.to_owned(), open.clone()));
        Ok((open, name))
    }

    fn make_folders(&mut self, folder: &Path) -> Result<OwnedFd, Trouble> {
        let mut at = beneath::open_folder(&self.root, Path::new(""))?;
        for part in folder.components() {
            match part {
                Component::Normal(name) => at = self.step_into(at.as_fd(), name)?,
                _ => return Err(Fault::Upward.into()),
            }
        }
        Ok(at)
    }

    /// A folder in a folder, made where it is not there.
    fn step_into(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Trouble> {
        match beneath::open_folder(parent, Path::new(name)) {
            Err(Errno::ENOENT) => {}
            opened => return Ok(opened?),
        }
        stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
        let folder = beneath::open_folder(parent, Path::new(name))?;
        // The umask has had its say.
        stat::fchmod(&folder, Mode::from_bits_truncate(0o755))?;
        self.give(&folder)?;
        self.layer.insert(stat::fstat(&folder)?.st_ino);
        Ok(folder)
    }

    fn clear_way(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), Trouble> {
        match look(parent, name)? {
            Some(found) => self.displace(parent, name, &found),
            None => Ok(()),
        }
    }

    /// Removes what an earlier layer made; what this archive made stays, and it has it twice.
    fn displace(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        found: &FileStat,
    ) -> Result<(), Trouble> {
        if self.shape == Shape::Files || self.layer.contains(&found.st_ino) {
            return Err(Fault::Duplicate.into());
        }
        self.last = None;
        Ok(remove::remove(parent.as_fd(), name)?)
    }

    fn give(&self, fd: impl AsFd) -> Result<(), Errno> {
        match self.give_to {
            Some((uid, gid)) => {
                nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            }
            None => Ok(()),
        }
    }
}

fn look(folder: &impl AsFd, name: &OsStr) -> Result<Option<FileStat>, Errno> {
    match beneath::stat_at(folder, name) {
        Err(Errno::ENOENT) => Ok(None),
        found => found.map(Some),
    }
}

fn errno_of(error: WorkspaceError) -> Errno {
    match error {
        WorkspaceError::Io { source, .. } => {
            source.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        }
        _ => Errno::EIO,
    }
}
