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
//! A client that goes away stops its step, or, with `on_disconnect = "finish"`, leaves it to go on. An agent
//! whose run is to finish works in a holder from the start, and its terminal only watches:
//!
//! ```text
//!   watch  one connection: the record so far, then what happens ──▶   questions ◀──▶ answers, Cancel
//! ```
//!
//! Not here: what may run (the gate), how it runs (the bench), how anything looks (the terminal).

mod audience;
mod client;
mod detach;
mod door;
mod end;
mod error;
mod exec;
mod names;
mod serve;
mod socket;
mod talk;
mod transfer;
mod view;
mod wire;

pub use audience::{AgentDoor, Audience, Standing};
pub use client::{
    ExecTalk, Got, WatchTalk, connect_exec, connect_watch, get, put, say_close, status, stop_step,
    unexpected,
};
pub use door::HolderDoor;
pub use end::End;
pub use error::HolderError;
pub use names::{BoxName, Boxes, Listed};
pub use serve::{Holder, HolderSetup, Service};
pub use socket::{Listener, is_held, listen};
pub use wire::{
    ExecAsk, ExecEnd, FromHolder, HolderStatus, PutAsk, RunOver, Seat, StepStatus, ToHolder, When,
};
