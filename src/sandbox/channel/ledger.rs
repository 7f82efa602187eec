//! Which steps init runs, and what it may say about each. Pure but for the channels it fills.
//!
//! ```text
//!   reserved ──begin──▶ asked ──Started──▶ running ──Exited──▶ gone
//!       └ release ─▶ gone └────StartFailed────────────────────▶ gone
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
    Reserved,
    Asked,
    Running,
}

impl Ledger {
    /// A number that was never used, and what will be heard about it; unless `max` are there already.
    pub(super) fn reserve(&mut self, max: usize) -> Option<(u32, mpsc::UnboundedReceiver<Heard>)> {
        if self.steps.len() >= max {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        let (listener, heard) = mpsc::unbounded_channel();
        let phase = Phase::Reserved;
        self.steps.insert(self.last, Entry { phase, listener });
        Some((self.last, heard))
    }

    /// It was not asked for in the end. One that was stays.
    pub(super) fn release(&mut self, step: u32) {
        if let Some(Phase::Reserved) = self.steps.get(&step).map(|entry| entry.phase) {
            self.steps.remove(&step);
        }
    }

    /// It is asked for now.
    pub(super) fn begin(&mut self, step: u32) {
        if let Some(entry) = self.steps.get_mut(&step) {
            entry.phase = Phase::Asked;
        }
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
            return Err(match entry.phase {
                Phase::Reserved => format!("it spoke of step {step}, which was not asked for"),
                Phase::Asked => format!("step {step} ended before it started"),
                Phase::Running => format!("it started step {step} twice"),
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
