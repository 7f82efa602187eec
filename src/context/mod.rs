//! What a model reads and remembers: pure decisions over text and messages.
//!
//! No clock, disk, network or environment here. Text from a sandbox, a repository or a model is
//! hostile: it passes [`sanitise`] before any terminal, model, event or page sees it.

pub mod alarm;
pub mod budget;
pub mod doom_loop;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod history;
mod line;
pub mod listen;
pub mod prompt;
pub mod redact;
pub mod sanitise;
pub mod truncate;
