//! Keys about runs as they go on: what is noticed, how many there are, how long they have GPUs.

use super::Key;
use super::forms::limit;
use crate::policy::value::{Form, Slot, Unit, Value};
use crate::protocol::alarm::Reaction;

const SECOND: u64 = 1_000;
const YEAR: u64 = 365 * 86_400 * SECOND;
const TIME: Form = limit(Unit::Milliseconds, (SECOND, YEAR));

pub(super) const WATCH: &[Key] = &[
    key!(
        "limits.gpu_time",
        limit(Unit::Milliseconds, (0, 1000 * YEAR)),
        Limit(gpu.time_ms),
        "Time that the steps of a run may have its GPUs together, times their number"
    ),
    key!(
        "limits.silence",
        TIME,
        Limit(watch.silence_ms),
        "Time without output after which on_silence happens"
    ),
    choice!(
        "limits.on_silence",
        ["tell" = Reaction::Tell, "stop" = Reaction::Stop],
        watch.on_silence,
        "What happens to a step that is silent for too long"
    ),
    key!(
        "limits.runs_per_hour",
        limit(Unit::Count, (0, 1 << 20)),
        Limit(lifecycle.runs_per_hour),
        "Runs that may begin in an hour, those of other policies included"
    ),
    choice!(
        "watch.loss",
        [
            "off" = Reaction::Off,
            "tell" = Reaction::Tell,
            "stop" = Reaction::Stop
        ],
        watch.loss,
        "When the output tells of a loss that is NaN or infinite"
    ),
    choice!(
        "watch.memory",
        [
            "off" = Reaction::Off,
            "tell" = Reaction::Tell,
            "stop" = Reaction::Stop
        ],
        watch.memory,
        "When nine tenths of limits.memory are in use"
    ),
    choice!(
        "watch.disk",
        [
            "off" = Reaction::Off,
            "tell" = Reaction::Tell,
            "stop" = Reaction::Stop
        ],
        watch.disk,
        "When nine tenths of the workspace's size or files are used, or its disk is nearly full"
    ),
    key!(
        "watch.gpu_idle",
        TIME,
        Limit(watch.gpu_idle_ms),
        "Time in which no GPU of the sandbox is busy, after which on_gpu_idle happens"
    ),
    choice!(
        "watch.on_gpu_idle",
        ["tell" = Reaction::Tell, "stop" = Reaction::Stop],
        watch.on_gpu_idle,
        "What happens to a step whose GPUs are idle for too long"
    ),
];
