//! Judges a tree before anything of it is written: names, kinds, depth, number and size.
//!
//! The outcome is a list of instructions that the writer follows, and notes on what was left out.
//! Trees are parsed here, byte by byte: what git's own tools would refuse to make is met as it is.

use super::error::{Limit, RepoError, brief, brief_path, too_big};
use super::objects::{MAX_FILE, MAX_TREE, read, size_of};
use super::report::{Listed, Note};
use crate::policy::gate::PROTECTED;
use crate::policy::model::GitPolicy;
use git2::{ObjectType, Odb, Oid};
use std::collections::HashSet;

/// Folders within folders.
const MAX_DEPTH: u64 = 64;
/// Bytes of a path below the repository's root.
const MAX_PATH: u64 = 2048;
/// Bytes of one name: what Linux file systems take.
const MAX_NAME: usize = 255;
/// Bytes of `.gitmodules` that are looked at.
const MAX_MODULES: u64 = 64 << 10;

/// One step of writing a tree out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Enter { name: Vec<u8> },
    File { name: Vec<u8>, id: Oid, mode: u32 },
    Leave,
}

/// A tree that may be written.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) steps: Vec<Step>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Everything in every tree, left out or not.
    entries: u64,
    symlinks: Listed,
    submodules: Listed,
    settings: Listed,
}

impl Judged {
    pub(super) fn notes(&self) -> Vec<Note> {
        [
            self.symlinks.clone().into_note(Note::Symlinks),
            self.submodules.clone().into_note(Note::Submodules),
            self.settings.clone().into_note(Note::Settings),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Walks the tree of `root`; `stop` is asked at every tree.
pub(super) fn judge(
    odb: &Odb<'_>,
    root: Oid,
    policy: &GitPolicy,
    stop: &dyn Fn() -> Result<(), RepoError>,
) -> Result<Judged, RepoError> {
    let mut judge = Judge {
        odb,
        policy,
        stop,
        modules: Vec::new(),
        path: Vec::new(),
        out: Judged::default(),
    };
    judge.tree(root, 0)?;
    Ok(judge.out)
}

struct Judge<'a> {
    odb: &'a Odb<'a>,
    policy: &'a GitPolicy,
    stop: &'a dyn Fn() -> Result<(), RepoError>,
    /// Path and URL of each submodule, as `.gitmodules` says.
    modules: Vec<(String, String)>,
    path: Vec<u8>,
    out: Judged,
}

impl Judge<'_> {
    fn tree(&mut self, id: Oid, depth: u64) -> Result<(), RepoError> {
        (self.stop)()?;
        if depth > MAX_DEPTH {
            return Err(too_big(Limit::Depth(MAX_DEPTH)));
        }
        let object = read(self.odb, id, ObjectType::Tree, MAX_TREE)?;
        let mut seen = HashSet::new();
        let mut rest = object.data();
        let entries: Vec<Entry<'_>> = std::iter::from_fn(|| next_entry(&mut rest))
            .collect::<Option<_>>()
            .ok_or_else(|| RepoError::Damaged {
                why: format!("the tree {id} does not parse"),
            })?;
        // Before going deeper: what is held on the way down stays within the bound, too.
        self.out.entries += entries.len() as u64;
        if self.out.entries > self.policy.max_files {
            return Err(too_big(Limit::Files(self.policy.max_files)));
        }
        for entry in &entries {
            let why = bad_name(entry.name)
                .or_else(|| (!seen.insert(entry.name)).then_some("is there twice"));
            if let Some(why) = why {
                let path = brief_path(&[self.path.as_slice(), entry.name].concat());
                return Err(RepoError::Hostile { path, why });
            }
        }
        if depth == 0 {
            self.read_modules(&entries);
        }
        for entry in &entries {
            let length = self.path.len();
            self.path.extend_from_slice(entry.name);
            if self.path.len() as u64 > MAX_PATH {
                return Err(too_big(Limit::Path(MAX_PATH)));
            }
            self.entry(entry, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    /// `self.path` ends in the entry's name.
    fn entry(&mut self, entry: &Entry<'_>, depth: u64) -> Result<(), RepoError> {
        if is_setting(entry.name) {
            self.out.settings.add(|| brief_path(&self.path));
            return Ok(());
        }
        match entry.mode {
            b"40000" | b"040000" => {
                self.out.steps.push(Step::Enter {
                    name: entry.name.to_vec(),
                });
                self.path.push(b'/');
                self.tree(entry.id, depth + 1)?;
                self.out.steps.push(Step::Leave);
                Ok(())
            }
            b"100644" | b"100664" | b"100755" => self.file(entry),
            b"120000" => {
                self.out.symlinks.add(|| brief_path(&self.path));
                Ok(())
            }
            b"160000" => {
                let path = brief_path(&self.path);
                let url = self.modules.iter().find(|(module, _)| *module == path);
                let text = match url {
                    Some((_, url)) => format!("{path} (from \"{url}\")"),
                    None => path,
                };
                self.out.submodules.add(|| text);
                Ok(())
            }
            _ => Err(RepoError::Hostile {
                path: brief_path(&self.path),
                why: "is of no kind that git knows",
            }),
        }
    }

    fn file(&mut self, entry: &Entry<'_>) -> Result<(), RepoError> {
        self.out.files += 1;
        let size = size_of(self.odb, entry.id, ObjectType::Blob)?;
        if size > MAX_FILE {
            return Err(too_big(Limit::Object(MAX_FILE)));
        }
        self.out.bytes = self.out.bytes.saturating_add(size);
        if self.out.bytes > self.policy.max_bytes {
            return Err(too_big(Limit::Bytes(self.policy.max_bytes)));
        }
        self.out.steps.push(Step::File {
            name: entry.name.to_vec(),
            id: entry.id,
            mode: if entry.mode == b"100755" {
                0o755
            } else {
                0o644
            },
        });
        Ok(())
    }

    /// For naming submodules only: a `.gitmodules` that cannot be read names nothing.
    fn read_modules(&mut self, entries: &[Entry<'_>]) {
        let Some(entry) = entries.iter().find(|e| e.name == b".gitmodules") else {
            return;
        };
        let Ok(object) = read(self.odb, entry.id, ObjectType::Blob, MAX_MODULES) else {
            return;
        };
        let mut path = None;
        let mut url = None;
        for line in String::from_utf8_lossy(object.data()).lines() {
            match line.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
                Some(("path", value)) => path = Some(brief(value)),
                Some(("url", value)) => url = Some(brief(value)),
                _ if line.trim_start().starts_with('[') => (path, url) = (None, None),
                _ => {}
            }
            if let (Some(path), Some(url)) = (&path, &url) {
                self.modules.push((path.clone(), url.clone()));
            }
        }
    }
}

struct Entry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    id: Oid,
}

/// `mode SP name NUL id`; `Some(None)` where that is not what comes next.
fn next_entry<'a>(rest: &mut &'a [u8]) -> Option<Option<Entry<'a>>> {
    if rest.is_empty() {
        return None;
    }
    let mut parse = || {
        let space = rest.iter().take(8).position(|&b| b == b' ')?;
        let nul = space + 1 + rest[space + 1..].iter().position(|&b| b == 0)?;
        let id = Oid::from_bytes(rest.get(nul + 1..nul + 21)?).ok()?;
        let entry = Entry {
            mode: &rest[..space],
            name: &rest[space + 1..nul],
            id,
        };
        *rest = &rest[nul + 21..];
        Some(entry)
    };
    Some(parse())
}

/// Why a name is never written, if it is not.
pub(super) fn bad_name(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        return Some("has an empty name");
    }
    if name == b"." || name == b".." {
        return Some("leads out of its folder");
    }
    if name.contains(&b'/') {
        return Some("has a slash in a name");
    }
    if name.len() > MAX_NAME {
        return Some("has a name of more than 255 bytes");
    }
    if String::from_utf8_lossy(name).chars().any(char::is_control) {
        return Some("has control characters in a name");
    }
    if is_dot_git(name) {
        return Some("is a `.git` within a repository, or looks like one to some file system");
    }
    None
}

/// `.git` as ext4, NTFS (case, trailing dots and spaces, streams, the short name) or HFS+ (characters
/// it ignores) read it: the workspace may be copied to any of them.
fn is_dot_git(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let heard: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'))
        .flat_map(char::to_lowercase)
        .collect();
    heard.split('\\').any(|part| {
        let part = part.split(':').next().unwrap_or(part);
        matches!(part.trim_end_matches(['.', ' ']), ".git" | "git~1")
    })
}

/// What editors and tools act on when a folder is opened or entered: a run's workspace may not keep new
/// ones.
fn is_setting(name: &[u8]) -> bool {
    PROTECTED
        .iter()
        .any(|protected| name.eq_ignore_ascii_case(protected.as_bytes()))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
