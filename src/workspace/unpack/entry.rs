//! What one entry of an archive may become. Pure: from what a header says to a verdict, or to the fault
//! for which nothing of the archive is kept.

use super::super::traps;
use crate::policy::unit;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest name of a file, and longest path: what programs can name at all.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4095;

/// Beginning of a name that takes away one of an earlier layer.
const HIDES: &[u8] = b".wh.";
/// The name that takes away everything of earlier layers in its folder.
const HIDES_ALL: &[u8] = b".wh..wh..opq";
/// Names that some builders keep their own accounts under.
const ACCOUNTS: &[u8] = b".wh..wh.";

/// What an archive is unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A workspace: files and folders. Who opens a link there opens it as themselves, so there is none.
    Files,
    /// The root of an image, layer upon layer. Links are kept as texts, as they mean something within
    /// that root; names that hide take away what earlier layers brought.
    Layers,
}

/// How deep folders may be nested.
pub(super) fn max_depth(shape: Shape) -> usize {
    match shape {
        Shape::Files => 32,
        Shape::Layers => 64,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    HardLink,
    Device,
    Pipe,
    /// Words about the whole archive, which name nothing.
    Words,
    Unknown,
}

/// What a header says of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// What a link names.
    pub(super) target: Option<&'a [u8]>,
}

/// What becomes of an entry. Paths are relative, of plain names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Folder {
        path: PathBuf,
        mode: u32,
    },
    File {
        path: PathBuf,
        mode: u32,
    },
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    HardLink {
        path: PathBuf,
        to: PathBuf,
    },
    /// Takes away what an earlier layer has at that path.
    Hide {
        path: PathBuf,
    },
    /// Takes away what earlier layers have in that folder.
    HideAll {
        folder: PathBuf,
    },
    LeaveOut {
        path: PathBuf,
        why: Left,
    },
    /// Nothing to do, and nothing to say.
    Pass,
}

/// Why an entry is left out of what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Link,
    HardLink,
    Device,
    Pipe,
    Unknown,
    Trap,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a link",
            Self::HardLink => "a second name of a file",
            Self::Device => "a device",
            Self::Pipe => "a named pipe",
            Self::Unknown => "of an unknown kind",
            Self::Trap => "programs outside the sandbox act upon that name",
        })
    }
}

/// Why nothing of an archive is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Absolute,
    Upward,
    Nul,
    NameTooLong,
    PathTooLong,
    TooDeep,
    NoName,
    Duplicate,
    NotAFolder,
    NoTarget,
    /// A second name of what this archive did not bring.
    Foreign,
    TooManyEntries(u64),
    TooManyBytes(u64),
    /// So many times what the archive itself holds.
    Ratio(u64),
    HeaderTooLong,
    Truncated,
    Damaged,
    Sparse,
    Packed(&'static str),
    DiskFull,
    /// By who asked for it.
    Interrupted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "its path is absolute",
            Self::Upward => "its path leads upward (..)",
            Self::Nul => "its path holds a NUL byte",
            Self::NameTooLong => "a name in its path is longer than 255 bytes",
            Self::PathTooLong => "its path is longer than 4095 bytes",
            Self::TooDeep => "it is nested too deep",
            Self::NoName => "it has no name",
            Self::Duplicate => "the archive has it twice",
            Self::NotAFolder => "a link or a file stands where a folder has to",
            Self::NoTarget => "it is a link to nothing",
            Self::Foreign => "it is a second name of what the archive did not bring",
            Self::HeaderTooLong => "its header is longer than any name",
            Self::Truncated => "the archive ends in the middle of it",
            Self::Damaged => "this is no tar archive, or a damaged one",
            Self::Sparse => "it is a sparse file in a form that is not read",
            Self::DiskFull => "the disk would be left with less than 1 GiB",
            Self::Interrupted => "it was interrupted",
            Self::TooManyEntries(max) => {
                return write!(f, "the archive has over {max} entries");
            }
            Self::TooManyBytes(max) => {
                return write!(f, "the archive unpacks to over {}", unit::size(*max));
            }
            Self::Ratio(times) => {
                return write!(f, "the archive unpacks to over {times} times its size");
            }
            Self::Packed(how) => return write!(f, "it is packed by {how}, which is not read"),
        })
    }
}

impl Fault {
    /// What the user can do about it, where there is something.
    pub fn remedy(self) -> Option<String> {
        Some(match self {
            Self::Packed("zip") => "unpack it yourself, and pack it as a .tar.gz".to_owned(),
            Self::Packed(how) => {
                format!("unpack it with {how} first: a .tar and a .tar.gz are read")
            }
            Self::Damaged | Self::Truncated => "look at it with `tar tvf`".to_owned(),
            Self::Absolute | Self::Upward => {
                "pack it with paths relative to one folder, as in `tar c -C DIR .`".to_owned()
            }
            Self::Sparse => "pack it without `--sparse`".to_owned(),
            Self::TooManyBytes(_) | Self::TooManyEntries(_) => {
                "where you trust it, allow more: workspace.size, workspace.inodes".to_owned()
            }
            Self::DiskFull => "free some space on that disk".to_owned(),
            _ => return None,
        })
    }
}

/// What becomes of an entry.
pub(super) fn judge(header: &Header<'_>, shape: Shape) -> Result<Verdict, Fault> {
    if header.kind == Kind::Words {
        return Ok(Verdict::Pass);
    }
    let path = relative(header.name, shape)?;
    let Some(name) = path.file_name() else {
        // The folder that everything lies in.
        return match header.kind {
            Kind::Folder => Ok(Verdict::Pass),
            _ => Err(Fault::NoName),
        };
    };
    match shape {
        Shape::Layers if name.as_bytes().starts_with(HIDES) => hiding(&path, name.as_bytes()),
        Shape::Files if traps::is_in_trap(&path) => Ok(Verdict::LeaveOut {
            path,
            why: Left::Trap,
        }),
        _ => made(header, path, shape),
    }
}

fn made(header: &Header<'_>, path: PathBuf, shape: Shape) -> Result<Verdict, Fault> {
    // No set-uid, set-gid or sticky bit, nothing that others may write.
    let mode = header.mode & 0o755;
    let why = match (header.kind, shape) {
        // How old programs wrote a folder.
        (Kind::File, _) if header.name.ends_with(b"/") => {
            return Ok(Verdict::Folder {
                path,
                mode: mode | 0o700,
            });
        }
        (Kind::File, _) => {
            return Ok(Verdict::File {
                path,
                mode: mode | 0o600,
            });
        }
        (Kind::Folder, _) => {
            return Ok(Verdict::Folder {
                path,
                mode: mode | 0o700,
            });
        }
        (Kind::Link, Shape::Layers) => {
            let target = link_text(header.target)?;
            return Ok(Verdict::Link { path, target });
        }
        (Kind::HardLink, Shape::Layers) => {
            let to = relative(header.target.unwrap_or_default(), shape)?;
            return match to.file_name() {
                Some(_) => Ok(Verdict::HardLink { path, to }),
                None => Err(Fault::NoTarget),
            };
        }
        (Kind::Link, Shape::Files) => Left::Link,
        (Kind::HardLink, Shape::Files) => Left::HardLink,
        (Kind::Device, _) => Left::Device,
        (Kind::Pipe, _) => Left::Pipe,
        (Kind::Words, _) => return Ok(Verdict::Pass),
        (Kind::Unknown, _) => Left::Unknown,
    };
    Ok(Verdict::LeaveOut { path, why })
}

fn hiding(path: &Path, name: &[u8]) -> Result<Verdict, Fault> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    if name == HIDES_ALL {
        return Ok(Verdict::HideAll { folder });
    }
    if name.starts_with(ACCOUNTS) {
        return Ok(Verdict::Pass);
    }
    match name.get(HIDES.len()..).unwrap_or_default() {
        b"" => Err(Fault::NoName),
        b"." | b".." => Err(Fault::Upward),
        hidden => Ok(Verdict::Hide {
            path: folder.join(OsStr::from_bytes(hidden)),
        }),
    }
}

/// Plain names, one below the other; empty for the folder itself.
fn relative(name: &[u8], shape: Shape) -> Result<PathBuf, Fault> {
    if name.is_empty() {
        return Err(Fault::NoName);
    }
    if name.contains(&0) {
        return Err(Fault::Nul);
    }
    if name.starts_with(b"/") {
        return Err(Fault::Absolute);
    }
    if name.len() > MAX_PATH {
        return Err(Fault::PathTooLong);
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Fault::Upward),
            long if long.len() > MAX_NAME => return Err(Fault::NameTooLong),
            plain => path.push(OsStr::from_bytes(plain)),
        }
        depth += 1;
    }
    match depth > max_depth(shape) {
        true => Err(Fault::TooDeep),
        false => Ok(path),
    }
}

/// A text and no more: nothing here follows it.
fn link_text(target: Option<&[u8]>) -> Result<PathBuf, Fault> {
    match target {
        None | Some(b"") => Err(Fault::NoTarget),
        Some(text) if text.contains(&0) => Err(Fault::Nul),
        Some(text) if text.len() > MAX_PATH => Err(Fault::PathTooLong),
        Some(text) => Ok(PathBuf::from(OsStr::from_bytes(text))),
    }
}
