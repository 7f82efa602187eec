//! One small file of a folder that nobody works on yet: read by descriptor, no link followed.

use super::beneath;
use super::error::WorkspaceError;
use super::fit::{open_checked, resolve};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a name in a folder came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Absent,
    /// A link, a pipe, something too large: why it is no file to read.
    Unfit(&'static str),
    Bytes(Vec<u8>),
}

/// Reads a regular file beneath a folder, of at most `max` bytes. Gives the folder's path without
/// links as well.
///
/// # Errors
/// When there is no such folder, or it cannot be looked at.
pub fn read_named(dir: &Path, name: &Path, max: u64) -> Result<(PathBuf, Named), WorkspaceError> {
    let dir = resolve(dir)?;
    let (folder, _) = open_checked(&dir)?;
    let path = dir.join(name);
    // A pipe without a writer would hold up the opening of it.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let fd = match beneath::open(&folder, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok((dir, Named::Absent)),
        Err(Errno::ELOOP) => return Ok((dir, Named::Unfit("a link"))),
        Err(Errno::ENXIO) => return Ok((dir, Named::Unfit("a socket or a pipe"))),
        Err(error) => return Err(WorkspaceError::io("open", &path)(error)),
    };
    let stat = fstat(&fd).map_err(WorkspaceError::io("look at", &path))?;
    let kind = beneath::kind_of(&stat);
    if kind != SFlag::S_IFREG {
        return Ok((dir, Named::Unfit(beneath::kind_name(kind))));
    }
    let mut bytes = Vec::new();
    File::from(fd)
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(WorkspaceError::io("read", &path))?;
    Ok(match bytes.len() as u64 > max {
        true => (dir, Named::Unfit("too large")),
        false => (dir, Named::Bytes(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_whatever_else_bears_the_name_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let look = |name: &str| read_named(dir.path(), Path::new(name), 4).unwrap().1;
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/f"), "text").unwrap();
        std::fs::write(dir.path().join("a/large"), "texts").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("a/g")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("a/pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(look("a/f"), Named::Bytes(b"text".to_vec()));
        assert_eq!(look("a/none"), Named::Absent);
        assert_eq!(look("none/f"), Named::Absent);
        for name in ["a/large", "b/f", "a/g", "a/pipe", "a"] {
            assert!(matches!(look(name), Named::Unfit(_)), "{name}");
        }
        assert!(read_named(&dir.path().join("none"), Path::new("f"), 4).is_err());
    }
}
