//! Asking the process that holds a run to stop, or making it.
//!
//! ```text
//!   record held? ─no─▶ it has ended
//!        └ yes ─ pid and start time are those of a process seen here? ─no─▶ refused: nothing is signalled
//!                    └ yes ─▶ TERM (as Ctrl-C), or KILL: the pipe closes, and init ends everything
//! ```

use super::error::RecordError;
use super::owner::Owner;
use super::run;
use super::store::check_ours;
use super::stored::StoredRun;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// In order, as Ctrl-C does.
    Ask,
    Force,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Signalled,
    /// Nobody holds it.
    HasEnded,
}

impl StoredRun {
    /// Whether nobody holds the record, and its process is gone with all that it held besides.
    pub fn is_over(&self) -> Result<bool, RecordError> {
        if self.is_running()? {
            return Ok(false);
        }
        let owner = Owner::read(&self.dir().join(run::OWNER));
        Ok(!owner.is_some_and(|owner| owner.is_seen()))
    }

    /// Signals the process that holds the run, if it is certain which that is.
    pub fn push(&self, push: Push) -> Result<Pushed, RecordError> {
        if !self.is_running()? {
            return Ok(Pushed::HasEnded);
        }
        // Another user could have named any process there, and hold the record themselves.
        check_ours(self.dir())?;
        let owner = Owner::read(&self.dir().join(run::OWNER));
        let pid = owner
            .filter(Owner::is_seen)
            .and_then(|owner| i32::try_from(owner.pid).ok())
            .filter(|pid| *pid > 1);
        let Some(pid) = pid else {
            // It may have ended between the two looks.
            return match self.is_running()? {
                false => Ok(Pushed::HasEnded),
                true => Err(RecordError::OwnerUnseen {
                    run: self.id().clone(),
                }),
            };
        };
        let signal = match push {
            Push::Ask => Signal::SIGTERM,
            Push::Force => Signal::SIGKILL,
        };
        match kill(Pid::from_raw(pid), signal) {
            Ok(()) => Ok(Pushed::Signalled),
            Err(Errno::ESRCH) => Ok(Pushed::HasEnded),
            Err(errno) => Err(RecordError::io("signal the process of", self.dir())(
                errno.into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RunStore, new_run_id};

    #[test]
    fn a_process_that_is_not_certainly_the_owner_is_not_signalled() {
        let home = tempfile::tempdir().unwrap();
        let store = RunStore::open(home.path());
        let record = store.create(&new_run_id()).unwrap();
        let stored = store.newest().unwrap();
        let mut other = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        // Its number is there, and its start time is another's.
        let forged = Owner {
            pid: other.id(),
            start: 1,
        };
        forged.write(&record.dir().join(run::OWNER)).unwrap();
        for push in [Push::Ask, Push::Force] {
            assert!(matches!(
                stored.push(push),
                Err(RecordError::OwnerUnseen { .. })
            ));
        }
        assert!(other.try_wait().unwrap().is_none());
        drop(record);
        assert_eq!(stored.push(Push::Ask).unwrap(), Pushed::HasEnded);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
