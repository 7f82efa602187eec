//! Mounting by descriptor: detached copies, their flags, and where they are attached.
//!
//! A source is copied out of the tree first (`open_tree`), made private and read-only while nobody
//! can reach it, and attached (`move_mount`) to a target found beneath the new root without following
//! a link. So neither end is ever looked up twice by name. Needs Linux 5.12.

use super::failure::{At, Result};
use crate::wire::Stage;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path};

/// What a mount may be used for. Everything is nosuid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    ReadOnly,
    Writable,
    /// A device node.
    Device,
}

/// A copy of a mount that is attached nowhere yet.
pub(super) struct Detached {
    tree: OwnedFd,
    is_dir: bool,
}

/// Nothing that is mounted from here on is seen outside, and nothing outside here.
pub(super) fn make_private() -> Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .at(Stage::Namespaces, "make / private")
}

/// Opens what is at `path` in the present root, following no link on the way.
pub(super) fn open_source(path: &Path) -> nix::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how).map(File::from)
}

/// Copies what `source` refers to, with everything mounted beneath it, and sets its flags.
pub(super) fn detach(source: &File, allowed: Use) -> nix::Result<Detached> {
    let is_dir = source
        .metadata()
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?
        .is_dir();
    let tree = open_tree(
        source,
        libc::OPEN_TREE_CLONE
            | libc::OPEN_TREE_CLOEXEC
            | libc::AT_RECURSIVE as libc::c_uint
            | libc::AT_EMPTY_PATH as libc::c_uint,
    )?;
    let flags = match allowed {
        Use::ReadOnly => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
        Use::Writable => libc::MOUNT_ATTR_NODEV,
        Use::Device => libc::MOUNT_ATTR_NOEXEC,
    };
    set_flags(&tree, flags | libc::MOUNT_ATTR_NOSUID, libc::AT_RECURSIVE)?;
    Ok(Detached { tree, is_dir })
}

impl Detached {
    /// Attaches it at `target` beneath `root`, making the target where it is not there.
    pub(super) fn attach(self, root: &impl AsFd, target: &Path) -> nix::Result<()> {
        let target = make_target(root, target, self.is_dir)?;
        move_mount(&self.tree, &target)
    }

    /// Attaches it over what is at `target` beneath `root` already.
    pub(super) fn cover(self, root: &impl AsFd, target: &Path) -> nix::Result<()> {
        let target = open_beneath(root, target)?;
        move_mount(&self.tree, &target)
    }
}

/// A mount of a kind of its own (tmpfs, proc, devpts) at a path relative to the working directory.
pub(super) fn mount_new(
    kind: &str,
    target: &str,
    flags: MsFlags,
    options: &str,
) -> nix::Result<()> {
    mount(
        Some(kind),
        target,
        Some(kind),
        flags | MsFlags::MS_NOSUID,
        Some(options),
    )
}

/// Makes the one mount at `path` (relative to the working directory) read-only.
pub(super) fn seal(path: &CStr) -> nix::Result<()> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let fd = openat2(AT_FDCWD, path, how)?;
    set_flags(&fd, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, 0)
}

/// What is at `path` beneath `root`, reached over no link.
pub(super) fn open_beneath(root: &impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
    openat2(root, path, how)
}

/// Opens the mount point, making it and the folders above it.
fn make_target(root: &impl AsFd, target: &Path, is_dir: bool) -> nix::Result<OwnedFd> {
    let mut here = open_beneath(root, Path::new("."))?;
    let mut names = target
        .components()
        .filter(|component| *component != Component::RootDir)
        .peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else {
            return Err(Errno::EINVAL);
        };
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        let last = names.peek().is_none();
        here = step_into(&here, &name, is_dir || !last)?;
    }
    let found_dir = File::from(here.try_clone().map_err(|_| Errno::EMFILE)?)
        .metadata()
        .map_err(|_| Errno::EIO)?
        .is_dir();
    match (found_dir, is_dir) {
        (true, false) => Err(Errno::EISDIR),
        (false, true) => Err(Errno::ENOTDIR),
        _ => Ok(here),
    }
}

fn step_into(dir: &OwnedFd, name: &CStr, as_dir: bool) -> nix::Result<OwnedFd> {
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    match open_beneath(dir, path) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    if as_dir {
        mkdirat(dir, name, Mode::from_bits_truncate(0o755))?;
    } else {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(0o644))?;
    }
    open_beneath(dir, path)
}

/// Device and inode, as a mount was judged by.
pub(super) fn identity(file: &File) -> std::io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Major and minor number; `None` for what is no character device.
pub(super) fn character_device(file: &File) -> std::io::Result<Option<(u64, u64)>> {
    let metadata = file.metadata()?;
    let numbers = (
        nix::sys::stat::major(metadata.rdev()),
        nix::sys::stat::minor(metadata.rdev()),
    );
    Ok(metadata.file_type().is_char_device().then_some(numbers))
}

#[expect(unsafe_code, reason = "open_tree has no wrapper")]
fn open_tree(at: &impl AsFd, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: the path is an empty C string; a descriptor that comes back is owned by nobody else.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_open_tree,
            at.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        );
        Ok(OwnedFd::from_raw_fd(Errno::result(fd)? as i32))
    }
}

#[expect(unsafe_code, reason = "move_mount has no wrapper")]
fn move_mount(tree: &OwnedFd, target: &OwnedFd) -> nix::Result<()> {
    // SAFETY: both paths are empty C strings, both descriptors open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
fn set_flags(tree: &OwnedFd, set: u64, recursive: libc::c_int) -> nix::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string; `attributes` outlives the call, which only reads it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}
