//! An agent whose run is to finish: it goes on when its terminal is gone, waits with its questions for who
//! attaches, and is shown and answered again.

use crate::boxes::{background, ended, eventually, last_end, own_time, processes, signal};
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use nix::sys::signal::Signal;
use predicates::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const FINISH: [&str; 4] = [
    "--policy",
    "dev-loop",
    "--set",
    "lifecycle.on_disconnect=finish",
];

/// A terminal: runs a command in it until `marks` were shown, then does as told.
///
/// `leave`: the terminal goes away. `answer`: types `y`, key by key as a person does, until the command
/// ends; its exit code is the script's.
const TERMINAL: &str = r#"
import os, pty, select, sys, time
what, mark, command = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
said, typed, end = b"", 0, time.time() + 240
while time.time() < end:
    if mark in said and what == "leave":
        os.close(terminal)
        break
    if mark in said and time.time() - typed > 3:
        time.sleep(1)
        os.write(terminal, b"y")
        time.sleep(0.5)
        os.write(terminal, b"\n")
        typed = time.time()
    if select.select([terminal], [], [], 0.2)[0]:
        try:
            came = os.read(terminal, 65536)
        except OSError:
            came = b""
        if not came:
            break
        said += came
sys.stdout.buffer.write(said)
sys.stdout.flush()
status = os.waitpid(pid, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"#;

/// A user and a model that executes these, one after the other, and is done.
struct Job {
    env: TestEnv,
    llm: FakeLlm,
}

impl Job {
    fn new(scripts: &[&str]) -> Self {
        let mut replies: Vec<Reply> = scripts
            .iter()
            .map(|script| {
                let words = says("I run it.").calls("exec", json!({"command": script}));
                Reply::Answer(words)
            })
            .collect();
        replies.push(Reply::Answer(says("All of it went well.")));
        Self {
            env: TestEnv::new(),
            llm: FakeLlm::start(replies),
        }
    }

    fn words<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let run = ["run", "--model", "llamacpp/tiny"];
        [&run[..], &FINISH, more, &["do it"]].concat()
    }

    fn background(&self, args: &[&str]) -> Command {
        let mut command = background(&self.env, args);
        command.env("LLAMACPP_BASE_URL", self.llm.base_url());
        command
    }

    fn start(&self, more: &[&str]) -> Child {
        self.piped(&self.words(more))
    }

    fn piped(&self, args: &[&str]) -> Child {
        self.background(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// In a terminal of its own.
    fn in_a_terminal(&self, what: &str, mark: &str, args: &[&str]) -> Child {
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-c", TERMINAL, what, mark, env!("CARGO_BIN_EXE_fumehood")])
            .args(args)
            .env_clear()
            .env("TERM", "xterm")
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.env.path("home"))
            .env("FUMEHOOD_HOME", self.env.state())
            .env("LLAMACPP_BASE_URL", self.llm.base_url())
            .current_dir(self.env.path("work"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The newest run, as it is listed.
    fn run(&self) -> Option<Value> {
        let listed = self
            .env
            .fumehood()
            .args(["runs", "list", "--json"])
            .output();
        let all: Vec<Value> = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
        all.into_iter().next()
    }

    fn workspace(&self) -> Option<PathBuf> {
        let run = self.run()?;
        Some(PathBuf::from(run["workspace"].as_str()?))
    }

    /// A step of it has made this file.
    fn made(&self, name: &str) -> PathBuf {
        eventually("the step runs", || {
            self.workspace().is_some_and(|at| at.join(name).exists())
        });
        self.workspace().unwrap()
    }

    fn state(&self) -> String {
        self.run().unwrap()["state"].as_str().unwrap().to_owned()
    }

    fn types(&self) -> Vec<String> {
        let shown = self
            .env
            .fumehood()
            .args(["runs", "show", "--json"])
            .output();
        let text = String::from_utf8(shown.unwrap().stdout).unwrap();
        let kind = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["event"]["type"].as_str().unwrap().to_owned()
        };
        text.lines().map(kind).collect()
    }
}

const WAITS: &str =
    "echo before; touch ready; while [ ! -e go ]; do sleep 0.05; done; echo after; touch done";

#[test]
fn what_finishes_is_as_visible_as_what_stops() {
    let job = Job::new(&["echo said by the step", "exit 3"]);
    let (code, out, err) = ended(job.start(&["--yes"]));
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "All of it went well.\n"),
        "{err}"
    );
    for seen in ["said by the step", "exit code 3", "I run it.", "intact"] {
        assert!(err.contains(seen), "{seen}: {err}");
    }
    assert_eq!(job.state(), "finished");
    let (code, out, err) = ended(Job::new(&["echo x"]).start(&["--yes", "--json"]));
    assert_eq!(code, Some(0), "{err}");
    let events: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(types.first(), Some(&"run-started"));
    assert_eq!(types.last(), Some(&"run-ended"));
    for kind in ["text-delta", "output", "step-ended", "sandbox-ended"] {
        assert!(types.contains(&kind), "{kind} in {types:?}");
    }
    // Each that is lasting once, in the order of the record.
    let lasting = |kind: &&&str| !["text-delta", "output", "clone-progress"].contains(*kind);
    assert_eq!(
        types
            .iter()
            .filter(lasting)
            .filter(|kind| **kind == "step-ended")
            .count(),
        1
    );
}

#[test]
fn an_agent_goes_on_without_its_terminal_and_is_taken_up_again() {
    for gone in [Signal::SIGHUP, Signal::SIGKILL] {
        let job = Job::new(&[WAITS, "echo the second step"]);
        let child = job.start(&["--yes"]);
        let workspace = job.made("ready");
        signal(&child, gone);
        assert_ne!(ended(child).0, Some(0));
        assert_eq!(job.state(), "running", "{gone}");
        let attached = job.piped(&["runs", "attach"]);
        fs::write(workspace.join("go"), "").unwrap();
        let (code, out, err) = ended(attached);
        assert_eq!(
            (code, out.as_str()),
            (Some(0), "All of it went well.\n"),
            "{err}"
        );
        for seen in ["I run it.", "after", "the second step", "finished"] {
            assert!(err.contains(seen), "{gone}, {seen}: {err}");
        }
        assert_eq!(last_end(&job.env)["event"]["exit_code"], 0);
        job.env
            .fumehood()
            .args(["runs", "verify"])
            .assert()
            .success();
        // And once more, when all is over.
        job.env
            .fumehood()
            .args(["runs", "attach"])
            .assert()
            .success()
            .stdout("All of it went well.\n")
            .stderr(predicate::str::contains("I run it.").and(predicate::str::contains("after")));
        // One step alone, as of any run.
        job.env
            .fumehood()
            .args(["runs", "attach", "--step", "1"])
            .assert()
            .success()
            .stdout("before\nafter\n");
    }
}

#[test]
fn it_finishes_also_when_nobody_ever_looks_again() {
    let job = Job::new(&[WAITS]);
    let mut child = job.start(&["--yes"]);
    let workspace = job.made("ready");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    eventually("the run has ended", || job.state() == "finished");
    assert!(workspace.join("done").exists());
}

#[test]
fn it_is_stopped_by_ctrl_c_in_either_terminal_and_by_runs_stop() {
    for by in ["its own terminal", "another terminal", "runs stop"] {
        let time = own_time();
        let job = Job::new(&[&format!("exec sleep {time}")]);
        let child = job.start(&["--yes", "--set", "process.stop_grace=1s"]);
        eventually("the step runs", || processes(&time) > 0);
        match by {
            "its own terminal" => signal(&child, Signal::SIGINT),
            "another terminal" => {
                let attached = job.piped(&["runs", "attach"]);
                eventually("it minds Ctrl-C", || {
                    crate::lifecycle::catches_int(&attached)
                });
                signal(&attached, Signal::SIGINT);
                assert_eq!(ended(attached).0, Some(130), "{by}");
            }
            _ => drop(
                job.env
                    .fumehood()
                    .args(["runs", "stop", "last"])
                    .assert()
                    .success(),
            ),
        }
        let (code, _, err) = ended(child);
        assert_eq!(code, Some(130), "{by}: {err}");
        eventually("the step is gone", || processes(&time) == 0);
        assert_eq!(last_end(&job.env)["event"]["stop"]["reason"], "interrupted");
    }
}

/// As without a holder: whoever starts it where nobody can be asked gets a no.
#[test]
fn without_a_terminal_a_question_is_a_no_at_once() {
    let job = Job::new(&["true"]);
    let (code, _, err) = ended(job.start(&["--set", "approval.contained=ask"]));
    assert_eq!(code, Some(6), "{err}");
    assert!(err.contains("--yes"), "{err}");
}

/// The question was asked, the terminal went away; whoever attaches is asked it again.
#[test]
fn a_question_waits_for_whoever_attaches() {
    let job = Job::new(&["echo approved; touch done"]);
    let words = job.words(&["--set", "approval.contained=ask"]);
    let left = job.in_a_terminal("leave", "yes, this once", &words);
    let (code, out, err) = ended(left);
    assert_ne!(code, Some(0), "{out}{err}");
    assert_eq!(job.state(), "running");
    // One that cannot be asked only looks.
    let looking = job.piped(&["runs", "attach"]);
    let answered = job.in_a_terminal("answer", "yes, this once", &["runs", "attach"]);
    let (code, out, err) = ended(answered);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("approved"), "{out}");
    let (code, out, err) = ended(looking);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "All of it went well.\n"),
        "{err}"
    );
    assert!(job.workspace().unwrap().join("done").exists());
    let types = job.types();
    assert_eq!(types.iter().filter(|kind| *kind == "asked").count(), 1);
}

/// How long it waits, the policy says.
#[test]
fn a_question_that_nobody_attaches_for_is_a_no_in_the_end() {
    let job = Job::new(&["touch done"]);
    let words = job.words(&[
        "--set",
        "approval.contained=ask",
        "--set",
        "approval.timeout=5s",
    ]);
    let left = job.in_a_terminal("leave", "yes, this once", &words);
    ended(left);
    eventually("the run has ended", || job.state() == "finished");
    assert!(!job.workspace().unwrap().join("done").exists());
    let types = job.types();
    assert!(!types.contains(&"step-started".to_owned()), "{types:?}");
}

#[test]
fn what_makes_no_sense_starts_nothing() {
    let job = Job::new(&[]);
    let (code, _, err) = ended(job.start(&["--backend", "docker"]));
    assert_eq!(code, Some(2), "{err}");
    assert!(job.run().is_none());
}
