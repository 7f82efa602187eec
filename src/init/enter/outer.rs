//! The half that stays outside: it forks the rest, waits, and cleans up.
//!
//! It outlives the host on purpose. It holds no end of the pipe (else init would never see the host
//! go), has a session of its own, ignores what a terminal or a session manager sends, and takes init
//! with it when it is killed itself.

use super::failure::{At, Result};
use super::{Inner, Place, identity, sources};
use crate::wire::{CgroupJoin, Stage, World, WorldCgroup};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long an emptied cgroup may take to let its folder be removed.
const REMOVAL: Duration = Duration::from_secs(3);

/// Signals that are not meant for this process, or come from where nobody means it.
const IGNORED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Tells PID 1 whether the outer process still lived when PID 1 asked to die with it.
pub(super) struct Life {
    read: OwnedFd,
}

impl Life {
    /// From here on this process dies with the outer one.
    pub(super) fn bind(self) -> Result<()> {
        reset_signals().at(Stage::Namespaces, "reset signals")?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
            .at(Stage::Namespaces, "set the death signal")?;
        let mut fds = [PollFd::new(self.read.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).at(Stage::Namespaces, "poll")?;
        let gone = fds[0].revents().is_some_and(|events| !events.is_empty());
        match gone {
            true => Err(Errno::ESRCH).at(Stage::Namespaces, "the outer process is gone"),
            false => Ok(()),
        }
    }
}

/// Forks twice. Returns once in each of the three processes.
pub(super) fn split(world: &World) -> Result<Place> {
    // Fails only where this process leads a group already, and then the signals below suffice.
    let _ = setsid();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at(Stage::Namespaces, "pipe")?;
    match identity::fork_into(version_2(world)?.as_ref()).at(Stage::Cgroup, "clone")? {
        Some(middle) => {
            drop(read);
            // Kept open for as long as this process lives: PID 1 looks at its other end.
            std::mem::forget(write);
            Ok(Place::Outer(middle))
        }
        None => {
            drop(write);
            split_middle(world, Life { read })
        }
    }
}

/// The folder that the second process is cloned into, where there is one.
fn version_2(world: &World) -> Result<Option<File>> {
    world
        .cgroups
        .iter()
        .find(|cgroup| cgroup.join == CgroupJoin::Clone)
        .map(|cgroup| File::open(&cgroup.dir).at(Stage::Cgroup, &cgroup.dir))
        .transpose()
}

fn split_middle(world: &World, life: Life) -> Result<Place> {
    join(&world.cgroups)?;
    let sources = match identity::may_mount()? {
        true => Some(sources::open(world)?),
        false => None,
    };
    identity::drop_root(world)?;
    match identity::clone_namespaces()? {
        Some(_init) => Ok(Place::Middle),
        None => Ok(Place::Inner(Inner { sources, life })),
    }
}

fn join(cgroups: &[WorldCgroup]) -> Result<()> {
    for cgroup in cgroups {
        if cgroup.join == CgroupJoin::Tasks {
            let file = format!("{}/tasks", cgroup.dir);
            fs::write(&file, "0").at(Stage::Cgroup, file)?;
        }
    }
    Ok(())
}

/// Waits for the middle process and for PID 1, then removes what the host made for them.
pub(super) fn wait(middle: Pid, cgroups: &[WorldCgroup]) -> ExitCode {
    leave_the_pipe();
    for ignored in IGNORED {
        set(ignored, SigHandler::SigIgn);
    }
    let mut built = true;
    let mut code = ExitCode::SUCCESS;
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, 0)) if pid == middle => {}
            Ok(WaitStatus::Exited(_, status)) => {
                built &= status != i32::from(super::FAILED);
                code = ExitCode::from(u8::try_from(status).unwrap_or(super::FAILED));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                code = ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(super::FAILED));
            }
            Err(Errno::ECHILD) => break,
            Ok(_) | Err(_) => {}
        }
    }
    for cgroup in cgroups {
        remove(&cgroup.dir);
    }
    match built {
        true => code,
        false => ExitCode::from(super::FAILED),
    }
}

/// Puts `/dev/null` over 0, 1 and 2.
fn leave_the_pipe() {
    let Ok(null) = File::options().read(true).write(true).open("/dev/null") else {
        // Without it there is still something to do: closing by ending. PID 1 dies with us.
        std::process::exit(i32::from(super::FAILED));
    };
    let done = [dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null)];
    if done.iter().any(|done| done.is_err()) {
        std::process::exit(i32::from(super::FAILED));
    }
}

/// A group may stay busy for a moment after its last process is gone. What cannot be removed is left
/// to the host's sweep.
fn remove(dir: &str) {
    let start = Instant::now();
    while start.elapsed() < REMOVAL {
        match nix::unistd::unlinkat(
            nix::fcntl::AT_FDCWD,
            dir,
            nix::unistd::UnlinkatFlags::RemoveDir,
        ) {
            Err(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}

/// Every disposition back to its default; Rust's runtime ignores one, and the host may have others.
fn reset_signals() -> nix::Result<()> {
    for each in Signal::iterator() {
        if !matches!(each, Signal::SIGKILL | Signal::SIGSTOP) {
            set(each, SigHandler::SigDfl);
        }
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

#[expect(unsafe_code, reason = "setting a signal's disposition")]
fn set(which: Signal, to: SigHandler) {
    // SAFETY: ignoring and defaulting run no handler.
    let _ = unsafe { signal(which, to) };
}
