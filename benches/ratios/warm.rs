//! `/bin/true` in a sandbox that runs already.

use super::Lab;
use super::peer::{self, Engine};
use super::stage::Stage;
use super::table::{Aim, Samples, Table};
use anyhow::Result;
use fumehood::sandbox::Sandbox;
use std::process::Command;
use std::time::Instant;

const TRUE: &[&str] = &["/bin/true"];
const ROUNDS: usize = 30;
/// Ours are short: more of them give a steadier median.
const EACH: usize = 5;

pub(super) fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// One sandbox of ours on the engine, which runs.
struct Docker<'a> {
    stage: Stage,
    sandbox: Sandbox,
    engine: &'a Engine,
}

#[derive(Default)]
struct Taken {
    namespace: Samples,
    docker: Samples,
    api: Samples,
    cli: Samples,
    /// No sandbox at all.
    host: Samples,
}

pub(super) async fn measure(lab: &mut Lab) -> Result<()> {
    if !lab.wants("warm exec") {
        return Ok(());
    }
    let stage = Stage::namespace()?;
    let sandbox = stage.start().await?;
    let docker = match &lab.engine {
        Some(engine) => {
            let stage = Stage::docker(&engine.host, engine.image).await?;
            let sandbox = stage.start().await?;
            Some(Docker {
                stage,
                sandbox,
                engine,
            })
        }
        None => None,
    };
    let mut taken = Taken::default();
    for _ in 0..ROUNDS {
        for _ in 0..EACH {
            once(&stage, &sandbox, &mut taken.namespace).await?;
            let begun = Instant::now();
            peer::finish(Command::new(TRUE[0])).await?;
            taken.host.push(millis(begun));
        }
        if let Some(docker) = &docker {
            beside(docker, &mut taken).await?;
        }
    }
    sandbox.end().await?;
    if let Some(docker) = docker {
        docker.sandbox.end().await?;
    }
    tell(&mut lab.table, &taken);
    Ok(())
}

async fn once(stage: &Stage, sandbox: &Sandbox, into: &mut Samples) -> Result<()> {
    let begun = Instant::now();
    stage.run(sandbox, TRUE).await?;
    into.push(millis(begun));
    Ok(())
}

async fn beside(docker: &Docker<'_>, taken: &mut Taken) -> Result<()> {
    for _ in 0..EACH {
        once(&docker.stage, &docker.sandbox, &mut taken.docker).await?;
    }
    let begun = Instant::now();
    docker.engine.exec(TRUE).await?;
    taken.api.push(millis(begun));
    if let Some(command) = docker.engine.cli_exec(TRUE) {
        let begun = Instant::now();
        peer::finish(command).await?;
        taken.cli.push(millis(begun));
    }
    Ok(())
}

fn tell(table: &mut Table, taken: &Taken) {
    let api = taken
        .api
        .some()
        .map(|samples| ("docker exec, API", samples));
    let cli = taken
        .cli
        .some()
        .map(|samples| ("docker exec, CLI", samples));
    let backends = [("namespace", &taken.namespace), ("docker", &taken.docker)];
    for (backend, ours) in backends {
        let what = format!("warm exec of true, {backend}");
        if ours.some().is_none() {
            table.missing(&what, "no engine");
            continue;
        }
        let host = Some(("the same outside", &taken.host));
        table.add(&what, ours, host, Aim::AtMost(2.0));
        if api.is_some() {
            table.add("  the same, against", ours, api, Aim::Faster(30.0));
        }
        if cli.is_some() {
            table.add("  the same, against", ours, cli, Aim::Faster(30.0));
        }
    }
}
