//! What was there before a run, as far as it matters at its end; kept on disk until the run has cleared
//! up, so that the next one on the same folder can tell what a killed run may have left.

use super::error::WorkspaceError;
use super::place::Workspace;
use super::traps::{self, Why};
use super::walk::{self, Kind, Node, Tree};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Version of the stored form.
const VERSION: u32 = 1;

/// Larger than any that we write for a folder of people.
const MAX_STORED: u64 = 64 * 1024 * 1024;

/// Something that may stay because it was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Odd {
    Link(Vec<u8>),
    Special {
        what: String,
        identity: (u64, u64),
    },
    TooDeep {
        identity: (u64, u64),
    },
    Closed,
    /// With the time of its last change: other bytes under the same bits are another file.
    SetId {
        identity: (u64, u64),
        mode: u32,
        ctime: (i64, i64),
    },
}

impl Odd {
    fn of(node: &Node) -> Option<Self> {
        let identity = node.stamp.identity();
        Some(match &node.kind {
            Kind::Link(target) => Self::Link(target.as_os_str().as_bytes().to_vec()),
            Kind::Special(what) => Self::Special {
                what: (*what).to_owned(),
                identity,
            },
            Kind::TooDeep => Self::TooDeep { identity },
            Kind::Closed => Self::Closed,
            Kind::File if node.stamp.mode & 0o6000 != 0 => Self::SetId {
                identity,
                mode: node.stamp.mode,
                ctime: node.stamp.ctime,
            },
            Kind::File | Kind::Folder => return None,
        })
    }
}

/// A file or a folder, where an inode number alone may have gone to another thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Form {
    File,
    Folder,
}

fn form(node: &Node) -> Option<Form> {
    match node.kind {
        Kind::File => Some(Form::File),
        Kind::Folder | Kind::Closed | Kind::TooDeep => Some(Form::Folder),
        Kind::Link(_) | Kind::Special(_) => None,
    }
}

/// What was there before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    /// The user's own traps, wherever they are moved.
    traps: HashSet<((u64, u64), Form)>,
    /// By the bytes of its path.
    odd: BTreeMap<Vec<u8>, Odd>,
}

impl Before {
    pub(super) fn of(tree: &Tree) -> Self {
        let traps = tree
            .iter()
            .filter(|(path, node)| traps::is_trap_in(path, node, tree))
            .filter_map(|(_, node)| Some((node.stamp.identity(), form(node)?)));
        let odd = tree.iter().filter_map(|(path, node)| {
            Some((path.as_os_str().as_bytes().to_vec(), Odd::of(node)?))
        });
        Self {
            traps: traps.collect(),
            odd: odd.collect(),
        }
    }

    pub(super) fn has_trap(&self, node: &Node) -> bool {
        form(node).is_some_and(|form| self.traps.contains(&(node.stamp.identity(), form)))
    }

    /// Whether this very thing was at this place.
    pub(super) fn has(&self, path: &Path, node: &Node) -> bool {
        Odd::of(node).is_some_and(|odd| self.odd.get(path.as_os_str().as_bytes()) == Some(&odd))
    }

    pub(super) fn was_closed(&self, path: &Path) -> bool {
        self.odd.get(path.as_os_str().as_bytes()) == Some(&Odd::Closed)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Of the folder: an inode number may have gone to another.
    path: Vec<u8>,
    before: Before,
}

impl Workspace {
    /// What came to this folder since a run began on it that was killed before it could clear up.
    pub(super) fn left_by_the_killed(&self, tree: &Tree) -> Vec<(PathBuf, Why)> {
        let Some(before) = self.unfinished() else {
            return Vec::new();
        };
        traps::findings(&before, tree)
            .into_iter()
            .map(|finding| (finding.path, finding.why))
            .collect()
    }

    fn unfinished(&self) -> Option<Before> {
        let path = self.stock_path()?;
        if fs::metadata(path).ok()?.len() > MAX_STORED {
            return None;
        }
        let stored: Stored = postcard::from_bytes(&fs::read(path).ok()?).ok()?;
        let same = stored.version == VERSION && stored.path == self.path().as_os_str().as_bytes();
        same.then_some(stored.before)
    }

    /// Puts it on disk, the first time: every execution is preceded by a snapshot, which calls this.
    pub(super) fn keep_stock(&self) -> Result<(), WorkspaceError> {
        let Some(path) = self
            .stock_path()
            .filter(|_| self.stock_kept.get().is_none())
        else {
            return Ok(());
        };
        let stored = Stored {
            version: VERSION,
            path: self.path().as_os_str().as_bytes().to_vec(),
            before: self.stock().clone(),
        };
        let write = || -> std::io::Result<()> {
            let bytes = postcard::to_stdvec(&stored).map_err(std::io::Error::other)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&bytes)?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(WorkspaceError::io("write", path))?;
        // Two snapshots at once write the same.
        let _ = self.stock_kept.set(());
        Ok(())
    }

    /// The run has cleared up.
    pub(super) fn forget_stock(&self) {
        if let Some(path) = self.stock_path() {
            // What stays is compared once more, and told at worst.
            let _ = fs::remove_file(path);
        }
    }

    pub(super) fn tree(&self, before: Option<&Before>) -> Result<Tree, WorkspaceError> {
        walk::tree(self.walk(before))
    }
}
