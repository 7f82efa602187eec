//! From the start of `fumehood run` to its first question to the model.

use super::Lab;
use super::command::{fumehood, on_disk};
use super::server::{Asked, Say, Server};
use super::table::{Aim, Samples};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("first request") {
        return Ok(());
    }
    let state = on_disk()?;
    let server = Server::start(|_| Say::Done)?;
    let mut ours = Samples::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut child = run(state.path(), &server)?;
        let asked = next(&server, &mut child)?;
        ours.push(asked.at.duration_since(begun).as_secs_f64() * 1000.0);
        drop(asked);
        ensure!(child.wait()?.success(), "the run failed");
    }
    let what = "process start to first model request";
    lab.table.add(what, &ours, None, Aim::AtMost(100.0));
    Ok(())
}

/// `fumehood run` with the server's model.
pub(super) fn run(state: &Path, server: &Server) -> Result<Child> {
    fumehood(state)
        .args([
            "run",
            "--model",
            "openai/bench",
            "--policy",
            "dev-loop",
            "--yes",
        ])
        .args(["--max-turns", "100", "--window", "10000000", "Measure."])
        .env("OPENAI_BASE_URL", &server.url)
        .env("OPENAI_API_KEY", "none")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start fumehood")
}

/// The run's next question; an error where the run has ended instead.
pub(super) fn next(server: &Server, child: &mut Child) -> Result<Asked> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match server.asked.recv_timeout(Duration::from_millis(500)) {
            Ok(asked) => return Ok(asked),
            Err(_) => {
                if let Some(status) = child.try_wait()? {
                    bail!("the run ended early: {status}");
                }
            }
        }
    }
    bail!("no request within {} s", PATIENCE.as_secs())
}
