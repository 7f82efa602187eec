//! Sandboxes: a specification goes in, a running init comes out, steps run in it.
//!
//! ```text
//!   ExecRequest ── plan (pure) ──▶ SandboxSpec ── gate ──▶ Permit<ExecAction>
//!                                                             │
//!   Backend::start(spec) ─▶ Sandbox ── Sandbox::step(permit) ─▶ Step ── drive ─▶ Exit
//!      docker | namespace      │ channel: one yamux connection over init's pipe
//!                              └ lease: what the backend holds for it (container, cgroups)
//! ```
//!
//! "The program failed" is [`Outcome`](crate::protocol::outcome::Outcome); "we failed to run it" is
//! [`SandboxError`]. They never share a field.

pub mod backend;
mod channel;
pub mod counts;
pub mod docker;
pub mod egress;
#[cfg(test)]
pub(crate) mod fake;
pub mod finding;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod gpu;
pub mod init_binary;
mod last_words;
pub mod mount_source;
pub mod namespace;
pub mod owner;
pub mod plan;
pub mod python;
mod running;

pub use running::{Sandbox, StepIo, check_required};

#[path = "../init/wire.rs"]
pub mod wire;
