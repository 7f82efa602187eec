//! A run on disk as anyone may read it: summary, records, logs, and whether the record is whole.

use super::chain::{self, Head, Next, Reader, Recorded, Verified};
use super::error::RecordError;
use super::follow::{LogFollower, follow};
use super::gone;
use super::log::{LogReader, Stream};
use super::owner::Owner;
use super::run;
use crate::protocol::event::Event;
use crate::protocol::ids::{RunId, StepNumber};
use crate::protocol::stop::StopReason;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How far a run came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RunState {
    /// A living process holds the record.
    Running {
        pid: Option<u32>,
    },
    Finished {
        stop: StopReason,
        exit_code: i32,
    },
    /// Nobody holds it, and it has no end.
    Crashed,
    /// It cannot be read, or what is read is no record.
    Unreadable {
        why: String,
    },
}

/// A run in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    pub run: RunId,
    #[serde(flatten)]
    pub state: RunState,
    /// `run`, `exec`, `box` or `demo`; empty where the first record cannot be read.
    pub command: String,
    pub task: String,
    pub policy: String,
    pub workspace: String,
    pub model: Option<String>,
    /// RFC 3339, UTC.
    pub started: String,
    /// Time of the last whole record.
    pub last: String,
}

/// A run on disk.
#[derive(Debug, Clone)]
pub struct StoredRun {
    id: RunId,
    dir: PathBuf,
}

impl StoredRun {
    pub(super) fn new(id: RunId, dir: PathBuf) -> Self {
        Self { id, dir }
    }

    pub fn id(&self) -> &RunId {
        &self.id
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn events_path(&self) -> PathBuf {
        self.dir.join(run::EVENTS)
    }

    /// Judges the record. One that a living process still writes is judged as far as it is.
    pub fn verify(&self) -> Result<Verified, RecordError> {
        let path = self.dir.join(run::HEAD);
        // First the head: a record that is written meanwhile is only longer.
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes.map_err(RecordError::io("read", &path))?,
        };
        let head = Head::parse(&bytes);
        let told = head.as_ref().ok().and_then(Option::as_ref);
        let verified = match self.open_events() {
            // All of it is gone, and the head tells that it was there.
            Err(RecordError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && told.is_some() =>
            {
                chain::verify(io::empty(), told)
            }
            events => chain::verify(events?, told),
        };
        let verified = verified.map_err(RecordError::io("read", &self.events_path()))?;
        Ok(match (verified, head) {
            (Verified::Intact { records, .. } | Verified::Torn { records, .. }, Err(why)) => {
                Verified::Broken { line: records, why }
            }
            (verified, _) => verified,
        })
    }

    /// Whether a living process writes this record.
    pub fn is_running(&self) -> Result<bool, RecordError> {
        let path = self.events_path();
        let events = File::open(&path).map_err(RecordError::io("open", &path))?;
        match events.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(RecordError::io("lock", &path)(error)),
        }
    }

    /// See [`super::RunStore::past_its_time`]; nothing of a run that lives, or cannot be judged.
    pub(super) fn past_its_time(&self, now: SystemTime) -> Vec<PathBuf> {
        if self.never_began(now) {
            return vec![self.dir.clone()];
        }
        if !matches!(self.is_running(), Ok(false)) {
            return Vec::new();
        }
        // A socket that nobody listens at, and what was being fetched.
        let mut past: Vec<PathBuf> = ["home", "scratch", "socket"]
            .iter()
            .map(|name| self.dir.join(name))
            .collect();
        let keep = fs::read_to_string(self.dir.join(run::KEEP))
            .ok()
            .and_then(|text| text.trim_end().parse().ok())
            .map(Duration::from_millis);
        let last = fs::metadata(self.events_path()).and_then(|found| found.modified());
        if let (Some(keep), Ok(last)) = (keep, last)
            && last.checked_add(keep).is_some_and(|end| end < now)
        {
            past.push(self.dir.join("workspace"));
        }
        past.retain(|path| is_free(path));
        past
    }

    /// Its process was killed before the first record: it says nothing, and nothing was done.
    fn never_began(&self, now: SystemTime) -> bool {
        let events = fs::metadata(self.events_path());
        let empty = match events {
            Ok(found) => found.len() == 0 && matches!(self.is_running(), Ok(false)),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        // With a head there was a record, and its loss is to be told.
        let head = fs::metadata(self.dir.join(run::HEAD)).is_ok_and(|found| found.len() > 0);
        empty && !head && !gone::is_beginning(self, now)
    }

    /// The records, one after the other; an error ends them. A torn last line is not among them.
    pub fn events(&self) -> Result<Events, RecordError> {
        Ok(Events {
            path: self.events_path(),
            reader: Reader::new(self.open_events()?),
        })
    }

    /// One stream of a step's log: raw bytes, also while the step runs.
    pub fn log(&self, step: StepNumber, stream: Stream) -> Result<LogReader, RecordError> {
        let path = self.dir.join(run::LOGS).join(stream.file_name(step));
        match LogReader::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RecordError::NoSuchLog {
                run: self.id.clone(),
                step,
            }),
            opened => opened.map_err(RecordError::io("read", &path)),
        }
    }

    /// The same, to be read along while the step runs. It need not be there yet.
    pub fn follow(&self, step: StepNumber, stream: Stream) -> LogFollower {
        follow(&self.dir.join(run::LOGS).join(stream.file_name(step)))
    }

    /// Nobody works in the workspace of this run's own.
    pub(super) fn is_workspace_free(&self) -> bool {
        let workspace = self.dir.join("workspace");
        !workspace.exists() || is_free(&workspace)
    }

    /// Steps that have a log, in order.
    pub fn steps(&self) -> Result<Vec<StepNumber>, RecordError> {
        let folder = self.dir.join(run::LOGS);
        let entries = fs::read_dir(&folder).map_err(RecordError::io("read", &folder))?;
        let mut steps: Vec<StepNumber> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| Stream::step_of(entry.file_name().to_str()?))
            .collect();
        steps.sort_by_key(|step| step.0);
        steps.dedup();
        Ok(steps)
    }

    /// One line about it; what cannot be read is said in its state.
    pub fn summary(&self) -> RunSummary {
        let mut summary = RunSummary {
            run: self.id.clone(),
            state: RunState::Crashed,
            command: String::new(),
            task: String::new(),
            policy: String::new(),
            workspace: String::new(),
            model: None,
            started: String::new(),
            last: String::new(),
        };
        if let Err(error) = self.fill(&mut summary) {
            let why = error.to_string();
            summary.state = RunState::Unreadable { why };
        }
        summary
    }

    fn fill(&self, summary: &mut RunSummary) -> io::Result<()> {
        let mut file = File::open(self.events_path())?;
        let running = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
        if running {
            let owner = Owner::read(&self.dir.join(run::OWNER));
            let pid = owner.map(|owner| owner.pid);
            summary.state = RunState::Running { pid };
        }
        let mut first = Vec::new();
        let bound = chain::MAX_LINE as u64;
        BufReader::new((&file).take(bound)).read_until(b'\n', &mut first)?;
        if let Some(record) = whole(&first).transpose()? {
            summary.started.clone_from(&record.time);
            summary.last = record.time;
            if let Event::RunStarted {
                command,
                task,
                policy,
                workspace,
                model,
                ..
            } = record.event
            {
                summary.command = command;
                summary.task = task;
                summary.policy = policy;
                summary.workspace = workspace;
                summary.model = model;
            }
        }
        if let Some(record) = whole(&last_line(&mut file)?).transpose()? {
            summary.last = record.time;
            if let (
                Event::RunEnded {
                    stop, exit_code, ..
                },
                false,
            ) = (record.event, running)
            {
                summary.state = RunState::Finished { stop, exit_code };
            }
        }
        Ok(())
    }

    fn open_events(&self) -> Result<BufReader<File>, RecordError> {
        let path = self.events_path();
        let file = File::open(&path).map_err(RecordError::io("open", &path))?;
        Ok(BufReader::with_capacity(64 * 1024, file))
    }
}

/// There, and not the workspace of another run, which would hold its lock.
fn is_free(folder: &Path) -> bool {
    match File::open(folder) {
        Ok(folder) => !matches!(folder.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// A line as it stands, its place in the chain not asked; `None` for an unfinished one.
fn whole(line: &[u8]) -> Option<io::Result<Recorded>> {
    let line = line.strip_suffix(b"\n")?;
    Some(chain::decode_alone(line).map_err(|why| io::Error::other(why.to_string())))
}

/// The last line with its newline; what follows the last newline is left out.
fn last_line(file: &mut File) -> io::Result<Vec<u8>> {
    const PIECE: u64 = 64 * 1024;
    let mut start = file.seek(SeekFrom::End(0))?;
    let mut tail: Vec<u8> = Vec::new();
    while start > 0 && tail.len() <= chain::MAX_LINE {
        let size = PIECE.min(start);
        start -= size;
        let mut piece = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece)?;
        piece.append(&mut tail);
        tail = piece;
        let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        if let Some(before) = tail[..end].iter().rposition(|byte| *byte == b'\n') {
            return Ok(tail[before + 1..=end].to_vec());
        }
        if start == 0 {
            return Ok(tail[..=end].to_vec());
        }
    }
    Ok(Vec::new())
}

/// The records of a run, read one by one.
pub struct Events {
    path: PathBuf,
    reader: Reader<BufReader<File>>,
}

impl Iterator for Events {
    type Item = Result<Recorded, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.next() {
            Ok(Next::Record { record, .. }) => Some(Ok(*record)),
            Ok(Next::End | Next::Torn) => None,
            Ok(Next::Broken { line, why }) => Some(Err(RecordError::Io {
                what: "read",
                path: self.path.clone(),
                source: io::Error::other(format!("line {line}: {why}")),
            })),
            Err(error) => Some(Err(RecordError::io("read", &self.path)(error))),
        }
    }
}
