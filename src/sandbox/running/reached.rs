//! Which limits a step came up against, from what is known about its end. Pure.
//!
//! ```text
//!   why we stopped it ─┐
//!   what it died of ───┤                    memory, time, workspace, free space, file size
//!   kernel's counts ───┼─ reached ─▶ lines   processes, processor
//!   room at the end ───┘                    /tmp, /dev/shm
//! ```
//!
//! What leaves no trace here (too many open files) is only in the program's own output, which is not
//! looked at here.

use super::verdict::{Alone, Full, Stop};
use crate::policy::unit;
use crate::protocol::limit::{Evidence, Limit, Reached};
use crate::protocol::outcome::Outcome;
use crate::protocol::spec::SandboxSpec;
use crate::sandbox::counts::{Counts, Slices};
use crate::sandbox::wire::{Room, StepExit, WaitStatus};
use std::time::Duration;

/// What a program dies of that writes beyond the largest file.
const SIGXFSZ: i32 = 25;

/// What a program dies of that touches shared memory for which there was no room.
const SIGBUS: i32 = 7;

/// Slices below which being held back says nothing: two seconds.
const FEW_SLICES: u64 = 20;

/// One part in so many may be left of what counts as full.
const FULL: u64 = 100;

pub(super) struct Facts<'a> {
    pub(super) spec: &'a SandboxSpec,
    pub(super) exit: &'a StepExit,
    pub(super) outcome: Outcome,
    pub(super) asked: Option<Stop>,
    /// The time of this step.
    pub(super) wall: Option<Duration>,
    /// Kernel's counts before and after.
    pub(super) counts: [Counts; 2],
    pub(super) alone: Alone,
}

/// In the order of how surely each is why the step ended.
pub(super) fn reached(facts: &Facts<'_>) -> Vec<Reached> {
    let all = [
        memory(facts),
        stopped(facts),
        file_size(facts),
        pids(facts),
        tmp(facts),
        shm(facts),
        cpus(facts),
    ];
    all.into_iter().flatten().collect()
}

fn seen(limit: Limit, text: String) -> Option<Reached> {
    let evidence = Evidence::Seen;
    Some(Reached {
        limit,
        evidence,
        text,
    })
}

/// How often it was counted while the step ran, and whether it may have been another's.
fn counted(facts: &Facts<'_>, count: fn(&Counts) -> Option<u64>) -> Option<(u64, &'static str)> {
    let [before, after] = facts.counts.each_ref().map(count);
    let more = after?.saturating_sub(before?);
    let whose = match facts.alone {
        Alone::Yes => "",
        Alone::No => ", in this step or one beside it",
    };
    (more > 0).then_some((more, whose))
}

fn memory(facts: &Facts<'_>) -> Option<Reached> {
    let most = facts.spec.limits.memory.map_or_else(unlimited, unit::size);
    let head = format!("limits.memory = {most}");
    let kills = counted(facts, |counts| counts.oom_kills);
    let text = match (facts.asked, kills) {
        (Some(Stop::OutOfMemory), _) => format!("{head}: it was found to use more and was killed"),
        (_, Some((kills, whose))) => {
            format!(
                "{head}: the kernel killed {}{whose}",
                some(kills, "process", "processes")
            )
        }
        _ if facts.outcome == Outcome::OutOfMemory => {
            format!("{head}: the kernel killed processes of it")
        }
        _ => return None,
    };
    seen(Limit::Memory, text)
}

/// What we stopped it for.
fn stopped(facts: &Facts<'_>) -> Option<Reached> {
    let limits = &facts.spec.limits;
    let size = limits.workspace_size.map_or_else(unlimited, unit::size);
    let files = limits
        .workspace_inodes
        .map_or_else(unlimited, |n| n.to_string());
    let holds = "workspace and home together hold more";
    match facts.asked? {
        Stop::Disk(Full::Bytes) => seen(
            Limit::WorkspaceSize,
            format!("workspace.size = {size}: {holds}"),
        ),
        Stop::Disk(Full::Files) => seen(
            Limit::WorkspaceInodes,
            format!("workspace.inodes = {files}: {holds} files and folders"),
        ),
        Stop::Disk(Full::Hidden) => seen(
            Limit::WorkspaceSize,
            format!(
                "workspace.size = {size}: it made folders that cannot be counted (unreadable, or nested without end)"
            ),
        ),
        Stop::Disk(Full::Floor) => seen(
            Limit::FreeDisk,
            "free space: what is left on the disk of the workspace is kept for everybody else"
                .to_owned(),
        ),
        Stop::TimedOut => seen(Limit::WallTime, time(facts)),
        Stop::OutOfMemory | Stop::Cancelled => None,
    }
}

fn time(facts: &Facts<'_>) -> String {
    let ms = |wall: Duration| u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
    let own = facts.wall.map(ms);
    match (own, facts.spec.limits.wall_ms) {
        (Some(own), Some(most)) if own < most => format!(
            "timeout = {}: it was still running (limits.wall_time = {})",
            unit::time(own),
            unit::time(most)
        ),
        (Some(own), None) => format!("timeout = {}: it was still running", unit::time(own)),
        (_, most) => format!(
            "limits.wall_time = {}: it was still running",
            most.map_or_else(unlimited, unit::time)
        ),
    }
}

fn file_size(facts: &Facts<'_>) -> Option<Reached> {
    let most = unit::size(facts.spec.limits.file_size?);
    let text = format!("limits.file_size = {most}: a file would have become larger");
    let died = facts.exit.status == WaitStatus::Signal(SIGXFSZ)
        || facts.exit.status == WaitStatus::Code(128 + SIGXFSZ);
    died.then(|| seen(Limit::FileSize, text))?
}

fn pids(facts: &Facts<'_>) -> Option<Reached> {
    let (times, whose) = counted(facts, |counts| counts.pids_refused)?;
    let most = facts.spec.limits.pids?;
    let text = format!(
        "limits.pids = {most}: {} could not be made{whose}",
        some(times, "process or thread", "processes or threads")
    );
    seen(Limit::Pids, text)
}

fn tmp(facts: &Facts<'_>) -> Option<Reached> {
    let room = facts.exit.tmp?;
    let tmp = &facts.spec.tmp;
    if is_full(room.bytes) {
        let most = unit::size(tmp.size);
        return seen(Limit::Tmp, format!("tmp.size = {most}: /tmp is full"));
    }
    let text = format!(
        "tmp.inodes = {}: /tmp holds as many files as it may",
        tmp.inodes
    );
    is_full(room.files).then(|| seen(Limit::Tmp, text))?
}

fn shm(facts: &Facts<'_>) -> Option<Reached> {
    let most = unit::size(facts.spec.shm);
    let full = |room: Room| is_full(room.bytes) || is_full(room.files);
    let died = facts.exit.status == WaitStatus::Signal(SIGBUS)
        || facts.exit.status == WaitStatus::Code(128 + SIGBUS);
    let why = match facts.exit.shm.is_some_and(full) {
        true => "/dev/shm is full",
        false if died => {
            "it died of a bus error, as programs do for which there was no room in /dev/shm"
        }
        false => return None,
    };
    seen(Limit::Shm, format!("shm.size = {most}: {why}"))
}

/// Nothing is known of a file system that says it has no size.
fn is_full([size, left]: [u64; 2]) -> bool {
    size > 0 && left < size.div_ceil(FULL)
}

/// Held back most of the time, and for long enough to matter.
fn cpus(facts: &Facts<'_>) -> Option<Reached> {
    let most = facts.spec.limits.cpus?;
    let [before, after] = facts.counts.map(|counts| counts.cpu);
    let (before, after): (Slices, Slices) = (before?, after?);
    let all = after.all.saturating_sub(before.all);
    let held = after.held_back.saturating_sub(before.held_back);
    if all < FEW_SLICES || held.saturating_mul(2) < all {
        return None;
    }
    let percent = held.saturating_mul(100) / all;
    let text = format!("limits.cpus = {most}: held back in {percent}% of the time it computed");
    seen(Limit::Cpus, text)
}

fn some(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

fn unlimited() -> String {
    "unlimited".to_owned()
}

#[cfg(test)]
#[path = "reached_tests.rs"]
mod tests;
