//! What programs outside the sandbox act upon when they merely look at a folder, and what else may not
//! stay behind. Pure: what was there, what is there now, what to do about it.
//!
//! | left behind | who would act on it | what happens |
//! |---|---|---|
//! | a new `.git`, `.hg`, `.envrc`, `.vscode`, `.idea`, `.claude`, `.fumehood`; a bare repository | git, direnv, editors | moved |
//! | a link that leads out | whoever opens it, as themselves | moved |
//! | a named pipe, socket, device | whoever opens it | moved |
//! | a set-uid or set-gid file | whoever runs it | the bits are taken off |
//! | folders nested too deep to be named | whoever walks the tree | moved |
//!
//! What was there before the run, and is the very same, stays.

use super::before::Before;
use super::place::Place;
use super::walk::{Kind, Node, Tree};
use crate::policy::gate::PROTECTED;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Names that stay read-only inside, and may not appear.
pub(super) fn is_trap_name(name: &OsStr) -> bool {
    PROTECTED.iter().any(|trap| name == OsStr::new(trap))
}

pub(super) fn is_trap(path: &Path) -> bool {
    path.file_name().is_some_and(is_trap_name)
}

/// Whether a folder is a trap, or lies in one.
pub(super) fn is_in_trap(folder: &Path) -> bool {
    folder.iter().any(is_trap_name)
}

/// Why something may not stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Trap,
    BareRepository,
    LinkOut,
    Special(&'static str),
    SetId,
    TooDeep,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "programs outside the sandbox act upon that name",
            Self::BareRepository => "git would act upon it as a repository",
            Self::LinkOut => "a link that leads out of the workspace",
            Self::Special(kind) => kind,
            Self::SetId => "a set-uid or set-gid file; the bits were taken off",
            Self::TooDeep => "nested too deep",
        })
    }
}

/// Something that may not stay as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) path: PathBuf,
    pub(super) why: Why,
}

/// What is there and stays read-only in the sandbox: topmost ones only, as what they hold is theirs.
pub(super) fn protected(root: &Path, tree: &Tree) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut last: Option<PathBuf> = None;
    for (path, node) in tree {
        if last.as_ref().is_some_and(|top| path.starts_with(top)) {
            continue;
        }
        let mountable = matches!(node.kind, Kind::File | Kind::Folder | Kind::Closed);
        if mountable && is_trap_in(path, node, tree) {
            last = Some(path.clone());
            places.push(Place {
                path: root.join(path),
                device: node.stamp.device,
                inode: node.stamp.inode,
            });
        }
    }
    places
}

/// Files that share their bytes with a name outside of the tree: a write in place shows there too.
pub(super) fn shared_outside(tree: &Tree) -> Vec<PathBuf> {
    let mut seen = std::collections::HashMap::<(u64, u64), u64>::new();
    let shared = |node: &Node| node.kind == Kind::File && node.stamp.links > 1;
    for node in tree.values().filter(|node| shared(node)) {
        *seen.entry(node.stamp.identity()).or_default() += 1;
    }
    tree.iter()
        .filter(|(_, node)| shared(node) && seen[&node.stamp.identity()] < node.stamp.links)
        .map(|(path, _)| path.clone())
        .collect()
}

/// What may not stay, topmost ones only.
pub(super) fn findings(before: &Before, now: &Tree) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    // The top of what is moved, or was protected: what lies beneath goes with it.
    let mut top: Option<PathBuf> = None;
    for (path, node) in now {
        if top.as_ref().is_some_and(|top| path.starts_with(top)) {
            continue;
        }
        if is_trap_in(path, node, now) && before.has_trap(node) {
            top = Some(path.clone());
            continue;
        }
        let Some(why) = judge(path, node, now).filter(|_| !before.has(path, node)) else {
            continue;
        };
        if why != Why::SetId {
            top = Some(path.clone());
        }
        found.push(Finding {
            path: path.clone(),
            why,
        });
    }
    found
}

/// Why a thing may not stay, if it is new.
fn judge(path: &Path, node: &Node, now: &Tree) -> Option<Why> {
    if is_trap(path) {
        return Some(Why::Trap);
    }
    match &node.kind {
        Kind::Folder if is_bare_repository(path, node, now) => Some(Why::BareRepository),
        Kind::Link(target) => leads_out(path, target, now).then_some(Why::LinkOut),
        Kind::Special(kind) => Some(Why::Special(kind)),
        Kind::TooDeep => Some(Why::TooDeep),
        Kind::File if node.stamp.mode & 0o6000 != 0 => Some(Why::SetId),
        Kind::File | Kind::Folder | Kind::Closed => None,
    }
}

/// By its name, or by what it holds.
pub(super) fn is_trap_in(path: &Path, node: &Node, tree: &Tree) -> bool {
    is_trap(path) || is_bare_repository(path, node, tree)
}

/// What git takes for a repository although no name says so.
fn is_bare_repository(path: &Path, node: &Node, tree: &Tree) -> bool {
    let has = |name: &str, folder: bool| {
        tree.get(&path.join(name))
            .is_some_and(|node| match node.kind {
                Kind::Folder | Kind::Closed => folder,
                Kind::File => !folder,
                Kind::Link(_) => true,
                _ => false,
            })
    };
    node.kind == Kind::Folder && has("HEAD", false) && has("objects", true) && has("refs", true)
}

/// Whether a link's words, with the links on their way, end outside.
fn leads_out(path: &Path, target: &Path, tree: &Tree) -> bool {
    const MAX_HOPS: usize = 40;
    let mut clean: PathBuf = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut rest: Vec<PathBuf> = vec![target.to_owned()];
    let mut hops = 0;
    while let Some(part) = rest.pop() {
        if part.is_absolute() {
            return true;
        }
        let mut parts = part.components();
        let Some(first) = parts.next() else {
            continue;
        };
        rest.push(parts.as_path().to_owned());
        match first {
            Component::Normal(name) => {
                let next = clean.join(name);
                match tree.get(&next).map(|node| &node.kind) {
                    Some(Kind::Link(target)) => {
                        hops += 1;
                        // A ring leads nowhere.
                        if hops > MAX_HOPS {
                            return false;
                        }
                        rest.push(target.clone());
                    }
                    _ => clean = next,
                }
            }
            Component::ParentDir if !clean.pop() => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
#[path = "traps_tests.rs"]
mod tests;
