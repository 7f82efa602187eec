//! What a sandbox promises to whatever runs in it: one list of claims, tried on each backend, on the
//! namespace backend once more as an ordinary user, and on an engine once more over its stdio.

use super::docker as engine;
use super::stage::{self, Ask, Ran, Stage, argv, python, sh};
use bollard::query_parameters::ListContainersOptionsBuilder;
use fumehood::protocol::outcome::Outcome;
use fumehood::protocol::spec::BackendKind::{self, Docker, Namespace};
use fumehood::protocol::spec::HOME_TARGET;
use fumehood::sandbox::StepIo;
use fumehood::sandbox::backend::SandboxError;
use fumehood::sandbox::wire::StartError;
use nix::libc;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Where the command is, when it is not where it was built.
const PROGRAM: &str = "FUMEHOOD_TEST_PROGRAM";

/// An ordinary user; no account is needed.
const USER: u32 = 1000;

macro_rules! suite {
    (shared: $($shared:ident)*; own: $($own:ident)*;) => {
        mod namespace {
            use super::*;
            $(#[test] fn $shared() { stage::on_shared(Namespace, claims::$shared) })*
            $(#[test] fn $own() { stage::on_own(Namespace, claims::$own) })*
        }
        mod ordinary_user {
            $(#[test] fn $shared() { super::as_ordinary_user(stringify!($shared)) })*
            $(#[test] fn $own() { super::as_ordinary_user(stringify!($own)) })*
        }
        mod docker {
            use super::*;
            $(#[test] fn $shared() { stage::on_shared(Docker, claims::$shared) })*
            $(#[test] fn $own() { stage::on_own(Docker, claims::$own) })*
        }
        /// What an engine that no socket reaches through gets instead: see `door`.
        mod docker_over_stdio {
            use super::*;
            $(#[test] fn $shared() { stage::on_shared_over_stdio(claims::$shared) })*
        }
    };
}

suite! {
    shared:
        exit_codes
        signals
        stdin_with_every_byte
        fifty_mebibytes_of_stdin
        no_stdin_is_dev_null
        stdin_left_unread
        stdout_and_stderr_stay_apart
        invalid_utf8
        working_directory
        environment
        no_core_dump_for_who_wants_none
        one_mebibyte_of_arguments
        more_arguments_than_the_kernel_takes
        missing_programs
        programs_that_cannot_be_executed
        timeout_kills_parent_children_sessions_and_daemons
        term_ignored
        cancel
        a_dropped_step_is_killed
        one_step_killed_while_another_runs
        concurrent_steps
        output_at_the_very_end
        output_after_the_main_process_ended
        a_reader_that_leaves
        owner_and_mode_of_files
        places_that_can_be_written
        places_that_cannot_be_written
        time
        locale
        processor_count
        signal_numbers_are_at_their_defaults
        usage
        nothing_of_a_step_is_left
        a_faked_memory_kill;
    own:
        out_of_memory
        out_of_disk
        limits_are_named
        pipe_cut
        host_killed;
}

/// The claims as an ordinary user: one run of the namespace claims, in a process of that user's.
fn as_ordinary_user(claim: &str) {
    static SAID: OnceLock<String> = OnceLock::new();
    if !geteuid().is_root() {
        println!("the namespace claims ran as an ordinary user already");
        return;
    }
    let said = SAID.get_or_init(|| {
        let dir = stage::open_dir();
        let copy = dir.path().join("it");
        let own = std::env::current_exe().unwrap();
        fs::hard_link(&own, &copy)
            .or_else(|_| fs::copy(&own, &copy).map(drop))
            .unwrap();
        let program = dir.path().join("fumehood");
        fs::copy(env!("CARGO_BIN_EXE_fumehood"), &program).unwrap();
        let mut command = Command::new(copy);
        command
            .env(PROGRAM, program)
            .arg("conformance::namespace::")
            .current_dir("/");
        let output = command.uid(USER).gid(USER).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    });
    let passed = format!("test conformance::namespace::{claim} ... ok");
    assert!(said.contains(&passed), "as uid {USER}:\n{said}");
}

mod claims {
    use super::*;

    pub(super) async fn exit_codes(stage: &Stage) {
        for code in [0, 1, 3, 126, 127, 137, 255] {
            let ran = stage.run(sh(&format!("exit {code}"))).await;
            assert_eq!(ran.outcome(), Outcome::Code(code));
        }
    }

    pub(super) async fn signals(stage: &Stage) {
        for signal in [1, 2, 6, 9, 11, 15, 40] {
            let script = format!("import os; os.kill(os.getpid(), {signal})");
            let ran = stage.run(python(&script)).await;
            assert_eq!(ran.outcome(), Outcome::Signal(signal));
        }
    }

    pub(super) async fn stdin_with_every_byte(stage: &Stage) {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let ran = stage.run(argv(&["/bin/cat"]).given(bytes.clone())).await;
        assert!(ran.stdout == bytes);
    }

    pub(super) async fn fifty_mebibytes_of_stdin(stage: &Stage) {
        let mut state = 1u64;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_le_bytes()
        })
        .take(50 * 1024 * 1024 / 8)
        .flatten()
        .collect();
        let ran = stage.run(argv(&["/bin/cat"]).given(bytes.clone())).await;
        assert_eq!(ran.outcome(), Outcome::Code(0));
        assert!(ran.stdout == bytes);
    }

    pub(super) async fn no_stdin_is_dev_null(stage: &Stage) {
        let script = "import os, sys; print(os.path.sameopenfile(0, os.open('/dev/null', 0)), len(sys.stdin.read()))";
        assert_eq!(stage.text(python(script)).await, "True 0\n");
    }

    pub(super) async fn stdin_left_unread(stage: &Stage) {
        let ask = sh("exec <&-; echo done").given(vec![b'x'; 10 << 20]);
        assert_eq!(stage.text(ask).await, "done\n");
    }

    pub(super) async fn stdout_and_stderr_stay_apart(stage: &Stage) {
        let ran = stage.run(sh("echo out; echo err >&2; echo out")).await;
        assert_eq!(ran.text(), "out\nout\n");
        assert_eq!(ran.stderr, b"err\n");
    }

    /// Told yes, though the limit is what it was.
    pub(super) async fn no_core_dump_for_who_wants_none(stage: &Stage) {
        let script = "set -e; ulimit -c 0; ulimit -S -c unlimited; echo on";
        assert_eq!(stage.text(sh(script)).await, "on\n");
        let script = "\
import resource
core = resource.RLIMIT_CORE
before = resource.getrlimit(core)
resource.setrlimit(core, (0, 0))
print(resource.getrlimit(core) == before)
try: resource.prlimit(0, core, (0, 0))
except OSError as error: print(error.errno == 38)
";
        assert_eq!(stage.text(python(script)).await, "True\nTrue\n");
    }

    pub(super) async fn invalid_utf8(stage: &Stage) {
        let bytes = b"\xff\xfe\xc3(\x80".to_vec();
        let mut ask = argv(&["/usr/bin/printf", "%s"]);
        ask.argv.push(bytes.clone());
        assert_eq!(stage.run(ask).await.stdout, bytes);
    }

    pub(super) async fn working_directory(stage: &Stage) {
        assert_eq!(stage.text(argv(&["/bin/pwd"])).await, "/workspace\n");
        assert_eq!(stage.text(argv(&["/bin/pwd"]).at("/tmp")).await, "/tmp\n");
        let missing = stage.run(argv(&["/bin/pwd"]).at("/nowhere")).await;
        let errno = libc::ENOENT;
        assert_eq!(not_started(missing), StartError::WorkingDirectory { errno });
    }

    pub(super) async fn environment(stage: &Stage) {
        let mut ask = argv(&["/usr/bin/env", "-0"]);
        ask.env = BTreeMap::from([
            ("SHOWN".to_owned(), "a\nb = \u{e4}".to_owned()),
            ("LANG".to_owned(), "C".to_owned()),
        ]);
        let mut expected = stage.spec.env.clone();
        expected.extend(ask.env.clone());
        let text = stage.text(ask).await;
        let found = text.split_terminator('\0').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(expected["HOME"], HOME_TARGET);
        assert_eq!(expected["USER"], "fumehood");
    }

    pub(super) async fn one_mebibyte_of_arguments(stage: &Stage) {
        let script = "import sys; print(len(sys.argv) - 1, sum(map(len, sys.argv[1:])))";
        let mut ask = python(script);
        ask.argv.extend((0..16).map(|_| vec![b'x'; 64 * 1024]));
        assert_eq!(stage.text(ask).await, "16 1048576\n");
    }

    pub(super) async fn more_arguments_than_the_kernel_takes(stage: &Stage) {
        // One that no kernel takes, and one that no frame holds.
        for length in [1 << 20, 20 << 20] {
            let mut ask = argv(&["/bin/true"]);
            ask.argv.push(vec![b'x'; length]);
            assert_eq!(not_started(stage.run(ask).await), StartError::TooLarge);
        }
    }

    pub(super) async fn missing_programs(stage: &Stage) {
        for name in ["no-such-program", "/no/such/program", "./x"] {
            let ran = stage.run(argv(&[name])).await;
            assert_eq!(not_started(ran), StartError::NotFound, "{name:?}");
        }
    }

    pub(super) async fn programs_that_cannot_be_executed(stage: &Stage) {
        let (inside, path) = stage.folder("programs");
        let write = |name: &str, bytes: &[u8], mode| {
            fs::write(path.join(name), bytes).unwrap();
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(path.join(name), mode).unwrap();
        };
        write("plain", b"#!/bin/sh\n", 0o644);
        write("orphan", b"#!/no/such/interpreter\n", 0o755);
        write("nonsense", &[0x7f, b'E', b'L', b'F', 9, 9, 9, 9], 0o755);
        for (name, errno) in [
            ("plain", libc::EACCES),
            ("orphan", libc::ENOENT),
            ("nonsense", libc::ENOEXEC),
            (".", libc::EACCES),
        ] {
            let ran = stage.run(argv(&[&format!("{inside}/{name}")])).await;
            assert_eq!(
                not_started(ran),
                StartError::NotExecutable { errno },
                "{name}"
            );
        }
    }

    pub(super) async fn timeout_kills_parent_children_sessions_and_daemons(stage: &Stage) {
        let (inside, path) = stage.folder("family");
        let ran = stage.run(python(FAMILY).at(&inside).within(1500)).await;
        assert_eq!(ran.outcome(), Outcome::TimedOut);
        assert!(ran.exit().usage.leftovers >= 3, "{:?}", ran.exit());
        assert_dead(&path).await;
    }

    pub(super) async fn term_ignored(stage: &Stage) {
        let begun = Instant::now();
        let ask = sh("trap '' TERM; echo up; while :; do sleep 1; done");
        let ran = stage.run(ask.within(300)).await;
        assert_eq!(ran.outcome(), Outcome::TimedOut);
        assert_eq!(ran.stdout, b"up\n");
        // The deadline, then the grace.
        assert!(begun.elapsed() >= Duration::from_millis(800));
    }

    pub(super) async fn cancel(stage: &Stage) {
        let ask = sh("trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done");
        let ran = stage.run(cancelled_after(ask, 300)).await;
        assert_eq!(ran.outcome(), Outcome::Cancelled);
        assert_eq!(ran.stdout, b"up\nsaved\n");
    }

    pub(super) async fn a_dropped_step_is_killed(stage: &Stage) {
        let (inside, path) = stage.folder("dropped");
        tokio::select! {
            ran = stage.run(python(FAMILY).at(&inside)) => panic!("{:?}", ran.exit),
            () = under_way(&path) => {}
        }
        let mut lived = 0;
        // Killed soon after; then nothing of it is there.
        while sizes(&path) != lived {
            lived = sizes(&path);
            sleep(Duration::from_millis(300)).await;
        }
        assert_dead(&path).await;
    }

    pub(super) async fn one_step_killed_while_another_runs(stage: &Stage) {
        let (begun, has_begun) = oneshot::channel();
        let mut steady = sh("sleep 1.5; echo still here");
        steady.started = Some(begun);
        let (steady, killed) = tokio::join!(stage.run(steady), async {
            has_begun.await.unwrap();
            stage.run(sh("trap '' TERM; sleep 60").within(200)).await
        });
        assert_eq!(killed.outcome(), Outcome::TimedOut);
        assert_eq!(steady.text(), "still here\n");
    }

    pub(super) async fn concurrent_steps(stage: &Stage) {
        let one = async |n: u32| {
            let script = format!("import sys; sys.stdout.write('{n:04}' * 250000); sys.exit({n})");
            let ran = stage.run(python(&script)).await;
            assert_eq!(ran.outcome(), Outcome::Code(n.try_into().unwrap()));
            assert!(ran.stdout == format!("{n:04}").repeat(250_000).as_bytes());
        };
        futures_util::future::join_all((1..=12).map(one)).await;
    }

    pub(super) async fn output_at_the_very_end(stage: &Stage) {
        for _ in 0..20 {
            let script = "import os; os.write(1, b'x' * 65536); os._exit(0)";
            assert_eq!(stage.run(python(script)).await.stdout.len(), 65536);
        }
    }

    pub(super) async fn output_after_the_main_process_ended(stage: &Stage) {
        let begun = Instant::now();
        let ran = stage
            .run(sh(
                "(echo early; sleep 60; echo late) & sleep 0.3; echo main",
            ))
            .await;
        // A step ends with its first process, and takes what that left behind with it.
        assert_eq!(ran.text(), "early\nmain\n");
        assert!(ran.exit().usage.leftovers >= 1);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    pub(super) async fn a_reader_that_leaves(stage: &Stage) {
        let (mut stdout, mut reader) = tokio::io::duplex(1000);
        let permit = stage.permit(&argv(&["/usr/bin/yes"]));
        let io = StepIo {
            stdin: None,
            stdout: &mut stdout,
            stderr: &mut tokio::io::sink(),
            cancel: CancellationToken::new(),
            started: None,
        };
        let leaving = async {
            let mut some = vec![0; 100_000];
            reader.read_exact(&mut some).await.unwrap();
            drop(reader);
        };
        let (exit, ()) = tokio::join!(stage.sandbox.step(permit, io), leaving);
        assert_eq!(exit.unwrap().outcome, Outcome::Signal(libc::SIGPIPE));
    }

    pub(super) async fn owner_and_mode_of_files(stage: &Stage) {
        let (inside, path) = stage.folder("files");
        stage.text(sh("echo x > file; mkdir folder; ln -s file link; chmod 700 folder; : > script; chmod +x script").at(&inside)).await;
        for (name, mode) in [("file", 0o644), ("folder", 0o700), ("script", 0o755)] {
            let found = fs::metadata(path.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid()), (stage.spec.uid, stage.spec.gid));
            assert_eq!(found.mode() & 0o7777, mode, "{name}");
        }
        let link = fs::symlink_metadata(path.join("link")).unwrap();
        assert_eq!(link.uid(), stage.spec.uid);
        // Inside they are the program's own, whatever its number is there.
        let script = "import os; print(os.stat('file').st_uid == os.getuid() != 0)";
        assert_eq!(stage.text(python(script).at(&inside)).await, "True\n");
    }

    pub(super) async fn places_that_can_be_written(stage: &Stage) {
        let script = r#"
import os, tempfile
for place in ["/tmp", "/dev/shm", os.environ["HOME"], os.environ["XDG_CACHE_HOME"], "/workspace"]:
    os.makedirs(place, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place) as f:
        f.write(b"x"); f.flush()
    print(place)
import multiprocessing
lock = multiprocessing.Lock()
print("lock")
"#;
        let text = stage.text(python(script)).await;
        assert!(text.ends_with("/workspace\nlock\n"), "{text}");
        // What is in HOME is a program's own; a cache may hold programs.
        let home = sh("cp /bin/true $HOME/true && $HOME/true && rm $HOME/true");
        stage.text(home).await;
    }

    pub(super) async fn places_that_cannot_be_written(stage: &Stage) {
        let script = r#"
import os
for place in ["/", "/usr", "/usr/bin", "/etc", "/home", "/dev", "/proc", "/proc/sys/kernel", "/sys", "/var", "/root", "/run"]:
    try:
        open(os.path.join(place, "x"), "w")
        print("written:", place)
    except OSError:
        pass
for file in ["/etc/passwd", "/usr/bin/env", "/etc/hosts", "/etc/resolv.conf"]:
    try:
        open(file, "a")
        print("opened:", file)
    except OSError:
        pass
"#;
        assert_eq!(stage.text(python(script)).await, "");
    }

    pub(super) async fn time(stage: &Stage) {
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs_f64()
        };
        let before = now();
        let inside: f64 = stage
            .text(python("import time; print(time.time())"))
            .await
            .trim()
            .parse()
            .unwrap();
        assert!((before..=now()).contains(&inside));
        let zone = stage.text(argv(&["/bin/date", "+%Z"])).await;
        assert!(!zone.trim().is_empty());
    }

    pub(super) async fn locale(stage: &Stage) {
        let script = "import sys, locale; print(sys.stdout.encoding, sys.getfilesystemencoding(), '\u{e4}\u{4e16}')";
        let text = stage.text(python(script)).await;
        assert_eq!(text, "utf-8 utf-8 \u{e4}\u{4e16}\n");
    }

    pub(super) async fn processor_count(stage: &Stage) {
        let cpus = stage.spec.limits.cpus.unwrap();
        assert_eq!(stage.spec.env["OMP_NUM_THREADS"], cpus.ceil().to_string());
        let script = "import os; print(len(os.sched_getaffinity(0)))";
        let seen: f64 = stage.text(python(script)).await.trim().parse().unwrap();
        assert!(seen >= 1.0);
    }

    pub(super) async fn signal_numbers_are_at_their_defaults(stage: &Stage) {
        let script = "print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('SigBlk', 'SigIgn'))])";
        let text = stage
            .text(argv(&["/usr/bin/python3", "-S", "-c", script]))
            .await;
        // Python itself ignores PIPE and XFSZ.
        assert_eq!(text, "['0000000000000000', '0000000001001000']\n");
    }

    pub(super) async fn usage(stage: &Stage) {
        let script = "x = bytearray(80 << 20)\nimport time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('12345')";
        let ran = stage.run(python(script)).await;
        let usage = &ran.exit().usage;
        assert!(usage.user_ms + usage.system_ms >= 300, "{usage:?}");
        assert!(usage.wall_ms >= 300, "{usage:?}");
        assert!((80 << 20..1 << 30).contains(&usage.max_rss), "{usage:?}");
        assert_eq!((usage.stdout_bytes, usage.stderr_bytes), (6, 0));
    }

    pub(super) async fn nothing_of_a_step_is_left(stage: &Stage) {
        let (inside, path) = stage.folder("left");
        let ran = stage
            .run(
                sh("setsid sh -c 'while :; do echo x >> beat; sleep 0.02; done' & sleep 0.3")
                    .at(&inside),
            )
            .await;
        assert!(ran.exit().usage.leftovers >= 1);
        assert_dead(&path).await;
    }

    pub(super) async fn a_faked_memory_kill(stage: &Stage) {
        let killed = stage.run(sh("kill -9 $$")).await;
        assert_eq!(killed.outcome(), Outcome::Signal(9));
        assert_eq!(
            stage.run(sh("exit 137")).await.outcome(),
            Outcome::Code(137)
        );
    }

    pub(super) async fn out_of_memory(kind: BackendKind) {
        let limit = |policy: &mut fumehood::policy::model::Policy| {
            policy.limits.memory = Some(256 << 20);
            policy.shm = 16 << 20;
        };
        let Some(stage) = Stage::set(kind, limit).await else {
            return;
        };
        let eater = "x = []\nwhile True: x.append(bytearray(8 << 20))";
        assert_eq!(
            stage.run(python(eater)).await.outcome(),
            Outcome::OutOfMemory
        );
        // A child of the step's, as a data loader's worker is.
        let parent = format!(
            "import subprocess, sys\nsys.exit(subprocess.call([sys.executable, '-c', {eater:?}]) != 0)"
        );
        let ran = stage.run(python(&parent)).await;
        assert_eq!(ran.outcome(), Outcome::OutOfMemory);
        // And the sandbox goes on.
        assert_eq!(stage.text(sh("echo alive")).await, "alive\n");
        stage.end().await;
    }

    pub(super) async fn out_of_disk(kind: BackendKind) {
        let limit = |policy: &mut fumehood::policy::model::Policy| {
            policy.workspace.size = Some(32 << 20);
            policy.workspace.inodes = Some(1000);
        };
        let Some(stage) = Stage::set(kind, limit).await else {
            return;
        };
        let bytes = stage.run(sh("head -c 64M /dev/zero > big; sleep 60")).await;
        assert_eq!(bytes.outcome(), Outcome::DiskFull);
        assert!(
            bytes.exit().reached[0]
                .text
                .starts_with("workspace.size = 32MiB: ")
        );
        stage.text(sh("rm big")).await;
        let home = stage
            .run(sh("head -c 64M /dev/zero > $HOME/big; sleep 60"))
            .await;
        assert_eq!(home.outcome(), Outcome::DiskFull);
        stage.text(sh("rm $HOME/big")).await;
        let files = "import time\nfor n in range(2000): open(f'f{n}', 'w')\ntime.sleep(60)";
        let ran = stage.run(python(files)).await;
        assert_eq!(ran.outcome(), Outcome::TooManyFiles);
        assert!(
            ran.exit().reached[0]
                .text
                .starts_with("workspace.inodes = 1000: ")
        );
        stage.end().await;
    }

    pub(super) async fn limits_are_named(kind: BackendKind) {
        let limit = |policy: &mut fumehood::policy::model::Policy| {
            policy.limits.file_size = Some(2 << 20);
            policy.limits.pids = Some(32);
            policy.tmp.size = 1 << 20;
            policy.shm = 1 << 20;
        };
        let Some(stage) = Stage::set(kind, limit).await else {
            return;
        };
        let words = |ran: &Ran| {
            let reached = ran.exit().reached.iter();
            reached.map(|one| one.text.clone()).collect::<Vec<_>>()
        };
        assert!(words(&stage.run(sh("exit 1")).await).is_empty());
        let file = stage.run(sh("exec head -c 4M /dev/zero > big")).await;
        assert_eq!(file.outcome(), Outcome::Signal(libc::SIGXFSZ));
        let named = "limits.file_size = 2MiB: a file would have become larger";
        assert_eq!(words(&file), [named]);
        let tmp = stage.run(sh("head -c 4M /dev/zero > /tmp/full")).await;
        assert_eq!(words(&tmp), ["tmp.size = 1MiB: /tmp is full"]);
        stage.text(sh("rm /tmp/full")).await;
        let shm = stage.run(sh("head -c 4M /dev/zero > /dev/shm/full")).await;
        assert_eq!(words(&shm), ["shm.size = 1MiB: /dev/shm is full"]);
        stage.text(sh("rm /dev/shm/full")).await;
        // An ordinary user's are held by a limit that nobody counts at.
        if kind == Docker || geteuid().is_root() {
            let many = "import subprocess\nfor n in range(99): subprocess.Popen(['sleep', '60'])";
            let pids = words(&stage.run(python(many)).await);
            assert!(pids[0].starts_with("limits.pids = 32: "), "{pids:?}");
        }
        let time = stage.run(sh("sleep 60").within(300)).await;
        assert!(words(&time)[0].starts_with("timeout = 300ms: "));
        stage.end().await;
    }

    pub(super) async fn pipe_cut(kind: BackendKind) {
        let Some(stage) = Stage::set(kind, |_| {}).await else {
            return;
        };
        let (inside, path) = stage.folder("cut");
        tokio::select! {
            ran = stage.run(python(FAMILY).at(&inside)) => panic!("{:?}", ran.exit),
            () = under_way(&path) => {}
        }
        let Stage { sandbox, .. } = stage;
        drop(sandbox);
        sleep(Duration::from_secs(1)).await;
        assert_dead(&path).await;
    }

    pub(super) async fn host_killed(kind: BackendKind) {
        let dir = stage::open_dir();
        if kind == Docker && engine::backend(dir.path().join("init")).await.is_none() {
            return;
        }
        let workspace = dir.path().join("work");
        fs::create_dir(&workspace).unwrap();
        if geteuid().is_root() {
            chown(&workspace, Some(USER), Some(USER)).unwrap();
        }
        let program = std::env::var_os(PROGRAM);
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_fumehood").into());
        let mut command = Command::new(&program);
        command.env("FUMEHOOD_HOME", dir.path().join("state"));
        command.args(["exec", "--backend", &kind.to_string(), "--workspace"]);
        command.arg(&workspace);
        if kind == Docker {
            command.args(["--image", engine::IMAGE]);
        }
        command.args(["--", "/usr/bin/python3", "-c", FAMILY]);
        let mut host = command.stdin(Stdio::null()).spawn().unwrap();
        let name = sandbox_prefix(host.id());
        within(Duration::from_secs(60), async || sizes(&workspace) > 200).await;
        host.kill().unwrap();
        host.wait().unwrap();
        let gone = async || traces(kind, &name).await.is_empty();
        within(Duration::from_secs(60), gone).await;
        // Where a user has no control groups there is nothing of them to wait for.
        within(Duration::from_secs(60), async || {
            writes_no_more(&workspace).await
        })
        .await;
        assert_dead(&workspace).await;
        if let Ok(doors) = fs::read_dir(dir.path().join("state/init/doors")) {
            assert_eq!(doors.count(), 0);
        }
        let runs = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.env("FUMEHOOD_HOME", dir.path().join("state"));
            command.arg("runs").args(arguments).output().unwrap()
        };
        let listed = runs(&["list", "--json"]).stdout;
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        let run = listed[0]["run"]
            .as_str()
            .unwrap_or_else(|| panic!("{listed}"));
        assert!(runs(&["verify", run]).status.success());
    }
}

/// A parent, a child, a child in a session of its own, and a daemon: all ignore TERM, all write on.
const FAMILY: &str = r#"
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def beat(name):
    with open(name, "ab", buffering=0) as f:
        while True:
            f.write(b"x")
            time.sleep(0.02)
def beget(name, session, twice):
    if os.fork() == 0:
        if session:
            os.setsid()
        if twice and os.fork():
            os._exit(0)
        beat(name)
beget("child", False, False)
beget("session", True, False)
beget("daemon", True, True)
beat("parent")
"#;

/// How the names of a process's sandboxes begin.
fn sandbox_prefix(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let start = after.split_whitespace().nth(19).unwrap();
    format!("fumehood-{pid}-{start}-")
}

/// What is left of sandboxes whose names begin so: control groups, and containers.
async fn traces(kind: BackendKind, name: &str) -> Vec<String> {
    let groups = walkdir::WalkDir::new("/sys/fs/cgroup")
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_dir())
        .map(|entry| entry.path().display().to_string());
    let mut found: Vec<_> = groups.filter(|path| path.contains(name)).collect();
    if kind == Docker {
        let engine = bollard::Docker::connect_with_defaults().unwrap();
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let containers = engine.list_containers(Some(all)).await.unwrap();
        let names = containers
            .into_iter()
            .flat_map(|c| c.names.unwrap_or_default());
        found.extend(names.filter(|found| found.contains(name)));
    }
    found
}

async fn within(patience: Duration, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < patience, "not within {patience:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Until the family writes, however long a busy machine takes.
async fn under_way(dir: &Path) {
    within(Duration::from_secs(60), async || sizes(dir) > 100).await;
}

fn sizes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// It wrote, and writes no more.
async fn assert_dead(dir: &Path) {
    assert!(sizes(dir) > 0, "it never ran");
    assert!(writes_no_more(dir).await, "it lives on");
}

async fn writes_no_more(dir: &Path) -> bool {
    let written = sizes(dir);
    sleep(Duration::from_millis(300)).await;
    sizes(dir) == written
}

fn cancelled_after(ask: Ask, ms: u64) -> Ask {
    let cancel = ask.cancel.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(ms)).await;
        cancel.cancel();
    });
    ask
}

fn not_started(ran: Ran) -> StartError {
    match ran.exit {
        Err(SandboxError::NotStarted(error)) => error,
        other => panic!("{other:?}"),
    }
}
