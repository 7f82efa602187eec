//! Init: the first process of every sandbox.
//!
//! ```text
//!   init serve    an engine made the world; this is PID 1 of it          -> serve
//!   init serve door    the same, and the host may listen at a door       -> link, serve
//!   init enter    makes the world from namespaces, becomes PID 1 of it   -> enter -> serve
//!
//!   PID 1 ── serve      the connection, the control stream, the output of steps; single-threaded
//!     └─ keeper         one for each step: starts it, ends it with all its descendants
//!         └─ program    the step's first process, in a session of its own
//! ```
//!
//! It is compiled static by `build.rs` and embedded in the library; it uses nothing of the sandbox it
//! runs in but `/proc` and `/dev/null`.

mod child;
mod confine;
mod control;
mod dns;
mod egress;
mod enter;
mod fence;
mod keeper;
mod limits;
mod link;
mod oom;
mod prepare;
mod process;
mod program;
mod pump;
mod room;
mod secrets;
mod serve;
mod step;
mod streams;
mod wire;

use std::process::ExitCode;

/// `EX_USAGE`.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    keep_memory();
    // Whatever a careless parent left open is nobody's here.
    if let Err(error) = process::close_all_but(&[]) {
        eprintln!("init: {error}");
        return ExitCode::from(USAGE);
    }
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_str()).collect();
    let serve = |way| {
        serve::run(serve::Options {
            harden: Some(Box::new(confine::Scoped)),
            way,
        })
    };
    match words.as_slice() {
        [Some("serve")] => serve(link::Way::Stdio),
        [Some("serve"), Some("door")] => serve(link::Way::Door),
        [Some("enter")] => enter::run(),
        _ => {
            eprintln!("usage: init serve [door] | init enter");
            ExitCode::from(USAGE)
        }
    }
}

/// A frame's memory is asked for and given back thousands of times a second. Given back to the kernel,
/// it is mapped and cleared anew each time.
#[expect(unsafe_code, reason = "the allocator's settings have no wrapper")]
fn keep_memory() {
    const KEPT: libc::c_int = 1 << 20;
    // SAFETY: no other thread is there to allocate. A refusal is slower and nothing else.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
    }
}
