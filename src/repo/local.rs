//! A repository on this machine, listed as `file://…`: read where it lies, nothing is copied.
//!
//! Only what lies beneath the listed folder is read: a repository that points elsewhere (alternates, a
//! `.git` file, a worktree's common folder, links) is refused. Its hooks and filters never run.

use super::error::RepoError;
use super::fetch::{Found, Rev};
use crate::policy::git_url::CheckedUrl;
use git2::{ErrorCode, Repository, RepositoryOpenFlags};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Files by which a repository reads objects or references that lie elsewhere.
const ELSEWHERE: [&str; 4] = [
    "commondir",
    "gitdir",
    "objects/info/alternates",
    "objects/info/http-alternates",
];

/// Opens the repository that a `file:` URL names.
pub(super) fn open(checked: &CheckedUrl) -> Result<Repository, RepoError> {
    let path = path_of(checked)?;
    let git_dir = judge(&path)?;
    Repository::open_ext(
        &git_dir,
        RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_DOTGIT,
        &[] as &[&OsStr],
    )
    .map_err(|error| match error.code() {
        ErrorCode::Owner => local(
            &path,
            "it belongs to another user",
            "clone it as that user, make a copy of yours, or serve it over http on this machine",
        ),
        ErrorCode::NotFound => not_there(&path),
        _ => local(
            &path,
            &super::error::brief(error.message()),
            "check it with `git fsck`",
        ),
    })
}

/// Finds what `rev` means there.
pub(super) fn find(
    repository: &Repository,
    checked: &CheckedUrl,
    rev: &Rev,
) -> Result<Found, RepoError> {
    let url = checked.as_str().to_owned();
    let (commit, reference) = match rev {
        Rev::Commit(id) => (repository.find_commit(*id).ok().map(|c| c.id()), None),
        Rev::Default => {
            let head = repository.head().map_err(|_| RepoError::Empty { url })?;
            (peeled(&head), head.name().ok().map(ToOwned::to_owned))
        }
        Rev::Name(name) => Rev::candidates(name)
            .into_iter()
            .find_map(|candidate| {
                let reference = repository.find_reference(&candidate).ok()?;
                Some((peeled(&reference), Some(candidate)))
            })
            .unwrap_or_default(),
    };
    let unknown = || RepoError::UnknownRev {
        url: checked.as_str().to_owned(),
        rev: rev.to_string(),
    };
    Ok(Found {
        commit: commit.ok_or_else(unknown)?,
        reference,
        whole_history: false,
    })
}

fn peeled(reference: &git2::Reference<'_>) -> Option<git2::Oid> {
    reference.peel_to_commit().ok().map(|commit| commit.id())
}

fn path_of(checked: &CheckedUrl) -> Result<PathBuf, RepoError> {
    checked.url().to_file_path().map_err(|()| {
        local(
            Path::new(checked.as_str()),
            "its URL is not a path",
            "write it like file:///srv/repos/name",
        )
    })
}

/// The folder with objects and references: the repository itself, or its `.git`.
fn judge(path: &Path) -> Result<PathBuf, RepoError> {
    let real = path.canonicalize().map_err(|_| not_there(path))?;
    if real != path.components().collect::<PathBuf>() {
        return Err(local(
            path,
            "a part of the path is a symbolic link",
            "list and name the real path",
        ));
    }
    let inner = path.join(".git");
    let git_dir = match inner.symlink_metadata() {
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
    for part in ["objects", "refs", "HEAD"] {
        match git_dir.join(part).symlink_metadata() {
            Ok(meta) if !meta.is_symlink() => {}
            Ok(_) => return Err(points_elsewhere(path)),
            Err(_) => return Err(not_there(path)),
        }
    }
    if ELSEWHERE
        .iter()
        .any(|part| git_dir.join(part).symlink_metadata().is_ok())
    {
        return Err(points_elsewhere(path));
    }
    Ok(git_dir)
}

fn points_elsewhere(path: &Path) -> RepoError {
    local(
        path,
        "it reads objects that lie elsewhere",
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
