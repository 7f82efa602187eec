//! A researcher's first hour: their environment, their checkout, their data, `python train.py`. And
//! what stays when it is interrupted, or killed with `kill -9`.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use predicates::prelude::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TRAIN: &str = r##"
import sys, time
import numpy as np
from sklearn.linear_model import LogisticRegression
rows = np.loadtxt("/data/points/points.csv", delimiter=",", skiprows=1)
for step in range(20):
    sys.stderr.write("\r%3d%%|%s" % (step * 5, "#" * step)); sys.stderr.flush(); time.sleep(0.005)
model = LogisticRegression().fit(rows[:, :2], rows[:, 2])
print("\naccuracy", model.score(rows[:, :2], rows[:, 2]))
open("model.txt", "w").write(str(model.coef_))
try:
    open("/data/points/points.csv", "a")
except OSError as error:
    print("data is read-only:", error.errno)
"##;

/// A venv with numpy and scikit-learn, as the user has it already: made once for all runs of the tests.
fn venv() -> PathBuf {
    let at = std::env::temp_dir().join(format!("fumehood-test-venv-{}", nix::unistd::geteuid()));
    let done = at.join("installed");
    if !done.exists() {
        let _ = fs::remove_dir_all(&at);
        ran(Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(&at));
        ran(Command::new(at.join("bin/pip")).args(["install", "--quiet", "numpy", "scikit-learn"]));
        fs::write(done, "").unwrap();
    }
    at
}

fn ran(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}

#[test]
fn python_train_py_works_at_the_first_try() {
    let env = TestEnv::new();
    let checkout = env.workspace("checkout", &[("train.py", TRAIN), ("README.md", "mine\n")]);
    let points: String = (0..40)
        .map(|n| format!("{n},{},{}\n", n % 7, n / 20))
        .collect();
    let data = env.workspace("data", &[("points.csv", &format!("x,y,label\n{points}"))]);
    env.fumehood()
        .args(["exec", "--venv", venv().to_str().unwrap()])
        .args(["--workspace", checkout.to_str().unwrap()])
        .args([
            "--mount",
            &format!("src={},dst=/data/points", data.display()),
        ])
        .args(["--", "python", "train.py"])
        .assert()
        .success()
        .stdout(predicate::str::contains("accuracy 1.0"))
        .stdout(predicate::str::contains("data is read-only"))
        .stderr(predicate::str::contains("95%|"));
    let (mine, made) = (
        fs::metadata(&checkout).unwrap(),
        fs::metadata(checkout.join("model.txt")).unwrap(),
    );
    assert_eq!((mine.uid(), mine.gid()), (made.uid(), made.gid()));
    let mut names: Vec<_> = fs::read_dir(&checkout)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["README.md", "model.txt", "train.py"],
        "and nothing else"
    );
}

/// A command that runs until it is ended, with a child and a daemon beside it.
struct Long {
    env: TestEnv,
    child: Child,
    /// In the command line of everything it started.
    mark: String,
}

impl Long {
    fn start(more: &[&str]) -> Self {
        let env = TestEnv::new();
        let folder = env.workspace("long", &[]);
        let mark = format!(
            "86{:04}{}",
            std::process::id() % 10_000,
            folder.metadata().unwrap().ino() % 1000
        );
        let script = format!("setsid sleep {mark} & sleep {mark} & touch up; sleep {mark}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fumehood"));
        command
            .args([
                "exec",
                "--policy",
                "dev-loop",
                "--workspace",
                folder.to_str().unwrap(),
            ])
            .args(more)
            .args(["--", "sh", "-c", &script])
            .env("HOME", env.path("home"))
            .env("FUMEHOOD_HOME", env.state())
            .current_dir(env.path("work"))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let long = Self { env, child, mark };
        soon("it is up", Duration::from_secs(60), || {
            folder.join("up").exists()
        });
        soon("all three sleep", Duration::from_secs(60), || {
            sleepers(&long.mark) >= 3
        });
        long
    }

    fn run_id(&self) -> String {
        let run = fs::read_dir(self.env.state().join("runs"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        run.file_name().into_string().unwrap()
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Before long no process, cgroup, mount or container of it is there.
    fn leaves_nothing(&self) {
        let run = self.run_id();
        soon("no process is left", Duration::from_secs(60), || {
            sleepers(&self.mark) == 0
        });
        soon("no cgroup is left", Duration::from_secs(60), || {
            !cgroup(&run)
        });
        soon("no mount is left", Duration::from_secs(60), || {
            !fs::read_to_string("/proc/self/mounts")
                .unwrap()
                .contains(&run)
        });
        if crate::docker::there() {
            soon("no container is left", Duration::from_secs(60), || {
                !container(&run)
            });
        }
    }
}

/// Processes that sleep for that odd number of seconds.
fn sleepers(mark: &str) -> usize {
    let wanted = format!("sleep\0{mark}\0");
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
    .count()
}

pub(crate) fn cgroup(run: &str) -> bool {
    walkdir::WalkDir::new("/sys/fs/cgroup")
        .into_iter()
        .filter_map(Result::ok)
        .any(|entry| entry.file_name().to_string_lossy().contains(run))
}

pub(crate) fn container(run: &str) -> bool {
    let listed = Command::new("docker")
        .args(["ps", "-a", "--format", "{{.Names}}"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&listed.stdout).contains(run)
}

fn soon(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn interrupted_leaves_nothing(more: &[&str]) {
    let mut long = Long::start(more);
    long.signal(nix::sys::signal::Signal::SIGINT);
    let status = long.child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    long.leaves_nothing();
    long.env
        .fumehood()
        .args(["runs", "verify"])
        .assert()
        .success();
}

fn killed_leaves_nothing_and_the_record_verifies(more: &[&str]) {
    let mut long = Long::start(more);
    long.signal(nix::sys::signal::Signal::SIGKILL);
    long.child.wait().unwrap();
    long.leaves_nothing();
    long.env
        .fumehood()
        .args(["runs", "verify"])
        .assert()
        .success();
    let shown = long
        .env
        .fumehood()
        .args(["runs", "show", "--json"])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("step-started") && !shown.contains("step-ended"),
        "{shown}"
    );
}

#[test]
fn ctrl_c_stops_it_and_leaves_nothing() {
    interrupted_leaves_nothing(&[]);
}

#[test]
fn ctrl_c_leaves_nothing_on_an_engine() {
    if crate::docker::there() {
        interrupted_leaves_nothing(&["--backend", "docker", "--image", IMAGE]);
    }
}

#[test]
fn kill_9_leaves_nothing_and_the_record_verifies() {
    killed_leaves_nothing_and_the_record_verifies(&[]);
}

#[test]
fn kill_9_leaves_nothing_on_an_engine() {
    if crate::docker::there() {
        killed_leaves_nothing_and_the_record_verifies(&["--backend", "docker", "--image", IMAGE]);
    }
}

#[test]
fn a_venv_that_is_none_is_refused_with_the_likely_one() {
    let env = TestEnv::new();
    fs::create_dir_all(env.path("work").join("project/.venv")).unwrap();
    fs::write(
        env.path("work").join("project/.venv/pyvenv.cfg"),
        "home = /usr/bin\n",
    )
    .unwrap();
    env.fumehood()
        .args(["exec", "--venv", "project", "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains(
            Path::new("project/.venv").to_str().unwrap(),
        ));
}
