//! Fumehood: a sandboxed local executor with an agent loop for machine-written ML code.
//!
//! The house, and the one rule that holds it together: dependencies point down only.
//!
//! ```text
//!    cli                    doors       terminal
//!      │
//!   holder                  doors       boxes: a process that keeps a sandbox warm, and its socket
//!      │
//!     app                   wiring      the one place that names concrete adapters
//!      │
//!    agent                  flow        queue, driver, turn, approval
//!      │
//!    tools                  verbs       prepare, gate, execute
//!    images                 verbs       made, named, found again
//!      │
//!  sandbox workspace repo llm record    adapters: the only code with foreign clients
//!      │
//!  policy   context         decisions   pure
//!      │
//!   protocol                words       pure
//! ```
//!
//! `src/init` is a program of its own: PID 1 of every sandbox, compiled static by `build.rs` and
//! embedded. The library never prints, never reads the environment, never exits.

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("Fumehood runs on Linux, on x86_64 and aarch64");

pub mod agent;
pub mod app;
pub mod cli;
pub mod config;
pub mod context;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod holder;
pub mod images;
pub mod llm;
pub mod policy;
pub mod protocol;
pub mod record;
pub mod repo;
pub mod sandbox;
pub mod tools;
pub mod workspace;
