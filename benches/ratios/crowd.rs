//! What one more sandbox costs as their number grows: all of them live at the same time, each runs `true`.
//!
//! Each number in a process of its own: memory that was once used is not given back.

use super::Lab;
use super::host::memory_mib;
use super::stage::Stage;
use super::table::{Aim, Samples};
use super::warm::millis;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::time::Instant;

const TRUE: &[&str] = &["/bin/true"];
const NAMESPACE: &[usize] = &[1, 10, 50, 200];
const DOCKER: &[usize] = &[1, 10, 50];

/// What the process that holds them all may take.
const MOST_MIB: f64 = 150.0;

/// Asks this program to be that process: a backend's host or nothing, and a number.
pub(super) const HOLD: &str = "FUMEHOOD_BENCH_CROWD";

/// What it tells.
#[derive(Serialize, Deserialize)]
struct Told {
    up_ms: f64,
    true_ms: f64,
    down_ms: f64,
    /// Resident, above what the process has without sandboxes.
    more_mib: f64,
    peak_mib: f64,
}

pub(super) fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("crowd") {
        return Ok(());
    }
    for count in NAMESPACE {
        let told = elsewhere(&format!("{count}"))?;
        tell(lab, "namespace", *count, &told);
    }
    let Some(engine) = &lab.engine else {
        lab.table.missing("sandboxes at once, docker", "no engine");
        return Ok(());
    };
    let place = format!("{} {}", engine.host, engine.image);
    for count in DOCKER {
        let told = elsewhere(&format!("{count} {place}"))?;
        tell(lab, "docker", *count, &told);
    }
    Ok(())
}

fn tell(lab: &mut Lab, backend: &str, count: usize, told: &Told) {
    let n = count as f64;
    let mut add = |what: &str, value: f64, unit: &'static str, aim: Aim| {
        lab.table.add(what, &Samples::one(value, unit), None, aim);
    };
    let what = format!("{count} at once, {backend}: all up, for each");
    add(&what, told.up_ms / n, "ms", Aim::Told);
    add(
        "  true in all of them, for each",
        told.true_ms / n,
        "ms",
        Aim::Told,
    );
    add("  all gone, for each", told.down_ms / n, "ms", Aim::Told);
    add(
        "  memory of their process, for each",
        told.more_mib * 1024.0 / n,
        "KiB",
        Aim::Told,
    );
    add(
        "  and at its peak",
        told.peak_mib,
        "MiB",
        Aim::AtMost(MOST_MIB),
    );
}

fn elsewhere(word: &str) -> Result<Told> {
    let output = Command::new(std::env::current_exe()?)
        .env(HOLD, word)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{word} at once: {said}");
    serde_json::from_slice(&output.stdout).context("it tells nothing")
}

/// Is that process; gives what it prints.
pub(super) async fn hold(word: &str) -> Result<String> {
    let mut words = word.split(' ');
    let count: usize = words.next().unwrap_or_default().parse()?;
    let stage = match (words.next(), words.next()) {
        (Some(host), Some(image)) => Stage::docker(host, image).await?,
        _ => Stage::namespace()?,
    };
    // The first looks at what the machine can do.
    let first = stage.start().await?;
    stage.run(&first, TRUE).await?;
    first.end().await?;
    let me = std::process::id();
    let resident = || memory_mib(me, "VmRSS").context("this process has no status");
    let before = resident()?;
    let begun = Instant::now();
    let crowd = try_join_all((0..count).map(|_| stage.start())).await?;
    let up_ms = millis(begun);
    let begun = Instant::now();
    try_join_all(crowd.iter().map(|sandbox| stage.run(sandbox, TRUE))).await?;
    let true_ms = millis(begun);
    let more_mib = resident()? - before;
    let begun = Instant::now();
    try_join_all(crowd.into_iter().map(fumehood::sandbox::Sandbox::end)).await?;
    let told = Told {
        up_ms,
        true_ms,
        down_ms: millis(begun),
        more_mib,
        peak_mib: memory_mib(me, "VmHWM").context("this process has no status")?,
    };
    Ok(serde_json::to_string(&told)?)
}
