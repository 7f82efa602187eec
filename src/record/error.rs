//! What can go wrong with a record, and what the user can do about it.

use crate::protocol::ids::{RunId, StepNumber};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("failed to {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The folder for our state is not ours alone.
    #[error("the state folder {} {why}", path.display())]
    StateFolder {
        path: PathBuf,
        why: String,
        remedy: String,
    },
    #[error("there is a record of run {run} already")]
    Exists { run: RunId },
    /// An earlier append failed: nothing is recorded after a gap.
    #[error("the record cannot be written since: {why}")]
    Closed { why: String },
    #[error(
        "a record of {bytes} bytes is over the bound of {}",
        super::chain::MAX_LINE
    )]
    TooLarge { bytes: usize },
    #[error("no run {given:?}")]
    NoSuchRun { given: String },
    /// Its folder was removed on the user's word; its head was kept.
    #[error(
        "run {run} was removed on {removed}: it had {records} records ({verdict}) and ended in {head}"
    )]
    Removed {
        run: RunId,
        removed: String,
        records: u64,
        verdict: String,
        head: String,
    },
    /// A living process holds it, and it is not certain which.
    #[error("run {run} is held by a process that cannot be seen from here")]
    OwnerUnseen { run: RunId },
    #[error("no run is recorded yet")]
    NoRuns,
    #[error("{given:?} is the beginning of {} runs: {}", matches.len(), listed(matches))]
    Ambiguous { given: String, matches: Vec<RunId> },
    #[error("run {run} has no log of step {step}")]
    NoSuchLog { run: RunId, step: StepNumber },
}

impl RecordError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(format!(
                    "free space on the disk of {}, or set FUMEHOOD_HOME to another disk",
                    path.display()
                )),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("set FUMEHOOD_HOME to a folder of yours".to_owned())
                }
                _ => None,
            },
            Self::StateFolder { remedy, .. } => Some(remedy.clone()),
            Self::NoSuchRun { .. } => Some("`fumehood runs list` names them".to_owned()),
            Self::NoRuns => Some("start one: `fumehood exec -- COMMAND`".to_owned()),
            Self::Ambiguous { .. } => Some("give more of its beginning".to_owned()),
            Self::NoSuchLog { .. } => {
                Some("`fumehood runs show RUN` names the steps of a run".to_owned())
            }
            Self::OwnerUnseen { .. } => Some(
                "stop it where it was started: in that container, or on that machine".to_owned(),
            ),
            Self::Removed { .. }
            | Self::Exists { .. }
            | Self::Closed { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}

fn listed(runs: &[RunId]) -> String {
    let mut shown: Vec<&str> = runs.iter().take(4).map(RunId::as_str).collect();
    if runs.len() > shown.len() {
        shown.push("…");
    }
    shown.join(", ")
}
