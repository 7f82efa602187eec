//! `fumehood selftest`, as a user runs it.

use crate::docker;
use crate::env::TestEnv;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Two backends, and a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

fn report(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(stdout)))
}

/// All attempts were made, and held; their records are on disk.
fn held(env: &TestEnv, report: &Value, backend: &str) {
    let attacked = &report[backend];
    let tried = attacked["tried"].as_array();
    let tried = tried.unwrap_or_else(|| panic!("{backend}: {attacked:#}"));
    let others: Vec<_> = tried
        .iter()
        .filter(|each| each["verdict"] != "held")
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    let subjects: BTreeSet<_> = tried
        .iter()
        .map(|each| each["subject"].as_str().unwrap())
        .collect();
    let all = ["files", "kernel", "limits", "network", "processes"];
    assert_eq!(subjects, BTreeSet::from(all));
    assert!(tried.len() > 80, "{}", tried.len());
    for run in attacked["runs"].as_array().unwrap() {
        let run = run.as_str().unwrap();
        env.fumehood()
            .args(["runs", "verify", run])
            .assert()
            .success();
    }
}

#[test]
fn everything_holds_on_this_machine_and_is_on_record() {
    let env = TestEnv::new();
    let mut command = env.fumehood();
    command.args(["selftest", "--json"]).timeout(PATIENCE);
    if docker::there() {
        command.args(["--image", docker::IMAGE]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "");
    let report = report(&output.stdout);
    held(&env, &report, "namespace");
    if docker::there() {
        held(&env, &report, "docker");
    }
    assert!(output.status.success(), "{:?}", output.status);
}

#[test]
fn a_backend_that_is_not_there_is_not_called_held() {
    let env = TestEnv::new();
    let mut command = env.fumehood();
    command
        .args(["selftest", "--image", docker::IMAGE])
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .timeout(PATIENCE);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let docker = said
        .lines()
        .find(|line| line.starts_with("docker "))
        .unwrap();
    assert!(
        docker.contains("no engine answers at /nowhere/docker.sock"),
        "{said}"
    );
    assert!(said.contains("attempts held"), "{said}");
}
