//! `fumehood box` as scripts and other agents use it, on both backends; and what stays when a client
//! or the holder is killed.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use predicates::prelude::*;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits for a state, and says which it was that did not come.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command, to be left running.
pub(crate) fn background(env: &TestEnv, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fumehood"));
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .current_dir(env.path("work"))
        .args(args);
    if let Some(host) = std::env::var_os("DOCKER_HOST") {
        command.env("DOCKER_HOST", host);
    }
    command
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Waits for its end: exit code, standard output and errors.
pub(crate) fn ended(mut child: Child) -> (Option<i32>, String, String) {
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|it| Box::new(it) as Box<_>));
    let err = read(child.stderr.take().map(|it| Box::new(it) as Box<_>));
    eventually("the command ends", || child.try_wait().unwrap().is_some());
    let code = child.wait().unwrap().code();
    (code, out.join().unwrap(), err.join().unwrap())
}

/// Living processes of the machine with this word in their arguments.
pub(crate) fn processes(word: &str) -> usize {
    let found = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    found
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|arg| arg == word.as_bytes())
        })
        .count()
}

/// A time to sleep that no other process of the machine sleeps.
pub(crate) fn own_time() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static N: AtomicU32 = AtomicU32::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    format!("3{}.{n}", std::process::id())
}

/// An open box; closed with the value, by force where nothing else helps.
struct Opened<'a> {
    env: &'a TestEnv,
    name: String,
}

impl<'a> Opened<'a> {
    fn with(env: &'a TestEnv, args: &[&str]) -> Self {
        let output = env
            .fumehood()
            .args(["box", "open"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let name = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        Self { env, name }
    }

    fn say(&self, verb: &str, args: &[&str]) -> assert_cmd::Command {
        let mut command = self.env.fumehood();
        command.args(["box", verb, &self.name]).args(args);
        command
    }

    fn exec(&self, args: &[&str]) -> assert_cmd::Command {
        self.say("exec", args)
    }

    fn sh(&self, script: &str) -> String {
        let output = self.exec(&["--", "sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Left running, with its streams as pipes.
    fn start(&self, script: &str) -> Child {
        background(
            self.env,
            &["box", "exec", &self.name, "--", "sh", "-c", script],
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
    }

    /// As `box list --json` has it; nothing where it is not listed.
    fn listed(&self) -> Option<Value> {
        let output = self.env.fumehood().args(["box", "list", "--json"]).output();
        let all: Vec<Value> = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        all.into_iter()
            .find(|one| one["name"] == self.name.as_str())
    }

    fn steps(&self) -> usize {
        let mut steps = None;
        eventually("the holder answers", || {
            steps = self.listed().unwrap()["steps"].as_array().map(Vec::len);
            steps.is_some()
        });
        steps.unwrap()
    }

    fn pid(&self) -> Pid {
        let pid = self.listed().unwrap()["pid"].as_i64().unwrap();
        Pid::from_raw(i32::try_from(pid).unwrap())
    }

    fn run_dir(&self) -> PathBuf {
        let run = self.listed().unwrap()["run"].as_str().unwrap().to_owned();
        self.env.state().join("runs").join(run)
    }

    fn workspace(&self) -> PathBuf {
        PathBuf::from(self.listed().unwrap()["workspace"].as_str().unwrap())
    }

    fn close(&self) {
        self.say("close", &[]).assert().success();
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.say("close", &[]).ok();
        } else if self.listed().is_some() {
            self.close();
        }
    }
}

/// The last record of the newest run.
pub(crate) fn last_end(env: &TestEnv) -> Value {
    let output = env
        .fumehood()
        .args(["runs", "show", "last", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Where a claim names none.
fn policy(args: &[&str]) -> &'static [&'static str] {
    match args.contains(&"--policy") {
        true => &[],
        false => &["--policy", "dev-loop"],
    }
}

/// Each claim, on each backend.
macro_rules! on_both {
    ($($(#[$doc:meta])* $name:ident($env:ident, $open:ident) $body:block)+) => {
        $($(#[$doc])* fn $name<'a>($env: &'a TestEnv, $open: &dyn Fn(&[&str]) -> Opened<'a>) $body)+

        mod namespace {
            use super::*;
            $(#[test] fn $name() {
                let env = TestEnv::new();
                super::$name(&env, &|args| {
                    Opened::with(&env, &[&["--backend", "namespace"], policy(args), args].concat())
                });
            })+
        }

        mod docker {
            use super::*;
            $(#[test] fn $name() {
                if !crate::docker::there() {
                    return;
                }
                let env = TestEnv::new();
                super::$name(&env, &|args| {
                    Opened::with(&env, &[&["--backend", "docker", "--image", IMAGE], policy(args), args].concat())
                });
            })+
        }
    };
}

on_both! {
    /// `/tmp` is the sandbox's own: what is still in it shows that it is the same one.
    a_box_stays_warm_from_open_to_close_and_its_run_is_on_record(env, open) {
        let one = open(&["--name", "warm"]);
        assert_eq!(one.name, "warm");
        one.sh("echo kept > /tmp/kept; echo made > made");
        assert_eq!(one.sh("cat /tmp/kept made"), "kept\nmade\n");
        eventually("it answers", || one.listed().unwrap()["answers"] == true);
        one.close();
        assert!(one.listed().is_none());
        let end = last_end(env);
        assert_eq!(end["event"]["type"], "run-ended", "{end}");
        assert_eq!(end["event"]["stop"]["reason"], "finished");
        env.fumehood().args(["runs", "verify", "last"]).assert().success();
        env.fumehood()
            .args(["runs", "show", "last"])
            .assert()
            .success()
            .stdout(predicate::str::contains("box: warm"))
            .stdout(predicate::str::contains("cat /tmp/kept made"))
            .stdout(predicate::str::contains("sandbox down"));
        one.exec(&["--", "true"]).assert().code(125).stderr(predicate::str::contains("no box warm"));
        one.say("close", &[]).assert().code(2);
    }

    streams_and_exit_codes_are_those_of_exec(_env, open) {
        let one = open(&[]);
        one.exec(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"])
            .assert()
            .code(7)
            .stdout("out\n")
            .stderr("err\n");
        one.exec(&["--", "sh", "-c", "kill -9 $$"]).assert().code(137);
        one.exec(&["--", "no-such-program"]).assert().code(127);
        one.exec(&["--", "/etc/passwd"]).assert().code(126);
        one.exec(&["--timeout", "300ms", "--", "sleep", "60"])
            .assert()
            .code(124)
            .stderr(predicate::str::contains("time limit"));
        one.exec(&["--timeout", "5", "--", "true"]).assert().code(125);
        one.exec(&[]).assert().code(125);
        let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        let output = one.exec(&["--", "cat"]).write_stdin(bytes.clone()).output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == bytes);
        // A step that reads nothing, given more than any pipe holds, ends all the same.
        one.exec(&["--", "true"]).write_stdin(bytes).assert().success();
        one.exec(&["--", "printf", "\\033]52;c;AAAA\\007\\377\\000"])
            .assert()
            .success()
            .stdout(&b"\x1b]52;c;AAAA\x07\xff\x00"[..]);
    }

    a_command_has_its_own_folder_and_variables(_env, open) {
        let one = open(&["--env", "BOTH=box"]);
        one.sh("mkdir -p deep/er");
        one.exec(&["--cwd", "/workspace/deep/er", "--env", "BOTH=mine", "--env", "NEW=1 2", "--", "sh", "-c", "pwd; echo $BOTH $NEW"])
            .assert()
            .success()
            .stdout("/workspace/deep/er\nmine 1 2\n");
        assert_eq!(one.sh("echo $BOTH $NEW"), "box\n");
        for bad in ["LD_PRELOAD=/x", "HOME=/x", "1=2"] {
            one.exec(&["--env", bad, "--", "true"])
                .assert()
                .code(125)
                .stderr(predicate::str::contains("--env"));
        }
    }

    /// Each waits for the others.
    several_run_at_once(_env, open) {
        let one = open(&[]);
        let all: Vec<Child> = (0..4)
            .map(|n| one.start(&format!(
                "touch here.{n}; while [ $(ls here.* | wc -l) -lt 4 ]; do sleep 0.05; done; echo {n}"
            )))
            .collect();
        for (n, child) in all.into_iter().enumerate() {
            assert_eq!(ended(child).1, format!("{n}\n"));
        }
    }

    ctrl_c_stops_that_step_alone(env, open) {
        // It ends as soon as it is told; how soon that is, is the machine's affair.
        let one = open(&["--set", "process.stop_grace=60s"]);
        let other = one.start("touch other; while [ ! -e go ]; do sleep 0.05; done; echo went on");
        let stopped = one.start("trap 'echo told; exit 3' TERM; touch ready; while :; do sleep 0.05; done");
        let workspace = one.workspace();
        eventually("both run", || workspace.join("ready").exists() && workspace.join("other").exists());
        signal(&stopped, Signal::SIGINT);
        let (code, out, err) = ended(stopped);
        assert_eq!((code, out.as_str()), (Some(130), "told\n"), "{err}");
        assert_eq!(one.steps(), 1);
        one.sh("touch go");
        assert_eq!(ended(other).1, "went on\n");
        let _ = env;
    }

    a_client_that_is_killed_takes_its_step_with_it(_env, open) {
        let one = open(&["--set", "process.stop_grace=1s"]);
        let time = own_time();
        let mut child = one.start(&format!("touch ready; exec sleep {time}"));
        let workspace = one.workspace();
        eventually("the step runs", || workspace.join("ready").exists());
        signal(&child, Signal::SIGKILL);
        child.wait().unwrap();
        eventually("the step is gone", || one.steps() == 0 && processes(&time) == 0);
        assert_eq!(one.sh("echo the box is not"), "the box is not\n");
    }

    a_holder_that_is_killed_leaves_nothing_but_a_record_without_an_end(env, open) {
        let one = open(&["--name", "killed"]);
        let time = own_time();
        let child = one.start(&format!("touch ready; setsid sleep {time} & sleep {time}"));
        let (workspace, dir) = (one.workspace(), one.run_dir());
        eventually("the step runs", || workspace.join("ready").exists() && processes(&time) >= 2);
        let pid = one.pid();
        kill(pid, Signal::SIGKILL).unwrap();
        let (code, _, err) = ended(child);
        assert_eq!(code, Some(125), "{err}");
        assert!(err.contains("holder ended"), "{err}");
        eventually("the sandbox is gone", || processes(&time) == 0);
        assert!(dir.join("socket").exists(), "a killed process removes nothing");
        one.exec(&["--", "true"]).assert().code(125).stderr(predicate::str::contains("is gone"));
        env.fumehood()
            .args(["box", "list"])
            .assert()
            .success()
            .stderr(predicate::str::contains("box killed is gone"));
        assert!(!env.state().join("boxes/killed.json").exists());
        env.fumehood().args(["runs", "verify", "last"]).assert().success();
        env.fumehood().args(["runs", "list"]).assert().stdout(predicate::str::contains("crashed"));
        // And its name is free.
        let again = open(&["--name", "killed"]);
        assert_eq!(again.sh("ls"), "");
        drop(again);
    }

    a_box_that_is_closed_stops_what_runs_in_it(_env, open) {
        let one = open(&["--set", "process.stop_grace=1s"]);
        let child = one.start("trap '' TERM; touch ready; while :; do sleep 0.05; done");
        let workspace = one.workspace();
        eventually("the step runs", || workspace.join("ready").exists());
        one.close();
        let (code, _, err) = ended(child);
        assert_eq!(code, Some(130), "{err}");
    }

    a_hundred_mebibytes_go_in_and_out_unchanged(env, open) {
        let one = open(&[]);
        let (mine, back) = (env.path("work/data.bin"), env.path("work/back/deep/data.bin"));
        let mut state = 1u64;
        let mut bytes = Vec::with_capacity(100 << 20);
        while bytes.len() < 100 << 20 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            bytes.extend_from_slice(&state.to_be_bytes());
        }
        fs::write(&mine, &bytes).unwrap();
        one.say("put", &["data.bin", "in/a/data.bin"]).assert().success();
        let inside = one.sh("sha256sum < in/a/data.bin");
        let outside = Command::new("sha256sum").stdin(fs::File::open(&mine).unwrap()).output().unwrap();
        assert_eq!(inside.as_bytes(), outside.stdout);
        one.say("get", &["in/a/data.bin", back.to_str().unwrap()]).assert().success();
        assert!(fs::read(&back).unwrap() == bytes);
        // Whose it is inside is whose everything there is.
        let owner = one.sh("stat -c %u in in/a in/a/data.bin; id -u");
        let owners: Vec<&str> = owner.lines().collect();
        assert!(owners.iter().all(|one| one == owners.last().unwrap()), "{owner}");
        env.fumehood()
            .args(["runs", "show", "last", "--json"])
            .assert()
            .stdout(predicate::str::contains("file-put"))
            .stdout(predicate::str::contains("file-got"));
    }

    a_file_goes_into_a_folder_under_its_own_name_and_keeps_what_it_is(env, open) {
        let one = open(&[]);
        let script = env.path("work/run.sh");
        fs::write(&script, "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        one.sh("mkdir there");
        one.say("put", &["run.sh", "there"]).assert().success();
        one.say("put", &["run.sh", "new/"]).assert().success();
        one.say("put", &["run.sh", "/workspace"]).assert().success();
        assert_eq!(one.sh("./there/run.sh; ./new/run.sh; ./run.sh"), "ran\nran\nran\n");
        fs::write(&script, "").unwrap();
        one.say("put", &["run.sh", "there/run.sh"]).assert().success();
        assert_eq!(one.sh("wc -c < there/run.sh").trim(), "0");
        one.say("get", &["there/run.sh", "."]).assert().success();
        one.say("get", &["new/run.sh", "other.sh"]).assert().success();
        let mode = |name: &str| fs::metadata(env.path("work").join(name)).unwrap().mode() & 0o111;
        assert!(mode("other.sh") != 0);
        assert_eq!(fs::read_to_string(env.path("work/other.sh")).unwrap(), "#!/bin/sh\necho ran\n");
        one.say("get", &["there", "x"]).assert().code(2).stderr(predicate::str::contains("tar"));
        one.say("put", &["..", "x"]).assert().code(2);
        one.say("get", &["no-such", "x"]).assert().code(2);
        one.say("put", &["no-such", "x"]).assert().code(2);
        // As root this would make an end of it.
        one.say("get", &["run.sh", "/dev/null"]).assert().code(2);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    nothing_outside_the_workspace_is_read_or_written_by_put_and_get(env, open) {
        let one = open(&[]);
        let outside = env.workspace("outside", &[("secret", "secret")]);
        let out = outside.to_str().unwrap();
        fs::write(env.path("work/mine"), "mine").unwrap();
        one.sh(&format!(
            "ln -s {out} folder; ln -s {out}/secret file; mkdir d; ln -s ../folder d/twice; ln -s /proc/self/root root"
        ));
        nix::unistd::mkfifo(&one.workspace().join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        for target in [
            "../x", "a/../../x", "/etc/x", "/workspace/../x", "/workspacex/x", "folder/x",
            "file", "d/twice/x", "folder/secret", "root/tmp/x", "pipe", ".git/config", "sub/.envrc", "",
        ] {
            let done = one.say("put", &["mine", target]).output().unwrap();
            // "" is the workspace itself, and takes it under its own name.
            assert_eq!(done.status.success(), target.is_empty(), "{target}: {done:?}");
        }
        for source in [
            "../x", "/etc/passwd", "/workspace/../etc/passwd", "folder/secret", "file",
            "d/twice/secret", "root/etc/passwd", "pipe", "/workspace", ".git/config",
        ] {
            let done = one.say("get", &[source, "got"]).output().unwrap();
            assert!(!done.status.success(), "{source}: {done:?}");
        }
        assert!(!env.path("work/got").exists());
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    }

    what_the_policy_denies_is_denied_in_a_box(env, open) {
        let policy = env.path("work/strict.toml");
        fs::write(&policy, "schema = 1\nextends = \"builtin:dev-loop\"\n[[approval.rule]]\nid = \"no-ls\"\naction = \"exec\"\ndecision = \"deny\"\ncommand_prefix = [\"ls\"]\nreason = \"not here\"\n").unwrap();
        let one = open(&["--policy", policy.to_str().unwrap()]);
        one.exec(&["--", "ls"])
            .assert()
            .code(126)
            .stdout("")
            .stderr(predicate::str::contains("not here"));
        one.exec(&["--yes", "--", "ls"]).assert().code(126);
        one.exec(&["--", "true"]).assert().success();
        fs::write(env.path("work/mine"), "mine").unwrap();
        one.say("put", &["mine", ".git/hooks/post-checkout"])
            .assert()
            .code(6)
            .stderr(predicate::str::contains(".git"));
        assert!(!one.workspace().join(".git").exists());
    }

    a_question_goes_to_the_client_and_its_answer_counts(_env, open) {
        let one = open(&["--set", "approval.typed=ask"]);
        one.exec(&["--", "echo", "asked"])
            .assert()
            .code(126)
            .stdout("")
            .stderr(predicate::str::contains("nobody can be asked"));
        one.exec(&["--yes", "--", "echo", "asked"]).assert().success().stdout("asked\n");
        // Beyond the policy: not even with --yes.
        one.exec(&["--yes", "--timeout", "999h", "--", "true"]).assert().code(126);
    }

    a_box_ends_when_nothing_is_asked_of_it_and_not_while_a_step_runs(env, open) {
        // A machine that takes longer than this to come from one command to the next is given more.
        for idle in [2, 10, 50] {
            let one = open(&["--idle-timeout", &format!("{idle}s")]);
            let script = format!("sleep {}; echo still here", 2 * idle);
            let output = one.exec(&["--", "sh", "-c", &script]).output().unwrap();
            eventually("it ends by itself", || one.listed().is_none());
            if output.stdout == b"still here\n" {
                break;
            }
            assert!(idle < 50, "{output:?}");
        }
        let end = last_end(env);
        assert_eq!(end["event"]["stop"]["reason"], "finished");
        assert!(end["event"]["text"].as_str().unwrap().contains("nothing was asked"), "{end}");
    }
}

#[test]
fn a_box_that_does_not_come_up_says_why_and_leaves_nothing() {
    let env = TestEnv::new();
    let open = |args: &[&str]| {
        let mut command = env.fumehood();
        command.args(["box", "open"]).args(args);
        command.assert()
    };
    open(&["--policy", "no-such"])
        .code(2)
        .stderr(predicate::str::contains("no-such"));
    open(&["--name", "../x"])
        .code(2)
        .stderr(predicate::str::contains("name"));
    open(&["--idle-timeout", "5"])
        .code(2)
        .stderr(predicate::str::contains("unit"));
    open(&["--workspace", "/etc"])
        .code(2)
        .stderr(predicate::str::contains("/etc"));
    open(&["--backend", "namespace", "--image", "x"])
        .code(2)
        .stdout("");
    open(&[
        "--set",
        "tmp.size=1PiB",
        "--backend",
        "docker",
        "--image",
        "no-such-image",
    ])
    .failure();
    env.fumehood()
        .args(["box", "list", "--json"])
        .assert()
        .success()
        .stdout("[]\n");
    env.fumehood()
        .args(["runs", "list", "--json"])
        .assert()
        .stdout("[]\n");
}

#[test]
fn a_name_is_one_boxs_at_a_time() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--name", "mine", "--backend", "namespace"]);
    env.fumehood()
        .args(["box", "open", "--name", "mine", "--backend", "namespace"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicate::str::contains("a box mine already"));
    let other = Opened::with(&env, &["--backend", "namespace"]);
    assert!(other.name.starts_with("box-"), "{}", other.name);
    one.close();
    let _again = Opened::with(&env, &["--name", "mine", "--backend", "namespace"]);
}

/// What a client says first, as it stands on the socket.
fn opening(ask: &str) -> Vec<u8> {
    let body = format!("{{\"protocol\":1,\"ask\":{ask}}}");
    let length = u32::try_from(body.len()).unwrap();
    [&b"m"[..], &length.to_be_bytes(), body.as_bytes()].concat()
}

/// Connects, says it, and gives what came back until the end of the connection.
const SAY: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    s.shutdown(socket.SHUT_WR)
    while (b := s.recv(65536)):
        sys.stdout.buffer.write(b)
except OSError:
    pass
";

fn say(path: &Path, bytes: &[u8], uid: Option<u32>) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", SAY, path.to_str().unwrap(), &hex]);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid).current_dir("/");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The folders keep others out; here they are opened, so that only the peer's uid is left to do it.
#[test]
fn another_users_connection_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can be another user");
        return;
    }
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let dir = one.run_dir();
    let mode = fs::metadata(dir.join("socket")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    for path in [&env.state(), &env.state().join("runs"), &dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let socket = dir.join("socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(say(&socket, &opening("\"Status\""), Some(12345)), "");
    assert!(say(&socket, &opening("\"Status\""), None).contains("idle_ms"));
    assert_eq!(say(&socket, &opening("\"Close\""), Some(12345)), "");
    assert_eq!(one.sh("echo lives"), "lives\n");
}

#[test]
fn nonsense_on_the_socket_ends_its_connection_and_nothing_else() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let socket = one.run_dir().join("socket");
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"m\xff\xff\xff\xff",
        b"d\x00\x00\x00\x01x",
        b"m\x00\x00\x00\x02{}",
        b"m\x00\x10\x00\x00",
        b"",
    ] {
        assert_eq!(say(&socket, bytes, None), "", "{bytes:?}");
    }
    let refused = say(
        &socket,
        &opening("\"Status\"").replace(b"\"protocol\":1", b"\"protocol\":9"),
        None,
    );
    assert!(refused.contains("version"), "{refused}");
    for ask in [
        r#"{"Stream":{"token":"x","stream":"Stdout"}}"#,
        r#"{"Put":{"path":"../../x","name":"x","bytes":1,"digest":"00","executable":false}}"#,
        r#"{"Get":{"path":"/etc/shadow"}}"#,
        r#""Cancel""#,
    ] {
        let said = say(&socket, &opening(ask), None);
        assert!(!said.contains("root:"), "{said}");
    }
    // A put whose bytes are not those that were decided about.
    let mut put = opening(&format!(
        r#"{{"Put":{{"path":"lie","name":"x","bytes":3,"digest":"{}","executable":false}}}}"#,
        "0".repeat(64)
    ));
    put.extend_from_slice(b"d\x00\x00\x00\x03abc");
    assert!(say(&socket, &put, None).contains("other bytes"));
    assert_eq!(one.sh("ls -A"), "");
}

trait Replace {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl Replace for Vec<u8> {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self.windows(from.len()).position(|window| window == from);
        let at = at.unwrap();
        [&self[..at], to, &self[at + from.len()..]].concat()
    }
}

/// A put that breaks off, because its client is killed in the middle of it.
#[test]
fn a_put_that_breaks_off_leaves_nothing() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let socket = one.run_dir().join("socket");
    let mut put = opening(&format!(
        r#"{{"Put":{{"path":"new/half","name":"x","bytes":10,"digest":"{}","executable":false}}}}"#,
        "0".repeat(64)
    ));
    put.extend_from_slice(b"d\x00\x00\x00\x03abc");
    say(&socket, &put, None);
    assert_eq!(one.sh("ls -A new"), "");
}

/// Connects, asks, and leaves the rest unread.
fn asked(socket: &Path, ask: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&opening(ask)).unwrap();
    stream
}

#[test]
fn a_client_that_never_reads_does_not_keep_a_box_from_closing() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let socket = one.run_dir().join("socket");
    one.sh("truncate -s 64M big");
    let mut getting = asked(&socket, r#"{"Get":{"path":"big"}}"#);
    // The bytes come, as many as the socket holds.
    getting.read_exact(&mut [0; 5]).unwrap();
    let mut putting = asked(
        &socket,
        &format!(
            r#"{{"Put":{{"path":"new","name":"x","bytes":10,"digest":"{}","executable":false}}}}"#,
            "0".repeat(64)
        ),
    );
    putting.read_exact(&mut [0; 5]).unwrap();
    one.close();
}

/// More than there are places for: each of them has its time to say something, and is let go.
#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let socket = one.run_dir().join("socket");
    let silent: Vec<_> = (0..300)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    assert_eq!(one.sh("echo heard"), "heard\n");
    drop(silent);
}

/// What runs in the box could make a link of each of these, to whatever the user can read or write.
#[test]
fn neither_put_nor_get_goes_through_the_workspace_on_the_users_side() {
    let env = TestEnv::new();
    let folder = env.workspace("mine", &[]);
    let outside = env.workspace("outside", &[("secret", "secret")]);
    let one = Opened::with(
        &env,
        &[
            "--backend",
            "namespace",
            "--workspace",
            folder.to_str().unwrap(),
        ],
    );
    let out = outside.to_str().unwrap();
    one.sh(&format!(
        "echo made > made; ln -s {out}/secret config; ln -s {out} models; echo mine > plain"
    ));
    symlink(&folder, env.path("work/way")).unwrap();
    let said = predicate::str::contains("the box's own workspace");
    for source in ["config", "models/secret", "plain"] {
        for way in ["../mine", "way", "../outside/../mine"] {
            one.say("put", &[&format!("{way}/{source}"), "taken"])
                .assert()
                .code(2)
                .stderr(said.clone());
        }
    }
    for target in ["config", "models/secret", "models/", "models", ".", "new"] {
        one.say("get", &["made", &format!("../mine/{target}")])
            .assert()
            .code(2)
            .stderr(said.clone());
    }
    assert_eq!(one.sh("ls"), "config\nmade\nmodels\nplain\n");
    let names = fs::read_dir(&outside).unwrap().count();
    assert_eq!(names, 1);
    assert_eq!(
        fs::read_to_string(outside.join("secret")).unwrap(),
        "secret"
    );
    one.say("get", &["made", "../mine/../work/got"])
        .assert()
        .success();
    one.say("put", &["got", "taken"]).assert().success();
}

/// A folder of the user's own: nothing of ours stays in it.
#[test]
fn a_box_works_in_a_folder_of_the_users_and_keeps_others_out_of_it() {
    let env = TestEnv::new();
    let folder = env.workspace("mine", &[("train.py", "print('trained')\n")]);
    let at = folder.to_str().unwrap();
    let one = Opened::with(&env, &["--backend", "namespace", "--workspace", at]);
    one.exec(&["--", "python3", "train.py"])
        .assert()
        .success()
        .stdout("trained\n");
    env.fumehood()
        .args(["exec", "--workspace", at, "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("in use by run"));
    symlink("/etc", folder.join("theirs")).unwrap();
    one.sh("ln -s /etc/passwd leads-out");
    one.close();
    assert!(
        !folder.join("leads-out").is_symlink(),
        "it was not moved out"
    );
    env.fumehood()
        .args(["exec", "--workspace", at, "--", "true"])
        .assert()
        .success();
}

/// The pipe of a program that is not read from any more breaks, as it does for `exec`.
#[test]
fn a_reader_that_goes_away_is_felt_by_the_program() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    let mut child = one.start("yes");
    let mut some = [0; 4];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut some).unwrap();
    drop(out);
    let (code, ..) = ended(child);
    assert_eq!(code, Some(128 + 13));
}

/// What is typed is an answer while a question stands, and the program's input once it runs.
#[test]
fn keys_are_answers_until_the_program_runs_and_then_its_input() {
    use std::io::Write;
    let env = TestEnv::new();
    let one = Opened::with(
        &env,
        &["--backend", "namespace", "--set", "approval.typed=ask"],
    );
    let program = env!("CARGO_BIN_EXE_fumehood");
    let script = "echo BEGUN; read line; echo got-$line";
    let command = format!("{program} box exec {} -- sh -c '{script}'", one.name);
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .current_dir(env.path("work"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let shown = seen.clone();
    let reading = std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut some) {
            shown
                .lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&some[..count]));
        }
    });
    let has = |word: &str| seen.lock().unwrap().lines().any(|line| line.trim() == word);
    let asked = || {
        seen.lock()
            .unwrap()
            .contains("May this run in the sandbox?")
    };
    eventually("it asks", asked);
    let mut press = |keys: &[u8]| {
        for key in keys {
            keyboard.write_all(&[*key]).unwrap();
            std::thread::sleep(Duration::from_millis(80));
        }
    };
    // A key that comes before the question stands answers nothing, so once more.
    let mut last = Instant::now() - PATIENCE;
    eventually("it runs", || {
        if last.elapsed() > Duration::from_secs(60) && !has("BEGUN") {
            std::thread::sleep(Duration::from_secs(2));
            press(b"y\r");
            last = Instant::now();
        }
        has("BEGUN")
    });
    press(b"typed\r");
    eventually("the program has read it", || has("got-typed"));
    eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(keyboard);
    reading.join().unwrap();
}

/// A sandbox that is ended from outside is an error of what ran in it; the next command has a new one.
#[test]
fn a_sandbox_that_is_ended_from_outside_is_replaced() {
    let env = TestEnv::new();
    let one = Opened::with(&env, &["--backend", "namespace"]);
    one.sh("touch /tmp/old");
    let time = own_time();
    let child = one.start(&format!("exec sleep {time}"));
    eventually("the step runs", || processes(&time) == 1);
    // Its first process, by the children of the holder.
    let holder = one.pid();
    let children = fs::read_dir(format!("/proc/{holder}/task"))
        .unwrap()
        .flat_map(|task| {
            let path = task.unwrap().path().join("children");
            let children = fs::read_to_string(path).unwrap_or_default();
            children
                .split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<i32>>()
        });
    for pid in children.collect::<Vec<i32>>() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let (code, _, err) = ended(child);
    assert_eq!(code, Some(125), "{err}");
    eventually("the old one is gone", || processes(&time) == 0);
    assert_eq!(one.sh("ls -A /tmp; echo new"), "new\n");
}

/// A script's lock would be held as long as the box is.
#[test]
fn a_box_keeps_nothing_open_of_whoever_opened_it() {
    let env = TestEnv::new();
    let lock = env.path("work/lock");
    let program = env!("CARGO_BIN_EXE_fumehood");
    let script =
        format!("exec 9>lock; flock 9; {program} box open --name kept --backend namespace");
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .current_dir(env.path("work"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let one = Opened {
        env: &env,
        name: "kept".to_owned(),
    };
    assert!(fs::File::open(lock).unwrap().try_lock().is_ok());
    assert_eq!(
        fs::read_link(format!("/proc/{}/cwd", one.pid())).unwrap(),
        Path::new("/")
    );
    let session = |pid: Pid| nix::unistd::getsid(Some(pid)).unwrap();
    assert_eq!(session(one.pid()), one.pid());
    let log = one.run_dir().join("holder.log");
    let output = fs::read_link(format!("/proc/{}/fd/2", one.pid())).unwrap();
    assert_eq!(output, fs::canonicalize(log).unwrap());
}
