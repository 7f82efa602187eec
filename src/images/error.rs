//! What can go wrong with images, and what the user can do about it.

use crate::sandbox::backend::SandboxError;
use crate::workspace::WorkspaceError;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{name:?} is no name for an image: {why}")]
    Name { name: String, why: &'static str },
    #[error("{reference:?} does not say by a digest what is to be pulled")]
    NotPinned { reference: String },
    #[error("there is another image {name:?} here")]
    Taken { name: String },
    #[error("there is no image {name:?} here")]
    Unknown { name: String, known: Vec<String> },
    #[error("image {name} is {is} here, and {wanted} was asked for")]
    Moved {
        name: String,
        is: String,
        wanted: String,
    },
    #[error("image {name} is not unpacked here, and the namespace backend needs it to be")]
    NotUnpacked { name: String },
    #[error("a sandbox uses image {id}")]
    InUse { id: String },
    #[error("there is no recipe {name:?}")]
    NoRecipe { name: String },
    #[error("{name} begins with another image, and none was named")]
    NoBase { name: String },
    #[error("{what} failed: {why}")]
    Tool {
        what: &'static str,
        why: String,
        remedy: String,
    },
    #[error("failed to {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

impl ImageError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Name { .. } => Some("use a-z, 0-9, `.`, `_` and `-`, 63 at most".to_owned()),
            Self::NotPinned { .. } => Some(
                "write REPOSITORY@sha256:…, the digest that the registry's page (or `docker buildx imagetools inspect`) shows: a tag can move"
                    .to_owned(),
            ),
            Self::Taken { name } => Some(format!(
                "give it a name of its own with --name, or take that one away: `fumehood images remove {name}`"
            )),
            Self::Unknown { known, .. } if known.is_empty() => {
                Some("make one: `fumehood images build base`".to_owned())
            }
            Self::Unknown { known, .. } => Some(format!("there is {}", known.join(", "))),
            Self::Moved { name, .. } => Some(format!(
                "it was made anew: see `fumehood images show {name}`"
            )),
            Self::NotUnpacked { name } => Some(format!(
                "unpack it: `fumehood images import engine:{name} {name}`; or use --backend docker"
            )),
            Self::InUse { .. } => Some("end it first: see `fumehood runs list`".to_owned()),
            Self::NoRecipe { .. } => Some(format!("there is {}", super::recipe::NAMES.join(", "))),
            Self::NoBase { .. } => Some(
                "make it first with `fumehood images build base`, or name another with --base REF"
                    .to_owned(),
            ),
            Self::Tool { remedy, .. } => Some(remedy.clone()),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on that disk".to_owned())
            }
            Self::Io { .. } | Self::Damaged { .. } => None,
            Self::Workspace(error) => error.remedy(),
            Self::Sandbox(error) => error.remedy().map(str::to_owned),
        }
    }
}
