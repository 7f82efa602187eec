//! The keeper of one step: a process between init and the step's first process.
//!
//! ```text
//!   starting ──execve──▶ running ──first process ends──▶ ending ──no child left──▶ reported
//!      │ failed             └──────── kill ────────────────▲
//!      └──────────────────────────────────────────────────▶ reported
//! ```
//!
//! It is a subreaper, so every orphan of the step becomes its child: no double fork and no session of
//! its own takes a process out of its reach. Ending is killing its children, again and again, until it
//! has none; what a child leaves behind is the next round's child. Where that takes long (a fork bomb of
//! many sessions), init is asked whether this is the only step, and then everybody is killed in one call,
//! which no fork escapes. All its signals are blocked and it
//! is not dumpable; what else aims at it is the matter of [`crate::fence`] and of Landlock. One that
//! dies all the same ends the sandbox, for nobody knows then what is left of its step.

use crate::child;
use crate::process::{self, Reaped};
use crate::program::Program;
use crate::serve::Sandbox;
use crate::wire::{self, StartError, WaitStatus};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, pipe2};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The commands that are no signals: kill everything of the step; kill whatever there is but init, for
/// it is all of the step.
pub const KILL: u8 = 0;
pub const KILL_ALL_THERE_IS: u8 = 255;

/// How long killing everything may take before the sandbox has to be ended instead.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long until init is asked whether this is the only step.
const CROWDED: Duration = Duration::from_millis(100);

/// How long the dead are waited for between two rounds, in milliseconds.
const ROUND_MS: u16 = 2;

/// The keeper's ends of everything.
pub struct Seat {
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// One byte for each command: [`KILL`], or a signal for the group of the first process.
    pub commands: OwnedFd,
    /// Frames of [`Report`].
    pub report: OwnedFd,
}

/// What a keeper tells init. The last is `Failed`, `Ended` or `Stuck`.
#[derive(Serialize, Deserialize)]
pub enum Report {
    Started,
    Failed(StartError),
    Ended(Ended),
    /// Killing takes long: new ones come. May everybody be killed?
    Crowded,
    /// Descendants are left that could not be killed.
    Stuck,
}

#[derive(Serialize, Deserialize)]
pub struct Ended {
    pub status: WaitStatus,
    pub killed: bool,
    pub leftovers: u32,
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
}

/// What a keeper is, in the process that was forked to be it.
pub fn main(seat: Seat, program: &Program, sandbox: &Sandbox) -> ! {
    process::exit_now(match keep(seat, program, sandbox) {
        Ok(()) => 0,
        Err(_) => 1,
    })
}

fn keep(seat: Seat, program: &Program, sandbox: &Sandbox) -> io::Result<()> {
    let signals = become_keeper(&seat, sandbox)?;
    let (errors, errors_of_child) = pipe2(OFlag::O_CLOEXEC)?;
    let first = match process::fork() {
        Ok(Some(first)) => first,
        Ok(None) => child::become_program(&seat, program, sandbox, errors_of_child),
        Err(errno) => {
            let errno = errno as i32;
            return say(
                &seat.report,
                &Report::Failed(StartError::Resources { errno }),
            );
        }
    };
    drop(errors_of_child);
    let Seat {
        stdin,
        stdout,
        stderr,
        commands,
        report,
    } = seat;
    drop((stdin, stdout, stderr));
    let mut keeper = Keeper {
        first,
        errors: Some(errors),
        commands,
        report,
        signals,
        status: None,
        early: Vec::new(),
        killed: false,
        leftovers: 0,
    };
    keeper.watch()
}

fn become_keeper(seat: &Seat, sandbox: &Sandbox) -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut keep = vec![&seat.stdout, &seat.stderr, &seat.commands, &seat.report];
    keep.extend(&seat.stdin);
    keep.extend(sandbox.harden.as_ref().and_then(|harden| harden.descriptor()));
    process::close_all_but(&keep)?;
    let mut dead = SigSet::empty();
    dead.add(Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&dead, flags)?)
}

fn say(report: &OwnedFd, what: &Report) -> io::Result<()> {
    let frame = wire::frame(what).map_err(io::Error::other)?;
    File::from(report.try_clone()?).write_all(&frame)
}

struct Keeper {
    first: Pid,
    /// Where the child says why it could not be started; gone once it was.
    errors: Option<OwnedFd>,
    commands: OwnedFd,
    report: OwnedFd,
    signals: SignalFd,
    /// The raw status of the first process, once it is reaped.
    status: Option<libc::c_int>,
    /// Signals that came before the program was there.
    early: Vec<i32>,
    killed: bool,
    leftovers: u32,
}

/// What became ready.
struct Ready {
    errors: bool,
    commands: bool,
    dead: bool,
}

impl Keeper {
    fn watch(&mut self) -> io::Result<()> {
        while self.status.is_none() && !self.killed {
            let ready = self.wait(PollTimeout::NONE)?;
            if ready.errors
                && let Some(error) = self.hear_child()?
            {
                self.end_all()?;
                return say(&self.report, &Report::Failed(error));
            }
            if ready.commands {
                self.obey()?;
            }
            if ready.dead {
                self.reap()?;
            }
        }
        if !self.end_all()? {
            return say(&self.report, &Report::Stuck);
        }
        // Killed while it was being started.
        if self.errors.is_some()
            && let Some(error) = self.hear_child()?
        {
            return say(&self.report, &Report::Failed(error));
        }
        let ended = self.ended()?;
        say(&self.report, &Report::Ended(ended))
    }

    fn wait(&self, patience: PollTimeout) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.commands.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(errors) = &self.errors {
            fds.push(PollFd::new(errors.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut fds, patience)?;
        let is_ready = |at: usize| {
            fds.get(at)
                .and_then(PollFd::revents)
                .is_some_and(|found| !found.is_empty())
        };
        Ok(Ready {
            commands: is_ready(0),
            dead: is_ready(1),
            errors: is_ready(2),
        })
    }

    /// The child's last words before `execve`; none means that it is the program now.
    fn hear_child(&mut self) -> io::Result<Option<StartError>> {
        let Some(errors) = self.errors.take() else {
            return Ok(None);
        };
        let mut words = Vec::new();
        File::from(errors).read_to_end(&mut words)?;
        if let Some(body) = words.get(4..) {
            return wire::parse(body).map(Some).map_err(io::Error::other);
        }
        say(&self.report, &Report::Started)?;
        for signal in std::mem::take(&mut self.early) {
            self.signal(signal);
        }
        Ok(None)
    }

    fn obey(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64];
        let count = nix::unistd::read(&self.commands, &mut bytes)?;
        if count == 0 {
            // Init is gone.
            self.killed = true;
        }
        for &command in &bytes[..count] {
            match command {
                KILL => self.killed = true,
                KILL_ALL_THERE_IS => drop(process::send(-1, libc::SIGKILL)),
                signal if self.errors.is_some() => self.early.push(signal.into()),
                signal => self.signal(signal.into()),
            }
        }
        Ok(())
    }

    /// The first process is not reaped, so its number is still its group's.
    fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // A group that is gone, or a number that is no signal: nothing to be done.
            let _ = process::send(-self.first.as_raw(), signal);
        }
    }

    /// Takes all that are dead. False where no child is left, dead or alive.
    fn reap(&mut self) -> io::Result<bool> {
        while self.signals.read_signal()?.is_some() {}
        loop {
            match process::reap() {
                Ok(Some(Reaped { pid, status })) if pid == self.first => self.status = Some(status),
                Ok(Some(dead)) => {
                    let ending = self.status.is_some() || self.killed;
                    let by_force = libc::WIFSIGNALED(dead.status)
                        && libc::WTERMSIG(dead.status) == libc::SIGKILL;
                    self.leftovers += u32::from(ending && by_force);
                }
                Ok(None) => return Ok(true),
                Err(Errno::ECHILD) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Kills until nothing is left. False where something would not die.
    fn end_all(&mut self) -> io::Result<bool> {
        let begun = Instant::now();
        let mut asked = false;
        while self.reap()? {
            if begun.elapsed() > PATIENCE {
                return Ok(false);
            }
            if begun.elapsed() > CROWDED && !asked {
                say(&self.report, &Report::Crowded)?;
                asked = true;
            }
            // The whole group at once, so that no fork of its members slips between.
            if self.status.is_none() {
                self.signal(libc::SIGKILL);
            }
            for child in children()? {
                // It may be dead already.
                let _ = process::send(child, libc::SIGKILL);
            }
            if self.wait(PollTimeout::from(ROUND_MS))?.commands {
                self.obey()?;
            }
        }
        Ok(true)
    }

    fn ended(&self) -> io::Result<Ended> {
        let raw = self.status.ok_or(io::ErrorKind::NotFound)?;
        let status = match libc::WIFSIGNALED(raw) {
            true => WaitStatus::Signal(libc::WTERMSIG(raw)),
            false => WaitStatus::Code(libc::WEXITSTATUS(raw)),
        };
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok(Ended {
            status,
            killed: self.killed,
            leftovers: self.leftovers,
            user_us: microseconds(usage.user_time()),
            system_us: microseconds(usage.system_time()),
            max_rss_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
        })
    }
}

/// Of this process. The kernel's own list holds those too that hide from `/proc`; a kernel built without
/// it (`CONFIG_PROC_CHILDREN`) leaves what `/proc` shows.
fn children() -> io::Result<Vec<i32>> {
    let list = match fs::read_to_string("/proc/thread-self/children") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return visible_children(),
        list => list?,
    };
    Ok(list
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(|&pid| pid > 0)
        .collect())
}

fn visible_children() -> io::Result<Vec<i32>> {
    let own = Pid::this().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Gone since, or hidden. After the name, which may hold anything: state, then parent.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
        if fields.and_then(|rest| rest.split_whitespace().nth(1)) == Some(&own) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn microseconds(time: TimeVal) -> u64 {
    let total = i128::from(time.tv_sec()) * 1_000_000 + i128::from(time.tv_usec());
    u64::try_from(total).unwrap_or(0)
}
