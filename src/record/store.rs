//! All runs of a user: making the next record, finding and judging the others.

use super::chain::{self, Head, Next, Reader, Recorded, Verified};
use super::error::RecordError;
use super::log::{LogReader, Stream};
use super::owner::Owner;
use super::run::{self, Clock, RunRecord};
use crate::protocol::event::Event;
use crate::protocol::ids::{RunId, StepNumber};
use crate::protocol::stop::StopReason;
use jiff::Timestamp;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const RUNS: &str = "runs";

/// A new run's name: time-ordered.
pub fn new_run_id() -> RunId {
    RunId::new(uuid::Uuid::now_v7().simple().to_string())
}

/// The folder that holds all runs.
#[derive(Clone)]
pub struct RunStore {
    home: PathBuf,
    clock: Clock,
}

impl RunStore {
    /// `home` is `FUMEHOOD_HOME`; it is made with the first run.
    pub fn open(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            clock: Arc::new(Timestamp::now),
        }
    }

    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Starts the record of a run. This process holds it until the value is dropped.
    pub fn create(&self, run: &RunId) -> Result<RunRecord, RecordError> {
        let runs = self.home.join(RUNS);
        for folder in [&self.home, &runs] {
            run::make_private(folder).map_err(RecordError::io("create", folder))?;
            check_ours(folder)?;
        }
        // Without links, so that what lies below can be mounted by its path.
        let runs = fs::canonicalize(&runs).map_err(RecordError::io("open", &runs))?;
        RunRecord::create(&runs, run, self.clock.clone())
    }

    /// Every run, newest first.
    pub fn list(&self) -> Result<Vec<RunSummary>, RecordError> {
        let ids = self.ids()?;
        Ok(ids
            .into_iter()
            .map(|id| self.stored(id).summary())
            .collect())
    }

    /// The run whose name begins so. A prefix of several is an error that names them.
    pub fn find(&self, given: &str) -> Result<StoredRun, RecordError> {
        let ids = self.ids()?;
        let wanted = given.to_ascii_lowercase().replace('-', "");
        let mut matches: Vec<RunId> = ids
            .into_iter()
            .filter(|id| !wanted.is_empty() && id.as_str().starts_with(&wanted))
            .collect();
        if let Some(exact) = matches.iter().find(|id| id.as_str() == wanted) {
            return Ok(self.stored(exact.clone()));
        }
        match (matches.pop(), matches.is_empty()) {
            (Some(one), true) => Ok(self.stored(one)),
            (Some(last), false) => {
                matches.push(last);
                Err(RecordError::Ambiguous {
                    given: given.to_owned(),
                    matches,
                })
            }
            (None, _) => Err(RecordError::NoSuchRun {
                given: given.to_owned(),
            }),
        }
    }

    /// The run that was started last.
    pub fn newest(&self) -> Result<StoredRun, RecordError> {
        let first = self.ids()?.into_iter().next();
        first.map(|id| self.stored(id)).ok_or(RecordError::NoRuns)
    }

    fn stored(&self, id: RunId) -> StoredRun {
        let dir = self.home.join(RUNS).join(id.as_str());
        StoredRun { id, dir }
    }

    /// Newest first.
    fn ids(&self) -> Result<Vec<RunId>, RecordError> {
        let runs = self.home.join(RUNS);
        let entries = match fs::read_dir(&runs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RecordError::io("read", &runs))?,
        };
        let mut ids: Vec<RunId> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_run_id(name))
            .map(RunId::new)
            .collect();
        ids.sort_by(|a, b| b.cmp(a));
        Ok(ids)
    }
}

impl std::fmt::Debug for RunStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunStore")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

fn is_run_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A state folder that others may write in, or that is theirs, proves nothing.
fn check_ours(folder: &Path) -> Result<(), RecordError> {
    let found = fs::metadata(folder).map_err(RecordError::io("look at", folder))?;
    let me = nix::unistd::geteuid().as_raw();
    let refuse = |why: &str, remedy: String| {
        Err(RecordError::StateFolder {
            path: folder.to_owned(),
            why: why.to_owned(),
            remedy,
        })
    };
    if !found.is_dir() {
        return refuse(
            "is no folder",
            "set FUMEHOOD_HOME to a folder of yours".to_owned(),
        );
    }
    if found.uid() != me {
        return refuse(
            &format!("belongs to uid {}, and this is uid {me}", found.uid()),
            "set FUMEHOOD_HOME to a folder of yours".to_owned(),
        );
    }
    if found.permissions().mode() & 0o022 != 0 {
        return refuse(
            "can be written by others",
            format!("chmod 700 {}", folder.display()),
        );
    }
    Ok(())
}

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
    /// `run`, `exec` or `demo`; empty where the first record cannot be read.
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
        let events = self.open_events()?;
        let verified = chain::verify(events, head.as_ref().ok().and_then(Option::as_ref))
            .map_err(RecordError::io("read", &self.events_path()))?;
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
            Ok(Next::Record { record, .. }) => Some(Ok(record)),
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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
