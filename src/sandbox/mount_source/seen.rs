//! Looking at a source: what it is, where it really is, and what is mounted in it.

use super::MountError;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device and an inode.
pub(super) type Identity = (u64, u64);

/// An opened source.
pub(super) struct Seen {
    /// Its own name, as the kernel has it.
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    /// Identities of itself and of every folder above it, in this order.
    pub(super) above: Vec<Identity>,
}

impl Seen {
    pub(super) fn open(path: &Path) -> Result<Self, MountError> {
        let failed = |source| MountError::Open {
            path: path.to_owned(),
            source,
        };
        let file = match open_without_links(path) {
            Err(Errno::ELOOP) => {
                return Err(MountError::Link {
                    path: path.to_owned(),
                    real: fs::canonicalize(path).ok(),
                });
            }
            opened => opened.map_err(|errno| failed(errno.into()))?,
        };
        let metadata = file.metadata().map_err(failed)?;
        if let Some(kind) = not_mountable(&metadata) {
            return Err(MountError::Kind {
                path: path.to_owned(),
                kind,
            });
        }
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
        let above = identities(&real);
        let identity = (metadata.dev(), metadata.ino());
        if above.first() != Some(&identity) {
            // Moved or replaced while we looked.
            return Err(failed(io::ErrorKind::NotFound.into()));
        }
        Ok(Self {
            path: real,
            identity,
            above,
        })
    }
}

/// Without `O_NOFOLLOW`: with it, a link in the last place would be opened itself.
fn open_without_links(path: &Path) -> nix::Result<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how).map(File::from)
}

fn not_mountable(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() || kind.is_file() => None,
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () => Some("something else"),
    }
}

pub(super) fn identity_of(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Of a path and of every folder above it.
pub(super) fn identities(path: &Path) -> Vec<Identity> {
    path.ancestors().map_while(identity_of).collect()
}

/// A mount takes along what is mounted beneath it: those are named, or left out.
pub(super) fn check_below(path: &Path) -> Result<(), MountError> {
    let table = fs::read("/proc/self/mountinfo").map_err(|source| MountError::Open {
        path: path.to_owned(),
        source,
    })?;
    match mount_points(&table).find(|point| point != path && point.starts_with(path)) {
        None => Ok(()),
        Some(below) => Err(MountError::Below {
            path: path.to_owned(),
            below,
        }),
    }
}

/// The fifth field of each line; blanks and the like are written as three octal digits.
pub(super) fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = rest
            .get(1..4)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = &rest[4..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}
