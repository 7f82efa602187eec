//! What one step does to another, and to the sandbox they share.

use super::host;
use super::probe;
use crate::stage::{PATIENCE, Stage, python, sh};
use fumehood::protocol::outcome::Outcome;
use std::fs;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Waits until it is told to end; a signal in between would be seen in its exit.
const VICTIM: &str = r#"
import os, time
with open("pid", "w") as f: f.write(str(os.getpid()))
os.rename("pid", "ready")
while not os.path.exists("end"): time.sleep(0.02)
print("unharmed")
"#;

pub(crate) async fn another_step_is_out_of_reach(stage: &Stage) {
    let (inside, path) = stage.folder("victim");
    let attack = async {
        let begun = Instant::now();
        while !path.join("ready").exists() {
            assert!(begun.elapsed() < PATIENCE, "the victim never began");
            sleep(Duration::from_millis(10)).await;
        }
        let pid: u32 = fs::read_to_string(path.join("ready"))
            .unwrap()
            .parse()
            .unwrap();
        let mut told = host::told_in(stage);
        told["victim"] = pid.into();
        let ran = stage.run(probe::ask("other_steps", &told)).await;
        fs::write(path.join("end"), "").unwrap();
        let reports = probe::reports(ran.text().as_bytes());
        let report = &reports["other_steps"];
        assert!(report.done.is_empty(), "{report:#?}");
        assert!(!report.refused.is_empty());
    };
    let (victim, ()) = tokio::join!(stage.run(python(VICTIM).at(&inside)), attack);
    assert_eq!(victim.text(), "unharmed\n");
}

/// Ignores what can be ignored, hides its name, closes what it has, is nobody's child.
const DAEMON: &str = r#"
import ctypes, os, signal, time
libc = ctypes.CDLL(None)
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
libc.prctl(36, 1, 0, 0, 0)
for n in range(8):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        libc.prctl(15, b"init", 0, 0, 0)
        os.closerange(0, 3)
        if n % 2:
            # One that is never the same process for long.
            while True:
                with open(f"beat{n}", "ab") as f: f.write(b"x")
                time.sleep(0.01)
                if os.fork(): os._exit(0)
                os.setsid()
        while True:
            with open(f"beat{n}", "ab") as f: f.write(b"x")
            time.sleep(0.01)
time.sleep(60)
"#;

fn beats(path: &std::path::Path) -> u64 {
    let files = fs::read_dir(path).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

pub(crate) async fn a_daemon_does_not_outlive_a_timeout(stage: &Stage) {
    let (inside, path) = stage.folder("daemon");
    let ran = stage.run(python(DAEMON).at(&inside).within(1500)).await;
    assert_eq!(ran.outcome(), Outcome::TimedOut);
    let written = beats(&path);
    assert!(written > 0, "it never ran");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(beats(&path), written, "it lives on");
}

pub(crate) async fn init_goes_on_after_all_that(stage: &Stage) {
    for name in [
        "signals_at_init_and_keepers",
        "limits_of_init_and_keepers",
        "tracing_init_and_keepers",
    ] {
        super::attempt(stage, name).await;
        assert_eq!(
            stage.text(sh("ulimit -t; echo alive")).await,
            "unlimited\nalive\n"
        );
    }
}
