//! What PID 1 does before anything else: what nobody may look into, what it wakes up for, what it starts
//! from.

use crate::limits::Saved;
use crate::link;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::io;
use std::os::fd::OwnedFd;

pub struct Prepared {
    pub stdio: (OwnedFd, OwnedFd),
    pub signals: SignalFd,
    pub saved: Saved,
}

impl Prepared {
    /// # Errors
    /// Where it is not PID 1, or the kernel refuses.
    pub fn now() -> io::Result<Self> {
        nix::sys::prctl::set_dumpable(false)?;
        if Pid::this() != Pid::from_raw(1) {
            return Err(io::Error::other("it serves only as PID 1 of a sandbox"));
        }
        nix::sys::prctl::set_no_new_privs()?;
        let mut wanted = SigSet::empty();
        wanted.add(Signal::SIGCHLD);
        wanted.add(Signal::SIGTERM);
        wanted.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags)?;
        let saved = Saved::now()?;
        let stdio = link::take()?;
        Ok(Self {
            stdio,
            signals,
            saved,
        })
    }
}
