//! Runs whose folders are removed: what stays of each is one line with the head of its record.
//!
//! ```text
//!   FUMEHOOD_HOME/heads.jsonl     run, when removed, number of records, head; appended and flushed first
//!   runs/ID ──rename──▶ runs/.gone-ID ──removed──▶ (nothing)     a crash between: the rest goes next time
//! ```
//!
//! The lock on the record is held from the judgement to the rename, so nothing that lives is removed.

use super::chain::Verified;
use super::error::RecordError;
use super::owner::Owner;
use super::run;
use super::store::RunStore;
use super::stored::StoredRun;
use crate::protocol::ids::RunId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const HEADS: &str = "heads.jsonl";
const PASSING: &str = ".gone-";

/// How long a new run's folder may stand before its process has written its name there.
const BEGINNING: Duration = Duration::from_secs(60);

/// What stays of a removed run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub run: RunId,
    /// RFC 3339, UTC.
    pub removed: String,
    pub command: String,
    pub task: String,
    pub started: String,
    /// Whole records it had.
    pub records: u64,
    /// The hash of the last of them; empty where the record was broken or could not be read.
    pub head: String,
    /// `intact`, `torn`, `broken`, or why it could not be read.
    pub verdict: String,
}

/// A run that may be removed, held so that nobody else does anything with it.
pub struct Ended {
    run: StoredRun,
    /// Held where there is a record to hold.
    _lock: Option<File>,
}

impl Ended {
    pub fn run(&self) -> &StoredRun {
        &self.run
    }
}

impl RunStore {
    /// The runs that have ended, and whose last record is older than this; oldest first.
    pub fn ended_for(&self, age: Duration) -> Result<Vec<Ended>, RecordError> {
        self.check_is_ours()?;
        let now = SystemTime::from((self.clock)());
        let mut ended = Vec::new();
        for id in self.ids()?.into_iter().rev() {
            let run = self.stored(id);
            let lock = match File::open(run.events_path()) {
                Ok(events) => match events.try_lock() {
                    Ok(()) => Some(events),
                    // It lives, or cannot be judged.
                    Err(_) => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(_) => continue,
            };
            let last = fs::metadata(run.events_path())
                .or_else(|_| fs::metadata(run.dir()))
                .and_then(|found| found.modified());
            let old = last.is_ok_and(|last| last.checked_add(age).is_some_and(|end| end <= now));
            if old && !is_beginning(&run, now) && run.is_workspace_free() {
                ended.push(Ended { run, _lock: lock });
            }
        }
        Ok(ended)
    }

    /// Keeps its head, and takes the run out of sight. What is at the returned path is to be removed.
    pub fn bury(&self, ended: &Ended) -> Result<PathBuf, RecordError> {
        let gone = self.epitaph(&ended.run);
        let path = self.home().join(HEADS);
        let written = serde_json::to_vec(&gone)
            .map_err(io::Error::from)
            .and_then(|mut line| {
                line.push(b'\n');
                let mut heads = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .open(&path)?;
                heads.lock()?;
                heads.write_all(&line)?;
                heads.sync_data()
            });
        written.map_err(RecordError::io("write", &path))?;
        let dir = ended.run.dir();
        let passing = self.runs_dir().join(format!("{PASSING}{}", gone.run));
        fs::rename(dir, &passing).map_err(RecordError::io("move", dir))?;
        Ok(passing)
    }

    /// What an earlier removal left.
    pub fn half_gone(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.runs_dir()).into_iter().flatten();
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(PASSING))
            .map(|entry| entry.path())
            .collect()
    }

    /// What is kept of removed runs whose name begins so. Lines that are none are passed over.
    pub fn gone(&self, beginning: &str) -> Vec<Gone> {
        let text = fs::read_to_string(self.home().join(HEADS)).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Gone>(line).ok())
            .filter(|gone| gone.run.as_str().starts_with(beginning))
            .collect()
    }

    fn epitaph(&self, run: &StoredRun) -> Gone {
        let summary = run.summary();
        let (records, head, verdict) = match run.verify() {
            Ok(Verified::Intact { records, head }) => {
                (records, head.hash.to_string(), "intact".to_owned())
            }
            Ok(Verified::Torn { records, head }) => {
                (records, head.hash.to_string(), "torn".to_owned())
            }
            Ok(Verified::Broken { line, why }) => (line, String::new(), format!("broken: {why}")),
            Err(error) => (0, String::new(), error.to_string()),
        };
        Gone {
            run: run.id().clone(),
            removed: (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            command: summary.command,
            task: summary.task,
            started: summary.started,
            records,
            head,
            verdict,
        }
    }
}

/// Whether its process may be about to begin its record: nothing is in it yet, and so nobody holds it.
pub(super) fn is_beginning(run: &StoredRun, now: SystemTime) -> bool {
    if fs::metadata(run.events_path()).is_ok_and(|found| found.len() > 0) {
        return false;
    }
    match Owner::read(&run.dir().join(run::OWNER)) {
        Some(owner) => owner.is_seen(),
        None => fs::metadata(run.dir())
            .and_then(|found| found.modified())
            .is_ok_and(|made| made.checked_add(BEGINNING).is_some_and(|end| end > now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::new_run_id;

    fn found(store: &RunStore) -> usize {
        store.ended_for(Duration::ZERO).unwrap().len()
    }

    #[test]
    fn a_run_whose_record_is_about_to_begin_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let store = RunStore::open(home.path());
        // As they stand between two steps of `create`: a folder; its owner; a record not held yet.
        let dir = store.runs_dir().join(new_run_id().as_str());
        fs::create_dir_all(&dir).unwrap();
        assert_eq!(found(&store), 0);
        Owner::this_process()
            .and_then(|process| process.write(&dir.join(run::OWNER)))
            .unwrap();
        assert_eq!(found(&store), 0);
        File::create(dir.join(run::EVENTS)).unwrap();
        assert_eq!(found(&store), 0);
        // Its process was killed there.
        fs::write(dir.join(run::OWNER), "1 1\n").unwrap();
        assert_eq!(found(&store), 1);
    }
}
