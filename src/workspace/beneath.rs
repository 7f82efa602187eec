//! Paths beneath a root, reached by descriptor: no link is followed, nothing above is reachable,
//! whatever changes meanwhile.
//!
//! A [`Beneath`] is checked by its words; the kernel holds it at each use (`openat2` with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, or one component after the other where a container's
//! filter knows no `openat2`).

use super::error::WorkspaceError;
use crate::protocol::spec::WORKSPACE_TARGET;
use nix::errno::Errno;
use nix::fcntl::{self, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Longest path, in bytes: what programs can name at all.
pub(super) const MAX_PATH: usize = 4095;

/// A path that names something in the workspace, by its words: relative, without `.` and `..`. Empty
/// for the workspace itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Beneath(PathBuf);

impl Beneath {
    /// From what a person or a model wrote: relative to the workspace, or absolute as the sandbox
    /// sees it. `..` is resolved by words, which is exact where no link is followed.
    pub fn parse(given: &Path) -> Result<Self, WorkspaceError> {
        Self::resolve(Path::new(""), given)
    }

    /// The same, relative to `folder` of the workspace.
    pub(super) fn resolve(folder: &Path, given: &Path) -> Result<Self, WorkspaceError> {
        let wrong = |why| WorkspaceError::Path {
            path: given.to_owned(),
            why,
        };
        if given.as_os_str().as_bytes().contains(&0) {
            return Err(wrong("it holds a NUL byte"));
        }
        let (mut clean, rest) = match given.strip_prefix(WORKSPACE_TARGET) {
            Ok(rest) => (PathBuf::new(), rest),
            Err(_) if given.is_absolute() => return Err(wrong("it lies outside the workspace")),
            Err(_) => (folder.to_owned(), given),
        };
        for part in rest.components() {
            match part {
                Component::Normal(name) if name.len() > 255 => {
                    return Err(wrong("a name in it is longer than 255 bytes"));
                }
                Component::Normal(name) => clean.push(name),
                Component::CurDir => {}
                Component::ParentDir if clean.pop() => {}
                _ => return Err(wrong("it leads out of the workspace")),
            }
        }
        match clean.as_os_str().len() > MAX_PATH {
            true => Err(wrong("it is too long")),
            false => Ok(Self(clean)),
        }
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }
}

/// Opens something beneath `root` without following a link, at its end either.
pub(super) fn open(
    root: impl AsFd,
    path: &Path,
    flags: OFlag,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let named = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let how = OpenHow::new().flags(flags).mode(mode).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    match fcntl::openat2(&root, named, how) {
        // A filter that does not know the call answers so; the other way gives the true answer.
        Err(Errno::ENOSYS | Errno::EPERM) => by_component(root, named, flags, mode),
        opened => opened,
    }
}

fn by_component(root: impl AsFd, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = fcntl::openat(root, ".", folder, Mode::empty())?;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => std::ffi::OsStr::new("."),
            _ => return Err(Errno::EXDEV),
        };
        if parts.peek().is_none() {
            return fcntl::openat(&at, name, flags, mode);
        }
        at = match fcntl::openat(&at, name, folder, Mode::empty()) {
            // What `openat2` says of a link on the way.
            Err(Errno::ENOTDIR) if is_link(&at, name) => return Err(Errno::ELOOP),
            opened => opened?,
        };
    }
    Err(Errno::ENOENT)
}

fn is_link(folder: impl AsFd, name: &std::ffi::OsStr) -> bool {
    stat_at(folder, name).is_ok_and(|found| kind_of(&found) == SFlag::S_IFLNK)
}

/// A folder's own descriptor.
pub(super) fn open_folder(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    open(root, path, flags, Mode::empty())
}

/// Gives the owner all rights to a folder that is closed to us, which is ours.
pub(super) fn unlock(root: impl AsFd, path: &Path, mode: u32) -> Result<(), Errno> {
    let fd = open(
        root,
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    set_mode(&fd, mode | 0o700)
}

/// Changes the mode of what an `O_PATH` descriptor names, which `fchmod` does not do.
pub(super) fn set_mode(fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// What a name in a folder is; a link itself, not what it names.
pub(super) fn stat_at(
    folder: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
) -> Result<FileStat, Errno> {
    nix::sys::stat::fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
}

pub(super) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// A kind in words.
pub(super) fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFREG => "a file",
        SFlag::S_IFDIR => "a folder",
        SFlag::S_IFLNK => "a link",
        SFlag::S_IFIFO => "a named pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFBLK | SFlag::S_IFCHR => "a device",
        _ => "of an unknown kind",
    }
}

/// The folder that a path lies in, and its last name; `None` for the root.
pub(super) fn split(path: &Path) -> Option<(&Path, &std::ffi::OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::{self, File};
    use std::io::Read;

    fn parsed(text: &str) -> Option<String> {
        Beneath::parse(Path::new(text))
            .ok()
            .map(|path| path.as_path().display().to_string())
    }

    #[test]
    fn words_are_resolved_within_the_workspace() {
        for (given, wanted) in [
            ("a/b.py", "a/b.py"),
            ("./a//b/.", "a/b"),
            ("a/../b", "b"),
            ("/workspace/a", "a"),
            ("/workspace", ""),
            (".", ""),
            ("a/..", ""),
            ("…/ü", "…/ü"),
        ] {
            assert_eq!(parsed(given).as_deref(), Some(wanted), "{given}");
        }
    }

    #[test]
    fn words_that_lead_out_are_refused() {
        for given in [
            "..",
            "../x",
            "a/../../x",
            "/etc/passwd",
            "/workspace/../etc",
            "/workspacex/a",
            "/",
            "a\0b",
        ] {
            assert_eq!(parsed(given), None, "{given:?}");
        }
    }

    fn read(path: &Path, root: &OwnedFd, way: u8) -> Result<String, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match way {
            0 => open(root, path, flags, Mode::empty()),
            _ => by_component(root, path, flags, Mode::empty()),
        };
        let mut text = String::new();
        File::from(opened?).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn links_are_refused_wherever_they_are_on_the_way() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("real/deep")).unwrap();
        fs::write(at("real/deep/file"), "inside").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("out")).unwrap();
        std::os::unix::fs::symlink("real", at("in")).unwrap();
        std::os::unix::fs::symlink("real/deep/file", at("last")).unwrap();
        let root: OwnedFd = File::open(dir.path()).unwrap().into();
        for way in [0, 1] {
            assert_eq!(
                read(Path::new("real/deep/file"), &root, way).unwrap(),
                "inside"
            );
            for path in ["out/secret", "in/deep/file", "last"] {
                assert_eq!(
                    read(Path::new(path), &root, way),
                    Err(Errno::ELOOP),
                    "{path} {way}"
                );
            }
            assert_eq!(read(Path::new("../x"), &root, way), Err(Errno::EXDEV));
            assert_eq!(read(Path::new("real/x"), &root, way), Err(Errno::ENOENT));
        }
    }

    proptest! {
        #[test]
        fn no_words_name_anything_above(
            given in r"(/workspace)?(/|\.|\.\.|[a-c]|/\.\./|//){0,12}",
        ) {
            if let Ok(path) = Beneath::parse(Path::new(&given)) {
                let normal = path
                    .as_path()
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                prop_assert!(normal, "{given:?} gave {path:?}");
            }
        }
    }
}
