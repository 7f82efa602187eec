//! What Fumehood's own process takes: over many turns, and while much output passes through it.

use super::Lab;
use super::command::{fumehood, on_disk};
use super::first_request::{next, run};
use super::host::memory_mib;
use super::server::{Say, Server};
use super::table::{Aim, Samples};
use anyhow::{Context, Result, ensure};
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const TURNS: usize = 50;
const LITTLE: u64 = 10_000_000;
const MUCH: u64 = 1_000_000_000;
/// More than this, for a hundred times the output, is not flat.
const FLAT_MIB: f64 = 8.0;

pub(super) fn measure(lab: &mut Lab) -> Result<()> {
    if lab.wants("memory over turns") {
        over_turns(lab)?;
    }
    if lab.wants("memory while output passes") {
        let (little, much) = (through_exec(LITTLE)?, through_exec(MUCH)?);
        flat(
            lab,
            "peak memory, 1 GB through fumehood exec",
            &little,
            &much,
        );
        let (little, much) = (through_capture(LITTLE)?, through_capture(MUCH)?);
        flat(
            lab,
            "peak memory, 1 GB through the exec tool",
            &little,
            &much,
        );
    }
    Ok(())
}

/// Each turn executes something in the sandbox.
fn over_turns(lab: &mut Lab) -> Result<()> {
    let state = on_disk()?;
    let server = Server::start(|turn| match turn {
        TURNS.. => Say::Done,
        turn => Say::Exec(format!("seq {turn} 600; echo {turn} > turn-{turn}")),
    })?;
    let mut child = run(state.path(), &server)?;
    let mut resident = Vec::new();
    for _ in 0..=TURNS {
        let asked = next(&server, &mut child)?;
        ensure!(asked.turn == resident.len(), "a question was asked twice");
        resident.push(memory_mib(child.id(), "VmRSS").context("the run is gone")?);
    }
    ensure!(child.wait()?.success(), "the run failed");
    let growth = Samples::one(resident[TURNS] - resident[0], "MiB");
    let what = format!("memory growth, {TURNS} turns of exec");
    lab.table.add(&what, &growth, None, Aim::AtMost(40.0));
    let last = Samples::one(resident[TURNS], "MiB");
    lab.table
        .add("  resident after them", &last, None, Aim::Told);
    Ok(())
}

/// The highest memory, and how long it took.
struct Peak {
    mib: f64,
    seconds: f64,
}

fn flat(lab: &mut Lab, what: &str, little: &Peak, much: &Peak) {
    let more = Samples::one(much.mib - little.mib, "MiB");
    let peak = Samples::one(much.mib, "MiB");
    let speed = Samples::one(MUCH as f64 / 1e6 / much.seconds, "MB/s");
    lab.table.add(
        &format!("{what}, above 10 MB"),
        &more,
        None,
        Aim::AtMost(FLAT_MIB),
    );
    lab.table.add("  all of it", &peak, None, Aim::Told);
    lab.table.add("  at", &speed, None, Aim::Told);
}

fn text(bytes: u64) -> String {
    format!("yes 'epoch 12  loss 0.3456  accuracy 0.9012  lr 3e-4' | head -c {bytes}")
}

fn through_exec(bytes: u64) -> Result<Peak> {
    let state = on_disk()?;
    let begun = Instant::now();
    let mut child = fumehood(state.path())
        .args(["exec", "--", "sh", "-c", &text(bytes)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut from = child.stdout.take().context("stdout is piped")?;
    let reader = std::thread::spawn(move || {
        let (mut came, mut piece) = (0, vec![0; 64 * 1024]);
        while let Ok(read @ 1..) = from.read(&mut piece) {
            came += read as u64;
        }
        came
    });
    let mib = peak(&mut child)?;
    let came = reader.join().ok().context("the reader failed")?;
    ensure!(came == bytes, "{came} of {bytes} bytes came");
    Ok(Peak {
        mib,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn through_capture(bytes: u64) -> Result<Peak> {
    let state = on_disk()?;
    let server = Server::start(move |turn| match turn {
        0 => Say::Exec(text(bytes)),
        _ => Say::Done,
    })?;
    let mut child = run(state.path(), &server)?;
    let first = next(&server, &mut child)?;
    drop(first);
    let begun = Instant::now();
    let second = next(&server, &mut child)?;
    let mib = memory_mib(child.id(), "VmHWM").context("the run is gone")?;
    let seconds = begun.elapsed().as_secs_f64();
    drop(second);
    ensure!(child.wait()?.success(), "the run failed");
    Ok(Peak { mib, seconds })
}

/// The highest memory of a process, as last seen before it ended.
fn peak(child: &mut Child) -> Result<f64> {
    let mut highest: f64 = 0.0;
    loop {
        if let Some(mib) = memory_mib(child.id(), "VmHWM") {
            highest = highest.max(mib);
        }
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the command failed: {status}");
            return Ok(highest);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
