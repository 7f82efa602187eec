//! Judges what is to be mounted from the host: one more window into the machine, so the list of what
//! never goes in is code and not configuration.
//!
//! ```text
//!   path ─ open, over no link ─ what is it ─ where is it really ─ whose is that place ─▶ Mount
//!          (openat2)            (fstat)      (its own name)       (device and inode of every
//!                                                                  folder above and of what is denied)
//! ```
//!
//! Places are compared by identity, so that another name for `/etc` is still `/etc`. The answer holds
//! the device and inode that were judged; a backend mounts nothing else.

mod seen;

use super::plan::Source;
use crate::policy::model::PolicyMount;
use crate::policy::names::{self, TargetError};
use crate::protocol::spec::{Access, Mount, MountKind};
use seen::{Seen, check_below, identities, identity_of};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Denied with everything in them.
const SYSTEM: [&str; 6] = ["/proc", "/sys", "/dev", "/etc", "/boot", "/run"];

/// Denied as a whole; a folder in them may be named.
const WHOLE: [&str; 6] = ["/", "/var", "/usr", "/home", "/root", "/var/lib"];

/// Entries of a home that hold keys, tokens and sessions: not even an interpreter is taken from there.
const SECRETS: [&str; 18] = [
    ".aws",
    ".azure",
    ".bash_history",
    ".config",
    ".docker",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".huggingface",
    ".kaggle",
    ".kube",
    ".mozilla",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pki",
    ".pypirc",
    ".ssh",
];

/// Entries of a home, hidden and yet only data: read-only.
const CACHES: [&str; 7] = [
    ".cache/huggingface/hub",
    ".cache/huggingface/datasets",
    ".cache/torch",
    ".cache/kagglehub/datasets",
    ".cache/kagglehub/models",
    ".keras/datasets",
    ".keras/models",
];

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    pub source: PathBuf,
    pub target: PathBuf,
    pub access: Access,
}

/// Why something is not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("--mount {spec:?}: {why}")]
    Syntax { spec: String, why: &'static str },
    #[error("mount of {path}: {error}")]
    Target { path: PathBuf, error: TargetError },
    #[error("mount of {path}: there is a link on the way")]
    Link {
        path: PathBuf,
        real: Option<PathBuf>,
    },
    #[error("mount of {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("mount of {path}: it is {kind}, and only files and folders can be mounted")]
    Kind { path: PathBuf, kind: &'static str },
    #[error("mount of {path}: {denied} never goes into a sandbox")]
    Denied { path: PathBuf, denied: PathBuf },
    #[error("mount of {path}: {held} is in it, which never goes into a sandbox")]
    Holds { path: PathBuf, held: PathBuf },
    #[error("mount of {path}: hidden folders of a home never go into a sandbox")]
    Hidden { path: PathBuf },
    #[error("mount of {path}: a cache that other programs use is never writable in a sandbox")]
    WritableCache { path: PathBuf },
    #[error("mount of {path}: another file system is mounted in it, at {below}")]
    Below { path: PathBuf, below: PathBuf },
}

impl MountError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Syntax { .. } => "write src=PATH,dst=/data/NAME or src=PATH,dst=/data/NAME,rw".to_owned(),
            Self::Target { error, .. } => error.remedy().to_owned(),
            Self::Link { real: Some(real), .. } => format!("name the real place: {}", real.display()),
            Self::Link { real: None, .. } => "name a path without links".to_owned(),
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "check the path; a relative one starts at the folder of the policy, or at the present one if it was typed".to_owned()
            }
            Self::Open { .. } => "check the path and its permissions".to_owned(),
            Self::Kind { .. } => "name the folder that holds the data".to_owned(),
            Self::Denied { .. } | Self::Hidden { .. } => {
                "copy what is needed into a folder of its own, and mount that".to_owned()
            }
            Self::Holds { .. } => "name the folder that is needed, not one that holds everything".to_owned(),
            Self::WritableCache { .. } => "leave out rw: it is read in place".to_owned(),
            Self::Below { below, .. } => format!("mount {} by name, or what lies beside it", below.display()),
        }
    }
}

impl MountRequest {
    /// Reads `src=PATH,dst=PATH[,rw]`.
    pub fn parse(spec: &str) -> Result<Self, MountError> {
        let wrong = |why| MountError::Syntax {
            spec: spec.to_owned(),
            why,
        };
        let (mut source, mut target, mut access) = (None, None, None);
        for part in spec.split(',') {
            let fresh = match part.split_once('=') {
                Some(("src" | "source", path)) => source.replace(path).is_none(),
                Some(("dst" | "target", path)) => target.replace(path).is_none(),
                None if part == "rw" => access.replace(Access::ReadWrite).is_none(),
                None if part == "ro" => access.replace(Access::ReadOnly).is_none(),
                _ => {
                    return Err(wrong(
                        "its parts are src=, dst= and rw, with commas between",
                    ));
                }
            };
            if !fresh {
                return Err(wrong("a part is there twice"));
            }
        }
        let path = |part: Option<&str>, why| {
            part.filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .ok_or(wrong(why))
        };
        Ok(Self {
            source: path(source, "src= is missing")?,
            target: path(target, "dst= is missing")?,
            access: access.unwrap_or(Access::ReadOnly),
        })
    }
}

impl From<&PolicyMount> for MountRequest {
    fn from(mount: &PolicyMount) -> Self {
        Self {
            source: PathBuf::from(&mount.source),
            target: PathBuf::from(&mount.target),
            access: mount.access,
        }
    }
}

/// How much of a denied place is denied, besides every folder that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Itself,
    Everything,
}

/// Knows what never goes in.
#[derive(Debug)]
pub struct MountJudge {
    denied: Vec<(PathBuf, Reach)>,
    homes: Vec<PathBuf>,
}

impl MountJudge {
    /// `user_home` is the user's; `state` is this tool's own folder.
    pub fn new(user_home: &Path, state: &Path) -> Self {
        let homes = homes(user_home);
        let mut denied: Vec<(PathBuf, Reach)> = SYSTEM
            .iter()
            .map(|path| (PathBuf::from(path), Reach::Everything))
            .chain(
                WHOLE
                    .iter()
                    .map(|path| (PathBuf::from(path), Reach::Itself)),
            )
            .collect();
        denied.push((state.to_owned(), Reach::Everything));
        for home in &homes {
            denied.push((home.clone(), Reach::Itself));
            denied.extend(
                SECRETS
                    .iter()
                    .map(|name| (home.join(name), Reach::Everything)),
            );
        }
        Self { denied, homes }
    }

    /// Judges a request; a relative source starts at `base`.
    pub fn judge(&self, request: &MountRequest, base: &Path) -> Result<Mount, MountError> {
        names::check_target(&request.target).map_err(|error| MountError::Target {
            path: request.source.clone(),
            error,
        })?;
        let seen = Seen::open(&base.join(&request.source))?;
        self.check_hidden(&seen, request.access)?;
        self.check_places(&seen)?;
        check_below(&seen.path)?;
        Ok(Mount {
            kind: MountKind::Input,
            source: seen.path,
            target: request.target.clone(),
            access: request.access,
            device: seen.identity.0,
            inode: seen.identity.1,
        })
    }

    /// Judges a Python environment's folder, which may lie in a hidden folder (`~/.pyenv`,
    /// `~/.local/share/uv`) but in none of those with secrets. It is always mounted read-only.
    pub(super) fn judge_environment(&self, path: &Path) -> Result<Source, MountError> {
        let seen = Seen::open(path)?;
        self.check_places(&seen)?;
        check_below(&seen.path)?;
        Ok(Source {
            path: seen.path,
            device: seen.identity.0,
            inode: seen.identity.1,
        })
    }

    /// The entry of a home through which something is reached must not be hidden, caches apart.
    fn check_hidden(&self, seen: &Seen, access: Access) -> Result<(), MountError> {
        for home in &self.homes {
            let Some(home_identity) = identity_of(home) else {
                continue;
            };
            // From the thing itself upwards: the name below the home.
            let Some(place) = seen.above.iter().position(|&one| one == home_identity) else {
                continue;
            };
            let Some(entry) = place
                .checked_sub(1)
                .and_then(|n| seen.path.ancestors().nth(n))
            else {
                continue;
            };
            let hidden = entry
                .file_name()
                .is_some_and(|name| name.as_bytes().starts_with(b"."));
            if !hidden {
                continue;
            }
            let cache = CACHES
                .iter()
                .filter_map(|cache| identity_of(&home.join(cache)))
                .any(|cache| seen.above.contains(&cache));
            match (cache, access) {
                (false, _) => {
                    return Err(MountError::Hidden {
                        path: seen.path.clone(),
                    });
                }
                (true, Access::ReadWrite) => {
                    return Err(MountError::WritableCache {
                        path: seen.path.clone(),
                    });
                }
                (true, Access::ReadOnly) => {}
            }
        }
        Ok(())
    }

    fn check_places(&self, seen: &Seen) -> Result<(), MountError> {
        for (denied, reach) in &self.denied {
            let Ok(real) = fs::canonicalize(denied) else {
                continue;
            };
            let chain = identities(&real);
            let Some(&own) = chain.first() else {
                continue;
            };
            let within = *reach == Reach::Everything && seen.above.contains(&own);
            if own == seen.identity || within {
                return Err(MountError::Denied {
                    path: seen.path.clone(),
                    denied: denied.clone(),
                });
            }
            if chain.contains(&seen.identity) {
                return Err(MountError::Holds {
                    path: seen.path.clone(),
                    held: denied.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The user's, root's, and everybody's beneath `/home`.
fn homes(user_home: &Path) -> Vec<PathBuf> {
    let mut homes = vec![user_home.to_owned(), PathBuf::from("/root")];
    if let Ok(entries) = fs::read_dir("/home") {
        homes.extend(entries.flatten().map(|entry| entry.path()));
    }
    homes.retain(|home| home != Path::new("/"));
    homes.dedup();
    homes
}

#[cfg(test)]
#[path = "mount_source_tests.rs"]
mod tests;
