//! A program's output on its way through `Sandbox::step`.

use super::Lab;
use super::peer;
use super::stage::Stage;
use super::table::{Aim, Samples, Table};
use super::warm::millis;
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Instant;

pub(super) const BYTES: u64 = 200 * 1024 * 1024;
pub(super) const PROGRAM: &[&str] = &["/usr/bin/head", "-c", "209715200", "/dev/zero"];
const ROUNDS: usize = 7;

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("output") {
        return Ok(());
    }
    let namespace = Stage::namespace()?;
    let in_namespace = namespace.start().await?;
    let docker = match &lab.engine {
        Some(engine) => {
            let stage = Stage::docker(&engine.host, engine.image).await?;
            let sandbox = stage.start().await?;
            Some((stage, sandbox, engine))
        }
        None => None,
    };
    let mut taken = Taken::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        whole(namespace.run(&in_namespace, PROGRAM).await?)?;
        taken.ours.push(millis(begun));
        let begun = Instant::now();
        whole(peer::finish(two_pipes()).await?)?;
        taken.pipes.push(millis(begun));
        let Some((stage, sandbox, engine)) = &docker else {
            continue;
        };
        let begun = Instant::now();
        whole(stage.run(sandbox, PROGRAM).await?)?;
        taken.ours_docker.push(millis(begun));
        let begun = Instant::now();
        whole(engine.exec(PROGRAM).await?)?;
        taken.api.push(millis(begun));
        if let Some(command) = engine.cli_exec(PROGRAM) {
            let begun = Instant::now();
            whole(peer::finish(command).await?)?;
            taken.cli.push(millis(begun));
        }
    }
    in_namespace.end().await?;
    if let Some((_, sandbox, _)) = docker {
        sandbox.end().await?;
    }
    tell(&mut lab.table, &taken);
    Ok(())
}

#[derive(Default)]
struct Taken {
    ours: Samples,
    ours_docker: Samples,
    /// The same program with one process between it and its reader, and nothing else.
    pipes: Samples,
    api: Samples,
    cli: Samples,
}

fn two_pipes() -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{} | cat", PROGRAM.join(" "))]);
    command
}

fn tell(table: &mut Table, taken: &Taken) {
    let pipes = Some(("program | cat, no sandbox", &taken.pipes));
    let backends = [
        ("namespace", &taken.ours, 3.0),
        ("docker", &taken.ours_docker, 0.8),
    ];
    for (backend, ours, aim) in backends {
        let what = format!("200 MiB of output, {backend}");
        if ours.some().is_none() {
            table.missing(&what, "no engine");
            continue;
        }
        table.add(&what, ours, pipes, Aim::Told);
        for (peer, samples) in [
            ("docker exec, API", &taken.api),
            ("docker exec, CLI", &taken.cli),
        ] {
            if samples.some().is_some() {
                let peer = Some((peer, samples));
                table.add("  the same, against", ours, peer, Aim::Faster(aim));
            }
        }
    }
}

/// Fast and incomplete is not fast.
pub(super) fn whole(bytes: u64) -> Result<()> {
    ensure!(bytes == BYTES, "{bytes} of {BYTES} bytes came");
    Ok(())
}
