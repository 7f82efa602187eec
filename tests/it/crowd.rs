//! Many sandboxes at once on a small machine: all of them live at the same time, all finish, and neither
//! one process that holds them all nor two hundred commands beside each other take much.
//!
//! Nothing is timed: how long it takes is the machine's affair.

use crate::boxes::{background, ended};
use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::stage::{Stage, on_own, sh};
use fumehood::protocol::outcome::Outcome;
use fumehood::protocol::spec::BackendKind;
use fumehood::sandbox::{Sandbox, StepIo};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Says to a process of its own what it is to hold.
const HOLD: &str = "FUMEHOOD_TEST_CROWD";

/// What the process that holds them all may take.
const MOST_KIB: u64 = 150 * 1024;

/// What comes up, and goes, at one time: other tests want the machine, too.
const AT_ONCE: usize = 2;

/// A figure of `/proc/PID/status`.
fn kib(process: &str, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
#[ignore = "the process that holds a crowd: the claims below start it"]
fn hold() {
    let Ok(word) = std::env::var(HOLD) else {
        return;
    };
    let (kind, count) = word.split_once(' ').unwrap();
    let kind = match kind {
        "docker" => BackendKind::Docker,
        _ => BackendKind::Namespace,
    };
    let count = count.parse().unwrap();
    on_own(kind, |kind| crowd(kind, count));
}

/// Everything up at the same time, then one word to each.
async fn crowd(kind: BackendKind, count: usize) {
    let stage = Stage::set(kind, |_| {}).await.unwrap();
    let alone = kib("self", "VmRSS");
    let started = stream::iter((0..count).map(|_| stage.another())).buffered(AT_ONCE);
    let started: Vec<_> = started.collect().await;
    let crowd: Vec<Sandbox> = started
        .into_iter()
        .map(|one| one.unwrap_or_else(|error| panic!("{error}; {:?}", error.remedy())))
        .collect();
    let mut waiting = Vec::new();
    let steps = crowd.iter().map(|sandbox| {
        let (near, far) = tokio::io::duplex(64);
        let (tell, told) = oneshot::channel();
        waiting.push((near, told));
        step(&stage, sandbox, far, tell)
    });
    let steps: Vec<_> = steps.collect();
    let release = async {
        let mut to = Vec::new();
        for (near, told) in waiting {
            told.await.unwrap();
            to.push(near);
        }
        for (n, near) in to.iter_mut().enumerate() {
            near.write_all(format!("{n}\n").as_bytes()).await.unwrap();
        }
    };
    let (said, ()) = tokio::join!(join_all(steps), release);
    let finished = said
        .iter()
        .enumerate()
        .filter(|(n, said)| **said == format!("{n} is here\n"))
        .count();
    let peak = kib("self", "VmHWM");
    let mut going = stream::iter(crowd.into_iter().map(Sandbox::end)).buffered(AT_ONCE);
    while let Some(ended) = going.next().await {
        ended.unwrap();
    }
    stage.end().await;
    println!(
        "{HOLD} {}",
        json!({"finished": finished, "alone": alone, "peak": peak})
    );
}

async fn step(
    stage: &Stage,
    sandbox: &Sandbox,
    stdin: DuplexStream,
    started: oneshot::Sender<()>,
) -> String {
    let permit = stage.permit(&sh("read word; echo $word is here").given(""));
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let io = StepIo {
        stdin: Some(Box::new(stdin)),
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel: CancellationToken::new(),
        started: Some(started),
    };
    let exit = sandbox.step(permit, io).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(0));
    String::from_utf8(stdout).unwrap()
}

fn all_finish_in_one_small_process(kind: &str, count: usize) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::hold", "--ignored", "--nocapture"])
        .env(HOLD, format!("{kind} {count}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (code, out, err) = ended(child);
    assert_eq!(code, Some(0), "{out}{err}");
    let told = out
        .lines()
        .find_map(|line| line.strip_prefix(HOLD))
        .unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    println!("{told}");
    assert_eq!(told["finished"], count, "{told}");
    assert!(told["peak"].as_u64().unwrap() < MOST_KIB, "{told}");
}

#[test]
fn one_process_holds_two_hundred_sandboxes_and_stays_small() {
    all_finish_in_one_small_process("namespace", 200);
}

#[test]
fn one_process_holds_fifty_containers_and_stays_small() {
    if crate::docker::there() {
        all_finish_in_one_small_process("docker", 50);
    }
}

/// A command that runs, and what it says.
struct Up {
    child: Child,
    from: BufReader<Box<dyn Read + Send>>,
}

fn up(env: &TestEnv, options: &[&str], n: usize) -> Up {
    let script = format!("echo up; read word; echo {n} $word");
    let all = [options, &["--", "sh", "-c", &script]].concat();
    let mut child = background(env, &all)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let from: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
    let mut up = Up {
        child,
        from: BufReader::new(from),
    };
    let mut line = String::new();
    up.from.read_line(&mut line).unwrap();
    if line != "up\n" {
        panic!("{n} of them: {line:?} {:?}", ended(up.child));
    }
    up
}

/// Each has a record, a workspace and a sandbox of its own, and looks at what the others left behind.
fn all_finish(options: &[&str], count: usize) {
    let env = TestEnv::new();
    let numbers: Vec<usize> = (0..count).collect();
    let crowd: Vec<Up> = std::thread::scope(|scope| {
        let starters: Vec<_> = numbers
            .chunks(count.div_ceil(AT_ONCE))
            .map(|chunk| {
                let env = &env;
                scope.spawn(move || -> Vec<Up> {
                    chunk.iter().map(|n| up(env, options, *n)).collect()
                })
            })
            .collect();
        let ups = starters.into_iter().map(|starter| starter.join().unwrap());
        ups.flatten().collect()
    });
    let most = crowd
        .iter()
        .map(|up| kib(&up.child.id().to_string(), "VmHWM"))
        .max();
    assert!(most.unwrap() < MOST_KIB, "{most:?}");
    let listed = env.fumehood().args(["runs", "list", "--json"]).output();
    let listed: Vec<Value> = serde_json::from_slice(&listed.unwrap().stdout).unwrap();
    let running = listed.iter().filter(|run| run["state"] == "running");
    assert_eq!(running.count(), count, "at the same time");
    for (
        n,
        Up {
            mut child,
            mut from,
        },
    ) in crowd.into_iter().enumerate()
    {
        child.stdin.take().unwrap().write_all(b"went on\n").unwrap();
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        let (code, _, err) = ended(child);
        assert_eq!((code, rest), (Some(0), format!("{n} went on\n")), "{err}");
    }
}

#[test]
fn two_hundred_commands_at_once_all_finish() {
    all_finish(&["exec", "--backend", "namespace"], 200);
}

#[test]
fn fifty_commands_on_an_engine_at_once_all_finish() {
    if crate::docker::there() {
        all_finish(&["exec", "--backend", "docker", "--image", IMAGE], 50);
    }
}
