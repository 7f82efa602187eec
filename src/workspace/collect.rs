//! Results taken out of a workspace once nothing lives in it any more: what the globs of `[artifacts]`
//! name, copied by descriptor and counted while it is copied.
//!
//! ```text
//!   walk ─ named by a glob? ─ regular file? ─ first of its names? ─ open beneath, look again ─ copy, hash
//!                               └ no: left, and said why               └ over a bound: left
//! ```
//!
//! No link is followed, on neither side. What is copied is bytes: no owner, no bits, no times.

use super::Artifacts;
use super::beneath;
use super::error::WorkspaceError;
use super::hash::Hash;
use super::place::Workspace;
use super::walk::{Descend, Kind, Met};
use crate::protocol::ids::Digest;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, mkdirat};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const PIECE: usize = 256 * 1024;

/// Of what was left, so much is named; the rest is counted.
const NAMED: usize = 50;

/// Where results go: a folder of the user's that was empty.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    folder: OwnedFd,
}

/// How much is taken; `None` is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub bytes: Option<u64>,
    pub files: Option<u64>,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedFile {
    /// Relative to the workspace, and to the destination.
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
}

/// What was taken, and what was not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub files: Vec<CollectedFile>,
    pub bytes: u64,
    /// With the reason, as far as they are named.
    pub left: Vec<(PathBuf, &'static str)>,
    /// Left beyond those.
    pub left_more: usize,
}

impl Destination {
    /// Makes the folder, or takes an empty one; apart from the workspace, in which a program could make
    /// links of its path.
    pub fn prepare(dir: &Path, workspace: &Workspace) -> Result<Self, WorkspaceError> {
        let unfit = |why: &str| WorkspaceError::Results {
            dir: dir.to_owned(),
            why: why.to_owned(),
            remedy: "name an empty folder, or one that is not there yet, outside of the workspace",
        };
        let place = workspace.path();
        let apart = |path: &Path| match path.starts_with(place) || place.starts_with(path) {
            true => Err(unfit("they are taken out of the workspace")),
            false => Ok(()),
        };
        let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Err(unfit("it has no name"));
        };
        let parent = fs::canonicalize(parent).map_err(WorkspaceError::io("open", parent))?;
        apart(&parent.join(name))?;
        match DirBuilder::new().create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(WorkspaceError::io("create", dir))?,
        }
        // It may have been there, as a link.
        let path = fs::canonicalize(dir).map_err(WorkspaceError::io("open", dir))?;
        apart(&path)?;
        let mut entries = fs::read_dir(&path).map_err(WorkspaceError::io("open", dir))?;
        if entries.next().is_some() {
            return Err(unfit("it is not empty"));
        }
        let folder = File::open(&path).map_err(WorkspaceError::io("open", dir))?;
        let folder = OwnedFd::from(folder);
        Ok(Self { path, folder })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new file, with the folders above it.
    fn create(&self, path: &Path) -> Result<File, Errno> {
        let mut above = PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            above.push(part);
            match mkdirat(&self.folder, &above, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mode = Mode::from_bits_truncate(0o644);
        beneath::open(&self.folder, path, flags, mode).map(File::from)
    }

    fn remove(&self, path: &Path) {
        let file = nix::unistd::UnlinkatFlags::NoRemoveDir;
        // A part that stays is in no list of results.
        let _ = nix::unistd::unlinkat(&self.folder, path, file);
    }
}

impl Workspace {
    /// Copies results. Nothing may live in the workspace any more.
    pub fn collect(
        &self,
        artifacts: &Artifacts,
        to: &Destination,
        bounds: Share,
    ) -> Result<Results, WorkspaceError> {
        let mut taker = Taker {
            to,
            bounds,
            seen: HashSet::new(),
            results: Results::default(),
        };
        self.walk(None).run(&mut |met| {
            let descend = match self.is_protected(&met.node.stamp) {
                true => Descend::Past,
                false => Descend::Into,
            };
            if artifacts.matches(&met.path) {
                taker.take(&met)?;
            }
            Ok(descend)
        })?;
        taker.results.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(taker.results)
    }
}

struct Taker<'a> {
    to: &'a Destination,
    bounds: Share,
    /// Files by identity: a second name is no second result.
    seen: HashSet<(u64, u64)>,
    results: Results,
}

/// What became of a copy.
enum Copied {
    Whole(CollectedFile),
    Left(&'static str),
}

impl Taker<'_> {
    fn take(&mut self, met: &Met<'_>) -> Result<(), WorkspaceError> {
        let why = match &met.node.kind {
            Kind::Folder => return Ok(()),
            Kind::File if self.seen.insert(met.node.stamp.identity()) => match self.copy(met)? {
                Copied::Whole(file) => {
                    self.results.bytes += file.bytes;
                    self.results.files.push(file);
                    return Ok(());
                }
                Copied::Left(why) => why,
            },
            Kind::File => "another name of a file that is taken",
            Kind::Link(_) => "a link",
            Kind::Closed => "a folder that cannot be opened",
            Kind::TooDeep => "a folder nested too deep",
            Kind::Special(what) => what,
        };
        match self.results.left.len() < NAMED {
            true => self.results.left.push((met.path.clone(), why)),
            false => self.results.left_more += 1,
        }
        Ok(())
    }

    fn copy(&self, met: &Met<'_>) -> Result<Copied, WorkspaceError> {
        const BYTES: &str = "over limits.artifact_bytes";
        let room = |taken: Option<u64>, used: u64| taken.map_or(u64::MAX, |most| most - used);
        let files = u64::try_from(self.results.files.len()).unwrap_or(u64::MAX);
        if room(self.bounds.files, files) == 0 {
            return Ok(Copied::Left("over limits.artifact_files"));
        }
        let room = room(self.bounds.bytes, self.results.bytes);
        if met.node.stamp.size > room {
            return Ok(Copied::Left(BYTES));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = beneath::open(met.folder, Path::new(met.name), flags, Mode::empty());
        let Ok(mut from) = opened.map(File::from) else {
            return Ok(Copied::Left("a file that cannot be opened"));
        };
        let found = nix::sys::stat::fstat(from.as_fd())
            .map_err(WorkspaceError::io("look at", &met.path))?;
        if beneath::kind_of(&found) != SFlag::S_IFREG {
            return Ok(Copied::Left("no regular file any more"));
        }
        // One name or one full disk does not undo what is there already: the record still names it.
        let Ok(mut file) = self.to.create(&met.path) else {
            return Ok(Copied::Left("a name that cannot be made there"));
        };
        let Ok(copied) = pour(&mut from, &mut file, room) else {
            self.to.remove(&met.path);
            return Ok(Copied::Left("a file that could not be written whole"));
        };
        Ok(match copied {
            Some((bytes, digest)) => Copied::Whole(CollectedFile {
                path: met.path.clone(),
                bytes,
                digest,
            }),
            None => {
                self.to.remove(&met.path);
                Copied::Left(BYTES)
            }
        })
    }
}

/// Copies to the end; `None` where that is more than `most` bytes, whatever its size was said to be.
fn pour(from: &mut File, to: &mut File, most: u64) -> io::Result<Option<(u64, Digest)>> {
    struct Copying<'a>(&'a mut File, &'a mut File);
    impl Read for Copying<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.write_all(&buffer[..count])?;
            Ok(count)
        }
    }
    let limit = most.saturating_add(1);
    let copying = io::BufReader::with_capacity(PIECE, Copying(from, to).take(limit));
    let (hash, bytes) = Hash::of_reader(copying)?;
    Ok((bytes <= most).then(|| (bytes, hash.digest())))
}
