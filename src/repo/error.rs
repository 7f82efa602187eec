//! What can go wrong with a clone, and what the user can do about it.

use crate::context::sanitise::visible;
use crate::policy::git_url::UrlError;
use nix::errno::Errno;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Text from servers and repositories is escaped where it enters a value of this type.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("{rev:?} does not name a branch, tag or commit: {why}")]
    Rev { rev: String, why: &'static str },
    #[error("a repository cannot be put at {path:?}: {why}")]
    Into { path: PathBuf, why: String },
    #[error("the permit was given under another policy")]
    OtherPolicy,
    #[error("{} exists already", path.display())]
    Taken { path: PathBuf },

    #[error("{host} cannot be reached: {why}")]
    Unreachable { host: String, why: String },
    #[error("{host} is at {address}, which is no public address")]
    PrivateAddress { host: String, address: IpAddr },
    #[error("{host} cannot be trusted: {why}")]
    Tls {
        host: String,
        why: String,
        ca_bundle: Option<PathBuf>,
    },
    #[error("the bundle of certificate authorities {} cannot be used: {why}", path.display())]
    CaBundle { path: PathBuf, why: String },
    #[error("the proxy {proxy:?} cannot be used: {why}")]
    Proxy { proxy: String, why: String },

    #[error("there is no repository at {url}: the server says 404")]
    NotFound { url: String },
    #[error("{url} does not exist or is private: the server asks for a login ({status})")]
    LoginWanted { url: String, status: u16 },
    #[error("{url}: the server answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} leads elsewhere, to \"{to}\": {why}")]
    Redirect {
        url: String,
        to: String,
        why: &'static str,
    },
    #[error("{url} does not answer like a git server: {why}")]
    NotGit { url: String, why: String },
    #[error("{url}: the server refuses: {why}")]
    Refused { url: String, why: String },
    #[error("{url} has no branch, tag or commit {rev:?}")]
    UnknownRev { url: String, rev: String },
    #[error("{url} holds no commit yet")]
    Empty { url: String },

    #[error("the repository is too big: {limit}")]
    TooBig { limit: Limit },
    #[error("{host} sent nothing for {seconds} s")]
    Stalled { host: String, seconds: u64 },
    #[error("the clone took longer than {seconds} s")]
    TooSlow { seconds: u64 },
    #[error("the clone was cancelled")]
    Cancelled,

    /// It holds something that no honest repository does.
    #[error("the repository is refused: \"{path}\" {why}")]
    Hostile { path: String, why: &'static str },
    #[error("the repository is damaged or not understood: {why}")]
    Damaged { why: String },
    #[error("no room for the repository: {why}")]
    DiskFull { why: String },
    /// A repository on this machine that is not taken as it is.
    #[error("the local repository {} cannot be used: {why}", path.display())]
    Local {
        path: PathBuf,
        why: String,
        remedy: &'static str,
    },
    #[error("failed to {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The bound that was passed, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    #[error("more than {0} bytes would come over the network")]
    Received(u64),
    #[error("its files hold more than {0} bytes")]
    Bytes(u64),
    #[error("it has more than {0} files and folders")]
    Files(u64),
    #[error("it has more than {0} objects")]
    Objects(u64),
    #[error("its objects unfold to more than {0} bytes")]
    Unfolded(u64),
    #[error("a file or another object in it is larger than {} MiB", .0 >> 20)]
    Object(u64),
    #[error("its list of branches and tags has more than {0} bytes")]
    Refs(u64),
    #[error("its folders are nested deeper than {0}")]
    Depth(u64),
    #[error("a path in it is longer than {0} bytes")]
    Path(u64),
}

impl Limit {
    /// The policy key that raises it, where there is one.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::Received(_) | Self::Bytes(_) | Self::Unfolded(_) => Some("max_bytes"),
            Self::Files(_) | Self::Objects(_) => Some("max_files"),
            Self::Object(_) | Self::Refs(_) | Self::Depth(_) | Self::Path(_) => None,
        }
    }
}

impl RepoError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// What libgit2 says, which may quote the other side. A full disk it tells in words only.
    pub(super) fn git(error: &git2::Error) -> Self {
        let full = Errno::ENOSPC.desc();
        if error.message().ends_with(full) {
            return Self::DiskFull {
                why: brief(error.message()),
            };
        }
        Self::Damaged {
            why: brief(error.message()),
        }
    }

    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Url(error) => Some(error.remedy()),
            Self::PrivateAddress { host, .. } => Some(format!(
                "if it is yours, list its URL in the policy: [git] remotes = [\"https://{host}/\"]"
            )),
            Self::Tls {
                ca_bundle: Some(bundle),
                ..
            } => Some(format!(
                "check that {} holds the authority that signs for it",
                bundle.display()
            )),
            Self::TooBig { limit } => Some(match limit.key() {
                Some(key) => format!("raise it in the policy: [git] {key}"),
                None => format!("no policy key raises this one; {BY_HAND}"),
            }),
            Self::LoginWanted { .. } => Some(format!(
                "private repositories are not supported in this version; {BY_HAND}"
            )),
            _ => self.fixed_remedy().map(str::to_owned),
        }
    }

    fn fixed_remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Rev { .. } => "give the name of a branch or tag, or all 40 digits of a commit",
            Self::Into { .. } => "name a folder inside the workspace, such as repos/name",
            Self::Taken { .. } => "choose another folder, or remove that one first",
            Self::Unreachable { .. } => {
                "check the name and the network; where a proxy is needed, set HTTPS_PROXY"
            }
            Self::Tls { .. } => {
                "where the network has a certificate authority of its own, set SSL_CERT_FILE to its bundle"
            }
            Self::CaBundle { .. } => "set SSL_CERT_FILE to a file of PEM certificates",
            Self::Proxy { .. } => "set HTTPS_PROXY to a URL like http://proxy.example:3128",
            Self::NotFound { .. } => "check the spelling of owner and name",
            Self::Redirect { .. } => "give the URL that it leads to, if you trust it",
            Self::NotGit { .. } => "give the URL that `git clone` takes",
            Self::UnknownRev { rev, .. } if is_short_id(rev) => {
                "a commit is named by all its 40 digits"
            }
            Self::UnknownRev { rev, .. } if rev == "HEAD" => {
                "it has no default branch: name a branch, tag or commit"
            }
            Self::UnknownRev { .. } => "leave it out for the default branch, or check its spelling",
            Self::Stalled { .. } | Self::TooSlow { .. } => {
                "try again later, or name a smaller branch"
            }
            Self::DiskFull { .. } => "free space on the disk, or set FUMEHOOD_HOME to another one",
            Self::Local { remedy, .. } => remedy,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free space on that disk"
                }
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// For what this version does not fetch itself.
const BY_HAND: &str = "clone it yourself and hand it in: --mount src=DIR,dst=/data/NAME";

pub(super) fn too_big(limit: Limit) -> RepoError {
    RepoError::TooBig { limit }
}

fn is_short_id(rev: &str) -> bool {
    (4..40).contains(&rev.len()) && rev.bytes().all(|b| b.is_ascii_hexdigit())
}

/// One printable line of bounded length.
pub(super) fn brief(text: &str) -> String {
    let mut out: String = visible(text.trim_end()).chars().take(300).collect();
    if out.len() == 300 {
        out.push_str("...");
    }
    out
}

/// A name or path as a tree spells it.
pub(super) fn brief_path(path: &[u8]) -> String {
    brief(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::{ErrorClass, ErrorCode};

    #[test]
    fn a_full_disk_is_no_damaged_repository() {
        let said = |message| {
            let error = git2::Error::new(ErrorCode::GenericError, ErrorClass::Os, message);
            RepoError::git(&error)
        };
        let full = said("failed to initialize repository: No space left on device");
        assert!(matches!(full, RepoError::DiskFull { .. }), "{full}");
        assert!(full.remedy().is_some_and(|text| text.contains("space")));
        let other = said("object not found");
        assert!(matches!(other, RepoError::Damaged { .. }), "{other}");
    }
}
