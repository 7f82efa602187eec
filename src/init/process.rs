//! Few calls about processes and signals that have no safe wrapper.

use nix::errno::Errno;
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The highest signal number.
const LAST_SIGNAL: libc::c_int = 64;

/// A process that was reaped, and its raw status.
pub struct Reaped {
    pub pid: Pid,
    pub status: libc::c_int,
}

/// Takes one dead child without waiting.
///
/// # Errors
/// `ECHILD` where there is no child at all.
#[expect(unsafe_code, reason = "nix cannot name a death by a real-time signal")]
pub fn reap() -> nix::Result<Option<Reaped>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
        match Errno::result(pid) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(pid) => {
                return Ok(Some(Reaped {
                    pid: Pid::from_raw(pid),
                    status,
                }));
            }
        }
    }
}

/// Any signal, real-time ones too. A negative pid is a group.
#[expect(unsafe_code, reason = "nix has no real-time signals")]
pub fn send(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: the call touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Forks. `None` in the child.
#[expect(unsafe_code, reason = "fork")]
pub fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: init and its keepers have one thread each, so the child may do anything.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Ends this process without running anything of the parent's that it has a copy of.
#[expect(unsafe_code, reason = "_exit has no wrapper")]
pub fn exit_now(code: i32) -> ! {
    // SAFETY: the call does not return.
    unsafe { libc::_exit(code) }
}

/// Every signal back to its default. The mask stays.
#[expect(
    unsafe_code,
    reason = "the C library hides two signals from its own call"
)]
pub fn default_signals() {
    // The kernel's structure (handler, flags, restorer, mask): all zero is the default.
    let default = [0u64; 4];
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: the structure outlives the call, which reads it, and the default runs no handler.
        // What cannot be set is left alone.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<libc::c_void>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Closes all descriptors above 2 but these.
pub fn close_all_but(keep: &[&OwnedFd]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        close_range(first, fd - 1)?;
        first = fd + 1;
    }
    close_range(first, RawFd::MAX)
}

#[expect(unsafe_code, reason = "descriptors that nothing here owns")]
fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: after a fork, and before anything was opened, nothing owns what is closed here.
    match Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Ok(_) => Ok(()),
        // Before Linux 5.9, or an engine that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let (soft, _) =
                nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
            for fd in first..=last.min(RawFd::try_from(soft).unwrap_or(RawFd::MAX)) {
                // SAFETY: as above.
                unsafe { libc::close(fd) };
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}
