//! A project's own policy: `.fumehood/policy.toml` in the folder that is worked on. It counts after
//! the user accepted these very bytes, and can only take away.
//!
//! ```text
//!                 no file      a file
//!   not accepted  -            does not count, and the user is told
//!   accepted      refused      the same bytes: counts; others: refused
//! ```
//!
//! Refused, not passed over: what changed may be the work of a program that ran there, and it would
//! have taken a restriction away. What was accepted is kept in Fumehood's state, never in the folder.

use super::AppError;
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::file::problem::PolicySource;
use crate::policy::origin::Level;
use crate::policy::permit::digest_of_bytes;
use crate::protocol::ids::Digest;
use crate::workspace::{Named, read_named};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where a project says what it wants to be held to, beneath its folder.
pub(super) const PROJECT_POLICY: &str = ".fumehood/policy.toml";

/// Largest policy file, in bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// What the user accepted about one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub folder: PathBuf,
    /// Of the file's bytes.
    pub sha256: Digest,
}

/// How a folder stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Project {
    /// It has no policy.
    Absent,
    /// It has one that nobody accepted.
    Unknown {
        path: PathBuf,
    },
    Accepted(PolicySource),
}

/// Looks at the policy of a folder.
///
/// # Errors
/// When what was accepted changed or went.
pub(super) fn project(config: &Config, folder: &Path) -> Result<Project, AppError> {
    let (folder, found) = read_named(folder, Path::new(PROJECT_POLICY), MAX_FILE)?;
    let path = folder.join(PROJECT_POLICY);
    let accepted = accepted(config, &folder)?;
    match (accepted, found) {
        (None, Named::Absent) => Ok(Project::Absent),
        (None, _) => Ok(Project::Unknown { path }),
        (Some(accepted), Named::Bytes(bytes)) if digest_of_bytes(&bytes) == accepted.sha256 => {
            let text = text(&path, bytes)?;
            Ok(Project::Accepted(source(&folder, text)))
        }
        (Some(_), found) => Err(AppError::ProjectChanged {
            what: match found {
                Named::Absent => "is gone",
                Named::Unfit(_) | Named::Bytes(_) => "is no longer what you accepted",
            },
            path,
        }),
    }
}

/// The policy of a folder as it lies there, accepted or not.
///
/// # Errors
/// When there is none that can be read.
pub fn project_source(folder: &Path) -> Result<PolicySource, AppError> {
    let (folder, found) = read_named(folder, Path::new(PROJECT_POLICY), MAX_FILE)?;
    let path = folder.join(PROJECT_POLICY);
    let why = match found {
        Named::Bytes(bytes) => return Ok(source(&folder, text(&path, bytes)?)),
        Named::Absent => "there is no such file",
        Named::Unfit(why) => why,
    };
    Err(AppError::PolicyFile {
        path,
        why: why.to_owned(),
    })
}

/// Lets these very bytes count in that folder. They were read with [`project_source`].
///
/// # Errors
/// When it cannot be kept.
pub fn trust(config: &Config, folder: &Path, source: &PolicySource) -> Result<Accepted, AppError> {
    let (folder, _) = read_named(folder, Path::new(PROJECT_POLICY), MAX_FILE)?;
    let accepted = Accepted {
        sha256: digest_of_bytes(source.text.as_bytes()),
        folder,
    };
    let path = place(config, &accepted.folder);
    keep(&path, &accepted).map_err(|source| AppError::Machine {
        what: "the folder of what you accepted",
        source,
    })?;
    Ok(accepted)
}

/// Takes it back; whether there was something to take back. The folder itself may be gone.
///
/// # Errors
/// When it cannot be forgotten.
pub fn distrust(config: &Config, folder: &Path) -> Result<bool, AppError> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    match fs::remove_file(place(config, &folder)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(AppError::Machine {
            what: "the folder of what you accepted",
            source,
        }),
    }
}

/// Everything that was accepted, by folder.
pub fn all_accepted(config: &Config) -> Vec<Accepted> {
    let mut all: Vec<Accepted> = fs::read_dir(config.state.join(FOLDER))
        .into_iter()
        .flatten()
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.ok()?.path()).ok()?).ok())
        .collect();
    all.sort_by(|a, b| a.folder.cmp(&b.folder));
    all
}

const FOLDER: &str = "accepted";

fn place(config: &Config, folder: &Path) -> PathBuf {
    let name = digest_of_bytes(folder.as_os_str().as_bytes());
    config.state.join(FOLDER).join(format!("{name}.json"))
}

/// A record that cannot be read is none that can be passed over.
fn accepted(config: &Config, folder: &Path) -> Result<Option<Accepted>, AppError> {
    let wrong = |source| AppError::Machine {
        what: "what you accepted about this folder",
        source,
    };
    let bytes = match fs::read(place(config, folder)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| wrong(io::Error::other(error)))
}

fn keep(path: &Path, accepted: &Accepted) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(&serde_json::to_vec(accepted)?)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, AppError> {
    String::from_utf8(bytes).map_err(|_| AppError::PolicyFile {
        path: path.to_owned(),
        why: "it is no UTF-8 text".to_owned(),
    })
}

fn source(folder: &Path, text: String) -> PolicySource {
    let path = folder.join(PROJECT_POLICY);
    PolicySource::new(visible(&path.to_string_lossy()), text)
        .of(Level::Project)
        .lying_in(folder)
}
