//! Reading objects, each bounded before it is unfolded. No repository is opened for it: settings,
//! hooks and references that lie beside the objects are not looked at.

use super::error::{Limit, RepoError, too_big};
use git2::{ObjectType, Odb, OdbObject, Oid};
use std::path::Path;

/// Bytes of one file: it is held in memory while it is written.
pub(super) const MAX_FILE: u64 = 128 << 20;
/// Bytes of one tree, commit or tag.
pub(super) const MAX_TREE: u64 = 16 << 20;
/// Tags of tags of tags.
const MAX_TAGS: usize = 8;

/// The objects in a repository's `objects` folder.
pub(super) fn open(folder: &Path) -> Result<Odb<'static>, RepoError> {
    let text = folder.to_str().ok_or_else(|| RepoError::Local {
        path: folder.to_owned(),
        why: "its path is not UTF-8".to_owned(),
        remedy: "move it to a folder with a plain name",
    })?;
    Odb::new()
        .and_then(|odb| odb.add_disk_alternate(text).map(|()| odb))
        .map_err(|error| RepoError::git(&error))
}

/// An object of this type and at most this size.
pub(super) fn read<'a>(
    odb: &'a Odb<'_>,
    id: Oid,
    kind: ObjectType,
    max: u64,
) -> Result<OdbObject<'a>, RepoError> {
    if size_of(odb, id, kind)? > max {
        return Err(too_big(Limit::Object(max)));
    }
    odb.read(id).map_err(|error| RepoError::git(&error))
}

pub(super) fn size_of(odb: &Odb<'_>, id: Oid, kind: ObjectType) -> Result<u64, RepoError> {
    let (size, found) = odb
        .read_header(id)
        .map_err(|error| RepoError::git(&error))?;
    if found != kind {
        return Err(RepoError::Damaged {
            why: format!("{id} is a {found} where a {kind} belongs"),
        });
    }
    Ok(size as u64)
}

/// The tree of a commit. Commits are parsed only as far as that.
pub(super) fn tree_of(odb: &Odb<'_>, commit: Oid) -> Result<Oid, RepoError> {
    let object = read(odb, commit, ObjectType::Commit, MAX_TREE)?;
    id_after(object.data(), b"tree ").ok_or_else(|| RepoError::Damaged {
        why: format!("the commit {commit} does not parse"),
    })
}

/// The commit that an id is or that a tag of it leads to; `None` for anything else.
pub(super) fn commit_of(odb: &Odb<'_>, mut id: Oid) -> Option<Oid> {
    for _ in 0..MAX_TAGS {
        match odb.read_header(id).ok()?.1 {
            ObjectType::Commit => return Some(id),
            ObjectType::Tag => {
                let tag = read(odb, id, ObjectType::Tag, MAX_TREE).ok()?;
                id = id_after(tag.data(), b"object ")?;
            }
            _ => return None,
        }
    }
    None
}

fn id_after(data: &[u8], word: &[u8]) -> Option<Oid> {
    parse_id(data.strip_prefix(word)?.get(..40)?)
}

/// Forty digits.
pub(super) fn parse_id(text: &[u8]) -> Option<Oid> {
    let text = std::str::from_utf8(text).ok()?;
    (text.len() == 40).then(|| Oid::from_str(text).ok())?
}
