//! What can go wrong between a client and a holder, and what the user can do about it.

use crate::context::sanitise::visible;
use crate::protocol::ids::RunId;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    #[error(
        "{given:?} cannot be a box's name: it is made of a-z, 0-9, - and _, begins with a letter or a digit, and has at most 40 characters"
    )]
    Name { given: String },
    #[error("there is a box {name} already, run {run}")]
    Taken { name: String, run: RunId },
    #[error("there is no box {name}")]
    NoSuchBox { name: String },
    /// Its holder ended, and not in order.
    #[error("box {name} is gone: its holder ended without closing it (run {run})")]
    Gone { name: String, run: RunId },
    #[error("failed to {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The socket is there and its holder is not.
    #[error("no holder answers at {}", path.display())]
    NoAnswer {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the holder ended in the middle of it")]
    Lost,
    #[error("the holder said something that makes no sense: {what}")]
    Nonsense { what: String },
    /// The holder's own words.
    #[error("{why}")]
    Refused { why: String, remedy: Option<String> },
    #[error("{why}")]
    Denied { why: String },
    #[error("{} changed while it was sent; nothing was written", path.display())]
    Changed { path: PathBuf },
    #[error("{} is {found}, not a file", path.display())]
    NotAFile { path: PathBuf, found: &'static str },
}

impl HolderError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Name { .. } => Some("leave out --name, and one is made".to_owned()),
            Self::Taken { name, .. } => Some(format!(
                "choose another name, or close it: fumehood box close {name}"
            )),
            Self::NoSuchBox { .. } => Some("`fumehood box list` names them".to_owned()),
            Self::Gone { run, .. } => Some(format!(
                "open a new one; `fumehood runs show {run}` says what it did"
            )),
            Self::NoAnswer { .. } | Self::Lost => {
                Some("`fumehood box list` says which boxes there are".to_owned())
            }
            Self::Nonsense { .. } => {
                Some("it may be of another version: close the box and open a new one".to_owned())
            }
            Self::Refused { remedy, .. } => remedy.clone(),
            Self::NotAFile {
                found: "a folder", ..
            } => Some(
                "a folder goes as an archive: tar c DIR | fumehood box exec NAME -- tar x"
                    .to_owned(),
            ),
            Self::Io { .. }
            | Self::Denied { .. }
            | Self::Changed { .. }
            | Self::NotAFile { .. } => None,
        }
    }

    /// With what is beneath it, on one line, for another process.
    pub(super) fn told(&self) -> String {
        let mut text = self.to_string();
        let mut below = std::error::Error::source(self);
        while let Some(cause) = below {
            text.push_str(&format!(": {cause}"));
            below = cause.source();
        }
        visible(&text)
    }
}
