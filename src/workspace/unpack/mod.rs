//! Archives, unpacked by our own loop: an archive is as hostile as who made it.
//!
//! ```text
//!   bytes ─ gzip? ─ metered ─ tar's headers ─▶ judge (pure) ─┬ File, Folder, …   made beneath one open folder
//!             └ packed, passed, ratio, headers: bounded      ├ LeaveOut(why)     named, and gone on
//!                                                            └ Fault             nothing of it is kept
//! ```
//!
//! What is counted is what is read and written, not what a header says. No owner, set-uid bit,
//! attribute or device of an archive comes through. Names are taken as the bytes they are.

mod entry;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ground;
mod meter;

pub use entry::{Fault, Left};
pub use meter::Tap;

use super::error::WorkspaceError;
use super::place::Workspace;
use crate::context::sanitise::visible;
use entry::{Header, Kind, Shape, Verdict};
use ground::{Ground, Trouble};
use meter::{Gauge, Metered, Packed};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is left free on a disk.
const FLOOR: u64 = 1 << 30;
/// How many bytes are written between two looks at the disk.
const LOOK: u64 = 64 << 20;
const CHUNK: usize = 128 * 1024;
/// How many of those left out are named.
const NAMED: usize = 5;
/// What a header takes in a tar archive, with room for a second one that holds a name.
const HEADERS: u64 = 4096;

/// How much may come out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub bytes: u64,
    pub entries: u64,
}

/// What came out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub files: u64,
    pub folders: u64,
    pub bytes: u64,
    /// How many entries were left out, and the first of them.
    pub left_out: u64,
    pub named: Vec<(PathBuf, Left)>,
}

impl Workspace {
    /// Unpacks an archive in it: files and folders, given to whom it is worked on as. `tap` as for
    /// [`Extraction::add`].
    pub fn unpack(
        &self,
        archive: &Path,
        bounds: Bounds,
        tap: Tap<'_>,
    ) -> Result<Unpacked, WorkspaceError> {
        let packed = File::open(archive).map_err(WorkspaceError::io("open", archive))?;
        let root =
            (self.fd().try_clone_to_owned()).map_err(WorkspaceError::io("open", self.path()))?;
        let ground = Ground::new(root, Shape::Files, self.given_to());
        let mut extraction = Extraction::on(ground, Shape::Files, bounds);
        extraction
            .add(packed, tap)
            .map_err(|error| error.of_archive(archive))?;
        Ok(extraction.finish())
    }
}

/// One folder, and the archives that are unpacked in it, one over the other.
pub struct Extraction {
    ground: Ground,
    shape: Shape,
    bounds: Bounds,
    entries: u64,
    /// Written since the disk was last looked at; at first, as if it were time to.
    since_look: u64,
    /// Written of the present archive.
    written: u64,
    done: Unpacked,
}

impl Extraction {
    /// Begins the root of an image in a new folder, for layers.
    pub fn layers(root: &Path, bounds: Bounds) -> Result<Self, WorkspaceError> {
        DirBuilder::new()
            .mode(0o755)
            .create(root)
            .map_err(WorkspaceError::io("create", root))?;
        let open = File::open(root).map_err(WorkspaceError::io("open", root))?;
        let ground = Ground::new(OwnedFd::from(open), Shape::Layers, None);
        Ok(Self::on(ground, Shape::Layers, bounds))
    }

    fn on(ground: Ground, shape: Shape, bounds: Bounds) -> Self {
        Self {
            ground,
            shape,
            bounds,
            entries: 0,
            since_look: LOOK,
            written: 0,
            done: Unpacked::default(),
        }
    }

    /// Unpacks one archive over those before. `tap` sees every byte of it as it is unpacked, to its end,
    /// unless it breaks off.
    pub fn add(&mut self, packed: impl Read, tap: Tap<'_>) -> Result<(), WorkspaceError> {
        self.ground.next_layer();
        self.written = 0;
        let max = (self.bounds.entries.saturating_mul(HEADERS)).saturating_add(self.bounds.bytes);
        let gauge = Gauge::new(max);
        let mut packed = Packed {
            inner: packed,
            gauge: &gauge,
        };
        let mut start = Vec::new();
        (&mut packed)
            .take(512)
            .read_to_end(&mut start)
            .map_err(WorkspaceError::io("read", Path::new("the archive")))?;
        let is_gzip = match packed_by(&start) {
            Some("gzip") => true,
            Some(how) => return Err(faulty("", Fault::Packed(how))),
            None => false,
        };
        let whole = io::Cursor::new(start).chain(packed);
        if is_gzip {
            let inner = flate2::read::MultiGzDecoder::new(whole);
            self.entries_of(Metered {
                inner,
                gauge: &gauge,
                tap,
            })
        } else {
            self.entries_of(Metered {
                inner: whole,
                gauge: &gauge,
                tap,
            })
        }
    }

    /// What came of all of them.
    pub fn finish(self) -> Unpacked {
        self.done
    }

    fn entries_of<R: Read>(&mut self, metered: Metered<'_, R>) -> Result<(), WorkspaceError> {
        let gauge = metered.gauge;
        let broken = |name: &str, error: &io::Error| {
            let fault = gauge.fault().unwrap_or(match error.kind() {
                io::ErrorKind::UnexpectedEof => Fault::Truncated,
                _ => Fault::Damaged,
            });
            faulty(name, fault)
        };
        let mut archive = tar::Archive::new(metered);
        let mut entries = archive.entries().map_err(|error| broken("", &error))?;
        let mut last = String::new();
        loop {
            gauge.enter_header();
            let Some(next) = entries.next() else { break };
            let mut entry = next.map_err(|error| broken(&last, &error))?;
            gauge.enter_body();
            last = visible(&String::from_utf8_lossy(&entry.path_bytes()));
            self.entry(&mut entry, gauge).map_err(|stop| match stop {
                Stop::Trouble(Trouble::Fault(fault)) => faulty(&last, fault),
                Stop::Trouble(Trouble::Errno(errno)) => {
                    WorkspaceError::io("unpack", Path::new(&last))(errno)
                }
                Stop::Read(error) => broken(&last, &error),
                Stop::Write(error) => WorkspaceError::io("unpack", Path::new(&last))(error),
            })?;
        }
        gauge.enter_body();
        // What stands behind the end belongs to its digest.
        io::copy(&mut archive.into_inner(), &mut io::sink())
            .map_err(|error| broken(&last, &error))?;
        Ok(())
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, gauge: &Gauge) -> Result<(), Stop> {
        self.entries += 1;
        if self.entries > self.bounds.entries {
            return Err(Fault::TooManyEntries(self.bounds.entries).into());
        }
        // Before anything is read of it: a sparse file has as many bytes as it says.
        if entry.size() > self.bounds.bytes.saturating_sub(self.done.bytes) {
            return Err(Fault::TooManyBytes(self.bounds.bytes).into());
        }
        if is_odd_sparse(entry)? {
            return Err(Fault::Sparse.into());
        }
        let (name, target) = (entry.path_bytes(), entry.link_name_bytes());
        let header = Header {
            name: &name,
            kind: kind(entry.header().entry_type()),
            mode: entry.header().mode().unwrap_or(0o644),
            target: target.as_deref(),
        };
        match entry::judge(&header, self.shape)? {
            Verdict::Folder { path, mode } => {
                self.ground.make_folder(&path, mode)?;
                self.done.folders += 1;
            }
            Verdict::File { path, mode } => self.file(entry, (&path, mode), gauge)?,
            Verdict::Link { path, target } => self.ground.make_link(&path, &target)?,
            Verdict::HardLink { path, to } => self.ground.make_hard_link(&path, &to)?,
            Verdict::Hide { path } => self.ground.hide(&path)?,
            Verdict::HideAll { folder } => self.ground.hide_all(&folder)?,
            Verdict::LeaveOut { path, why } => self.leave_out(path, why),
            Verdict::Pass => {}
        }
        // What a body is for that nothing is made of: read past, and counted.
        io::copy(entry, &mut io::sink()).map_err(Stop::Read)?;
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        (path, mode): (&Path, u32),
        gauge: &Gauge,
    ) -> Result<(), Stop> {
        let mut file = self.ground.make_file(path)?;
        let mut buffer = vec![0; CHUNK];
        let mut written = 0u64;
        loop {
            let count = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stop::Read(error)),
            };
            written += count as u64;
            self.count(count as u64, gauge)?;
            let part = buffer.get(..count).unwrap_or_default();
            file.write_all(part).map_err(Stop::Write)?;
        }
        if written != entry.size() {
            return Err(Fault::Truncated.into());
        }
        let seconds = entry.header().mtime().unwrap_or(0);
        self.ground.settle(&file, mode, seconds)?;
        self.done.files += 1;
        Ok(())
    }

    /// Before they are written.
    fn count(&mut self, bytes: u64, gauge: &Gauge) -> Result<(), Stop> {
        self.done.bytes += bytes;
        if self.done.bytes > self.bounds.bytes {
            return Err(Fault::TooManyBytes(self.bounds.bytes).into());
        }
        self.written += bytes;
        self.since_look += bytes;
        if self.since_look > LOOK {
            self.since_look = 0;
            if self.ground.free()? < FLOOR + LOOK {
                return Err(Fault::DiskFull.into());
            }
        }
        match gauge.outgrown(self.written) {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        }
    }

    fn leave_out(&mut self, path: PathBuf, why: Left) {
        self.done.left_out += 1;
        if self.done.named.len() < NAMED {
            self.done.named.push((path, why));
        }
    }
}

/// Why an archive is not read on.
enum Stop {
    Trouble(Trouble),
    Read(io::Error),
    Write(io::Error),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Trouble(Trouble::Fault(fault))
    }
}

fn kind(found: tar::EntryType) -> Kind {
    use tar::EntryType as T;
    match found {
        T::Regular | T::Continuous | T::GNUSparse => Kind::File,
        T::Directory => Kind::Folder,
        T::Symlink => Kind::Link,
        T::Link => Kind::HardLink,
        T::Char | T::Block => Kind::Device,
        T::Fifo => Kind::Pipe,
        T::XGlobalHeader => Kind::Words,
        _ => Kind::Unknown,
    }
}

/// Sparse files whose map is in attributes: their body is not their content.
fn is_odd_sparse<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<bool, Stop> {
    let Some(attributes) = entry.pax_extensions().map_err(Stop::Read)? else {
        return Ok(false);
    };
    for attribute in attributes {
        let attribute = attribute.map_err(Stop::Read)?;
        if attribute.key_bytes().starts_with(b"GNU.sparse.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How something is packed, by its first bytes; `None` for what may be a tar archive itself.
fn packed_by(start: &[u8]) -> Option<&'static str> {
    const SIGNS: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"PK\x03\x04", "zip"),
    ];
    let sign = SIGNS.iter().find(|(sign, _)| start.starts_with(sign));
    sign.map(|(_, how)| *how)
}

fn faulty(entry: &str, fault: Fault) -> WorkspaceError {
    WorkspaceError::Archive {
        archive: PathBuf::new(),
        entry: entry.to_owned(),
        fault,
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
