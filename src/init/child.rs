//! From the keeper's fork to `execve`: everything that makes a process a step.
//!
//! ```text
//!   session ─ 0,1,2 ─ folder ─ limits, cores, OOM score ─ Landlock ─ fence ─ signals ─ execve
//! ```
//!
//! What fails is told to the keeper over a pipe that a successful `execve` closes. Nothing runs
//! without any of it.

use crate::fence::{self, Cores};
use crate::keeper::Seat;
use crate::process;
use crate::program::Program;
use crate::serve::Sandbox;
use crate::wire::{self, StartError};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    AccessFlags, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, faccessat, setsid,
};
use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// Becomes the program, or says why not.
pub fn become_program(seat: &Seat, program: &Program, sandbox: &Sandbox, errors: OwnedFd) -> ! {
    let Err(error) = prepare(seat, program, sandbox);
    if let Ok(frame) = wire::frame(&error) {
        // A keeper that is gone needs no answer.
        let _ = File::from(errors).write_all(&frame);
    }
    process::exit_now(1)
}

fn prepare(seat: &Seat, program: &Program, sandbox: &Sandbox) -> Result<Infallible, StartError> {
    let keeper = Pid::parent();
    setsid().map_err(|errno| confine("start a session", errno))?;
    connect(seat).map_err(|error| confine("connect its streams", error))?;
    umask(Mode::from_bits_truncate(0o022));
    chdir(program.cwd.as_c_str()).map_err(|errno| StartError::WorkingDirectory {
        errno: errno as i32,
    })?;
    if let Some(harden) = &sandbox.harden {
        harden.apply().map_err(|error| confine("enter the Landlock domain", error))?;
    }
    let limits = &program.limits;
    sandbox
        .saved
        .apply(limits)
        .map_err(|error| confine("set its limits", error))?;
    let cores = match limits.cores {
        Some(_) => Cores::Fixed,
        None => Cores::Free,
    };
    fence::install(keeper, cores).map_err(|error| confine("load its filter", error))?;
    process::default_signals();
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| confine("unblock signals", errno))?;
    Err(execute(program))
}

/// Every other descriptor is closed by `execve`.
fn connect(seat: &Seat) -> io::Result<()> {
    match &seat.stdin {
        Some(stdin) => dup2_stdin(stdin)?,
        None => dup2_stdin(File::open("/dev/null")?)?,
    }
    dup2_stdout(&seat.stdout)?;
    dup2_stderr(&seat.stderr)?;
    Ok(())
}

/// As `execvp` looks, but never through a shell.
fn execute(program: &Program) -> StartError {
    let mut last = StartError::NotFound;
    for candidate in &program.candidates {
        let Err(errno) = execve(candidate, &program.argv, &program.env);
        match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::ELOOP => {
                // It is there, and the interpreter it names is not.
                if errno == Errno::ENOENT && exists(candidate) {
                    last = not_executable(errno);
                }
            }
            // A folder that may not be searched, or a file without the bit: another may have it.
            Errno::EACCES | Errno::EPERM => last = not_executable(errno),
            Errno::E2BIG => return StartError::TooLarge,
            Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE => {
                return StartError::Resources {
                    errno: errno as i32,
                };
            }
            _ => return not_executable(errno),
        }
    }
    last
}

fn exists(path: &CStr) -> bool {
    faccessat(
        nix::fcntl::AT_FDCWD,
        path,
        AccessFlags::F_OK,
        AtFlags::empty(),
    )
    .is_ok()
}

fn not_executable(errno: Errno) -> StartError {
    StartError::NotExecutable {
        errno: errno as i32,
    }
}

fn confine(what: &str, why: impl std::fmt::Display) -> StartError {
    StartError::Unconfined {
        detail: format!("{what}: {why}"),
    }
}
