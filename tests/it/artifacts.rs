//! Results copied out at the end of a run: bytes of regular files, whatever a program left there.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Leaves results, and everything that a collector could fall for.
const LEAVE: &str = r#"
import os
os.makedirs('outputs/deep/er')
open('outputs/model.bin', 'wb').write(b'weights' * 1000)
open('outputs/deep/er/log.txt', 'w').write('done\n')
open('outputs/new\nline', 'w').write('odd')
os.link('outputs/model.bin', 'outputs/same.bin')
os.symlink('/etc/passwd', 'outputs/passwd')
os.symlink('/etc', 'outputs/etc')
os.symlink('../secret.txt', 'outputs/up')
try:
    os.mkfifo('outputs/pipe')
except OSError:
    pass
with open('outputs/huge', 'wb') as file:
    file.truncate(1 << 40)
open('outputs/set', 'w').write('x')
try:
    os.chmod('outputs/set', 0o4755)
except OSError:
    pass
open('outputs/closed', 'w').write('mine')
os.chmod('outputs/closed', 0)
open('not-a-result', 'w').write('code')
"#;

fn exec(env: &TestEnv, workspace: &Path, more: &[&str]) -> Command {
    let mut command = env.fumehood();
    command
        .args([
            "exec",
            "--policy",
            "dev-loop",
            "--set",
            "limits.file_size=unlimited",
            "--workspace",
        ])
        .arg(workspace)
        .args(more)
        .args(["--", "python3", "leave.py"]);
    command
}

fn project(env: &TestEnv) -> std::path::PathBuf {
    env.workspace("project", &[("leave.py", LEAVE), ("secret.txt", "mine")])
}

/// The record's word on results: files by path, and what was left.
fn told(env: &TestEnv) -> (Vec<(String, u64, String)>, Vec<String>) {
    let shown = env
        .fumehood()
        .args(["runs", "show", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    let event = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| record["event"].clone())
        .find(|event| event["type"] == "artifacts-collected")
        .unwrap();
    let files = event["files"].as_array().unwrap().iter().map(|file| {
        (
            file["path"].as_str().unwrap().to_owned(),
            file["bytes"].as_u64().unwrap(),
            file["digest"].as_str().unwrap().to_owned(),
        )
    });
    let left = event["left"].as_array().unwrap().iter();
    (
        files.collect(),
        left.map(|one| one.as_str().unwrap().to_owned()).collect(),
    )
}

fn takes_regular_files_and_nothing_else(more: &[&str]) {
    let env = TestEnv::new();
    let workspace = project(&env);
    let more = [&["--artifacts", "results"], more].concat();
    exec(&env, &workspace, &more)
        .assert()
        .success()
        .stderr(predicate::str::contains("copied into"));
    let results = env.path("work").join("results");
    assert_eq!(
        fs::read(results.join("outputs/model.bin")).unwrap().len(),
        7000
    );
    assert_eq!(
        fs::read_to_string(results.join("outputs/deep/er/log.txt")).unwrap(),
        "done\n"
    );
    assert_eq!(
        fs::read_to_string(results.join("outputs/new\nline")).unwrap(),
        "odd"
    );
    assert!(!results.join("not-a-result").exists());
    for entry in walkdir::WalkDir::new(&results) {
        let entry = entry.unwrap();
        let found = fs::symlink_metadata(entry.path()).unwrap();
        assert!(
            found.is_dir() || found.is_file(),
            "{}",
            entry.path().display()
        );
        assert_eq!(found.mode() & 0o7000, 0, "{}", entry.path().display());
        assert!(found.len() < 1 << 30, "{}", entry.path().display());
        assert_eq!(found.uid(), nix::unistd::geteuid().as_raw());
    }
    let (files, left) = told(&env);
    for (path, bytes, digest) in &files {
        let path = results.join(path.replace("\\u{a}", "\n"));
        let there = fs::read(&path).unwrap();
        assert_eq!(there.len() as u64, *bytes);
        let hash = Sha256::digest(&there);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, *digest, "{}", path.display());
    }
    assert!(files.len() >= 4, "{files:?}");
    for name in [
        "passwd: a link",
        "etc: a link",
        "up: a link",
        "huge: over limits.artifact_bytes",
    ] {
        assert!(
            left.iter().any(|one| one.ends_with(name)),
            "{name}: {left:?}"
        );
    }
    let twice = files.iter().filter(|(_, bytes, _)| *bytes == 7000).count();
    assert_eq!(twice, 1, "{files:?}");
}

#[test]
fn regular_files_come_out_whole_and_hashed_and_nothing_else_does() {
    takes_regular_files_and_nothing_else(&[]);
}

#[test]
fn the_same_on_an_engine() {
    if crate::docker::there() {
        takes_regular_files_and_nothing_else(&["--backend", "docker", "--image", IMAGE]);
    }
}

#[test]
fn bytes_and_files_are_bounded() {
    let env = TestEnv::new();
    let workspace = env.workspace(
        "project",
        &[(
            "leave.py",
            "import os\nos.makedirs('outputs')\nfor n in range(9):\n    open(f'outputs/{n}', 'w').write('x' * 100)\n",
        )],
    );
    let few = ["--artifacts", "few", "--set", "limits.artifact_files=3"];
    exec(&env, &workspace, &few).assert().success();
    assert_eq!(told(&env).0.len(), 3);
    assert_eq!(told(&env).1.len(), 6);
    fs::remove_dir_all(workspace.join("outputs")).unwrap();
    let small = [
        "--artifacts",
        "small",
        "--set",
        "limits.artifact_bytes=450B",
    ];
    exec(&env, &workspace, &small).assert().success();
    let (files, left) = told(&env);
    assert_eq!((files.len(), left.len()), (4, 5));
    let there = fs::read_dir(env.path("work").join("small/outputs")).unwrap();
    assert_eq!(there.count(), 4);
}

#[test]
fn the_place_for_results_is_empty_and_apart_from_the_workspace() {
    let env = TestEnv::new();
    let workspace = project(&env);
    fs::create_dir(env.path("work").join("full")).unwrap();
    fs::write(env.path("work").join("full/file"), "mine").unwrap();
    symlink(&workspace, env.path("work").join("link")).unwrap();
    let inside = workspace.join("results").display().to_string();
    for place in ["full", "link", &inside, "no/such/folder"] {
        exec(&env, &workspace, &["--artifacts", place])
            .assert()
            .code(125)
            .stdout("");
        assert!(!workspace.join("not-a-result").exists(), "{place}: it ran");
    }
}
