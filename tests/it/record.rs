//! Records on a real disk, through the command as a user reads them.

use crate::env::TestEnv;
use fumehood::protocol::event::Event;
use fumehood::protocol::ids::{Digest, StepNumber};
use fumehood::protocol::stop::StopReason;
use fumehood::record::{RunRecord, RunStore, Stream, Verified, new_run_id};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn started(record: &RunRecord, task: &str) {
    record
        .append(&Event::RunStarted {
            run: record.run().clone(),
            version: "0.1.0".into(),
            command: "exec".into(),
            task: task.into(),
            policy: "offline-train".into(),
            policy_digest: Digest::new("0"),
            workspace: "/w".into(),
            model: None,
        })
        .unwrap();
}

fn ended(record: &RunRecord) {
    record
        .append(&Event::RunEnded {
            stop: StopReason::Finished,
            exit_code: 0,
            text: String::new(),
        })
        .unwrap();
}

/// A finished run with a log; its id and the file of its record.
fn finished(env: &TestEnv) -> (String, PathBuf) {
    let record = RunStore::open(&env.state()).create(&new_run_id()).unwrap();
    started(&record, "python3 train.py");
    for (stream, text) in [
        (Stream::Stdout, &b"out \x1b[31mred\x1b[0m \xff\n"[..]),
        (Stream::Stderr, b"err\n"),
    ] {
        let mut log = record.step_log(StepNumber(1), stream, None).unwrap();
        log.put(text);
        log.finish();
    }
    ended(&record);
    (record.run().to_string(), record.events_path())
}

fn out(env: &TestEnv, arguments: &[&str], code: i32) -> String {
    let done = env.fumehood().arg("runs").args(arguments).assert();
    let output = done.code(code).get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_is_listed_shown_and_verified_by_the_beginning_of_its_id() {
    let env = TestEnv::new();
    let (id, _) = finished(&env);
    assert!(out(&env, &["list"], 0).contains("exec: python3 train.py"));
    let shown = out(&env, &["show", &id[..12]], 0);
    assert!(shown.contains(&id) && shown.contains("finished"), "{shown}");
    assert!(out(&env, &["verify"], 0).starts_with("intact: 2 records"));
    let list: serde_json::Value = serde_json::from_str(&out(&env, &["list", "--json"], 0)).unwrap();
    assert_eq!(list[0]["run"], id.as_str());
    assert_eq!(list[0]["state"], "finished");
    assert_eq!(out(&env, &["show", "--json"], 0).lines().count(), 2);
}

#[test]
fn logs_to_a_pipe_are_the_very_bytes() {
    let env = TestEnv::new();
    finished(&env);
    let done = env.fumehood().args(["runs", "logs"]).assert().code(0);
    assert_eq!(done.get_output().stdout, b"out \x1b[31mred\x1b[0m \xff\n");
    assert_eq!(
        out(&env, &["logs", "last", "--step", "1", "--stderr"], 0),
        "err\n"
    );
    let none = env
        .fumehood()
        .args(["runs", "logs", "--step", "7"])
        .assert();
    let text = String::from_utf8(none.code(2).get_output().stderr.clone()).unwrap();
    assert!(
        text.contains("no log of step 7") && text.contains("help"),
        "{text}"
    );
}

#[test]
fn a_changed_record_is_broken_at_the_record_that_shows_it() {
    let env = TestEnv::new();
    let (_, events) = finished(&env);
    let text = fs::read_to_string(&events).unwrap();
    fs::write(&events, text.replace("train.py", "other.py")).unwrap();
    let told = out(&env, &["verify"], 1);
    assert!(
        told.starts_with("broken: run") && told.contains("record 2"),
        "{told}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&out(&env, &["verify", "--json"], 1)).unwrap();
    assert_eq!(
        (&json["verdict"], &json["record"]),
        (&"broken".into(), &2.into())
    );
}

#[test]
fn a_record_without_its_end_is_broken_not_crashed() {
    let env = TestEnv::new();
    let (_, events) = finished(&env);
    let text = fs::read_to_string(&events).unwrap();
    let first = text.lines().next().unwrap();
    fs::write(&events, format!("{first}\n")).unwrap();
    assert!(out(&env, &["verify"], 1).contains("record 2: 2 records were written"));
}

#[test]
fn a_torn_last_line_is_a_crash_and_said_so() {
    let env = TestEnv::new();
    let record = RunStore::open(&env.state()).create(&new_run_id()).unwrap();
    started(&record, "x");
    let events = record.events_path();
    drop(record);
    let mut file = fs::File::options().append(true).open(events).unwrap();
    file.write_all(b"{\"v\":1,\"seq\":2").unwrap();
    assert!(out(&env, &["verify"], 0).starts_with("intact up to a crash: 1 records"));
    assert!(out(&env, &["list"], 0).contains("crashed"));
}

#[test]
fn unknown_and_ambiguous_ids_end_with_usage_and_a_remedy() {
    let env = TestEnv::new();
    for arguments in [&["show", "zz"][..], &["verify", ""], &["logs"]] {
        let done = env.fumehood().arg("runs").args(arguments).assert().code(2);
        let text = String::from_utf8(done.get_output().stderr.clone()).unwrap();
        assert!(text.contains("help: "), "{text}");
    }
    finished(&env);
    finished(&env);
    let done = env.fumehood().args(["runs", "show", "0"]).assert().code(2);
    let text = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(text.contains("is the beginning of 2 runs"), "{text}");
}

#[test]
fn a_list_tells_what_a_program_ended_with() {
    let env = TestEnv::new();
    let exec = ["exec", "--", "sh", "-c", "exit 3"];
    env.fumehood().args(exec).assert().code(3);
    assert!(out(&env, &["list"], 0).contains("ended with 3"));
    assert!(out(&env, &["show"], 0).contains("✗ ended      exit code 3"));
}

#[test]
fn what_never_began_is_no_run() {
    let env = TestEnv::new();
    let exec = ["exec", "--workspace", "/etc", "--", "true"];
    env.fumehood().args(exec).assert().code(125);
    assert_eq!(out(&env, &["list", "--json"], 0).trim(), "[]");
}

/// Not a test of its own: the process that the next one kills.
#[test]
fn writes_until_it_is_killed() {
    let Some(state) = std::env::var_os("FUMEHOOD_TEST_WRITE_TO") else {
        return;
    };
    let record = RunStore::open(state.as_ref())
        .create(&new_run_id())
        .unwrap();
    started(&record, "forever");
    for n in 0u64.. {
        let text = format!("{n}");
        record.append(&Event::Notice { text }).unwrap();
        println!("done {n}");
    }
}

#[test]
fn what_was_appended_before_kill_9_is_there_and_verifies() {
    let env = TestEnv::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "record::writes_until_it_is_killed",
            "--nocapture",
        ])
        .env("FUMEHOOD_TEST_WRITE_TO", env.state())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last = 0;
    while last < 20 {
        let line = lines.next().unwrap().unwrap();
        if let Some((_, n)) = line.split_once("done ") {
            last = n.parse().unwrap();
        }
    }
    let store = RunStore::open(&env.state());
    let run = store.newest().unwrap();
    assert!(run.is_running().unwrap());
    assert!(matches!(
        run.verify().unwrap(),
        Verified::Intact { .. } | Verified::Torn { .. }
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    let (Verified::Intact { records, .. } | Verified::Torn { records, .. }) = run.verify().unwrap()
    else {
        panic!("{:?}", run.verify());
    };
    assert!(records >= last + 2, "{records} records, {last} announced");
    assert!(!run.is_running().unwrap());
    assert!(out(&env, &["list"], 0).contains("crashed"));
}

#[test]
fn a_log_is_read_while_it_is_written_and_after_a_crash() {
    let env = TestEnv::new();
    let store = RunStore::open(&env.state());
    let record = store.create(&new_run_id()).unwrap();
    started(&record, "x");
    let mut log = record
        .step_log(StepNumber(1), Stream::Stdout, Some(400))
        .unwrap();
    for n in 0..200 {
        log.put(format!("line {n}\n").as_bytes());
    }
    let read = || {
        let mut text = String::new();
        let run = store.newest().unwrap();
        let mut reader = run.log(StepNumber(1), Stream::Stdout).unwrap();
        reader.read_to_string(&mut text).unwrap();
        text
    };
    let running = read();
    assert!(running.starts_with("line 0\n") && running.ends_with("line 199\n"));
    assert!(running.contains("bytes were cut here"), "{running}");
    // A crash: nobody joins the parts.
    std::mem::forget(log);
    drop(record);
    assert_eq!(read(), running);
}
