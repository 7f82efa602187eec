//! A repository on this machine, listed as `file://…`: read where it lies, nothing is copied.
//!
//! ```text
//!   path beneath the listed folder ─▶ git folder ─┬─ HEAD, refs/…, packed-refs ─▶ commit
//!                                                 └─ objects/ ──────────────────▶ its tree
//! ```
//!
//! Only that is read. A repository that points elsewhere (alternates, a `.git` file, a worktree's
//! common folder, links) is refused; its settings, hooks and filters are not even opened.

use super::error::RepoError;
use super::fetch::{Found, Rev};
use super::objects::{self, commit_of, parse_id};
use crate::policy::git_url::{CheckedUrl, Listing};
use git2::{Odb, Oid};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Files by which a repository reads objects or references that lie elsewhere.
const ELSEWHERE: [&str; 4] = [
    "commondir",
    "gitdir",
    "objects/info/alternates",
    "objects/info/http-alternates",
];
/// References that lead to references.
const MAX_HOPS: usize = 5;
/// Bytes of a file that holds one reference, and of the one that holds all.
const MAX_REFERENCE: u64 = 4096;
const MAX_PACKED: u64 = 64 << 20;

/// A repository, open for reading.
pub(super) struct Local {
    path: PathBuf,
    /// The folder with objects and references: the repository itself, or its `.git`.
    folder: OwnedFd,
    pub(super) odb: Odb<'static>,
}

impl Local {
    /// Opens the repository that a `file:` URL names.
    pub(super) fn open(checked: &CheckedUrl) -> Result<Self, RepoError> {
        let path = path_of(checked.url())?;
        check_place(checked, &path)?;
        let git_folder = judge(&path)?;
        Ok(Self {
            folder: File::open(&git_folder)
                .map_err(RepoError::io("open", &git_folder))?
                .into(),
            odb: objects::open(&git_folder.join("objects"))?,
            path,
        })
    }

    /// Finds what `rev` means here.
    pub(super) fn find(&self, checked: &CheckedUrl, rev: &Rev) -> Result<Found, RepoError> {
        let found = match rev {
            Rev::Commit(id) => commit_of(&self.odb, *id).map(|commit| (commit, None)),
            Rev::Default => self.follow("HEAD")?,
            Rev::Name(name) => {
                let mut found = None;
                for candidate in Rev::candidates(name) {
                    found = self.follow(&candidate)?;
                    if found.is_some() {
                        break;
                    }
                }
                found
            }
        };
        let url = checked.as_str().to_owned();
        let (commit, reference) = found.ok_or_else(|| match rev {
            Rev::Default => RepoError::Empty { url },
            Rev::Name(_) | Rev::Commit(_) => RepoError::UnknownRev {
                url,
                rev: rev.to_string(),
            },
        })?;
        Ok(Found {
            commit,
            reference,
            whole_history: false,
        })
    }

    /// A reference's commit, and the name of the last reference on the way.
    fn follow(&self, name: &str) -> Result<Option<(Oid, Option<String>)>, RepoError> {
        let mut name = name.to_owned();
        for _ in 0..MAX_HOPS {
            let Some(content) = self.reference(&name)? else {
                return Ok(None);
            };
            let content = content.trim_ascii_end();
            if let Some(target) = content.strip_prefix(b"ref: ") {
                let target = String::from_utf8_lossy(target).into_owned();
                if !git2::Reference::is_valid_name(&target) {
                    return Ok(None);
                }
                name = target;
                continue;
            }
            let commit = parse_id(content).and_then(|id| commit_of(&self.odb, id));
            let reference = (name != "HEAD").then_some(name);
            return Ok(commit.map(|commit| (commit, reference)));
        }
        Ok(None)
    }

    /// What a reference holds: from its own file, else from the file of all.
    fn reference(&self, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        if let Some(content) = self.read(name, MAX_REFERENCE)? {
            return Ok(Some(content));
        }
        let packed = self.read("packed-refs", MAX_PACKED)?.unwrap_or_default();
        let line = packed.split(|&b| b == b'\n').find_map(|line| {
            let (id, found) = line.split_at_checked(40)?;
            (found.strip_prefix(b" ")? == name.as_bytes()).then(|| id.to_vec())
        });
        Ok(line)
    }

    /// A regular file beneath the folder, through no link.
    fn read(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, RepoError> {
        let refuse = |why: &str| {
            Err(local(
                &self.path,
                &format!("its {} {why}", super::error::brief(name)),
                "check it with `git fsck`",
            ))
        };
        let how = OpenHow::new()
            // A FIFO must not keep us waiting.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = match openat2(&self.folder, name, how) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG) => return Ok(None),
            Err(Errno::ELOOP) => return refuse("is a symbolic link"),
            Err(error) => return refuse(error.desc()),
        };
        let failed = RepoError::io("read", &self.path);
        match file.metadata() {
            Ok(meta) if meta.is_dir() => return Ok(None),
            Ok(meta) if !meta.is_file() => return refuse("is no plain file"),
            _ => {}
        }
        let mut content = Vec::new();
        file.take(max + 1)
            .read_to_end(&mut content)
            .map_err(failed)?;
        if content.len() as u64 > max {
            return refuse("is too big");
        }
        Ok(Some(content))
    }
}

fn path_of(url: &url::Url) -> Result<PathBuf, RepoError> {
    url.to_file_path().map_err(|()| {
        local(
            Path::new(url.as_str()),
            "its URL is not a path",
            "write it like file:///srv/repos/name",
        )
    })
}

/// The listed folder may be reached through links; what is beneath it may not.
fn check_place(checked: &CheckedUrl, path: &Path) -> Result<(), RepoError> {
    let Listing::Remote { prefix } = checked.listing() else {
        return Err(not_there(path));
    };
    let listed = url::Url::parse(prefix)
        .map_err(|_| not_there(path))
        .and_then(|url| path_of(&url))?;
    let below = path.strip_prefix(&listed).map_err(|_| not_there(path))?;
    let real = |path: &Path| path.canonicalize().map_err(|_| not_there(path));
    if real(path)? != real(&listed)?.join(below).components().collect::<PathBuf>() {
        return Err(local(
            path,
            "a part of the path is a symbolic link",
            "list and name the real path",
        ));
    }
    Ok(())
}

fn judge(path: &Path) -> Result<PathBuf, RepoError> {
    let inner = path.join(".git");
    let folder = match inner.symlink_metadata() {
        Ok(meta) if meta.is_dir() => inner,
        Ok(_) => {
            return Err(local(
                path,
                "its .git points elsewhere",
                "name the repository that it points to",
            ));
        }
        Err(_) => path.to_owned(),
    };
    for part in ["objects", "refs"] {
        match folder.join(part).symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(points_elsewhere(path)),
            Err(_) => return Err(not_there(path)),
        }
    }
    if ELSEWHERE
        .iter()
        .any(|part| folder.join(part).symlink_metadata().is_ok())
        || holds_links(&folder.join("objects"))
    {
        return Err(points_elsewhere(path));
    }
    Ok(folder)
}

fn holds_links(folder: &Path) -> bool {
    walkdir::WalkDir::new(folder)
        .max_depth(3)
        .into_iter()
        .flatten()
        .any(|entry| entry.path_is_symlink())
}

fn points_elsewhere(path: &Path) -> RepoError {
    local(
        path,
        "it reads objects or references that lie elsewhere",
        "make a full copy of it with `git clone --no-local`",
    )
}

fn not_there(path: &Path) -> RepoError {
    local(
        path,
        "there is no git repository",
        "check the path; the folder of the repository itself is named, or its .git",
    )
}

fn local(path: &Path, why: &str, remedy: &'static str) -> RepoError {
    RepoError::Local {
        path: path.to_owned(),
        why: why.to_owned(),
        remedy,
    }
}
