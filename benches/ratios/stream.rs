//! A program's output on its way through `Sandbox::step`.

use super::Lab;
use super::stage::Stage;
use super::table::{Aim, Samples};
use super::warm::millis;
use anyhow::{Result, ensure};
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
    let [mut ours, mut ours_docker, mut api]: [Samples; 3] = Default::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        whole(namespace.run(&in_namespace, PROGRAM).await?)?;
        ours.push(millis(begun));
        let Some((stage, sandbox, engine)) = &docker else {
            continue;
        };
        let begun = Instant::now();
        whole(stage.run(sandbox, PROGRAM).await?)?;
        ours_docker.push(millis(begun));
        let begun = Instant::now();
        whole(engine.exec(PROGRAM).await?)?;
        api.push(millis(begun));
    }
    in_namespace.end().await?;
    let what = "200 MiB of output, namespace";
    match docker {
        None => {
            lab.table.add(what, &ours, None, Aim::Told);
            lab.table.missing("200 MiB of output, docker", "no engine");
        }
        Some((_, sandbox, _)) => {
            sandbox.end().await?;
            let peer = Some(("docker exec, API", &api));
            lab.table.add(what, &ours, peer, Aim::Faster(3.0));
            let what = "200 MiB of output, docker";
            lab.table.add(what, &ours_docker, peer, Aim::Faster(0.8));
        }
    }
    Ok(())
}

/// Fast and incomplete is not fast.
pub(super) fn whole(bytes: u64) -> Result<()> {
    ensure!(bytes == BYTES, "{bytes} of {BYTES} bytes came");
    Ok(())
}
