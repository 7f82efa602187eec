//! When something about a running step is worth an alarm. Pure: moments go in, alarms come out.
//!
//! ```text
//!            quiet ──limit passed──▶ told ──output, or a busy GPU──▶ quiet     silence, idle GPUs
//!            quiet ──nine tenths──▶ told                               memory, disk, loss: once
//! ```

use crate::protocol::alarm::{Alarm, AlarmKind, Level, Pulse, Reaction, WatchRules};
use crate::protocol::device::GpuSample;
use std::collections::BTreeSet;
use std::time::Duration;

/// Alarms of one kind in one step; later ones say nothing new.
const MOST: usize = 8;

/// A GPU that is busy less than this, in percent, does nothing.
const BUSY: u32 = 2;

/// What is known at one moment of a step.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Milliseconds since the step began.
    pub at_ms: u64,
    /// When it last wrote something; 0 where it has not.
    pub output_ms: u64,
    /// The line that told of a bad loss.
    pub bad_loss: Option<&'a str>,
    pub pulse: Pulse,
    /// Empty where nobody knows.
    pub gpus: &'a [GpuSample],
}

/// The alarms of one step.
#[derive(Debug)]
pub struct Alarms {
    rules: WatchRules,
    told: Vec<AlarmKind>,
    /// What is told once in a step, and what goes on and has been told.
    quiet: BTreeSet<AlarmKind>,
    /// Since when no GPU is busy.
    idle_since: Option<u64>,
}

impl Alarms {
    pub fn new(rules: WatchRules) -> Self {
        Self {
            rules,
            told: Vec::new(),
            quiet: BTreeSet::new(),
            idle_since: None,
        }
    }

    /// What is new.
    pub fn look(&mut self, moment: &Moment<'_>) -> Vec<Alarm> {
        let rules = self.rules.clone();
        let idle = self.idle(moment);
        let found = [
            (AlarmKind::Loss, rules.loss, loss(moment)),
            (AlarmKind::Memory, rules.memory, memory(&moment.pulse)),
            (AlarmKind::Disk, rules.disk, disk(&moment.pulse)),
            (
                AlarmKind::Silence,
                rules.on_silence,
                silence(&rules, moment),
            ),
            (AlarmKind::GpuIdle, rules.on_gpu_idle, idle),
        ];
        let mut alarms = Vec::new();
        for (kind, reaction, text) in found {
            let Some(text) = text else {
                // What begins again is told again; a level that was passed once was passed.
                if matches!(kind, AlarmKind::Silence | AlarmKind::GpuIdle) {
                    self.quiet.remove(&kind);
                }
                continue;
            };
            let often = self.told.iter().filter(|one| **one == kind).count();
            if reaction == Reaction::Off || often >= MOST || !self.quiet.insert(kind) {
                continue;
            }
            self.told.push(kind);
            alarms.push(Alarm {
                kind,
                stop: reaction == Reaction::Stop,
                text,
            });
        }
        alarms
    }

    fn idle(&mut self, moment: &Moment<'_>) -> Option<String> {
        let is_idle = !moment.gpus.is_empty() && moment.gpus.iter().all(|gpu| gpu.busy < BUSY);
        let known = !moment.gpus.is_empty();
        match (known, is_idle) {
            // Nothing was measured: nothing changes.
            (false, _) => {}
            (true, false) => self.idle_since = None,
            (true, true) => {
                self.idle_since.get_or_insert(moment.at_ms);
            }
        }
        let limit = self.rules.gpu_idle_ms?;
        let since = self.idle_since?;
        let idle = moment.at_ms.saturating_sub(since);
        (idle >= limit).then(|| format!("no GPU was busy for {} (watch.gpu_idle)", time(limit)))
    }
}

fn loss(moment: &Moment<'_>) -> Option<String> {
    let line = moment.bad_loss?;
    Some(format!("the loss is NaN or infinite: {line}"))
}

fn silence(rules: &WatchRules, moment: &Moment<'_>) -> Option<String> {
    let limit = rules.silence_ms?;
    let silent = moment.at_ms.saturating_sub(moment.output_ms);
    (silent >= limit).then(|| format!("no output for {} (limits.silence)", time(limit)))
}

fn memory(pulse: &Pulse) -> Option<String> {
    let level = pulse.memory.filter(is_high)?;
    let (used, most) = (size(level.used), size(level.most));
    Some(format!("{used} of {most} of memory in use (limits.memory)"))
}

fn disk(pulse: &Pulse) -> Option<String> {
    if let Some(level) = pulse.workspace.filter(is_high) {
        let (used, most) = (size(level.used), size(level.most));
        return Some(format!(
            "the workspace holds {used} of {most} (workspace.size)"
        ));
    }
    if let Some(Level { used, most }) = pulse.files.filter(is_high) {
        return Some(format!(
            "the workspace holds {used} of {most} files (workspace.inodes)"
        ));
    }
    let free = pulse.free?;
    let near = free.floor.saturating_add(free.floor / 4);
    (free.bytes < near).then(|| {
        let (free, floor) = (size(free.bytes), size(free.floor));
        format!("{free} are free on the disk of the workspace; at {floor} it is killed")
    })
}

/// Nine tenths and more.
fn is_high(level: &Level) -> bool {
    u128::from(level.used) * 10 >= u128::from(level.most) * 9
}

fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
#[path = "alarm_tests.rs"]
mod tests;
