//! The filters around each step, on either backend: what is aimed at init, or at the step's own keeper,
//! is refused. Both run under the step's uid, so the kernel would allow it, and the numbers are known only
//! here: PID 1, and the keeper's.
//!
//! So are a few requests that go past the sandbox, and that calls of all days carry as an argument: an
//! allowlist of an engine's compares 64 bits where the kernel reads 32, so it cannot leave them out. The
//! backend's filter is in place already; of two the stricter answer wins.

use libc::c_long;
use nix::unistd::Pid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::collections::BTreeMap;
use std::io;

/// Whether a step may choose its processors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    Free,
    Fixed,
}

/// `kill(-1)`: everybody, keepers of other steps too.
const EVERYBODY: u32 = u32::MAX;

/// `which` of `setpriority` and `ioprio_set`: all processes of a user.
const PRIO_USER: u32 = 2;
const IOPRIO_WHO_USER: u32 = 3;

// `libc` has no names for them.
const F_SETSIG: u32 = 10;
const F_SETDELEG: u32 = 1024 + 16;
const PR_SET_MEMORY_MERGE: u32 = 67;

/// The call, which of its arguments, and what that must not be. Training needs none of it.
const REQUESTS: [(c_long, u8, u32); 7] = [
    // Whoever on the host opens the file then waits, for as long as the kernel lets him: 45 seconds.
    (libc::SYS_fcntl, 1, libc::F_SETLEASE as u32),
    // The same of a file or a folder, as of Linux 6.19.
    (libc::SYS_fcntl, 1, F_SETDELEG),
    // Loads drivers of modems.
    (libc::SYS_ioctl, 1, libc::TIOCSETD as u32),
    // Pages that are merged with those of others tell what the others hold.
    (libc::SYS_madvise, 2, libc::MADV_MERGEABLE as u32),
    (libc::SYS_process_madvise, 3, libc::MADV_MERGEABLE as u32),
    (libc::SYS_prctl, 0, PR_SET_MEMORY_MERGE),
    // Idles the other half of a core.
    (libc::SYS_prctl, 0, libc::PR_SCHED_CORE as u32),
];

/// A call that is answered with this error is not made, and succeeded.
const DONE: i32 = 0;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, seccompiler::BackendError>;

/// Puts them on this process, whose keeper is `keeper`.
pub fn install(keeper: Pid, cores: Cores) -> io::Result<()> {
    let programs = [
        dumps(),
        dumps_that_ask(),
        program(keeper.as_raw() as u32, cores),
    ];
    for program in programs {
        let program = program.map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The limit on core dumps stays as it is, and who sets it is told that it is done: there will be no dump,
/// which is what nearly all of them want, and a shell with `set -e` ends at anything else.
fn dumps() -> Result<BpfProgram> {
    let mut rules = Rules::new();
    let core = libc::RLIMIT_CORE;
    deny(&mut rules, libc::SYS_setrlimit, &[is(0, core)?])?;
    let sets = [is(1, core)?, given(2)?, pointer(3, SeccompCmpOp::Eq)?];
    deny(&mut rules, libc::SYS_prlimit64, &sets)?;
    refuse(rules, DONE)
}

/// The same, where the call is to tell the limit before, too: nothing would be written there.
fn dumps_that_ask() -> Result<BpfProgram> {
    let mut rules = Rules::new();
    let asks = [is(1, libc::RLIMIT_CORE)?, given(2)?, given(3)?];
    deny(&mut rules, libc::SYS_prlimit64, &asks)?;
    refuse(rules, libc::ENOSYS)
}

fn program(keeper: u32, cores: Cores) -> Result<BpfProgram> {
    let mut rules = Rules::new();
    for (call, argument) in [
        (libc::SYS_kill, 0),
        (libc::SYS_tkill, 0),
        (libc::SYS_tgkill, 0),
        (libc::SYS_tgkill, 1),
        (libc::SYS_rt_sigqueueinfo, 0),
        (libc::SYS_rt_tgsigqueueinfo, 0),
        (libc::SYS_rt_tgsigqueueinfo, 1),
        (libc::SYS_pidfd_open, 0),
        (libc::SYS_sched_setaffinity, 0),
        (libc::SYS_sched_setscheduler, 0),
        (libc::SYS_sched_setparam, 0),
        (libc::SYS_sched_setattr, 0),
        (libc::SYS_setpriority, 1),
        (libc::SYS_ioprio_set, 1),
    ] {
        for pid in [1, keeper] {
            deny(&mut rules, call, &[is(argument, pid)?])?;
        }
    }
    deny(&mut rules, libc::SYS_kill, &[is(0, EVERYBODY)?])?;
    deny(&mut rules, libc::SYS_setpriority, &[is(0, PRIO_USER)?])?;
    deny(&mut rules, libc::SYS_ioprio_set, &[is(0, IOPRIO_WHO_USER)?])?;
    deny(&mut rules, libc::SYS_prlimit64, &[is_not(0, 0)?])?;
    for (call, argument, request) in REQUESTS {
        deny(&mut rules, call, &[is(argument, request)?])?;
    }
    let tcp = is(1, libc::IPPROTO_TCP as u32)?;
    deny(&mut rules, libc::SYS_setsockopt, &[tcp, is(2, libc::TCP_ULP as u32)?])?;
    // A folder of /proc is a pidfd too, so there is no telling whose.
    rules.insert(libc::SYS_pidfd_send_signal, Vec::new());
    // A signal of choice to the owner of a descriptor, who may be anybody of this uid.
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let when = [is(1, F_SETSIG)?, is(2, signal as u32)?];
        deny(&mut rules, libc::SYS_fcntl, &when)?;
    }
    if cores == Cores::Fixed {
        rules.insert(libc::SYS_sched_setaffinity, Vec::new());
    }
    refuse(rules, libc::EPERM)
}

fn refuse(rules: Rules, errno: i32) -> Result<BpfProgram> {
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn deny(rules: &mut Rules, call: c_long, when: &[SeccompCondition]) -> Result<()> {
    rules
        .entry(call)
        .or_default()
        .push(SeccompRule::new(when.to_vec())?);
    Ok(())
}

/// Whether a pointer is there.
fn given(argument: u8) -> Result<SeccompCondition> {
    pointer(argument, SeccompCmpOp::Ne)
}

fn pointer(argument: u8, than_null: SeccompCmpOp) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, than_null, 0)
}

/// All of these arguments are 32 bits to the kernel, whatever the rest of the register says.
fn is(argument: u8, value: u32) -> Result<SeccompCondition> {
    let width = SeccompCmpArgLen::Dword;
    SeccompCondition::new(argument, width, SeccompCmpOp::Eq, value.into())
}

fn is_not(argument: u8, value: u32) -> Result<SeccompCondition> {
    let width = SeccompCmpArgLen::Dword;
    SeccompCondition::new(argument, width, SeccompCmpOp::Ne, value.into())
}
