//! What a step may use, set from values that were saved when init started.
//!
//! A step of the same uid might have changed init's own limits in the meantime. Nobody inherits them.

use crate::wire::StepLimits;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use std::io;

/// `RLIMIT_CORE` at which there are no core dumps. Not 0: where the kernel hands dumps to a program, that
/// program is started outside, as root, whatever the limit is, but for this one.
pub const NO_DUMPS: u64 = 1;

/// One past the last resource (`RLIMIT_RTTIME` is 15).
const RESOURCES: u32 = 16;

/// The limits of the sandbox as it was entered.
pub struct Saved {
    limits: Vec<(u32, libc::rlimit)>,
    /// Processors this sandbox may run on, beginning anywhere: sandboxes with few cores each are not
    /// all to sit on the first ones.
    cpus: Vec<usize>,
}

impl Saved {
    /// Saves them, and lets init itself open as many files as it may.
    pub fn now() -> io::Result<Self> {
        let mut limits = Vec::new();
        for resource in 0..RESOURCES {
            limits.push((resource, get(resource)?));
        }
        let (_, mut files) = limits[libc::RLIMIT_NOFILE as usize];
        files.rlim_cur = files.rlim_max;
        set(libc::RLIMIT_NOFILE, files)?;
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut cpus: Vec<usize> = (0..CpuSet::count())
            .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
            .collect();
        let begin = usize::from(random()) % cpus.len().max(1);
        cpus.rotate_left(begin);
        Ok(Self { limits, cpus })
    }

    /// Puts the limits of a step on this process.
    pub fn apply(&self, limits: &StepLimits) -> io::Result<()> {
        for &(resource, saved) in &self.limits {
            let wanted = match resource {
                libc::RLIMIT_CORE => Some(NO_DUMPS),
                libc::RLIMIT_NOFILE => limits.open_files,
                libc::RLIMIT_FSIZE => limits.file_size,
                libc::RLIMIT_NPROC => limits.processes,
                _ => None,
            };
            let value = match wanted {
                Some(wanted) => {
                    let value = wanted.min(saved.rlim_max);
                    libc::rlimit {
                        rlim_cur: value,
                        rlim_max: value,
                    }
                }
                None => saved,
            };
            set(resource, value)?;
        }
        self.place(limits.cores)?;
        score(limits.oom_score_adj)
    }

    /// All that the sandbox has, or as many cores as were asked for.
    fn place(&self, cores: Option<u32>) -> io::Result<()> {
        let count = cores.and_then(|cores| usize::try_from(cores).ok());
        let mut set = CpuSet::new();
        for &cpu in self.cpus.iter().take(count.unwrap_or(usize::MAX).max(1)) {
            set.set(cpu)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }
}

/// More than what init has, whatever that is: an engine or a pod gives it a score that only the
/// privileged may go below. Must be dumpable for a moment: the file of a process that is not belongs
/// to root.
fn score(more: i32) -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    const HIGHEST: i32 = 1000;
    if more == 0 {
        return Ok(());
    }
    let own = fs::read_to_string(FILE)?.trim().parse().unwrap_or(0);
    let score = more.saturating_add(own).min(HIGHEST);
    nix::sys::prctl::set_dumpable(true)?;
    let written = fs::write(FILE, score.to_string());
    nix::sys::prctl::set_dumpable(false)?;
    written
}

#[expect(unsafe_code, reason = "nix does not name every resource")]
fn get(resource: u32) -> io::Result<libc::rlimit> {
    let mut value = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `value` outlives the call.
    Errno::result(unsafe { libc::getrlimit(resource, &raw mut value) })?;
    Ok(value)
}

#[expect(unsafe_code, reason = "nix does not name every resource")]
fn set(resource: u32, value: libc::rlimit) -> io::Result<()> {
    // SAFETY: `value` outlives the call.
    Errno::result(unsafe { libc::setrlimit(resource, &raw const value) })?;
    Ok(())
}

#[expect(unsafe_code, reason = "getrandom has no wrapper here")]
fn random() -> u16 {
    let mut bytes = [0u8; 2];
    // SAFETY: the buffer outlives the call and has the length that is told.
    let _ = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    u16::from_ne_bytes(bytes)
}
