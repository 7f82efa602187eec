//! `fumehood exec` as a process: from its start to its exit, and what it passes on.

use super::Lab;
use super::peer::{self, Engine};
use super::stream::{PROGRAM, whole};
use super::table::{Aim, Samples};
use super::warm::millis;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

const TRUE: &[&str] = &["/bin/true"];
const ROUNDS: usize = 15;
const STREAMS: usize = 7;

/// The command, with a state folder of its own.
pub(super) fn fumehood(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fumehood"));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", state)
        .env("FUMEHOOD_HOME", state.join("state"));
    command
}

/// A state folder on the disk that the bench is built on.
pub(super) fn on_disk() -> Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    Ok(dir)
}

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    if lab.wants("command start to exit") {
        start_to_exit(lab).await?;
    }
    if lab.wants("command in a box") {
        in_a_box(lab).await?;
    }
    if lab.wants("command output") {
        output(lab).await?;
    }
    Ok(())
}

fn exec(state: &Path, argv: &[&str]) -> Command {
    let mut command = fumehood(state);
    command.args(["exec", "--"]).args(argv);
    command
}

fn exec_docker(lab: &Lab, state: &Path, argv: &[&str]) -> Option<Command> {
    let engine = lab.engine.as_ref()?;
    let mut command = fumehood(state);
    command.args(["exec", "--backend", "docker", "--image", engine.image, "--"]);
    command.args(argv).env("DOCKER_HOST", &engine.host);
    Some(command)
}

async fn start_to_exit(lab: &mut Lab) -> Result<()> {
    let state = on_disk()?;
    let [mut ours, mut ours_docker, mut run, mut bwrap]: [Samples; 4] = Default::default();
    for _ in 0..ROUNDS {
        timed(Some(exec(state.path(), TRUE)), &mut ours, 0).await?;
        timed(peer::bwrap(TRUE), &mut bwrap, 0).await?;
        timed(exec_docker(lab, state.path(), TRUE), &mut ours_docker, 0).await?;
        let docker_run = lab.engine.as_ref().and_then(|engine| engine.cli_run(TRUE));
        timed(docker_run, &mut run, 0).await?;
    }
    let beside = bwrap.some().map(|samples| ("bwrap", samples));
    let peer = run.some().map(|samples| ("docker run --rm, CLI", samples));
    let table = &mut lab.table;
    let what = "fumehood exec -- true, namespace";
    table.add(what, &ours, beside.or(peer), Aim::Told);
    let what = "fumehood exec -- true, docker";
    match ours_docker.some() {
        None => table.missing(what, "no engine"),
        Some(ours) => table.add(what, ours, peer, Aim::Faster(1.0)),
    }
    Ok(())
}

/// A box that is open; closed with the value.
struct Opened<'a> {
    state: &'a Path,
    name: &'static str,
}

impl<'a> Opened<'a> {
    fn open(state: &'a Path, name: &'static str, on: Option<&Engine>) -> Result<Self> {
        let mut command = fumehood(state);
        command.args(["box", "open", "--name", name]);
        if let Some(engine) = on {
            command.args(["--backend", "docker", "--image", engine.image]);
            command.env("DOCKER_HOST", &engine.host);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no box {name}: {said}");
        Ok(Self { state, name })
    }

    fn exec(&self, argv: &[&str]) -> Command {
        let mut command = fumehood(self.state);
        command.args(["box", "exec", self.name, "--"]).args(argv);
        command
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        // What is left ends by itself when nothing is asked of it.
        let _ = fumehood(self.state)
            .args(["box", "close", self.name])
            .output();
    }
}

/// What runs already, asked by a command that starts and ends: like for like.
async fn in_a_box(lab: &mut Lab) -> Result<()> {
    let state = on_disk()?;
    let namespace = Opened::open(state.path(), "here", None)?;
    let engine = lab.engine.as_ref();
    let docker = engine
        .map(|engine| Opened::open(state.path(), "there", Some(engine)))
        .transpose()?;
    let [mut ours, mut ours_docker, mut cli]: [Samples; 3] = Default::default();
    for _ in 0..ROUNDS {
        timed(Some(namespace.exec(TRUE)), &mut ours, 0).await?;
        let there = docker.as_ref().map(|opened| opened.exec(TRUE));
        timed(there, &mut ours_docker, 0).await?;
        let docker_exec = engine.and_then(|engine| engine.cli_exec(TRUE));
        timed(docker_exec, &mut cli, 0).await?;
    }
    let peer = cli.some().map(|samples| ("docker exec, CLI", samples));
    let aim = peer.map_or(Aim::Told, |_| Aim::Faster(1.0));
    let table = &mut lab.table;
    table.add("fumehood box exec -- true, namespace", &ours, peer, aim);
    let what = "fumehood box exec -- true, docker";
    match ours_docker.some() {
        None => table.missing(what, "no engine"),
        Some(ours) => table.add(what, ours, peer, aim),
    }
    Ok(())
}

async fn output(lab: &mut Lab) -> Result<()> {
    let state = on_disk()?;
    let [mut ours, mut ours_docker, mut cli, mut bwrap]: [Samples; 4] = Default::default();
    for _ in 0..STREAMS {
        let bytes = super::stream::BYTES;
        timed(Some(exec(state.path(), PROGRAM)), &mut ours, bytes).await?;
        timed(peer::bwrap(PROGRAM), &mut bwrap, bytes).await?;
        timed(
            exec_docker(lab, state.path(), PROGRAM),
            &mut ours_docker,
            bytes,
        )
        .await?;
        let docker_exec = lab
            .engine
            .as_ref()
            .and_then(|engine| engine.cli_exec(PROGRAM));
        timed(docker_exec, &mut cli, bytes).await?;
    }
    let beside = bwrap.some().map(|samples| ("bwrap", samples));
    let peer = cli.some().map(|samples| ("docker exec, CLI", samples));
    let table = &mut lab.table;
    let what = "fumehood exec, 200 MiB to a pipe, namespace";
    table.add(what, &ours, peer, Aim::Told);
    if beside.is_some() {
        table.add("  the same, against", &ours, beside, Aim::Told);
    }
    let what = "fumehood exec, 200 MiB to a pipe, docker";
    match ours_docker.some() {
        None => table.missing(what, "no engine"),
        Some(ours) => table.add(what, ours, peer, Aim::Told),
    }
    Ok(())
}

/// Runs it where it is there, and takes its time if all its bytes came.
async fn timed(command: Option<Command>, into: &mut Samples, bytes: u64) -> Result<()> {
    let Some(command) = command else {
        return Ok(());
    };
    let begun = Instant::now();
    let came = peer::finish(command).await?;
    into.push(millis(begun));
    match bytes {
        0 => ensure!(came == 0, "{came} bytes came"),
        _ => whole(came)?,
    }
    Ok(())
}
