//! Makes a small repository out of files at hand.

use super::error::RepoError;
use super::fetch::bare;
use git2::{Repository, Signature, Time};
use std::collections::BTreeMap;
use std::path::Path;

/// A folder on the way down, or a file.
enum Node<'a> {
    File(&'a [u8]),
    Folder(BTreeMap<String, Node<'a>>),
}

/// Makes a bare repository at `dir` with one commit on `main` that holds `files`; gives the commit.
/// The same files give the same commit, on every machine and day.
pub fn lay_down(dir: &Path, files: &[(&str, &[u8])]) -> Result<String, RepoError> {
    super::set_up()?;
    let mut root = BTreeMap::new();
    for (path, content) in files {
        insert(&mut root, path, content)?;
    }
    let failed = |error: git2::Error| RepoError::git(&error);
    let repository = bare(dir)?;
    let tree = write(&repository, &root).map_err(failed)?;
    let tree = repository.find_tree(tree).map_err(failed)?;
    let author = Signature::new(
        "Fumehood",
        "fumehood@localhost.invalid",
        &Time::new(1_767_225_600, 0),
    )
    .map_err(failed)?;
    let commit = repository
        .commit(
            Some("refs/heads/main"),
            &author,
            &author,
            "Lay down the files\n",
            &tree,
            &[],
        )
        .map_err(failed)?;
    repository.set_head("refs/heads/main").map_err(failed)?;
    Ok(commit.to_string())
}

fn insert<'a>(
    folder: &mut BTreeMap<String, Node<'a>>,
    path: &str,
    content: &'a [u8],
) -> Result<(), RepoError> {
    let bad = |why: &str| RepoError::Into {
        path: path.into(),
        why: why.to_owned(),
    };
    let (name, rest) = match path.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    if let Some(why) = super::judge::bad_name(name.as_bytes()) {
        return Err(bad(why));
    }
    match rest {
        None => match folder.insert(name.to_owned(), Node::File(content)) {
            None => Ok(()),
            Some(_) => Err(bad("is there twice")),
        },
        Some(rest) => {
            let inner = folder
                .entry(name.to_owned())
                .or_insert_with(|| Node::Folder(BTreeMap::new()));
            match inner {
                Node::Folder(inner) => insert(inner, rest, content),
                Node::File(_) => Err(bad("is below a file")),
            }
        }
    }
}

fn write(
    repository: &Repository,
    folder: &BTreeMap<String, Node<'_>>,
) -> Result<git2::Oid, git2::Error> {
    let mut tree = repository.treebuilder(None)?;
    for (name, node) in folder {
        match node {
            Node::File(content) => tree.insert(name, repository.blob(content)?, 0o100_644)?,
            Node::Folder(inner) => tree.insert(name, write(repository, inner)?, 0o040_000)?,
        };
    }
    tree.write()
}
