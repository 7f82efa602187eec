//! The record of the run that this process carries out: the only writer.

use super::chain::{self, Head};
use super::error::RecordError;
use super::log::{LogWriter, Stream};
use super::owner::Owner;
use super::stored::StoredRun;
use crate::protocol::event::Event;
use crate::protocol::ids::{RunId, StepNumber};
use jiff::Timestamp;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Tells the time of a record.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

pub(super) const EVENTS: &str = "events.jsonl";
pub(super) const HEAD: &str = "head";
pub(super) const OWNER: &str = "owner";
pub(super) const LOGS: &str = "logs";
pub(super) const KEEP: &str = "keep";
const QUARANTINE: &str = "quarantine";
const BLOBS: &str = "blobs";

/// One run's folder, and the end of its record.
pub struct RunRecord {
    run: RunId,
    dir: PathBuf,
    clock: Clock,
    tail: Mutex<Tail>,
}

/// Where the next line goes.
struct Tail {
    /// Locked as long as it is open.
    events: File,
    head_file: File,
    head: Head,
    /// Bytes of whole lines.
    length: u64,
    /// Why nothing may be appended any more.
    closed: Option<String>,
}

impl RunRecord {
    /// Makes the folder of a run that has none.
    pub(super) fn create(runs: &Path, run: &RunId, clock: Clock) -> Result<Self, RecordError> {
        let dir = runs.join(run.as_str());
        match private_dir().create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RecordError::Exists { run: run.clone() });
            }
            made => made.map_err(RecordError::io("create", &dir))?,
        }
        Self::begin(runs, run, clock, dir.clone()).inspect_err(|_| {
            // It never began: without its record the folder says nothing, and `last` would be it.
            let _ = fs::remove_dir_all(&dir);
        })
    }

    fn begin(runs: &Path, run: &RunId, clock: Clock, dir: PathBuf) -> Result<Self, RecordError> {
        for name in [LOGS, QUARANTINE, BLOBS] {
            let path = dir.join(name);
            private_dir()
                .create(&path)
                .map_err(RecordError::io("create", &path))?;
        }
        let owner = dir.join(OWNER);
        Owner::this_process()
            .and_then(|process| process.write(&owner))
            .map_err(RecordError::io("write", &owner))?;
        let tail = Tail::create(&dir)?;
        for folder in [dir.as_path(), runs] {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(RecordError::io("flush", folder))?;
        }
        Ok(Self {
            run: run.clone(),
            dir,
            clock,
            tail: Mutex::new(tail),
        })
    }

    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// What there is of it so far, as anyone may read it.
    pub fn stored(&self) -> StoredRun {
        StoredRun::new(self.run.clone(), self.dir.clone())
    }

    /// The run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the record itself is.
    pub fn events_path(&self) -> PathBuf {
        self.dir.join(EVENTS)
    }

    /// For what the workspace may not keep.
    pub fn quarantine_dir(&self) -> PathBuf {
        self.dir.join(QUARANTINE)
    }

    /// For texts by their hash.
    pub fn blobs_dir(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }

    /// How long the run's own workspace is kept after its last record, in milliseconds; `None` for ever.
    pub fn keep_workspace_for(&self, keep_ms: Option<u64>) -> Result<(), RecordError> {
        let Some(keep_ms) = keep_ms else {
            return Ok(());
        };
        let path = self.dir.join(KEEP);
        fs::write(&path, format!("{keep_ms}\n")).map_err(RecordError::io("write", &path))
    }

    /// Appends one event and returns when it is on disk. Transient events are passed over. After an
    /// error every further append fails.
    pub fn append(&self, event: &Event) -> Result<(), RecordError> {
        if event.is_transient() {
            return Ok(());
        }
        let time = (self.clock)()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string();
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.append(&time, event).map_err(|error| {
            tail.closed.get_or_insert_with(|| error.to_string());
            error.located(&self.dir)
        })
    }

    /// The last record's number and hash.
    pub fn head(&self) -> Head {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.head.clone()
    }

    /// A log of one stream of a step, of at most `bytes` on disk (`None`: no bound).
    pub fn step_log(
        &self,
        step: StepNumber,
        stream: Stream,
        bytes: Option<u64>,
    ) -> Result<LogWriter, RecordError> {
        let path = self.dir.join(LOGS).join(stream.file_name(step));
        LogWriter::create(&path, bytes).map_err(RecordError::io("create", &path))
    }

    /// A step's log as events name it, relative to the run's folder.
    pub fn step_log_name(step: StepNumber, stream: Stream) -> String {
        format!("{LOGS}/{}", stream.file_name(step))
    }
}

impl fmt::Debug for RunRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRecord")
            .field("run", &self.run)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// An error of the tail, which does not know its path.
#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Closed(String),
    #[error("a record of {0} bytes is too large")]
    TooLarge(usize),
}

impl TailError {
    fn located(self, dir: &Path) -> RecordError {
        match self {
            Self::Io(source) => RecordError::io("write", &dir.join(EVENTS))(source),
            Self::Closed(why) => RecordError::Closed { why },
            Self::TooLarge(bytes) => RecordError::TooLarge { bytes },
        }
    }
}

impl Tail {
    fn create(dir: &Path) -> Result<Self, RecordError> {
        let new = |name: &str| {
            let path = dir.join(name);
            OpenOptions::new()
                .append(name == EVENTS)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(RecordError::io("create", &path))
        };
        let events = new(EVENTS)?;
        let path = dir.join(EVENTS);
        // Whoever looks whether it is held, holds it for a moment: they are waited for.
        events.lock().map_err(RecordError::io("lock", &path))?;
        Ok(Self {
            events,
            head_file: new(HEAD)?,
            head: Head::start(),
            length: 0,
            closed: None,
        })
    }

    fn append(&mut self, time: &str, event: &Event) -> Result<(), TailError> {
        if let Some(why) = &self.closed {
            return Err(TailError::Closed(why.clone()));
        }
        let mut line = chain::encode(&self.head, time, event).map_err(io::Error::from)?;
        if line.len() > chain::MAX_LINE {
            return Err(TailError::TooLarge(line.len()));
        }
        let head = self.head.then(&line);
        line.push(b'\n');
        self.write(&line)?;
        // After the line: it may lag behind a crash, and never tells of a line that is not there.
        self.head_file.write_all_at(head.to_text().as_bytes(), 0)?;
        if matches!(event, Event::RunEnded { .. }) {
            self.head_file.sync_data()?;
        }
        self.head = head;
        self.length += line.len() as u64;
        Ok(())
    }

    /// The whole line, on disk; or the file as it was, as far as the disk allows that.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self
            .events
            .write_all(line)
            .and_then(|()| self.events.sync_data());
        if written.is_err() {
            // Without this a full disk would leave half a line, which reads like a crash: also true.
            let _ = self.events.set_len(self.length);
        }
        written
    }
}

fn private_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Makes a folder that only its owner enters, with its parents.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match private_dir().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
