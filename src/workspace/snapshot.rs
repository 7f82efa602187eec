//! A workspace at one moment: every file by path, stamp and hash.
//!
//! ```text
//!   each file ─┬─ known by device, inode, size, mtime, ctime, and settled ─▶ the hash known from then
//!              ├─ an artifact, unreadable, or mostly holes ────────────────▶ known by its stamp
//!              └─ else ────────────────────────────────────────────────────▶ read and hashed
//! ```
//!
//! A file is *settled* when its last change is older than the clock of its file system is coarse: one
//! that changes twice within a tick would look the same. Folders that stay read-only in the sandbox
//! (`.git` and the like) are known by their own inode and not looked into.

use super::artifacts::Artifacts;
use super::beneath;
use super::error::WorkspaceError;
use super::hash::Hash;
use super::known::{Known, OPENING};
use super::place::Workspace;
use super::texts::{MAX_TEXT, Texts};
use super::walk::{Descend, Kind, Met, Stamp};
use crate::protocol::ids::Digest;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use sha2::{Digest as _, Sha256};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Above this size a file that is mostly holes is not read: it would be zeros for hours.
const MAX_SPARSE: u64 = 1024 * 1024 * 1024;

/// One thing at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub stamp: Stamp,
    /// `None` for what is no file, or is known by its stamp only.
    pub hash: Option<Hash>,
    /// The hash may be taken from here later.
    pub(super) settled: bool,
}

/// A workspace at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) entries: BTreeMap<PathBuf, Entry>,
}

impl Snapshot {
    /// Everything in it, by path.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_path(), entry))
    }

    pub fn get(&self, path: &Path) -> Option<&Entry> {
        self.entries.get(path)
    }
}

/// How to take one.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotRequest<'a> {
    pub artifacts: &'a Artifacts,
    /// Hashes are taken from here where nothing changed.
    pub previous: Option<&'a Snapshot>,
    /// Where small texts are kept, so that a difference can be shown later.
    pub texts: Option<&'a Texts>,
}

impl Workspace {
    /// Looks at everything. Takes as long as hashing what is new takes.
    pub fn snapshot(&self, request: &SnapshotRequest<'_>) -> Result<Snapshot, WorkspaceError> {
        self.keep_stock()?;
        let mut taker = Taker {
            request,
            workspace: self,
            known: OnceCell::new(),
            work: 0,
        };
        let mut entries = BTreeMap::new();
        self.walk(None).run(&mut |met| {
            let descend = match self.is_protected(&met.node.stamp) {
                true => Descend::Past,
                false => Descend::Into,
            };
            let path = met.path.clone();
            if let Some(entry) = taker.take(met)? {
                entries.insert(path, entry);
            }
            Ok(descend)
        })?;
        let snapshot = Snapshot { entries };
        self.store_hashes(&snapshot, taker.work);
        Ok(snapshot)
    }
}

struct Taker<'a> {
    request: &'a SnapshotRequest<'a>,
    workspace: &'a Workspace,
    /// By inode: filled when a file is met that is not at the path it was known at.
    known: OnceCell<Known>,
    /// What had to be opened and read, in bytes.
    work: u64,
}

impl Taker<'_> {
    /// `None` for what is gone meanwhile.
    fn take(&mut self, met: Met<'_>) -> Result<Option<Entry>, WorkspaceError> {
        let Met {
            folder,
            name,
            path,
            node,
        } = met;
        let by_stamp = |stamp| Entry {
            kind: node.kind.clone(),
            stamp,
            hash: None,
            settled: false,
        };
        if node.kind != Kind::File
            || self.request.artifacts.matches(&path)
            || is_mostly_holes(&node.stamp)
        {
            return Ok(Some(by_stamp(node.stamp)));
        }
        if let Some(hash) = self.known(&path, &node.stamp)
            && !self.wants_text(&node.stamp, &hash)
        {
            return Ok(Some(Entry {
                hash: Some(hash),
                settled: true,
                ..by_stamp(node.stamp)
            }));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = match beneath::open(folder, Path::new(name), flags, Mode::empty()) {
            Ok(opened) => File::from(opened),
            Err(nix::errno::Errno::ENOENT) => return Ok(None),
            Err(_) => return Ok(Some(by_stamp(node.stamp))),
        };
        match self.read(opened) {
            Ok(Some((stamp, hash, settled))) => Ok(Some(Entry {
                hash: Some(hash),
                settled,
                ..by_stamp(stamp)
            })),
            Ok(None) => Ok(Some(by_stamp(node.stamp))),
            Err(error) => Err(WorkspaceError::io("read", &path)(error)),
        }
    }

    fn known(&self, path: &Path, stamp: &Stamp) -> Option<Hash> {
        let previous = self.request.previous;
        if let Some(entry) = previous.and_then(|previous| previous.get(path))
            && entry.settled
            && entry.stamp.is_unchanged(stamp)
        {
            return entry.hash;
        }
        let known = self.known.get_or_init(|| match previous {
            Some(previous) => Known::from_snapshot(previous),
            None => self.workspace.stored_hashes(),
        });
        known.get(stamp)
    }

    /// `None` where it is no regular file any more.
    fn read(&mut self, mut file: File) -> std::io::Result<Option<(Stamp, Hash, bool)>> {
        let before = nix::sys::stat::fstat(file.as_fd())?;
        if beneath::kind_of(&before) != SFlag::S_IFREG {
            return Ok(None);
        }
        let stamp = Stamp::of(&before);
        let (hash, count) = match stamp.size <= MAX_TEXT {
            true => {
                let mut bytes = Vec::new();
                // It may have grown: then it is not settled, and hashed again next time.
                (&mut file).take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
                let hash = Hash::of(&bytes);
                if let Some(texts) = self.request.texts {
                    texts.keep(&hash, &bytes);
                }
                (hash, bytes.len() as u64)
            }
            false => Hash::of_reader(&mut file)?,
        };
        self.work += count + OPENING;
        let after = Stamp::of(&nix::sys::stat::fstat(file.as_fd())?);
        let settled = after == stamp && count == stamp.size && is_old(&stamp);
        Ok(Some((stamp, hash, settled)))
    }

    /// A text that is not kept yet is read although its hash is known.
    fn wants_text(&self, stamp: &Stamp, hash: &Hash) -> bool {
        stamp.size <= MAX_TEXT && self.request.texts.is_some_and(|texts| texts.wants(hash))
    }
}

fn is_mostly_holes(stamp: &Stamp) -> bool {
    stamp.size > MAX_SPARSE && stamp.on_disk < stamp.size / 4
}

/// Whether a change that came after would show in the stamp.
fn is_old(stamp: &Stamp) -> bool {
    // File systems with coarse clocks leave the nanoseconds out.
    let tick = match stamp.ctime.1 {
        0 => Duration::from_secs(3),
        _ => Duration::from_millis(50),
    };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(stamp.ctime.0), u32::try_from(stamp.ctime.1))
    else {
        return false;
    };
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    SystemTime::now()
        .duration_since(changed)
        .is_ok_and(|age| age > tick)
}

/// The digest of the code tree: everything in the workspace that is no artifact.
///
/// A file counts with its path, its bytes and whether it is executable; a link with what it names; a
/// file that was not read, with its stamp. Folders that stay read-only count with their inode.
pub fn code_tree(snapshot: &Snapshot, artifacts: &Artifacts) -> Result<Digest, WorkspaceError> {
    let mut hasher = Sha256::new();
    hasher.update(b"fumehood code tree 1\n");
    for (path, entry) in &snapshot.entries {
        if artifacts.matches(path) {
            continue;
        }
        let (kind, of) = match (&entry.kind, &entry.hash) {
            (Kind::TooDeep, _) => {
                return Err(WorkspaceError::TooDeep {
                    path: shortened(path),
                });
            }
            // What they hold is listed by itself.
            (Kind::Folder, _) if !super::traps::is_trap(path) => continue,
            (Kind::File, Some(hash)) if entry.stamp.is_executable() => {
                (b'x', hash.bytes().to_vec())
            }
            (Kind::File, Some(hash)) => (b'f', hash.bytes().to_vec()),
            (Kind::Link(target), _) => (b'l', target.as_os_str().as_bytes().to_vec()),
            (Kind::Folder, _) => (b'd', identity_bytes(&entry.stamp)),
            (Kind::File | Kind::Closed | Kind::Special(_), _) => (b's', stamp_bytes(&entry.stamp)),
        };
        for part in [path.as_os_str().as_bytes(), &[kind], &of] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    let hash: [u8; 32] = hasher.finalize().into();
    Ok(Digest::new(
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    ))
}

fn identity_bytes(stamp: &Stamp) -> Vec<u8> {
    [stamp.device, stamp.inode]
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn stamp_bytes(stamp: &Stamp) -> Vec<u8> {
    let mut bytes = identity_bytes(stamp);
    bytes.extend(stamp.size.to_be_bytes());
    for time in [stamp.mtime.0, stamp.mtime.1, stamp.ctime.0, stamp.ctime.1] {
        bytes.extend(time.to_be_bytes());
    }
    bytes.extend(stamp.mode.to_be_bytes());
    bytes
}

/// The beginning of a path that is too long for anyone.
pub(super) fn shortened(path: &Path) -> PathBuf {
    path.components().take(4).collect()
}
