//! Which files of the workspace a command line names. Pure: argv and a snapshot in, paths out.
//!
//! A name is taken where it may be one: an argument, what follows `=` in it, a word of a command text,
//! a module after `-m`. Links are followed as the snapshot has them. Naming too much shows a file more
//! than needed; that a program opens what its argv does not name is no secret.

use super::artifacts::Artifacts;
use super::beneath::Beneath;
use super::snapshot::Snapshot;
use super::walk::Kind;
use crate::protocol::spec::WORKSPACE_TARGET;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Words that are looked up; no command line of people has more.
const MAX_WORDS: usize = 20_000;

/// Links followed in one name.
const MAX_HOPS: usize = 40;

/// True when argv names a file that the globs match: results of a run are not approved as code.
/// Also where there are more words than are looked up.
pub fn names_artifact(
    argv: &[Vec<u8>],
    cwd: &str,
    artifacts: &Artifacts,
    snapshot: &Snapshot,
) -> bool {
    let words = words(argv);
    words.len() >= MAX_WORDS
        || named(&words, cwd, snapshot)
            .iter()
            .any(|path| artifacts.matches(path))
}

/// The regular files that argv names.
pub(super) fn named_files(argv: &[Vec<u8>], cwd: &str, snapshot: &Snapshot) -> BTreeSet<PathBuf> {
    named(&words(argv), cwd, snapshot)
}

fn named(words: &BTreeSet<&[u8]>, cwd: &str, snapshot: &Snapshot) -> BTreeSet<PathBuf> {
    let folder = Path::new(cwd).strip_prefix(WORKSPACE_TARGET).ok();
    let mut files = BTreeSet::new();
    for word in words {
        for name in spellings(word) {
            let given = Path::new(OsStr::from_bytes(&name));
            let beneath = match folder {
                Some(folder) => Beneath::resolve(folder, given),
                // Elsewhere only a whole path names something of the workspace.
                None if given.is_absolute() => Beneath::parse(given),
                None => continue,
            };
            let Some(path) = beneath
                .ok()
                .and_then(|path| follow(path.as_path(), snapshot))
            else {
                continue;
            };
            match snapshot.get(&path).map(|entry| &entry.kind) {
                Some(Kind::File) => drop(files.insert(path)),
                // What `python FOLDER` runs.
                Some(Kind::Folder) => {
                    let main = path.join("__main__.py");
                    if let Some(main) = follow(&main, snapshot)
                        && snapshot.get(&main).is_some_and(|e| e.kind == Kind::File)
                    {
                        files.insert(main);
                    }
                }
                _ => {}
            }
        }
    }
    files
}

/// A word, and the files it means as a module.
fn spellings(word: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![word.to_vec()];
    let is_module = word
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte));
    if is_module && !word.is_empty() {
        let path: Vec<u8> = word
            .iter()
            .map(|byte| if *byte == b'.' { b'/' } else { *byte })
            .collect();
        for end in [".py", "/__main__.py", "/__init__.py"] {
            all.push([&path, end.as_bytes()].concat());
        }
    }
    all
}

/// Every text of argv that may be a name.
fn words(argv: &[Vec<u8>]) -> BTreeSet<&[u8]> {
    let mut words = BTreeSet::new();
    for argument in argv {
        let whole = argument.as_slice();
        let parts = whole.split(|byte| b" \t\r\n;|&()<>\"'`$=,:".contains(byte));
        let after_equals = whole
            .iter()
            .position(|byte| *byte == b'=')
            .map(|at| &whole[at + 1..]);
        for word in std::iter::once(whole).chain(after_equals).chain(parts) {
            if !word.is_empty() && word.len() <= 4096 && !word.contains(&0) {
                words.insert(word);
            }
            if words.len() >= MAX_WORDS {
                return words;
            }
        }
    }
    words
}

/// The path without links, as the snapshot has them; `None` for one that leads nowhere or out.
pub(super) fn follow(path: &Path, snapshot: &Snapshot) -> Option<PathBuf> {
    let mut rest: Vec<std::ffi::OsString> = path
        .iter()
        .rev()
        .map(std::borrow::ToOwned::to_owned)
        .collect();
    let mut clean = PathBuf::new();
    let mut hops = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            if !clean.pop() {
                return None;
            }
            continue;
        }
        let next = clean.join(&name);
        let Some(Kind::Link(target)) = snapshot.get(&next).map(|entry| &entry.kind) else {
            clean = next;
            continue;
        };
        hops += 1;
        if hops > MAX_HOPS {
            return None;
        }
        let target = match target.strip_prefix(WORKSPACE_TARGET) {
            Ok(within) => {
                clean = PathBuf::new();
                within
            }
            Err(_) if target.is_absolute() => return None,
            Err(_) => target.as_path(),
        };
        for part in target.components().rev() {
            match part {
                Component::Normal(name) => rest.push(name.to_owned()),
                Component::ParentDir => rest.push("..".into()),
                _ => {}
            }
        }
    }
    Some(clean)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
