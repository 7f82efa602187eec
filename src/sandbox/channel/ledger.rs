//! Which steps init runs, and what it may say about each. Pure but for the channels it fills.
//!
//! ```text
//!   reserved ──begin──▶ asked ──Started──▶ running ──Exited──▶ gone
//!                         └────StartFailed────────────────────▶ gone
//! ```
//!
//! Everything else is nonsense. A step that nobody listens to any more stays until init says that it
//! is gone.

use crate::sandbox::wire::{FromInit, StartError, StepExit};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// What init said about a step: `Started` and `Exited`, or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Started,
    Failed(StartError),
    Exited(StepExit),
}

#[derive(Default)]
pub(super) struct Ledger {
    /// Numbers given out.
    last: u32,
    steps: BTreeMap<u32, Entry>,
}

struct Entry {
    phase: Phase,
    listener: mpsc::UnboundedSender<Heard>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asked,
    Running,
}

impl Ledger {
    /// A number that was never used, unless `max` steps are there already.
    pub(super) fn reserve(&mut self, max: usize) -> Option<u32> {
        if self.steps.len() >= max {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        Some(self.last)
    }

    /// It is asked for now.
    pub(super) fn begin(&mut self, step: u32) -> mpsc::UnboundedReceiver<Heard> {
        let (listener, heard) = mpsc::unbounded_channel();
        let phase = Phase::Asked;
        self.steps.insert(step, Entry { phase, listener });
        heard
    }

    pub(super) fn alive(&self) -> usize {
        self.steps.len()
    }

    /// Takes in what was said about a step.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn hear(&mut self, message: FromInit) -> Result<(), String> {
        let (step, phase, heard) = match message {
            FromInit::Started { step } => (step, Phase::Asked, Heard::Started),
            FromInit::StartFailed { step, error } => (step, Phase::Asked, Heard::Failed(error)),
            FromInit::Exited(exit) => (exit.step, Phase::Running, Heard::Exited(exit)),
            FromInit::Hello { .. } | FromInit::Pong { .. } | FromInit::Fatal { .. } => {
                return Err("a message about no step".to_owned());
            }
        };
        let Some(entry) = self.steps.get_mut(&step) else {
            return Err(format!("it spoke of step {step}, which does not run"));
        };
        if entry.phase != phase {
            return Err(match phase {
                Phase::Asked => format!("it started step {step} twice"),
                Phase::Running => format!("step {step} ended before it started"),
            });
        }
        entry.phase = Phase::Running;
        let goes_on = heard == Heard::Started;
        // Nobody listens to a step that was given up.
        let _ = entry.listener.send(heard);
        if !goes_on {
            self.steps.remove(&step);
        }
        Ok(())
    }
}
