//! A process that owns one warm sandbox and its run's record, and what its clients say to it.
//!
//! ```text
//!   fumehood box open ── starts ──▶ holder (setsid, stdio to holder.log)
//!                                     │ owns: the record's lock, the workspace's lock, the sandbox's pipe
//!   box exec ─┐                       │
//!   box put  ─┼─ runs/ID/socket ──────┤ each connection is one thing asked; each exec passes the bench,
//!   box get  ─┤  0600, same uid only  │ as `fumehood exec` does
//!   box close─┘                       ▼
//!               TERM, close, idle ──▶ steps stopped ─▶ run closed ─▶ gone
//!               kill -9 ────────────▶ the pipe closes, init ends everything; the next look sweeps the name
//! ```
//!
//! ```text
//!   exec   one connection to talk on, and one for each of stdin, stdout, stderr: bytes flow as in a pipe,
//!          and none of them holds up another or the talk
//! ```
//!
//! A client that goes away stops its step, or, with `on_disconnect = "finish"`, leaves it to go on.
//!
//! Not here: what may run (the gate), how it runs (the bench), how anything looks (the terminal).

mod client;
mod detach;
mod door;
mod error;
mod exec;
mod names;
mod serve;
mod socket;
mod transfer;
mod wire;

pub use client::{ExecTalk, Got, connect_exec, get, put, say_close, status, stop_step, unexpected};
pub use door::HolderDoor;
pub use error::HolderError;
pub use names::{BoxName, Boxes, Listed};
pub use serve::{End, Holder, HolderSetup, Service};
pub use socket::{Listener, listen};
pub use wire::{ExecAsk, ExecEnd, FromHolder, HolderStatus, PutAsk, StepStatus, ToHolder};
