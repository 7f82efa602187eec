//! The life of a run as its user steers it: stopped, taken up again, cleared away.

use crate::boxes::{background, ended, eventually, last_end, own_time, processes, signal};
use crate::docker::IMAGE;
use crate::env::TestEnv;
use nix::sys::signal::Signal;
use predicates::prelude::*;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// `exec` with these options and this script, left running.
fn exec(env: &TestEnv, options: &[&str], script: &str) -> Child {
    let all = [
        &["exec", "--policy", "dev-loop"],
        options,
        &["--", "sh", "-c", script],
    ]
    .concat();
    background(env, &all)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn runs(env: &TestEnv) -> Vec<Value> {
    let output = env.fumehood().args(["runs", "list", "--json"]).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

/// The newest run, once its step runs.
fn running(env: &TestEnv, time: &str) -> Value {
    eventually("the step runs", || processes(time) > 0);
    runs(env).remove(0)
}

fn log(env: &TestEnv, run: &Value) -> PathBuf {
    let run = run["run"].as_str().unwrap();
    env.state()
        .join("runs")
        .join(run)
        .join("logs/step-1.stdout.log")
}

/// Each claim, on each backend: `options` says which.
macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident($env:ident, $options:ident) $body:block)+) => {
        $($(#[$doc])* fn $name($env: &TestEnv, $options: &[&str]) $body)+

        mod namespace {
            use super::*;
            $(#[test] fn $name() {
                super::$name(&TestEnv::new(), &["--backend", "namespace"]);
            })+
        }

        mod docker {
            use super::*;
            $(#[test] fn $name() {
                if crate::docker::there() {
                    super::$name(&TestEnv::new(), &["--backend", "docker", "--image", IMAGE]);
                }
            })+
        }
    };
}

const FINISH: [&str; 2] = ["--set", "lifecycle.on_disconnect=finish"];

on_both! {
    a_run_is_stopped_in_order_from_another_terminal(env, options) {
        let time = own_time();
        let child = exec(env, options, &format!("trap 'echo told; exit 1' TERM; sleep {time} & wait"));
        let run = running(env, &time);
        env.fumehood()
            .args(["runs", "stop", run["run"].as_str().unwrap()])
            .assert()
            .success()
            .stderr(predicate::str::contains("is stopped"));
        let (code, out, err) = ended(child);
        assert_eq!((code, out.as_str()), (Some(130), "told\n"), "{err}");
        assert_eq!(processes(&time), 0);
        assert_eq!(last_end(env)["event"]["stop"]["reason"], "interrupted");
        env.fumehood()
            .args(["runs", "stop", "last"])
            .assert()
            .success()
            .stderr(predicate::str::contains("has ended already"));
    }

    /// Its process is frozen, so that it cannot.
    a_run_that_does_not_stop_in_order_is_killed(env, options) {
        let time = own_time();
        let child = exec(env, options, &format!("exec sleep {time}"));
        running(env, &time);
        signal(&child, Signal::SIGSTOP);
        env.fumehood()
            .args(["runs", "stop", "last", "--grace", "1s"])
            .assert()
            .success()
            .stderr(predicate::str::contains("was killed"));
        assert_eq!(ended(child).0, None);
        eventually("nothing of it is left", || processes(&time) == 0);
        assert_eq!(runs(env)[0]["state"], "crashed");
    }

    what_finishes_is_as_transparent_as_what_stops(env, options) {
        let finish = |args: &[&str]| {
            let mut command = env.fumehood();
            command.args(["exec", "--policy", "dev-loop"]).args(options).args(FINISH).args(args);
            command
        };
        finish(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"])
            .assert()
            .code(7)
            .stdout("out\n")
            .stderr(predicate::str::contains("err\n"));
        finish(&["--", "no-such-program"]).assert().code(127);
        finish(&["--timeout", "300ms", "--", "sleep", "60"]).assert().code(124);
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let output = finish(&["--", "cat"]).write_stdin(bytes.clone()).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes);
        // When it returns, the run has ended and its folder is free.
        let folder = env.workspace("mine", &[]);
        for n in 0..3 {
            finish(&["--workspace", folder.to_str().unwrap(), "--", "touch", &n.to_string()]).assert().success();
        }
        assert!(runs(env).iter().all(|run| run["state"] == "finished" && run["command"] == "exec"));
        finish(&["--policy", "no-such", "--", "true"]).assert().code(125);
    }

    /// With `stop`, the killed client takes its step with it; see `first_hour`.
    what_its_terminal_left_behind_finishes_and_is_taken_up_again(env, options) {
        for gone in [Signal::SIGHUP, Signal::SIGKILL] {
            let all = [options, &FINISH].concat();
            let child = exec(env, &all, "echo before; touch ready; while [ ! -e go ]; do sleep 0.05; done; echo after; echo said >&2; exit 5");
            let ready = || runs(env).first().is_some_and(|run| {
                let at = PathBuf::from(run["workspace"].as_str().unwrap());
                run["state"] == "running" && at.join("ready").exists()
            });
            eventually("the step runs", ready);
            signal(&child, gone);
            assert_ne!(ended(child).0, Some(0));
            let run = runs(env).remove(0);
            assert_eq!(run["state"], "running", "{gone}");
            let attached = background(env, &["runs", "attach", run["run"].as_str().unwrap()])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // As nobody would, from outside: the client is gone.
            fs::write(PathBuf::from(run["workspace"].as_str().unwrap()).join("go"), "").unwrap();
            let (code, out, err) = ended(attached);
            assert_eq!((code, out.as_str()), (Some(5), "before\nafter\n"), "{err}");
            assert!(err.contains("said\n"), "{err}");
            eventually("the run has ended", || runs(env)[0]["state"] == "finished");
            assert_eq!(last_end(env)["event"]["exit_code"], 5);
            // And once more, when all is over.
            env.fumehood()
                .args(["runs", "attach", run["run"].as_str().unwrap()])
                .assert()
                .code(5)
                .stdout("before\nafter\n");
            assert_eq!(fs::read_to_string(log(env, &run)).unwrap(), "before\nafter\n");
        }
    }

    what_finishes_is_stopped_by_ctrl_c_and_by_runs_stop(env, options) {
        let all = [options, &FINISH, &["--set", "process.stop_grace=1s"]].concat();
        let time = own_time();
        let child = exec(env, &all, &format!("exec sleep {time}"));
        running(env, &time);
        signal(&child, Signal::SIGINT);
        let (code, _, err) = ended(child);
        assert_eq!(code, Some(130), "{err}");
        eventually("the step is gone", || processes(&time) == 0);

        let mut child = exec(env, &all, &format!("exec sleep {time}"));
        running(env, &time);
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        let attached = background(env, &["runs", "attach"]).stderr(Stdio::piped()).spawn().unwrap();
        env.fumehood().args(["runs", "stop", "last"]).assert().success();
        assert_eq!(ended(attached).0, Some(130));
        assert_eq!(processes(&time), 0);
    }
}

/// Ctrl-C in the attached terminal stops what runs.
#[test]
fn an_attached_terminal_stops_the_step_too() {
    let env = TestEnv::new();
    let time = own_time();
    let mut child = exec(&env, &FINISH, &format!("echo said; exec sleep {time}"));
    running(&env, &time);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    let mut attached = background(&env, &["runs", "attach"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(attached.stdout.as_mut().unwrap(), &mut said).unwrap();
    signal(&attached, Signal::SIGINT);
    let (code, _, err) = ended(attached);
    assert_eq!(code, Some(130), "{err}");
    eventually("the step is gone", || processes(&time) == 0);
}

/// A `timeout` around a look, a terminal that is closed: no reason to stop a run of hours.
#[test]
fn who_only_looks_stops_nothing_by_being_killed() {
    let env = TestEnv::new();
    let time = own_time();
    let mut child = exec(&env, &FINISH, &format!("echo said; exec sleep {time}"));
    running(&env, &time);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    for (deadly, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut attached = background(&env, &["runs", "attach"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(attached.stdout.as_mut().unwrap(), &mut said).unwrap();
        signal(&attached, deadly);
        let (found, _, err) = ended(attached);
        assert_eq!(found, Some(code), "{err}");
        assert!(err.contains("Ctrl-C stops it"), "{err}");
    }
    assert_eq!(processes(&time), 1);
    env.fumehood()
        .args(["runs", "stop", "last"])
        .assert()
        .success();
    eventually("the step is gone", || processes(&time) == 0);
}

/// There is nothing to show yet, and perhaps never will be.
#[test]
fn whoever_waits_for_a_first_step_leaves_with_one_ctrl_c() {
    let env = TestEnv::new();
    let open = ["box", "open", "--name", "empty", "--backend", "namespace"];
    env.fumehood().args(open).assert().success();
    let attached = background(&env, &["runs", "attach"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it minds Ctrl-C", || catches_int(&attached));
    signal(&attached, Signal::SIGINT);
    let (code, _, err) = ended(attached);
    assert_eq!(code, Some(130), "{err}");
    assert!(err.contains("it goes on"), "{err}");
    let close = ["box", "close", "empty"];
    env.fumehood().args(close).assert().success();
}

pub(crate) fn catches_int(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught & 1 << (Signal::SIGINT as i32 - 1) != 0
}

/// Whoever only looks does no harm: the run belongs to another terminal.
#[test]
fn an_attached_terminal_leaves_a_run_of_another_alone() {
    let env = TestEnv::new();
    let time = own_time();
    let child = exec(
        &env,
        &[],
        &format!("echo said; sleep {time} & read line || true; wait"),
    );
    running(&env, &time);
    let mut attached = background(&env, &["runs", "attach"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    std::io::Read::read_exact(attached.stdout.as_mut().unwrap(), &mut said).unwrap();
    signal(&attached, Signal::SIGINT);
    let (code, _, err) = ended(attached);
    assert_eq!(code, Some(130));
    assert!(err.contains("it goes on"), "{err}");
    assert_eq!(processes(&time), 1);
    signal(&child, Signal::SIGINT);
    assert_eq!(ended(child).0, Some(130));
}

/// A long log has its middle cut; who attaches while it runs sees head, marker and tail.
#[test]
fn an_attached_terminal_follows_a_log_whose_middle_is_cut() {
    let env = TestEnv::new();
    let options = [&FINISH[..], &["--set", "limits.log_bytes=64KiB"]].concat();
    let script = "touch ready; seq 1 20000; while [ ! -e go ]; do sleep 0.05; done; seq 20001 40000; echo the end";
    // It reads nothing, and is killed with a full pipe: what it did not take is not in its way.
    let mut child = exec(&env, &options, script);
    let ready = || {
        runs(&env).first().is_some_and(|run| {
            PathBuf::from(run["workspace"].as_str().unwrap())
                .join("ready")
                .exists()
        })
    };
    eventually("the step runs", ready);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    let run = runs(&env).remove(0);
    let workspace = PathBuf::from(run["workspace"].as_str().unwrap());
    let attached = background(&env, &["runs", "attach"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    let (_, out, _) = ended(attached);
    assert!(out.starts_with("1\n2\n3\n"), "{}", &out[..100]);
    assert!(out.ends_with("39999\n40000\nthe end\n"));
}

/// Two runs that have ended, with what is hard to remove in their workspaces; newest first.
fn two_ended_runs(env: &TestEnv) -> Vec<Value> {
    let deep = "import os\nfor n in range(3000):\n    os.mkdir('d'); os.chdir('d')\nopen('f','w').write('x')\n";
    for script in ["true", "mkdir closed; touch closed/f; chmod 000 closed"] {
        env.fumehood()
            .args(["exec", "--", "sh", "-c", script])
            .assert()
            .success();
    }
    let ended = runs(env);
    let workspace = |run: &Value| PathBuf::from(run["workspace"].as_str().unwrap());
    // No run leaves such a tree behind: the watch would have ended it. A crash might.
    let dug = Command::new("/usr/bin/python3")
        .args(["-c", deep])
        .current_dir(workspace(&ended[1]))
        .status();
    assert!(dug.unwrap().success());
    // What no run leaves behind, and a person might: a link that leads out.
    symlink(env.path("outside"), workspace(&ended[0]).join("out")).unwrap();
    ended
}

fn id(run: &Value) -> &str {
    run["run"].as_str().unwrap()
}

fn head(env: &TestEnv, run: &Value) -> String {
    let verify = ["runs", "verify", id(run), "--json"];
    let output = env.fumehood().args(verify).output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value["head"].as_str().unwrap().to_owned()
}

fn gc(env: &TestEnv, args: &[&str]) -> assert_cmd::assert::Assert {
    env.fumehood().args(["runs", "gc"]).args(args).assert()
}

#[test]
fn ended_runs_are_cleared_away_and_their_heads_are_kept() {
    let env = TestEnv::new();
    let outside = env.workspace("outside", &[("mine", "mine")]);
    let ended = two_ended_runs(&env);
    let heads = [head(&env, &ended[0]), head(&env, &ended[1])];
    let said = predicate::str::contains;

    gc(&env, &[]).success().stdout(said("0 runs"));
    gc(&env, &["--older-than", "0s", "--dry-run"])
        .success()
        .stdout(
            said(id(&ended[0]))
                .and(said(id(&ended[1])))
                .and(said("2 runs")),
        );
    assert_eq!(runs(&env).len(), 2);
    gc(&env, &["--older-than", "0s"])
        .success()
        .stdout(said("2 runs"));
    let left = fs::read_dir(env.state().join("runs")).unwrap().count();
    assert_eq!(left, 0);
    assert_eq!(fs::read_to_string(outside.join("mine")).unwrap(), "mine");
    let kept = fs::read_to_string(env.state().join("heads.jsonl")).unwrap();
    assert!(heads.iter().all(|head| kept.contains(head)), "{kept}");
    env.fumehood()
        .args(["runs", "show", id(&ended[0])])
        .assert()
        .code(2)
        .stderr(said("was removed on").and(said(&heads[0])));
}

#[test]
fn a_run_that_lives_is_not_cleared_away() {
    let env = TestEnv::new();
    let time = own_time();
    let living = exec(&env, &[], &format!("exec sleep {time}"));
    let live = running(&env, &time);
    gc(&env, &["--older-than", "0s"])
        .success()
        .stdout(predicate::str::contains("0 runs"));
    assert_eq!(processes(&time), 1);
    assert_eq!(id(&runs(&env)[0]), id(&live));
    signal(&living, Signal::SIGINT);
    assert_eq!(ended(living).0, Some(130));
}

/// A crash in the middle of clearing away.
#[test]
fn what_was_half_cleared_away_goes_the_next_time_and_is_no_run() {
    let env = TestEnv::new();
    env.fumehood()
        .args(["exec", "--", "true"])
        .assert()
        .success();
    let run = runs(&env).remove(0);
    let dir = env.state().join("runs").join(run["run"].as_str().unwrap());
    let half = env
        .state()
        .join("runs")
        .join(format!(".gone-{}", run["run"].as_str().unwrap()));
    fs::rename(dir, &half).unwrap();
    assert!(runs(&env).is_empty());
    env.fumehood().args(["runs", "gc"]).assert().success();
    assert!(!half.exists());
}

/// Root acts on no other user's word: a pid that they wrote, a link that they put where the heads go.
#[test]
fn another_users_state_is_neither_stopped_nor_cleared_away() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root could");
        return;
    }
    let env = TestEnv::new();
    let time = own_time();
    let child = exec(&env, &[], &format!("exec sleep {time}"));
    running(&env, &time);
    let theirs = PathBuf::from(runs(&env)[0]["workspace"].as_str().unwrap());
    let dir = theirs.parent().unwrap().to_owned();
    for path in [&env.state(), &env.state().join("runs"), &dir] {
        std::os::unix::fs::chown(path, Some(4242), Some(4242)).unwrap();
    }
    let victim = env.path("victim");
    symlink(&victim, env.state().join("heads.jsonl")).unwrap();
    for refused in [
        &["runs", "stop", "last", "--grace", "1s"][..],
        &["runs", "gc", "--older-than", "0s"],
    ] {
        env.fumehood()
            .args(refused)
            .assert()
            .code(2)
            .stderr(predicate::str::contains("belongs to uid 4242"));
    }
    assert_eq!(processes(&time), 1);
    signal(&child, Signal::SIGINT);
    ended(child);
    gc(&env, &["--older-than", "0s"]).code(2);
    assert!(dir.exists() && !victim.exists());
}

/// Where its head cannot be kept, the run is not removed.
#[test]
fn nothing_is_cleared_away_whose_head_cannot_be_kept() {
    let env = TestEnv::new();
    env.fumehood()
        .args(["exec", "--", "true"])
        .assert()
        .success();
    fs::create_dir(env.state().join("heads.jsonl")).unwrap();
    env.fumehood()
        .args(["runs", "gc", "--older-than", "0s"])
        .assert()
        .failure();
    assert_eq!(runs(&env).len(), 1);
    env.fumehood()
        .args(["runs", "verify", "last"])
        .assert()
        .success();
}

/// Whenever its client is killed: either nothing ever ran, or all of it did, and the record is whole.
#[test]
fn a_client_that_is_killed_at_any_moment_leaves_all_or_nothing() {
    let env = TestEnv::new();
    let time = own_time();
    for moment in [0, 5, 15, 30, 60, 90, 150, 300] {
        let script = format!("for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.05; done; : {time}");
        let mut child = exec(&env, &FINISH, &script);
        std::thread::sleep(std::time::Duration::from_millis(moment));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let settled = || runs(&env).iter().all(|run| run["state"] != "running");
    eventually("nothing runs any more", || {
        processes(&time) == 0 && settled()
    });
    for run in runs(&env) {
        assert_eq!(run["state"], "finished", "{run}");
        env.fumehood()
            .args(["runs", "verify", id(&run)])
            .assert()
            .success();
        let whole = "1\n2\n3\n4\n5\n6\n7\n8\n";
        if fs::read_to_string(log(&env, &run)).is_ok_and(|said| said == whole) {
            env.fumehood()
                .args(["runs", "attach", id(&run)])
                .assert()
                .success()
                .stdout(whole);
        } else {
            // Nobody came for its one execution.
            assert!(!log(&env, &run).exists(), "{run}");
        }
    }
}
