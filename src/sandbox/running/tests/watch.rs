//! What is measured, and what it does.

use super::*;
use crate::protocol::spec::{Access, Mount, MountKind};
use crate::sandbox::fake::Gauges;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn workspace(dir: &TempDir) -> SandboxSpec {
    let found = fs::metadata(dir.path()).unwrap();
    let mut spec = spec();
    spec.uid = nix::unistd::geteuid().as_raw();
    spec.mounts = vec![Mount {
        kind: MountKind::Workspace,
        source: dir.path().to_owned(),
        target: "/workspace".into(),
        access: Access::ReadWrite,
        device: found.dev(),
        inode: found.ino(),
    }];
    spec
}

async fn outcome(sandbox: &Sandbox, program: &str) -> Outcome {
    run(sandbox, act(sandbox.spec(), &[program]))
        .await
        .outcome()
}

/// Sleeps after it did something to the workspace.
fn doing(dir: &TempDir, act: impl Fn(&Path) + Send + Sync + 'static) -> FakeBackend {
    let path = dir.path().to_owned();
    FakeBackend::new(move |_| {
        act(&path);
        Part::until(&[])
    })
}

#[tokio::test]
async fn a_kill_that_the_kernel_counted_is_out_of_memory() {
    let gauges = Gauges::default();
    let played = gauges.clone();
    let backend = FakeBackend::measured(gauges, move |start| {
        if named(start) == "eater" {
            played.set_oom_kills(1);
        }
        Part::signalled(9)
    });
    backend.gauges.set_oom_kills(0);
    let sandbox = start(&backend).await;
    assert_eq!(outcome(&sandbox, "other").await, Outcome::Signal(9));
    assert_eq!(outcome(&sandbox, "eater").await, Outcome::OutOfMemory);
    assert_eq!(outcome(&sandbox, "other").await, Outcome::Signal(9));
}

#[tokio::test]
async fn processes_that_the_kernel_refused_are_told_with_the_limit() {
    let gauges = Gauges::default();
    let played = gauges.clone();
    let backend = FakeBackend::measured(gauges, move |_| {
        played.set_pids_refused(5);
        Part::exit(1, "", "")
    });
    backend.gauges.set_pids_refused(2);
    let mut spec = spec();
    spec.limits.pids = Some(64);
    let sandbox = Sandbox::start(&backend, &spec, "x").await.unwrap();
    let exit = run(&sandbox, act(&spec, &["x"])).await.exit.unwrap();
    let text = "limits.pids = 64: 3 processes or threads could not be made";
    assert_eq!(exit.reached[0].text, text);
    let again = run(&sandbox, act(&spec, &["x"])).await.exit.unwrap();
    assert_eq!(again.reached, []);
}

#[tokio::test]
async fn too_much_resident_memory_kills_all_steps() {
    let backend = FakeBackend::new(|_| Part::until(&[]));
    let mut limited = spec();
    limited.limits.memory = Some(1000);
    backend.gauges.set_resident(1000);
    let sandbox = Sandbox::start(&backend, &limited, "x").await.unwrap();
    let both = async { tokio::join!(outcome(&sandbox, "a"), outcome(&sandbox, "b")) };
    tokio::pin!(both);
    assert!(
        timeout(Duration::from_millis(300), &mut both)
            .await
            .is_err()
    );
    backend.gauges.set_resident(1001);
    let out_of_memory = Outcome::OutOfMemory;
    assert_eq!(both.await, (out_of_memory, out_of_memory));
}

#[tokio::test]
async fn too_many_bytes_are_disk_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = workspace(&dir);
    spec.limits.workspace_size = Some(MIB as u64);
    let backend = doing(&dir, |path| {
        fs::write(path.join("x"), vec![1; 2 * MIB]).unwrap()
    });
    let sandbox = Sandbox::start(&backend, &spec, "x").await.unwrap();
    assert_eq!(outcome(&sandbox, "x").await, Outcome::DiskFull);
}

#[tokio::test]
async fn too_many_files_are_too_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = workspace(&dir);
    spec.limits.workspace_inodes = Some(100);
    let backend = doing(&dir, |path| {
        for n in 0..51 {
            fs::create_dir(path.join(n.to_string())).unwrap();
            fs::write(path.join(n.to_string()).join("x"), b"").unwrap();
        }
    });
    let sandbox = Sandbox::start(&backend, &spec, "x").await.unwrap();
    assert_eq!(outcome(&sandbox, "x").await, Outcome::TooManyFiles);
}

#[tokio::test]
async fn what_is_within_its_limits_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("big"), vec![1; 4 * MIB]).unwrap();
    let mut spec = workspace(&dir);
    spec.limits.workspace_size = Some(2 * MIB as u64);
    spec.limits.workspace_inodes = Some(10);
    let elsewhere = outside.path().to_owned();
    let backend = doing(&dir, move |path| {
        // Holes take no room, links lead nowhere, and a second name is no second file.
        let holes = fs::File::create(path.join("holes")).unwrap();
        holes.set_len(1 << 40).unwrap();
        symlink(&elsewhere, path.join("link")).unwrap();
        fs::write(path.join("data"), vec![1; MIB]).unwrap();
        fs::hard_link(path.join("data"), path.join("again")).unwrap();
        fs::hard_link(path.join("data"), path.join("and again")).unwrap();
    });
    let sandbox = Sandbox::start(&backend, &spec, "x").await.unwrap();
    let mut within = act(&spec, &["x"]);
    within.wall_ms = Some(700);
    assert_eq!(run(&sandbox, within).await.outcome(), Outcome::TimedOut);
}

#[tokio::test]
async fn what_hides_from_being_counted_is_over_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = workspace(&dir);
    spec.limits.workspace_size = Some(1 << 40);
    let backend = doing(&dir, |path| {
        let mut deep = path.to_owned();
        for _ in 0..300 {
            deep.push("d");
        }
        fs::create_dir_all(deep).unwrap();
    });
    let sandbox = Sandbox::start(&backend, &spec, "x").await.unwrap();
    assert_eq!(outcome(&sandbox, "x").await, Outcome::DiskFull);
}

#[tokio::test]
async fn a_workspace_that_is_another_folder_now_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = workspace(&dir);
    spec.mounts[0].inode += 1;
    let backend = FakeBackend::new(|_| Part::exit(0, "", ""));
    let error = Sandbox::start(&backend, &spec, "x").await.err().unwrap();
    assert!(matches!(error, SandboxError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_workspace_over_its_limits_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data"), vec![1; 2 * MIB]).unwrap();
    let mut spec = workspace(&dir);
    spec.limits.workspace_size = Some(MIB as u64);
    spec.limits.workspace_inodes = Some(10);
    let backend = FakeBackend::new(|_| Part::exit(0, "", ""));
    let error = Sandbox::start(&backend, &spec, "x").await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "workspace: with the run's home it holds 2.0 MiB in 1 files already, more than 1.0 MiB or 10 files"
    );
    assert_eq!(
        error.remedy(),
        Some(
            "raise the limit with `--set workspace.size=1GiB`, or keep data elsewhere and mount it with `--mount src=FOLDER,dst=/data`"
        )
    );
}
