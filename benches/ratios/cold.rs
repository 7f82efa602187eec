//! A sandbox from nothing, its first `true`, and its end.

use super::Lab;
use super::peer;
use super::stage::Stage;
use super::table::{Aim, Samples};
use super::warm::millis;
use anyhow::Result;
use std::time::Instant;

const TRUE: &[&str] = &["/bin/true"];
const ROUNDS: usize = 12;

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("cold start") {
        return Ok(());
    }
    let namespace = Stage::namespace()?;
    // The first start looks at what the machine can do; that is told by `fumehood exec` below.
    once(&namespace).await?;
    let docker = match &lab.engine {
        Some(engine) => Some((Stage::docker(&engine.host, engine.image).await?, engine)),
        None => None,
    };
    let [mut ours, mut ours_docker, mut run, mut bwrap]: [Samples; 4] = Default::default();
    for _ in 0..ROUNDS {
        ours.push(once(&namespace).await?);
        if let Some(command) = peer::bwrap(TRUE) {
            bwrap.push(command_once(command).await?);
        }
        let Some((stage, engine)) = &docker else {
            continue;
        };
        ours_docker.push(once(stage).await?);
        if let Some(command) = engine.cli_run(TRUE) {
            run.push(command_once(command).await?);
        }
    }
    let beside = peer::bwrap(TRUE).map(|_| ("bwrap", &bwrap));
    let cli = lab.engine.as_ref().and_then(|engine| engine.cli_run(TRUE));
    let peer = cli.map(|_| ("docker run --rm, CLI", &run));
    let table = &mut lab.table;
    let what = "cold start, true, end, namespace";
    table.add(what, &ours, beside.or(peer), Aim::AtMost(30.0));
    let what = "cold start, true, end, docker";
    match docker {
        None => table.missing(what, "no engine"),
        Some(_) => table.add(what, &ours_docker, peer, Aim::Faster(1.0)),
    }
    Ok(())
}

async fn once(stage: &Stage) -> Result<f64> {
    let begun = Instant::now();
    let sandbox = stage.start().await?;
    stage.run(&sandbox, TRUE).await?;
    sandbox.end().await?;
    Ok(millis(begun))
}

async fn command_once(command: std::process::Command) -> Result<f64> {
    let begun = Instant::now();
    peer::finish(command).await?;
    Ok(millis(begun))
}
