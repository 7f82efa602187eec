//! The record: what happened in each run, in order, so that it can be shown and proved.
//!
//! ```text
//!   FUMEHOOD_HOME/runs/<run id>/
//!     events.jsonl    one record a line, each with the hash of the line before; locked while the run lives
//!     head            the last record's number and hash: a cut-off end is found by it
//!     owner           the process that writes, for people
//!     keep            for how long workspace/ is kept, where not for ever
//!     logs/           step-N.stdout.log, step-N.stderr.log: raw bytes, head and tail
//!     blobs/          texts by their hash, so that a difference can be shown later
//!     home/           the sandbox's HOME        workspace/   where none was given
//!     quarantine/     what the workspace could not keep
//!     socket          where a holder is reached, holder.log what it says
//!   FUMEHOOD_HOME/heads.jsonl   what is kept of runs that were removed
//! ```
//!
//! ```text
//!             create                      append(RunEnded)
//!   (nothing) ──────▶ running (lock held) ────────────────▶ finished
//!                        └ the process died: the kernel frees the lock ─▶ crashed
//! ```
//!
//! A record is flushed to disk before [`RunRecord::append`] returns: an act is announced, then done.
//! After a failed write every further append fails: a run that cannot write its record does not act.
//!
//! Not here: what the events mean, and workspaces (a room of their own).

pub mod chain;
mod error;
mod follow;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod gone;
mod log;
mod owner;
mod pace;
mod run;
mod stop;
mod store;
mod stored;

pub use chain::{Fault, Head, Recorded, Verified};
pub use error::RecordError;
pub use follow::LogFollower;
pub use gone::{Ended, Gone};
pub use log::{LogReader, LogSummary, LogWriter, Stream};
pub use owner::Owner;
pub use run::{Clock, RunRecord};
pub use stop::{Push, Pushed};
pub use store::{RunStore, new_run_id};
pub use stored::{Events, RunState, RunSummary, StoredRun};
