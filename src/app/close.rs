//! Closes a run: sandbox, results, workspace, record.

use super::{AppError, OpenedRun};
use crate::context::sanitise::visible;
use crate::protocol::event::Event;
use crate::protocol::stop::StopReason;
use crate::workspace::remove_tree;

impl OpenedRun {
    /// Ends the sandbox, takes out results and what the workspace may not keep, and writes the last record: each
    /// of these also when one before it failed.
    pub async fn close(self, end: RunEnd) -> Result<i32, AppError> {
        let down = self.bench.end().await;
        let taken = match &down {
            Ok(()) => self.collect(),
            // Something may live in it.
            Err(_) => Ok(()),
        };
        let tidied = self.tidy();
        let RunEnd {
            stop,
            exit_code,
            text,
        } = end;
        self.desk.emit(&Event::RunEnded {
            stop,
            exit_code,
            text,
        })?;
        // Free again once nothing of the sandbox is left.
        drop(self.gpus);
        down?;
        taken?;
        tidied?;
        Ok(exit_code)
    }

    fn tidy(&self) -> Result<(), AppError> {
        let moved = self
            .bench
            .workspace()
            .quarantine(&self.record.quarantine_dir())?;
        if !moved.is_empty() {
            let paths = moved
                .iter()
                .map(|each| visible(&each.to_string()))
                .collect();
            self.desk.emit(&Event::Quarantined { paths })?;
        }
        // Caches: nothing in it is a result.
        if let Err(error) = remove_tree(&self.record.dir().join("home")) {
            let text = error.to_string();
            self.desk.emit(&Event::Notice { text })?;
        }
        Ok(())
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub stop: StopReason,
    /// What the command ends with: of `exec`, the program's own.
    pub exit_code: i32,
    /// The model's last words.
    pub text: String,
}
