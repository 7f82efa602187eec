//! `init enter`: builds a world from namespaces, becomes PID 1 of it, and serves.
//!
//! ```text
//!   outer ──fork──▶ middle ──clone(user, mount, pid, net, ipc, uts, cgroup)──▶ PID 1
//!     │               │ joins the cgroups                       │ maps 1000 to one host uid
//!     │               │ (root) opens the sources,               │ empty root, system, /etc, /dev, /proc
//!     │               │        becomes the unprivileged user    │ mounts, pivot, loopback
//!     │               └ ends: PID 1 is the outer's child        │ no capability, filter
//!     │ holds no end of the pipe, so init sees it close         └ answers `Entered`, serves
//!     └ waits for PID 1, removes the cgroup folders, ends last
//! ```
//!
//! One frame in ([`World`] on stdin), one out ([`Entered`] on stdout). Any failure before that answer
//! is the answer, and the process ends with 70: there is never a half-built sandbox. PID 1 is not
//! executed anew, so nothing of the host's file system is needed to be it.

mod calls;
mod dev;
mod etc;
mod failure;
mod filter;
mod identity;
mod lock;
mod mount;
mod network;
mod outer;
mod probe;
mod proc;
mod root;
mod sources;

use crate::confine;
use crate::link::Way;
use crate::serve;
use crate::wire::{self, Entered, Purpose, Stage, World};
use failure::{At, Result, refused};
use nix::unistd::Pid;
use sources::Sources;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// `EX_SOFTWARE`: the world could not be built.
const FAILED: u8 = 70;

/// Reads the world from stdin, builds it, serves in it.
pub fn run() -> ExitCode {
    match enter() {
        Ok(code) => code,
        Err(error) => {
            // A host that is gone reads nothing, and there is nobody else to tell.
            let _ = answer(&Entered::Failed(error));
            ExitCode::from(FAILED)
        }
    }
}

/// Where this process is after the forks.
enum Place {
    Outer(Pid),
    Middle,
    Inner(Inner),
}

/// What PID 1 starts with.
struct Inner {
    /// Opened before the drop of a root start; an ordinary user opens them in the new namespace.
    sources: Option<Sources>,
    life: outer::Life,
}

fn enter() -> Result<ExitCode> {
    let world = read_world()?;
    identity::check(&world)?;
    match outer::split(&world)? {
        Place::Outer(middle) => Ok(outer::wait(middle, &world.cgroups)),
        Place::Middle => Ok(ExitCode::SUCCESS),
        Place::Inner(inner) => become_init(&world, inner),
    }
}

/// Exactly one frame: what follows belongs to the connection.
fn read_world() -> Result<World> {
    let read = || -> io::Result<World> {
        let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut prefix = [0; 4];
        stdin.read_exact(&mut prefix)?;
        let length =
            wire::body_length(prefix, wire::MAX_TO_INIT).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = vec![0; length];
        stdin.read_exact(&mut body)?;
        wire::parse(&body).map_err(io::Error::other)
    };
    read().at(Stage::Read, "read the world from standard input")
}

fn answer(entered: &Entered) -> io::Result<()> {
    let frame = wire::frame(entered).map_err(io::Error::other)?;
    File::from(io::stdout().as_fd().try_clone_to_owned()?).write_all(&frame)
}

/// PID 1, from its first instruction to its last.
fn become_init(world: &World, inner: Inner) -> Result<ExitCode> {
    inner.life.bind()?;
    identity::write_maps(world)?;
    let pid = host_pid()?;
    mount::make_private()?;
    let sources = match inner.sources {
        Some(sources) => sources,
        None => sources::open(world)?,
    };
    let zeros = root::build(world, sources)?;
    network::set_up(&world.hostname)?;
    zeros.write()?;
    lock::drop_everything()?;
    let confinement =
        confine::Confinement::new(world).at(Stage::Landlock, "make the Landlock rules")?;
    filter::install(world.memory)?;
    let standing = Entered::Standing {
        pid,
        landlock: confinement.level(),
    };
    match world.purpose {
        Purpose::Probe => probe::run(&confinement, &standing),
        Purpose::Serve => {
            answer(&standing).at(Stage::Read, "answer the host")?;
            Ok(serve::run(serve::Options {
                harden: Some(Box::new(confinement)),
                way: Way::Stdio,
            }))
        }
    }
}

/// This process as the host numbers it: the old `/proc` still shows it.
fn host_pid() -> Result<u32> {
    let link = std::fs::read_link("/proc/self").at(Stage::Proc, "read /proc/self of the host")?;
    link.to_str()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| refused(Stage::Proc, "/proc is not the host's process list"))
}
