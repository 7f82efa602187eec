//! The system-call filter of the namespace backend: put on PID 1, inherited by everything.
//!
//! ```text
//!   prefix   other architecture  kill        deny   listed, with these arguments  EPERM
//!            x32, newer numbers  ENOSYS             everything else               pass
//!            clone3, openat2     ENOSYS
//! ```
//!
//! Two programs instead of one long allowlist: the kernel walks a filter once for each number when it
//! is loaded, and this pair loads in a third of the time for the same answers. A number above
//! [`NEWEST`] is "not implemented", so that a C library falls back to what it used before, and so that
//! no call is let through that was not looked at. `clone3` and `openat2` are not implemented either:
//! their arguments lie behind a pointer, where no filter can read them.

use super::calls::{self, Condition, Denied};
use super::failure::{Result, refused};
use crate::wire::{Stage, WorldMemory};
use libc::{BPF_ABS, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// The last call that was looked at (`mseal`, Linux 6.10).
const NEWEST: u32 = 462;

const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Loads both programs for good. Of two that return an `errno` the kernel takes the later one's.
pub(super) fn install(memory: WorldMemory) -> Result<()> {
    let deny = deny(memory).map_err(|error| refused(Stage::Filter, error))?;
    for program in [prefix(), deny] {
        seccompiler::apply_filter(&program).map_err(|error| refused(Stage::Filter, error))?;
    }
    Ok(())
}

/// Ten instructions by hand: seccompiler knows neither ranges nor a second answer.
fn prefix() -> BpfProgram {
    let line = |code: u32, k: u32, jt: u8, jf: u8| sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = |offset| line(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    let answer = |action| line(BPF_RET | BPF_K, action, 0, 0);
    vec![
        load(4),
        line(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(0),
        // x32 numbers have a high bit, and are above it too.
        line(BPF_JMP | BPF_JGT | BPF_K, NEWEST, 2, 0),
        line(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_clone3 as u32, 1, 0),
        line(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_openat2 as u32, 0, 1),
        answer(ENOSYS),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

fn deny(memory: WorldMemory) -> std::result::Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for denied in calls::denied(memory) {
        let of_call = rules.entry(denied.call).or_default();
        if let Some(rule) = rule(&denied)? {
            of_call.push(rule);
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// `None` is "whatever the arguments".
fn rule(denied: &Denied) -> std::result::Result<Option<SeccompRule>, seccompiler::BackendError> {
    if denied.when.is_empty() {
        return Ok(None);
    }
    let conditions = denied
        .when
        .iter()
        .map(|condition| {
            let (argument, operator, value) = match *condition {
                Condition::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
                Condition::IsNot(argument, value) => (argument, SeccompCmpOp::Ne, value),
                Condition::Has(argument, bits) => {
                    (argument, SeccompCmpOp::MaskedEq(u64::from(bits)), bits)
                }
            };
            // All of these arguments are 32 bits to the kernel, whatever the rest of the register says.
            SeccompCondition::new(
                argument,
                SeccompCmpArgLen::Dword,
                operator,
                u64::from(value),
            )
        })
        .collect::<std::result::Result<_, _>>()?;
    SeccompRule::new(conditions).map(Some)
}
