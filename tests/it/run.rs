//! `fumehood run` and `demo` as a user types them: a real HTTP server that speaks Chat Completions, a
//! real Git server, real sandboxes.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use crate::git_http::GitServer;
use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

const BROKEN: &str = "import csv\nrows = [float(row[0]) for row in csv.reader(open('data/points.csv'))]\nprint('mean:', sum(rows) / len(rows))\n";

/// A repository behind smart HTTP, and a model that fits it.
struct Job {
    env: TestEnv,
    llm: FakeLlm,
    git: GitServer,
}

impl Job {
    fn new() -> Self {
        let env = TestEnv::new();
        let at = env.path("points.git");
        fumehood::repo::lay_down(&at, &[("points.csv", b"value\n2\n4\n")]).unwrap();
        let git = GitServer::start(&at);
        let url = git.url();
        let llm = FakeLlm::start([
            Reply::Answer(
                says("I fetch it.").calls("clone_repo", json!({"url": url, "into": "data"})),
            ),
            Reply::Answer(
                says("").calls("write", json!({"path": "mean.py", "content": BROKEN})),
            ),
            Reply::Answer(says("").calls("exec", json!({"command": "python3 mean.py"}))),
            Reply::Answer(says("The header.").calls(
                "edit",
                json!({"path": "mean.py", "old": "csv.reader(open('data/points.csv'))", "new": "list(csv.reader(open('data/points.csv')))[1:]"}),
            )),
            Reply::Answer(says("").calls("exec", json!({"argv": ["python3", "mean.py"]}))),
            Reply::Answer(says("The mean is 3.0.")),
        ]);
        Self { env, llm, git }
    }

    fn run(&self, more: &[&str]) -> Command {
        let mut command = self.env.fumehood();
        command
            .env("LLAMACPP_BASE_URL", self.llm.base_url())
            .args([
                "run",
                "--model",
                "llamacpp/tiny",
                "--policy",
                "dev-loop",
                "--yes",
            ])
            .args(["--set", &format!("git.remotes=[{:?}]", self.git.prefix())])
            .args(more)
            .arg("report the mean of the points");
        command
    }

    /// What the model was sent last says that the second run worked.
    fn check_conversation(&self) {
        let requests = self.llm.requests();
        assert_eq!(requests.len(), 6);
        let failed = requests[3].last_text();
        assert!(failed.contains("exit code 1"), "{failed}");
        assert!(
            failed.contains("could not convert string to float"),
            "{failed}"
        );
        let worked = requests[5].last_text();
        assert!(worked.contains("mean: 3.0"), "{worked}");
    }
}

#[test]
fn a_model_over_http_clones_writes_fails_mends_and_answers() {
    let job = Job::new();
    job.run(&[])
        .assert()
        .success()
        .stdout("The mean is 3.0.\n")
        .stderr(predicate::str::contains(
            "could not convert string to float",
        ))
        .stderr(predicate::str::contains("mean: 3.0"));
    job.check_conversation();
    job.env
        .fumehood()
        .args(["runs", "verify"])
        .assert()
        .success();
}

#[test]
fn the_same_on_an_engine() {
    if !crate::docker::there() {
        return;
    }
    let job = Job::new();
    job.run(&["--backend", "docker", "--image", IMAGE])
        .assert()
        .success()
        .stdout("The mean is 3.0.\n");
    job.check_conversation();
}

#[test]
fn json_is_one_event_a_line_from_start_to_end() {
    let job = Job::new();
    let output = job.run(&["--json"]).output().unwrap();
    assert!(output.status.success());
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"run-started"));
    assert_eq!(types.last(), Some(&"run-ended"));
    for wanted in [
        "clone-progress",
        "clone-ended",
        "decided",
        "sandbox-started",
        "step-started",
        "output",
        "step-ended",
        "tool-answered",
    ] {
        assert!(types.contains(&wanted), "{wanted} in {types:?}");
    }
    assert_eq!(events.last().unwrap()["text"], "The mean is 3.0.");
}

#[test]
fn without_a_terminal_and_without_yes_a_question_is_a_no_with_the_remedy() {
    let job = Job::new();
    let mut command = job.env.fumehood();
    command
        .env("LLAMACPP_BASE_URL", job.llm.base_url())
        .args(["run", "--model", "llamacpp/tiny", "--policy", "dev-loop"])
        .args([
            "--set",
            &format!("git.remotes=[{:?}]", job.git.prefix()),
            "a task",
        ])
        .assert()
        .code(6)
        .stderr(predicate::str::contains("--yes"));
}

#[test]
fn yes_does_not_reach_beyond_the_policy() {
    let env = TestEnv::new();
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("clone_repo", json!({"url": "https://git.example.org/a/b"}))),
        Reply::Answer(says("I may not.")),
    ]);
    env.fumehood()
        .env("LLAMACPP_BASE_URL", llm.base_url())
        .args([
            "run",
            "--model",
            "llamacpp/tiny",
            "--policy",
            "dev-loop",
            "--yes",
            "clone it",
        ])
        .assert()
        .success()
        .stdout("I may not.\n");
    let told = llm.requests()[1].last_text().to_owned();
    assert!(told.contains("git.example.org"), "{told}");
    assert!(told.contains("hosts"), "the line to add: {told}");
}

fn demo(env: &TestEnv, more: &[&str]) -> Command {
    let mut command = env.fumehood();
    command.arg("demo").args(more);
    command
}

#[test]
fn the_demo_reports_the_accuracy_that_the_log_shows() {
    let env = TestEnv::new();
    let output = demo(&env, &["--yes"]).output().unwrap();
    let (answer, shown) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{shown}");
    let logged = env
        .fumehood()
        .args(["runs", "logs", "last", "--step", "2"])
        .output()
        .unwrap();
    let log = String::from_utf8(logged.stdout).unwrap();
    let accuracy = log
        .lines()
        .find_map(|line| line.strip_prefix("test accuracy: "))
        .unwrap();
    assert!(
        answer.contains(&format!("accuracy is {accuracy}")),
        "{answer}"
    );
    assert!(shown.contains("scripted"), "said plainly: {shown}");
    assert!(
        shown.contains("could not convert string to float"),
        "{shown}"
    );
    env.fumehood().args(["runs", "verify"]).assert().success();
}

#[test]
fn the_demo_holds_no_accuracy_of_its_own() {
    let transcript = include_str!("../../examples/demo/transcript.json");
    let value: Value = serde_json::from_str(transcript).unwrap();
    let last = value["turns"].as_array().unwrap().last().unwrap();
    assert!(!last["text"].as_str().unwrap().contains("0."));
    assert!(!last["text"].as_str().unwrap().contains('%'));
}

#[test]
fn the_demo_runs_on_an_engine() {
    if crate::docker::there() {
        demo(
            &TestEnv::new(),
            &["--yes", "--backend", "docker", "--image", IMAGE],
        )
        .assert()
        .success()
        .stdout(predicate::str::contains("accuracy is 0."));
    }
}

#[test]
fn the_demo_without_anybody_to_ask_stops_at_the_question() {
    demo(&TestEnv::new(), &[])
        .assert()
        .code(6)
        .stderr(predicate::str::contains("--yes"));
}

#[test]
fn the_demo_runs_from_any_folder_as_an_ordinary_user() {
    let env = TestEnv::new();
    if nix::unistd::geteuid().is_root() {
        for name in ["home", "state", "work"] {
            crate::env::give(&env.path(name), 4242);
        }
    }
    let binary = copied(&env);
    let mut command = std::process::Command::new(binary);
    if nix::unistd::geteuid().is_root() {
        command.uid(4242).gid(4242);
    }
    command
        .args(["demo", "--yes"])
        .env_clear()
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .env("PATH", "/usr/bin:/bin")
        .current_dir(env.path("work"));
    let output = command.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("accuracy is 0."));
}

/// The command where anybody may execute it.
fn copied(env: &TestEnv) -> PathBuf {
    let to = env.path("fumehood");
    std::fs::copy(env!("CARGO_BIN_EXE_fumehood"), &to).unwrap();
    to
}
