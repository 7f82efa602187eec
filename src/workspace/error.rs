//! What can go wrong with a workspace, and what the user or the model can do about it.

use super::unpack::Fault;
use crate::protocol::ids::RunId;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("failed to {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The folder is not fit to be one.
    #[error("{} cannot be a workspace: {why}", dir.display())]
    Unfit {
        dir: PathBuf,
        why: String,
        remedy: String,
    },
    /// The folder is not fit for results.
    #[error("results cannot go to {}: {why}", dir.display())]
    Results {
        dir: PathBuf,
        why: String,
        remedy: &'static str,
    },
    #[error("{} is in use by run {run}{}", dir.display(), by(*pid))]
    Busy {
        dir: PathBuf,
        run: RunId,
        pid: Option<u32>,
    },
    /// A path that leads out, or is none.
    #[error("path {:?}: {why}", path)]
    Path { path: PathBuf, why: &'static str },
    #[error("{} is {found}, not {wanted}", path.display())]
    Kind {
        path: PathBuf,
        found: &'static str,
        wanted: &'static str,
    },
    /// Names that programs outside the sandbox act upon.
    #[error("{} is protected: {name} stays as the user left it", path.display())]
    Protected { path: PathBuf, name: String },
    #[error("{} holds {bytes} bytes, over the bound of {max}", path.display())]
    TooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error("{} is not text (byte {at} is no UTF-8)", path.display())]
    NotText { path: PathBuf, at: usize },
    #[error("{}: the text to replace is not in it", path.display())]
    NoMatch {
        path: PathBuf,
        nearest: Option<Nearest>,
    },
    #[error("{}: the text to replace is in it {count} times", path.display())]
    ManyMatches { path: PathBuf, count: usize },
    #[error("{}: {why}", path.display())]
    BadEdit { path: PathBuf, why: &'static str },
    /// More than is ever looked at.
    #[error("the workspace holds over {max} files and folders")]
    TooMany { max: usize },
    /// Part of the code cannot be looked at, so nothing can be said about what would run.
    #[error("{} is nested too deep to be looked at", path.display())]
    TooDeep { path: PathBuf },
    /// Nothing of the archive is kept.
    #[error("{}{}: {fault}", archive.display(), in_it(entry))]
    Archive {
        archive: PathBuf,
        /// The entry, made visible; empty for the archive itself.
        entry: String,
        fault: Fault,
    },
    #[error("glob {glob:?}: {why}")]
    Glob { glob: String, why: String },
}

/// Where a text nearly is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// From 1.
    pub line: usize,
    pub text: String,
}

impl WorkspaceError {
    pub(super) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            what,
            path,
            source: source.into(),
        }
    }

    pub(super) fn unfit(dir: &Path, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unfit {
            dir: dir.to_owned(),
            why: why.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, of that archive.
    pub fn of_archive(self, path: &Path) -> Self {
        match self {
            Self::Archive { entry, fault, .. } => Self::Archive {
                archive: path.to_owned(),
                entry,
                fault,
            },
            other => other,
        }
    }

    /// What can be done about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Unfit { remedy, .. } => Some(remedy.clone()),
            Self::Results { remedy, .. } => Some((*remedy).to_owned()),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free space on that disk".to_owned())
                }
                io::ErrorKind::NotFound => Some("`list` shows what is there".to_owned()),
                _ => None,
            },
            Self::Busy { .. } => {
                Some("wait for that run to end, or work on another folder".to_owned())
            }
            Self::Path { .. } => {
                Some("give a path relative to the workspace, or one beneath /workspace".to_owned())
            }
            Self::NoMatch { nearest, .. } => Some(match nearest {
                Some(near) => format!("line {} comes closest: {}", near.line, near.text),
                None => "read the file and give the text exactly as it stands".to_owned(),
            }),
            Self::ManyMatches { .. } => {
                Some("give more of the lines around it, so that it is unique".to_owned())
            }
            Self::TooMany { .. } => Some("choose a smaller folder as the workspace".to_owned()),
            Self::TooDeep { path } => Some(format!("remove {}", path.display())),
            Self::TooLarge { .. } => Some("read a part of it with a command".to_owned()),
            Self::Archive { fault, .. } => fault.remedy(),
            Self::NotText { .. } => Some("look at it with a command".to_owned()),
            Self::Kind { .. }
            | Self::Protected { .. }
            | Self::BadEdit { .. }
            | Self::Glob { .. } => None,
        }
    }
}

fn in_it(entry: &str) -> String {
    match entry {
        "" => String::new(),
        entry => format!(", entry {entry}"),
    }
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
