//! Hashes known from before: of the snapshot before this one, and of earlier runs on the same folder.
//!
//! A large data set in a workspace is read once, not once a run. The store lies in our state folder,
//! which no sandbox reaches; an entry counts only while device, inode, size and both times are the same.

use super::hash::Hash;
use super::place::Workspace;
use super::snapshot::Snapshot;
use super::walk::{Kind, Stamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Version of the stored form.
const VERSION: u32 = 1;

/// Less than this is hashed again faster than it is stored.
const WORTH_STORING: u64 = 8 * 1024 * 1024;

/// What opening a file costs, in bytes that could be hashed meanwhile.
pub(super) const OPENING: u64 = 4 * 1024;

/// Larger than any that we write.
const MAX_STORED: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    hash: Hash,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    entries: Vec<((u64, u64), Last)>,
}

/// Hashes by device and inode.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(u64, u64), Last>);

impl Known {
    pub(super) fn from_snapshot(snapshot: &Snapshot) -> Self {
        let entries = snapshot.entries.values().filter_map(|entry| {
            let hash = entry.hash.filter(|_| entry.settled)?;
            let stamp = &entry.stamp;
            let last = Last {
                size: stamp.size,
                mtime: stamp.mtime,
                ctime: stamp.ctime,
                hash,
            };
            (entry.kind == Kind::File).then_some((stamp.identity(), last))
        });
        Self(entries.collect())
    }

    pub(super) fn get(&self, stamp: &Stamp) -> Option<Hash> {
        let last = self.0.get(&stamp.identity())?;
        let same =
            last.size == stamp.size && last.mtime == stamp.mtime && last.ctime == stamp.ctime;
        same.then_some(last.hash)
    }

    fn load(path: &Path) -> Option<Self> {
        if fs::metadata(path).ok()?.len() > MAX_STORED {
            return None;
        }
        let stored: Stored = postcard::from_bytes(&fs::read(path).ok()?).ok()?;
        (stored.version == VERSION).then(|| Self(stored.entries.into_iter().collect()))
    }

    fn save(self, path: &Path) -> std::io::Result<()> {
        let stored = Stored {
            version: VERSION,
            entries: self.0.into_iter().collect(),
        };
        let bytes = postcard::to_stdvec(&stored).map_err(std::io::Error::other)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        file.persist(path)?;
        Ok(())
    }
}

impl Workspace {
    /// Nothing, where nothing was stored or it cannot be read: then everything is hashed.
    pub(super) fn stored_hashes(&self) -> Known {
        self.hashes_path().and_then(Known::load).unwrap_or_default()
    }

    /// Stores what a later run may use, where that saves it work. `work` is in bytes hashed.
    pub(super) fn store_hashes(&self, snapshot: &Snapshot, work: u64) {
        if let Some(path) = self.hashes_path().filter(|_| work >= WORTH_STORING) {
            // A failure costs time, nothing else.
            let _ = Known::from_snapshot(snapshot).save(path);
        }
    }
}
