//! What is noticed while a program runs, and what the policy does about it, as a user sees it.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use predicates::prelude::*;
use serde_json::Value;

/// A program that says something and then does nothing, for longer than any test waits.
fn then_waits(script: &str) -> String {
    format!("{script}; exec sleep 600")
}

/// `exec` on one backend, and its record afterwards.
struct Watched<'a> {
    env: &'a TestEnv,
    backend: &'a [&'a str],
}

impl Watched<'_> {
    fn exec(&self, set: &[&str], script: &str) -> assert_cmd::assert::Assert {
        let mut command = self.env.fumehood();
        command
            .args(["exec", "--policy", "dev-loop"])
            .args(self.backend);
        for set in set {
            command.args(["--set", set]);
        }
        command.args(["--", "sh", "-c", script]).assert()
    }

    /// The record tells of it, and verifies.
    fn recorded(&self, kind: &str) {
        self.env
            .fumehood()
            .args(["runs", "show", "last", "--json"])
            .assert()
            .stdout(predicate::str::contains(r#""type":"alarm""#))
            .stdout(predicate::str::contains(format!(r#""kind":"{kind}""#)));
        self.env
            .fumehood()
            .args(["runs", "verify", "last"])
            .assert()
            .success();
    }
}

macro_rules! on_both {
    ($($name:ident($watched:ident) $body:block)+) => {
        $(fn $name($watched: &Watched<'_>) $body)+

        mod namespace {
            use super::*;
            $(#[test] fn $name() {
                let env = TestEnv::new();
                super::$name(&Watched { env: &env, backend: &["--backend", "namespace"] });
            })+
        }

        mod docker {
            use super::*;
            $(#[test] fn $name() {
                if crate::docker::there() {
                    let env = TestEnv::new();
                    let backend = ["--backend", "docker", "--image", IMAGE];
                    super::$name(&Watched { env: &env, backend: &backend });
                }
            })+
        }
    };
}

on_both! {
    a_program_that_says_nothing_is_stopped_where_the_policy_says_so(watched) {
        watched
            .exec(&["limits.silence=1s", "limits.on_silence=stop"], &then_waits("echo begun"))
            .code(124)
            .stdout("begun\n")
            .stderr(predicate::str::contains("noticed no output for 1s (limits.silence)"))
            .stderr(predicate::str::contains("stopped by the policy: no output for too long"));
        watched.recorded("silence");
    }

    a_loss_that_is_no_number_is_told_and_the_program_goes_on(watched) {
        watched
            .exec(&[], "echo \"{'loss': nan, 'epoch': 1}\"; exit 3")
            .code(3)
            .stderr(predicate::str::contains("the loss is NaN or infinite: {'loss': nan, 'epoch': 1}"));
        watched.recorded("loss");
    }

    a_loss_that_is_no_number_stops_it_where_the_policy_says_so(watched) {
        watched
            .exec(&["watch.loss=stop"], &then_waits("printf '8/8 [00:01<00:00] loss=nan]\\r'"))
            .code(124)
            .stderr(predicate::str::contains("it was stopped for it"));
        watched.recorded("loss");
    }

    memory_that_is_nearly_used_up_is_noticed_before_anything_is_killed(watched) {
        let takes = "exec python3 -c 'import time; x = bytearray(480 << 20); time.sleep(600)'";
        watched
            .exec(&["limits.memory=512MiB", "watch.memory=stop"], takes)
            .code(124)
            .stderr(predicate::str::contains("of 512.0 MiB of memory in use (limits.memory)"));
        watched.recorded("memory");
    }

    a_workspace_that_is_nearly_full_is_noticed_before_anything_is_killed(watched) {
        let fills = then_waits("head -c 30M /dev/zero > big");
        watched
            .exec(&["workspace.size=32MiB", "watch.disk=stop"], &fills)
            .code(124)
            .stderr(predicate::str::contains("of 32.0 MiB (workspace.size)"));
        watched.recorded("disk");
    }

    what_is_switched_off_is_not_told(watched) {
        watched
            .exec(&["watch.loss=off"], "echo loss=nan")
            .success()
            .stderr(predicate::str::contains("loss").not());
    }
}

#[test]
fn no_more_runs_begin_in_an_hour_than_the_policy_allows() {
    let env = TestEnv::new();
    let exec = || {
        let mut command = env.fumehood();
        command.args(["exec", "--set", "limits.runs_per_hour=2", "--", "true"]);
        command.assert()
    };
    exec().success();
    exec().success();
    exec()
        .code(125)
        .stderr(predicate::str::contains("limits.runs_per_hour = 2"))
        .stderr(predicate::str::contains("the next may begin in"));
    let listed = env.fumehood().args(["runs", "list", "--json"]).output();
    let listed: Value = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    // Clearing away is no way around it, and other policies are not held by it.
    env.fumehood()
        .args(["runs", "gc", "--older-than", "0s"])
        .assert()
        .success();
    exec().code(125);
    env.fumehood()
        .args(["exec", "--", "true"])
        .assert()
        .success();
}
