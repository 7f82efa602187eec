//! The folder itself: found fit, opened once, locked, and given to the user it is worked on as.
//!
//! ```text
//!   started by         DIR belongs to     works as
//!   an ordinary user   anyone             that user; DIR must be writable for them
//!   root               a user             that user
//!   root               root, empty        an unprivileged uid, and the folder is given to it
//!   root               root, not empty    refused, with the command that gives it away
//! ```
//!
//! The last: a sandbox never runs as root, and giving a tree of root's to another user behind its
//! back would be the greater surprise.

use super::before::Before;
use super::error::WorkspaceError;
use super::fit::{check_place, open_checked, quoted, resolve};
use super::lock::{self, FolderLock, Locked};
use super::traps::{self, Why};
use super::walk::{Descend, Kind, MAX_ENTRIES, Met, Stamp, Tree, Walk};
use crate::protocol::ids::RunId;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, Gid, Uid};
use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What opening a workspace depends on.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// `FUMEHOOD_HOME`: it exists. Locks are kept there, and it lies in no workspace.
    pub state: &'a Path,
    /// The user's home folder, where there is one.
    pub user_home: Option<&'a Path>,
    pub run: &'a RunId,
}

/// A folder of the host, as a mount needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
}

/// What was found before anything ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    /// `.git` and the like: to be mounted read-only over themselves.
    pub protected: Vec<Place>,
    /// Sockets, pipes and devices: to be covered, as somebody outside may be at the other end.
    pub doors: Vec<PathBuf>,
    /// Files with a second name outside of the workspace (hard links): a program that writes in them
    /// changes that other one too.
    pub shared: Vec<PathBuf>,
    /// What may not stay behind and came since an earlier run began here that was killed: from it, or
    /// from the user since. It is only told.
    pub left: Vec<(PathBuf, Why)>,
}

/// A locked workspace.
#[derive(Debug)]
pub struct Workspace {
    place: Place,
    fd: OwnedFd,
    /// Uid and gid of the folder when it was opened.
    owner: (u32, u32),
    /// What new files are given to, when root works for someone else.
    give_to: Option<(u32, u32)>,
    made_by_us: bool,
    /// Where hashes of a folder that outlives the run are kept.
    hashes: Option<PathBuf>,
    stock: Before,
    /// Where it is kept until the run has cleared up.
    stock_file: Option<PathBuf>,
    pub(super) stock_kept: std::sync::OnceLock<()>,
    /// Device and inode of what stays read-only.
    protected: HashSet<(u64, u64)>,
    _lock: FolderLock,
}

impl Workspace {
    /// The user's own folder, worked on in place.
    pub fn in_place(dir: &Path, opening: &Opening<'_>) -> Result<Self, WorkspaceError> {
        let path = resolve(dir)?;
        check_place(&path, opening)?;
        let mut workspace = Self::open(path, opening)?;
        let Place { device, inode, .. } = workspace.place;
        let beside = |end| Some(lock::path_beside(opening.state, device, inode, end));
        workspace.hashes = beside("hashes");
        workspace.stock_file = beside("stock");
        if !Uid::effective().is_root() {
            workspace.check_writable()?;
        }
        Ok(workspace)
    }

    /// A new folder in the run's own.
    pub fn fresh(run_dir: &Path, opening: &Opening<'_>) -> Result<Self, WorkspaceError> {
        let path = run_dir.join("workspace");
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(WorkspaceError::io("create", &path))?;
        let path = resolve(&path)?;
        Ok(Self {
            made_by_us: true,
            ..Self::open(path, opening)?
        })
    }

    fn open(path: PathBuf, opening: &Opening<'_>) -> Result<Self, WorkspaceError> {
        let (fd, stat) = open_checked(&path)?;
        let place = Place {
            path,
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        let lock = FolderLock::take(
            opening.state,
            &Locked {
                path: &place.path,
                folder: fd.as_fd(),
                device: place.device,
                inode: place.inode,
            },
            opening.run,
        )?;
        Ok(Self {
            place,
            fd,
            owner: (stat.st_uid, stat.st_gid),
            give_to: None,
            made_by_us: false,
            hashes: None,
            stock: Before::default(),
            stock_file: None,
            stock_kept: std::sync::OnceLock::new(),
            protected: HashSet::new(),
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Path, device and inode, as the mount must find them.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whose folder it was when it was opened: uid and gid.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// True for the folder of a run, false for the user's own.
    pub fn is_fresh(&self) -> bool {
        self.made_by_us
    }

    /// From now on everything in it is worked on as this user. Root gives an empty or new folder to
    /// them, and refuses one with something of another's in it.
    pub fn work_as(&mut self, uid: u32, gid: u32) -> Result<(), WorkspaceError> {
        if !Uid::effective().is_root() {
            return Ok(());
        }
        self.give_to = Some((uid, gid));
        if self.owner.0 == uid {
            return Ok(());
        }
        if !self.made_by_us && !self.is_empty()? {
            let (path, owner) = (self.path(), self.owner.0);
            return Err(WorkspaceError::unfit(
                path,
                format!(
                    "it belongs to uid {owner}, and the sandbox works as uid {uid}, never as root"
                ),
                format!(
                    "give it to a user of this machine, or: chown -R {uid}:{gid} {}",
                    quoted(path)
                ),
            ));
        }
        nix::unistd::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(WorkspaceError::io("change the owner of", self.path()))
    }

    /// Looks at what is there before anything runs: what stays read-only inside, and what is left alone
    /// at the end because it is the user's.
    pub fn take_stock(&mut self) -> Result<Stock, WorkspaceError> {
        let (tree, doors) = self.tree_and_doors()?;
        let left = self.left_by_the_killed(&tree);
        self.stock = Before::of(&tree);
        let protected = traps::protected(&self.place.path, &tree);
        self.protected = protected
            .iter()
            .map(|place| (place.device, place.inode))
            .collect();
        Ok(Stock {
            protected,
            doors,
            shared: traps::shared_outside(&tree),
            left,
        })
    }

    /// In one walk: the tree, without what lies in traps, and all doors, also those in a `.git`. They lead
    /// out of the sandbox, and read-only is no matter to them.
    fn tree_and_doors(&self) -> Result<(Tree, Vec<PathBuf>), WorkspaceError> {
        let (mut tree, mut doors) = (Tree::new(), Vec::new());
        self.walk(None).run(&mut |met| {
            let Met { path, node, .. } = met;
            if matches!(node.kind, Kind::Special(_)) {
                doors.push(self.place.path.join(&path));
            }
            if !path.parent().is_some_and(traps::is_in_trap) {
                tree.insert(path, node);
            }
            Ok(Descend::Into)
        })?;
        Ok((tree, doors))
    }

    /// Bytes on disk and number of files and folders; what has several names counts once in bytes.
    pub fn usage(&self) -> Result<(u64, u64), WorkspaceError> {
        let (mut bytes, mut files) = (0u64, 0u64);
        let mut seen = HashSet::new();
        self.walk(None).run(&mut |met| {
            files += 1;
            let stamp = &met.node.stamp;
            if stamp.links < 2 || seen.insert(stamp.identity()) {
                bytes = bytes.saturating_add(stamp.on_disk);
            }
            Ok(Descend::Into)
        })?;
        Ok((bytes, files))
    }

    pub(super) fn walk<'a>(&'a self, unlock: Option<&'a Before>) -> Walk<'a> {
        Walk {
            root: self.fd(),
            max: MAX_ENTRIES,
            unlock,
        }
    }

    pub(super) fn stock(&self) -> &Before {
        &self.stock
    }

    pub(super) fn is_protected(&self, stamp: &Stamp) -> bool {
        self.protected.contains(&stamp.identity())
    }

    pub(super) fn stock_path(&self) -> Option<&Path> {
        self.stock_file.as_deref()
    }

    pub(super) fn hashes_path(&self) -> Option<&Path> {
        self.hashes.as_deref()
    }

    /// The folder, open.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Gives something we made to whom the workspace is worked on as.
    pub(super) fn give(&self, fd: impl AsFd) -> nix::Result<()> {
        match self.give_to {
            Some((uid, gid)) => {
                nix::unistd::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            }
            None => Ok(()),
        }
    }

    /// Uid and gid that what we make is given to.
    pub(super) fn given_to(&self) -> Option<(u32, u32)> {
        self.give_to
    }

    fn is_empty(&self) -> Result<bool, WorkspaceError> {
        let mut entries =
            fs::read_dir(self.path()).map_err(WorkspaceError::io("read", self.path()))?;
        Ok(entries.next().is_none())
    }

    fn check_writable(&self) -> Result<(), WorkspaceError> {
        let want = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        nix::unistd::faccessat(&self.fd, ".", want, AtFlags::AT_EACCESS).map_err(|_| {
            let path = self.path();
            WorkspaceError::unfit(
                path,
                format!("uid {} may not write in it", Uid::effective()),
                "choose a folder of yours, or leave out --workspace for a fresh one",
            )
        })
    }
}

/// Makes the per-run home and gives it to that user.
pub fn make_home(run_dir: &Path, uid: u32, gid: u32) -> Result<Place, WorkspaceError> {
    let path = run_dir.join("home");
    DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .map_err(WorkspaceError::io("create", &path))?;
    let path = resolve(&path)?;
    let (fd, stat) = open_checked(&path)?;
    if Uid::effective().is_root() {
        nix::unistd::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(WorkspaceError::io("change the owner of", &path))?;
    }
    Ok(Place {
        path,
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

/// An empty file of the run's, to cover what a sandbox may not see.
pub fn make_blank(run_dir: &Path) -> Result<Place, WorkspaceError> {
    make_file(run_dir, "blank", "")
}

/// A file of the run's with certificate authorities, for a sandbox to read.
pub fn make_authorities(run_dir: &Path, certificates: &str) -> Result<Place, WorkspaceError> {
    make_file(run_dir, "authorities.pem", certificates)
}

/// Readable for everybody, for it is mounted for another user.
fn make_file(run_dir: &Path, name: &str, text: &str) -> Result<Place, WorkspaceError> {
    let path = resolve(run_dir)?.join(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&path)
        .map_err(WorkspaceError::io("create", &path))?;
    file.write_all(text.as_bytes())
        .map_err(WorkspaceError::io("write", &path))?;
    let found = file
        .metadata()
        .map_err(WorkspaceError::io("look at", &path))?;
    Ok(Place {
        path,
        device: found.dev(),
        inode: found.ino(),
    })
}
