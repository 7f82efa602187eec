//! How a step ended, from what is known about it. Pure.
//!
//! A stop that we asked for names the outcome, whatever the program made of it. Memory is named only
//! on evidence: our own watch, or kills that the kernel counted while the step ran. An exit code of
//! 137 is no evidence, since any program can end with it.

use crate::protocol::outcome::Outcome;
use crate::sandbox::wire::{StepExit, WaitStatus};

/// What every program dies of when the kernel is out of memory.
const SIGKILL: i32 = 9;

/// How a shell says that its child died of it.
const SHELL_KILLED: i32 = 128 + SIGKILL;

/// Why we stopped a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    Cancelled,
    Disk(Full),
    OutOfMemory,
}

/// What of the disk was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Of workspace and home.
    Bytes,
    Files,
    /// What cannot be counted counts as too much.
    Hidden,
    /// What has to stay free for everybody else.
    Floor,
}

/// The kernel's count of memory kills is one for the whole sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemoryKills {
    /// None while the step ran, or nobody counts.
    None,
    /// Some, and no other step ran meanwhile.
    Here,
    /// Some, and other steps ran: whose they were is not known.
    Somewhere,
}

/// The outcome.
///
/// A step that lost a child to the memory killer and still ended with 0 has coped. Any other end is
/// put down to it; but where the kills may belong to another step, only an end by that very signal,
/// its own or (as a shell tells it) its last child's.
pub(super) fn outcome(exit: &StepExit, asked: Option<Stop>, kills: MemoryKills) -> Outcome {
    match asked {
        Some(Stop::TimedOut) => return Outcome::TimedOut,
        Some(Stop::Cancelled) => return Outcome::Cancelled,
        Some(Stop::Disk(Full::Bytes | Full::Hidden)) => return Outcome::DiskFull,
        Some(Stop::Disk(Full::Files)) => return Outcome::TooManyFiles,
        Some(Stop::Disk(Full::Floor)) => return Outcome::DiskLow,
        Some(Stop::OutOfMemory) => return Outcome::OutOfMemory,
        None => {}
    }
    let killed = match (kills, exit.status) {
        (MemoryKills::None, _) | (_, WaitStatus::Code(0)) => false,
        (MemoryKills::Here, _) => true,
        (MemoryKills::Somewhere, status) => matches!(
            status,
            WaitStatus::Signal(SIGKILL) | WaitStatus::Code(SHELL_KILLED)
        ),
    };
    match exit.status {
        _ if killed => Outcome::OutOfMemory,
        WaitStatus::Code(code) => Outcome::Code(code),
        WaitStatus::Signal(signal) => Outcome::Signal(signal),
    }
}

/// Whether there were kills, from the lease's count before and after, or else from what init saw.
pub(super) fn memory_kills(
    before: Option<u64>,
    after: Option<u64>,
    seen_by_init: Option<u64>,
    alone: Alone,
) -> MemoryKills {
    let counted = before.zip(after).map(|(before, after)| after > before);
    let any = counted.unwrap_or(seen_by_init.is_some_and(|kills| kills > 0));
    match (any, alone) {
        (false, _) => MemoryKills::None,
        (true, Alone::Yes) => MemoryKills::Here,
        (true, Alone::No) => MemoryKills::Somewhere,
    }
}

/// Whether no other step ran at any time of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: WaitStatus) -> StepExit {
        StepExit {
            step: 1,
            status,
            killed: false,
            leftovers: 0,
            user_us: 0,
            system_us: 0,
            max_rss_kib: 0,
            oom_kills: None,
            tmp: None,
            shm: None,
        }
    }

    #[test]
    fn a_faked_137_is_a_code() {
        let faked = exit(WaitStatus::Code(137));
        assert_eq!(outcome(&faked, None, MemoryKills::None), Outcome::Code(137));
    }

    #[test]
    fn kill_9_is_no_memory_kill_without_evidence() {
        let killed = exit(WaitStatus::Signal(9));
        assert_eq!(
            outcome(&killed, None, MemoryKills::None),
            Outcome::Signal(9)
        );
        assert_eq!(
            outcome(&killed, None, MemoryKills::Here),
            Outcome::OutOfMemory
        );
    }

    #[test]
    fn who_copes_with_a_lost_child_is_not_out_of_memory() {
        let coped = exit(WaitStatus::Code(0));
        assert_eq!(outcome(&coped, None, MemoryKills::Here), Outcome::Code(0));
    }

    #[test]
    fn a_failure_beside_memory_kills_elsewhere_is_its_own() {
        let somewhere = MemoryKills::Somewhere;
        for (status, expected) in [
            (WaitStatus::Code(1), Outcome::Code(1)),
            (WaitStatus::Code(137), Outcome::OutOfMemory),
            (WaitStatus::Signal(9), Outcome::OutOfMemory),
            (WaitStatus::Signal(11), Outcome::Signal(11)),
        ] {
            assert_eq!(outcome(&exit(status), None, somewhere), expected);
        }
    }

    #[test]
    fn what_we_asked_for_wins() {
        for (asked, expected) in [
            (Stop::TimedOut, Outcome::TimedOut),
            (Stop::Cancelled, Outcome::Cancelled),
            (Stop::Disk(Full::Bytes), Outcome::DiskFull),
            (Stop::Disk(Full::Hidden), Outcome::DiskFull),
            (Stop::Disk(Full::Files), Outcome::TooManyFiles),
            (Stop::Disk(Full::Floor), Outcome::DiskLow),
            (Stop::OutOfMemory, Outcome::OutOfMemory),
        ] {
            let graceful = exit(WaitStatus::Code(0));
            assert_eq!(outcome(&graceful, Some(asked), MemoryKills::None), expected);
        }
    }

    #[test]
    fn the_hosts_count_is_believed_over_inits() {
        let kills = |before, after, init| memory_kills(before, after, init, Alone::Yes);
        assert_eq!(kills(Some(1), Some(1), Some(5)), MemoryKills::None);
        assert_eq!(kills(Some(1), Some(2), None), MemoryKills::Here);
        assert_eq!(kills(None, Some(2), Some(1)), MemoryKills::Here);
        assert_eq!(kills(None, None, None), MemoryKills::None);
    }
}
