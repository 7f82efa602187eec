//! All runs of a user: making the next record, finding and judging the others.

use super::error::RecordError;
use super::run::{self, Clock, RunRecord};
use super::stored::{RunSummary, StoredRun};
use crate::protocol::ids::RunId;
use jiff::Timestamp;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

const RUNS: &str = "runs";

/// Characters of a removed run's name by which it is known.
const SHORTEST: usize = 8;

/// A new run's name: time-ordered.
pub fn new_run_id() -> RunId {
    RunId::new(uuid::Uuid::now_v7().simple().to_string())
}

/// The folder that holds all runs.
#[derive(Clone)]
pub struct RunStore {
    home: PathBuf,
    pub(super) clock: Clock,
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

    /// Refuses what is another user's, or can be written by others: whoever acts on it would do their will.
    pub(super) fn check_is_ours(&self) -> Result<(), RecordError> {
        for folder in [&self.home, &self.runs_dir()] {
            if folder.exists() {
                check_ours(folder)?;
            }
        }
        Ok(())
    }

    /// Every run, newest first.
    pub fn list(&self) -> Result<Vec<RunSummary>, RecordError> {
        let ids = self.ids()?;
        Ok(ids
            .into_iter()
            .map(|id| self.stored(id).summary())
            .collect())
    }

    /// The run whose name begins so, or the newest for `last`. A prefix of several is an error that
    /// names them.
    pub fn find(&self, given: &str) -> Result<StoredRun, RecordError> {
        if given == "last" {
            return self.newest();
        }
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
            (None, _) => Err(self.no_such_run(given, &wanted)),
        }
    }

    /// The run that was started last.
    pub fn newest(&self) -> Result<StoredRun, RecordError> {
        let first = self.ids()?.into_iter().next();
        first.map(|id| self.stored(id)).ok_or(RecordError::NoRuns)
    }

    /// Folders of runs that nobody needs any more: workspaces kept for long enough, and the homes of
    /// runs that were killed before they could clear up.
    pub fn past_its_time(&self) -> Result<Vec<PathBuf>, RecordError> {
        let now = SystemTime::from((self.clock)());
        let runs = self.ids()?.into_iter().map(|id| self.stored(id));
        Ok(runs.flat_map(|run| run.past_its_time(now)).collect())
    }

    pub(super) fn stored(&self, id: RunId) -> StoredRun {
        let dir = self.runs_dir().join(id.as_str());
        StoredRun::new(id, dir)
    }

    pub(super) fn runs_dir(&self) -> PathBuf {
        self.home.join(RUNS)
    }

    /// Removed, or never there.
    fn no_such_run(&self, given: &str, wanted: &str) -> RecordError {
        let removed = self.gone(wanted).into_iter().next_back();
        match removed.filter(|_| wanted.len() >= SHORTEST) {
            Some(gone) => RecordError::Removed {
                run: gone.run,
                removed: gone.removed,
                records: gone.records,
                verdict: gone.verdict,
                head: gone.head,
            },
            None => RecordError::NoSuchRun {
                given: given.to_owned(),
            },
        }
    }

    /// Newest first.
    pub(super) fn ids(&self) -> Result<Vec<RunId>, RecordError> {
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
pub(super) fn check_ours(folder: &Path) -> Result<(), RecordError> {
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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
