//! The embedded init itself, driven over its pipe by a small host: what it promises to every backend.

use fumehood::sandbox::init_binary;
use fumehood::sandbox::wire::{
    self, Entered, FromInit, MAX_FROM_INIT, PROTOCOL_VERSION, Purpose, Resolver, StartError,
    StartStep, StepExit, StepLimits, StreamHead, ToInit, WaitStatus, World, WorldMemory,
    WorldSystem,
};
use std::ffi::OsString;
use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

type Stream = Compat<yamux::Stream>;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox of init's own making, and the host's end of its pipe.
struct Host {
    child: Child,
    /// Of PID 1, as this machine numbers it.
    pid: u32,
    open: mpsc::UnboundedSender<oneshot::Sender<Stream>>,
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    /// Heard while something else was waited for.
    heard: Vec<FromInit>,
    next_step: u32,
    _dir: TempDir,
}

/// One step's streams.
struct Step {
    number: u32,
    stdin: Option<Stream>,
    stdout: Stream,
    stderr: Stream,
}

/// A step that has ended, with all it wrote.
struct Ran {
    exit: StepExit,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn system() -> Vec<WorldSystem> {
    let own = |path: &str| WorldSystem::Bind {
        source: path.into(),
        path: path.into(),
    };
    let mut system = vec![own("/usr")];
    for path in ["/bin", "/lib", "/lib64", "/sbin"] {
        match fs::read_link(path) {
            Ok(target) => system.push(WorldSystem::Link {
                path: path.into(),
                target: target.to_str().unwrap().into(),
            }),
            Err(_) if Path::new(path).exists() => system.push(own(path)),
            Err(_) => {}
        }
    }
    system
}

fn world() -> World {
    let (uid, gid) = match nix::unistd::geteuid().as_raw() {
        0 => (1000, 1000),
        uid => (uid, nix::unistd::getegid().as_raw()),
    };
    World {
        hostname: "box".into(),
        host_uid: uid,
        host_gid: gid,
        groups: Vec::new(),
        system: system(),
        mounts: Vec::new(),
        devices: Vec::new(),
        driver: Vec::new(),
        tmp_size: 64 << 20,
        tmp_inodes: 10_000,
        tmp_exec: true,
        shm_size: 1 << 20,
        secrets: false,
        cgroups: Vec::new(),
        memory: WorldMemory::Watched,
        resolver: Resolver::Nobody,
        purpose: Purpose::Serve,
    }
}

fn limits() -> StepLimits {
    StepLimits {
        open_files: Some(1024),
        file_size: None,
        processes: Some(3000),
        cores: None,
        oom_score_adj: 500,
    }
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(String::from).to_vec()
}

fn python(script: &str) -> Vec<String> {
    ["/usr/bin/python3", "-c", script]
        .map(String::from)
        .to_vec()
}

async fn read_frame<T: serde::de::DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<T> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await?;
    let mut body = vec![0; wire::body_length(prefix, MAX_FROM_INIT).unwrap()];
    from.read_exact(&mut body).await?;
    Ok(wire::parse(&body).unwrap())
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), message: &impl serde::Serialize) {
    to.write_all(&wire::frame(message).unwrap()).await.unwrap();
    to.flush().await.unwrap();
}

/// The connection's driver: moves bytes, opens streams, ends when nobody can ask for one any more.
async fn drive<T>(
    mut connection: yamux::Connection<T>,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Stream>>,
) where
    T: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return };
                let Ok(stream) = poll_fn(|cx| connection.poll_new_outbound(cx)).await else { return };
                let _ = request.send(stream.compat());
            }
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => match inbound {
                Some(Ok(_)) => panic!("init opened a stream"),
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn spawn(dir: &TempDir, before: &[&str], verb: &str) -> Child {
    let init = init_binary::install(dir.path()).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let line: Vec<_> = before
        .iter()
        .map(|word| OsString::from(*word))
        .chain([init.into_os_string(), verb.into()])
        .collect();
    Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Host {
    /// In a world that init makes.
    async fn start() -> Self {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let mut child = spawn(&dir, &[], "enter");
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        write_frame(&mut stdin, &world()).await;
        match read_frame(&mut stdout).await.unwrap() {
            Entered::Standing { pid, .. } => Self::connect(child, (stdin, stdout), pid, dir).await,
            Entered::Failed(error) => panic!("no world: {error:?}"),
        }
    }

    /// In a world that is there already, as an engine makes one: little more than a process list.
    async fn serve() -> Self {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let before = match nix::unistd::geteuid().is_root() {
            true => {
                "unshare --pid --fork --mount-proc --kill-child \
                     setpriv --reuid=1000 --regid=1000 --clear-groups"
            }
            false => "unshare --map-current-user --pid --fork --mount-proc --kill-child",
        };
        let before: Vec<_> = before.split_whitespace().collect();
        let mut child = spawn(&dir, &before, "serve");
        let pipe = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self::connect(child, pipe, 0, dir).await
    }

    async fn connect(
        child: Child,
        (stdin, stdout): (ChildStdin, ChildStdout),
        pid: u32,
        dir: TempDir,
    ) -> Self {
        let pipe = tokio::io::join(stdout, stdin).compat();
        let config = yamux::Config::default();
        let connection = yamux::Connection::new(pipe, config, yamux::Mode::Client);
        let (open, requests) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, requests));
        let control = Self::stream(&open, StreamHead::Control).await;
        let (read, write) = tokio::io::split(control);
        let mut host = Self {
            child,
            pid,
            open,
            read,
            write,
            heard: Vec::new(),
            next_step: 1,
            _dir: dir,
        };
        let version = PROTOCOL_VERSION;
        host.say(ToInit::Hello { version }).await;
        assert_eq!(host.listen().await, FromInit::Hello { version });
        host
    }

    async fn stream(
        open: &mpsc::UnboundedSender<oneshot::Sender<Stream>>,
        head: StreamHead,
    ) -> Stream {
        let (send, receive) = oneshot::channel();
        open.send(send).unwrap();
        let mut stream = receive.await.unwrap();
        write_frame(&mut stream, &head).await;
        stream
    }

    async fn say(&mut self, message: ToInit) {
        write_frame(&mut self.write, &message).await;
    }

    async fn listen(&mut self) -> FromInit {
        let frame = read_frame(&mut self.read);
        timeout(PATIENCE, frame)
            .await
            .expect("init is silent")
            .unwrap()
    }

    async fn wait_for(&mut self, mut wanted: impl FnMut(&FromInit) -> bool) -> FromInit {
        if let Some(at) = self.heard.iter().position(&mut wanted) {
            return self.heard.remove(at);
        }
        loop {
            let message = self.listen().await;
            if wanted(&message) {
                return message;
            }
            assert!(!matches!(message, FromInit::Fatal { .. }), "{message:?}");
            self.heard.push(message);
        }
    }

    fn request(&mut self, argv: &[String]) -> StartStep {
        self.next_step += 1;
        StartStep {
            step: self.next_step,
            argv: argv.iter().map(|arg| arg.clone().into_bytes()).collect(),
            env: vec![(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())],
            cwd: b"/tmp".to_vec(),
            stdin: false,
            limits: limits(),
        }
    }

    async fn begin(&mut self, request: StartStep) -> Step {
        let number = request.step;
        let stdin = match request.stdin {
            true => Some(Self::stream(&self.open, StreamHead::Stdin(number)).await),
            false => None,
        };
        let step = Step {
            number,
            stdin,
            stdout: Self::stream(&self.open, StreamHead::Stdout(number)).await,
            stderr: Self::stream(&self.open, StreamHead::Stderr(number)).await,
        };
        self.say(ToInit::Start(request)).await;
        step
    }

    /// Starts it, and waits until it was executed.
    async fn started(&mut self, request: StartStep) -> Step {
        let step = self.begin(request).await;
        let number = step.number;
        self.wait_for(|message| *message == FromInit::Started { step: number })
            .await;
        step
    }

    async fn finish(&mut self, mut step: Step) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        drop(step.stdin.take());
        let reading = async {
            let (out, err) = tokio::join!(
                step.stdout.read_to_end(&mut stdout),
                step.stderr.read_to_end(&mut stderr)
            );
            (out.unwrap(), err.unwrap())
        };
        timeout(PATIENCE, reading)
            .await
            .expect("the output does not end");
        let number = step.number;
        let exit = self
            .wait_for(|message| matches!(message, FromInit::Exited(exit) if exit.step == number))
            .await;
        let FromInit::Exited(exit) = exit else {
            unreachable!()
        };
        Ran {
            exit,
            stdout,
            stderr,
        }
    }

    async fn run(&mut self, argv: Vec<String>) -> Ran {
        let request = self.request(&argv);
        let step = self.started(request).await;
        self.finish(step).await
    }

    async fn refused(&mut self, request: StartStep) -> StartError {
        let number = request.step;
        let _step = self.begin(request).await;
        let failed = self
            .wait_for(
                |message| matches!(message, FromInit::StartFailed { step, .. } if *step == number),
            )
            .await;
        let FromInit::StartFailed { error, .. } = failed else {
            unreachable!()
        };
        error
    }

    /// How long PID 1 took to be gone.
    async fn gone(mut self, begun: Instant) -> Duration {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("init lives on").unwrap();
        assert!(!Path::new(&format!("/proc/{}", self.pid)).exists());
        begun.elapsed()
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let mut host = Host::start().await;
    for (script, status) in [
        ("exit 0", WaitStatus::Code(0)),
        ("exit 3", WaitStatus::Code(3)),
        ("exit 137", WaitStatus::Code(137)),
        ("kill -9 $$", WaitStatus::Signal(9)),
        ("kill -TERM $$", WaitStatus::Signal(15)),
        ("kill -40 $$", WaitStatus::Signal(40)),
    ] {
        assert_eq!(
            host.run(shell(script)).await.exit.status,
            status,
            "{script}"
        );
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_is_said_to_be_so() {
    let mut host = Host::start().await;
    let made = "printf 'no magic' >/tmp/text; cp /tmp/text /tmp/closed; chmod 755 /tmp/text; \
                chmod 644 /tmp/closed; printf '#!/none\\n' >/tmp/script; chmod 755 /tmp/script; \
                mkdir /tmp/bin; cp /tmp/closed /tmp/bin/cat";
    assert_eq!(host.run(shell(made)).await.exit.status, WaitStatus::Code(0));
    let not_executable = |errno| StartError::NotExecutable { errno };
    for (program, error) in [
        ("no-such-program", StartError::NotFound),
        ("/no/such/program", StartError::NotFound),
        ("/usr/bin/env/x", StartError::NotFound),
        ("", StartError::NotFound),
        ("/tmp", not_executable(libc_errno::EACCES)),
        ("/tmp/closed", not_executable(libc_errno::EACCES)),
        ("/tmp/text", not_executable(libc_errno::ENOEXEC)),
        ("/tmp/script", not_executable(libc_errno::ENOENT)),
    ] {
        let request = host.request(&[program.into()]);
        assert_eq!(host.refused(request).await, error, "{program}");
    }
    // What cannot be executed hides nothing further along the path.
    let mut request = host.request(&["cat".into(), "/tmp/text".into()]);
    request.env = vec![(b"PATH".to_vec(), b"/tmp/bin:/usr/bin".to_vec())];
    let step = host.started(request).await;
    assert_eq!(host.finish(step).await.stdout, b"no magic");
}

/// Names for numbers.
mod libc_errno {
    pub(super) const ENOENT: i32 = 2;
    pub(super) const ENOEXEC: i32 = 8;
    pub(super) const EACCES: i32 = 13;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_harms_nothing() {
    let mut host = Host::start().await;
    let invalid = |error: &StartError| matches!(error, StartError::Invalid { .. });

    let request = host.request(&[]);
    assert!(invalid(&host.refused(request).await));
    let request = host.request(&["a\0b".into()]);
    assert!(invalid(&host.refused(request).await));
    let mut request = host.request(&shell("true"));
    request.cwd = b"tmp".to_vec();
    assert!(invalid(&host.refused(request).await));
    let mut request = host.request(&shell("true"));
    request.step = 2;
    assert!(
        invalid(&host.refused(request).await),
        "its number was used before"
    );

    let mut request = host.request(&shell("true"));
    request.cwd = b"/no/such/folder".to_vec();
    let errno = libc_errno::ENOENT;
    assert_eq!(
        host.refused(request).await,
        StartError::WorkingDirectory { errno }
    );
    let request = host.request(&["/bin/true".into(), "x".repeat(200_000)]);
    assert_eq!(host.refused(request).await, StartError::TooLarge);

    assert_eq!(
        host.run(shell("exit 5")).await.exit.status,
        WaitStatus::Code(5)
    );
}

#[tokio::test]
async fn a_mebibyte_of_arguments_arrives() {
    let mut host = Host::start().await;
    let mut argv = python("import sys; print(sum(map(len, sys.argv[1:])))");
    argv.extend((0..16).map(|_| "x".repeat(65_536)));
    assert_eq!(host.run(argv).await.stdout, b"1048576\n");
}

#[tokio::test]
async fn the_environment_the_folder_and_the_descriptors_are_only_what_was_given() {
    let mut host = Host::start().await;
    let ran = host
        .run(shell("env -u _ -u PWD; pwd; umask; ls /proc/self/fd; cat"))
        .await;
    let text = String::from_utf8(ran.stdout).unwrap();
    // The fourth is the folder that `ls` reads.
    assert_eq!(text, "PATH=/usr/bin:/bin\n/tmp\n0022\n0\n1\n2\n3\n");
    let ran = host.run(shell("tty; ps -o tty= $$; cat /dev/tty")).await;
    assert!(!ran.stderr.is_empty(), "there is a controlling terminal");
    let state = host
        .run(shell(
            "grep -E '^(Sig(Blk|Ign)|CapEff|NoNewPrivs|Seccomp):' /proc/self/status",
        ))
        .await;
    let state = String::from_utf8(state.stdout).unwrap();
    let zero = "0000000000000000";
    assert_eq!(
        state.split_whitespace().collect::<Vec<_>>(),
        [
            "SigBlk:",
            zero,
            "SigIgn:",
            zero,
            "CapEff:",
            zero,
            "NoNewPrivs:",
            "1",
            "Seccomp:",
            "2"
        ]
    );
}

#[tokio::test]
async fn stdout_and_stderr_stay_apart_and_keep_every_byte() {
    let mut host = Host::start().await;
    let script = "import os
for n in range(300): os.write(1, bytes(range(256))); os.write(2, bytes([n % 256]) * 999)";
    let ran = host.run(python(script)).await;
    let all: Vec<u8> = (0..=255).collect();
    assert!(ran.stdout == all.repeat(300));
    assert_eq!(ran.stderr.len(), 300 * 999);
}

#[tokio::test]
async fn stdin_keeps_every_byte_and_ends_where_the_host_ends_it() {
    let mut host = Host::start().await;
    let sent: Vec<u8> = (0..50u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut request = host.request(&["cat".into()]);
    request.stdin = true;
    let mut step = host.started(request).await;
    let mut stdin = step.stdin.take().unwrap();
    let feed = async {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let ((), ran) = tokio::join!(feed, host.finish(step));
    assert_eq!(ran.exit.status, WaitStatus::Code(0));
    assert!(ran.stdout == sent);
}

#[tokio::test]
async fn without_stdin_a_program_reads_nothing() {
    let mut host = Host::start().await;
    assert_eq!(
        host.run(vec!["cat".into()]).await.exit.status,
        WaitStatus::Code(0)
    );
}

#[tokio::test]
async fn a_program_that_leaves_its_stdin_unread_breaks_nothing() {
    let mut host = Host::start().await;
    let mut request = host.request(&shell("exec <&-; sleep 0.2; echo done"));
    request.stdin = true;
    let mut step = host.started(request).await;
    let mut stdin = step.stdin.take().unwrap();
    let feed = async {
        // Until it is told that nobody reads.
        while stdin.write_all(&[0; 65_536]).await.is_ok() {}
    };
    let ((), ran) = tokio::join!(feed, host.finish(step));
    assert_eq!(
        (ran.exit.status, ran.stdout.as_slice()),
        (WaitStatus::Code(0), &b"done\n"[..])
    );
    assert_eq!(
        host.run(shell("exit 4")).await.exit.status,
        WaitStatus::Code(4)
    );
}

#[tokio::test]
async fn a_host_that_wants_no_more_output_stops_the_program_by_sigpipe() {
    let mut host = Host::start().await;
    let request = host.request(&["yes".into()]);
    let mut step = host.started(request).await;
    step.stdout.read_exact(&mut [0; 1000]).await.unwrap();
    let number = step.number;
    drop(step.stdout);
    let exit = host
        .wait_for(|message| matches!(message, FromInit::Exited(_)))
        .await;
    let FromInit::Exited(exit) = exit else {
        unreachable!()
    };
    assert_eq!((exit.step, exit.status), (number, WaitStatus::Signal(13)));
}

#[tokio::test]
async fn a_host_that_does_not_read_holds_the_program_back_and_nobody_else() {
    let mut host = Host::start().await;
    let request = host.request(&python(
        "import os\nfor n in range(512): os.write(1, b'x' * 65536); os.write(2, b'.')",
    ));
    let mut slow = host.started(request).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        host.run(shell("exit 6")).await.exit.status,
        WaitStatus::Code(6)
    );
    let mut dots = vec![0; 100];
    let dots = slow.stderr.read(&mut dots).await.unwrap();
    assert!(
        dots < 100,
        "it was not held back: {dots} x 64 KiB were taken"
    );
    let ran = host.finish(slow).await;
    assert_eq!(ran.stdout.len(), 32 << 20);
    assert_eq!(ran.stderr.len() + dots, 512);
}

/// Processes of this machine whose command line holds the mark.
fn alive(mark: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes()))
        .count()
}

/// A number of seconds that no other test sleeps for.
fn mark(test: u32) -> String {
    format!("{}.{test}", 100_000 + std::process::id())
}

#[tokio::test]
async fn what_a_step_leaves_behind_dies_with_it_and_is_counted() {
    let mut host = Host::start().await;
    let mark = mark(1);
    let script = format!(
        "sleep {mark} & setsid sleep {mark} & (setsid sh -c 'trap \"\" TERM HUP; sleep {mark} & wait' &); \
         echo early; (sleep 1; echo late) & sleep 0.2; exit 7"
    );
    let ran = host.run(shell(&script)).await;
    assert_eq!(alive(&mark), 0);
    assert_eq!(ran.exit.status, WaitStatus::Code(7));
    assert!(!ran.exit.killed);
    // Three sleeps, one shell around one, and the one that was late with its own sleep.
    assert_eq!(ran.exit.leftovers, 6);
    assert_eq!(ran.stdout, b"early\n");
}

#[tokio::test]
async fn one_step_is_killed_with_its_daemons_while_another_runs() {
    let mut host = Host::start().await;
    let (mine, other) = (mark(2), mark(3));
    let script = format!("trap '' TERM; setsid sleep {mine} & sleep {mine}");
    let request = host.request(&shell(&script));
    let victim = host.started(request).await;
    let request = host.request(&["sleep".into(), other.clone()]);
    let neighbour = host.started(request).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let step = victim.number;
    host.say(ToInit::Kill { step }).await;
    let ran = host.finish(victim).await;
    assert_eq!((alive(&mine), alive(&other)), (0, 1));
    assert!(ran.exit.killed);
    assert_eq!(ran.exit.status, WaitStatus::Signal(9));
    host.say(ToInit::Signal {
        step: neighbour.number,
        signal: 15,
    })
    .await;
    let ran = host.finish(neighbour).await;
    assert_eq!(
        (ran.exit.status, ran.exit.killed),
        (WaitStatus::Signal(15), false)
    );
}

#[tokio::test]
async fn a_step_killed_before_it_has_begun_ends_all_the_same() {
    let mut host = Host::start().await;
    for _ in 0..50 {
        let request = host.request(&["sleep".into(), "1000".into()]);
        let step = host.begin(request).await;
        host.say(ToInit::Kill { step: step.number }).await;
        let ran = host.finish(step).await;
        assert_eq!(
            (ran.exit.status, ran.exit.killed),
            (WaitStatus::Signal(9), true)
        );
    }
}

#[tokio::test]
async fn a_signal_reaches_the_group_of_the_first_process() {
    let mut host = Host::start().await;
    let script = "trap 'wait; echo shell; exit 9' USR1; sh -c 'trap \"echo child; exit\" USR1; echo ready; while :; do sleep 0.05; done' & wait";
    let request = host.request(&shell(script));
    let mut step = host.started(request).await;
    step.stdout.read_exact(&mut [0; 6]).await.unwrap();
    host.say(ToInit::Signal {
        step: step.number,
        signal: 10,
    })
    .await;
    let ran = host.finish(step).await;
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "child\nshell\n");
    assert_eq!(ran.exit.status, WaitStatus::Code(9));
}

#[tokio::test]
async fn a_hundred_steps_run_at_once_and_do_not_mix() {
    let mut host = Host::start().await;
    let mut steps = Vec::new();
    for n in 0..100 {
        let request = host.request(&shell(&format!("sleep 0.1; echo {n}; exit {n}")));
        steps.push(host.begin(request).await);
    }
    for (n, step) in steps.into_iter().enumerate() {
        let ran = host.finish(step).await;
        assert_eq!(ran.stdout, format!("{n}\n").into_bytes());
        assert_eq!(ran.exit.status, WaitStatus::Code(i32::try_from(n).unwrap()));
    }
}

#[tokio::test]
async fn output_ends_with_its_step_though_another_one_holds_the_descriptor() {
    let mut host = Host::start().await;
    let keep = "import socket, array, time
server = socket.socket(socket.AF_UNIX); server.bind('/tmp/door'); server.listen()
print('ready', flush=True)
_, ancillary, _, _ = server.accept()[0].recvmsg(1, 64)
fd = array.array('i', ancillary[0][2])[0]
import os
while True: os.write(fd, b'stranger ' * 1000)";
    let request = host.request(&python(keep));
    let mut keeper = host.started(request).await;
    keeper.stdout.read_exact(&mut [0; 6]).await.unwrap();
    let give = "import socket, array, time
client = socket.socket(socket.AF_UNIX); client.connect('/tmp/door')
client.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1]))])
time.sleep(0.1)";
    let ran = host.run(python(give)).await;
    assert_eq!(ran.exit.status, WaitStatus::Code(0));
    host.say(ToInit::Kill {
        step: keeper.number,
    })
    .await;
    host.finish(keeper).await;
}

#[tokio::test]
async fn limits_are_those_of_the_request_whatever_a_step_before_it_did() {
    let mut host = Host::start().await;
    host.run(shell("ulimit -n 20; ulimit -f 0; ulimit -u 5"))
        .await;
    let mut request = host.request(&shell(
        "ulimit -c; ulimit -n; ulimit -Hn; ulimit -f; cat /proc/self/oom_score_adj",
    ));
    request.limits.open_files = Some(77);
    request.limits.file_size = Some(1 << 20);
    let step = host.started(request).await;
    let ran = host.finish(step).await;
    assert_eq!(
        String::from_utf8(ran.stdout).unwrap(),
        "0\n77\n77\n2048\n500\n"
    );
}

#[tokio::test]
async fn cores_are_fixed_where_they_are_limited_and_free_where_not() {
    let mut host = Host::start().await;
    let script = "import os
print(len(os.sched_getaffinity(0)) == 1)
try: os.sched_setaffinity(0, os.sched_getaffinity(0)); print('free')
except PermissionError: print('fixed')";
    let mut request = host.request(&python(script));
    request.limits.cores = Some(1);
    let step = host.started(request).await;
    assert_eq!(host.finish(step).await.stdout, b"True\nfixed\n");
    let free = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print('free')";
    assert_eq!(host.run(python(free)).await.stdout, b"free\n");
}

#[tokio::test]
async fn the_time_and_memory_of_descendants_count() {
    let mut host = Host::start().await;
    let script = "import os, time
if os.fork() == 0:
    x = bytearray(64 << 20)
    while time.process_time() < 0.3: pass
    os._exit(0)
os.wait()";
    let exit = host.run(python(script)).await.exit;
    assert!(exit.user_us + exit.system_us > 250_000, "{exit:?}");
    assert!(exit.max_rss_kib > 64 << 10, "{exit:?}");
}

/// Long before the dead-man timer, on the busiest machine.
const PROMPT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_end_of_the_pipe_ends_everything() {
    let mut host = Host::start().await;
    let mark = mark(4);
    let request = host.request(&shell(&format!("setsid sleep {mark} & sleep {mark}")));
    let step = host.started(request).await;
    let begun = Instant::now();
    // The streams hold the connection, and its driver the pipe.
    drop(step);
    let (nothing, _) = mpsc::unbounded_channel();
    host.open = nothing;
    assert!(host.gone(begun).await < PROMPT);
    assert_eq!(alive(&mark), 0);
}

#[tokio::test]
async fn a_shutdown_ends_everything() {
    let mut host = Host::start().await;
    let mark = mark(5);
    let request = host.request(&["sleep".into(), mark.clone()]);
    let _step = host.started(request).await;
    host.say(ToInit::Shutdown).await;
    assert!(host.gone(Instant::now()).await < PROMPT);
    assert_eq!(alive(&mark), 0);
}

#[tokio::test]
async fn a_frame_beyond_its_bound_or_without_sense_ends_everything() {
    for bytes in [
        &u32::MAX.to_be_bytes()[..],
        &[0, 0, 0, 1, 99],
        &[0, 0, 0, 0],
    ] {
        let mut host = Host::start().await;
        host.write.write_all(bytes).await.unwrap();
        assert!(host.gone(Instant::now()).await < PROMPT);
    }
}

#[tokio::test]
async fn a_term_from_outside_ends_everything_and_one_from_inside_nothing() {
    use nix::sys::signal::{Signal, kill};
    let mut host = Host::start().await;
    let script = "import os
for signal in 1, 2, 9, 15, 19:
    try: os.kill(1, signal); print('sent')
    except PermissionError: pass";
    assert_eq!(host.run(python(script)).await.stdout, b"");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(host.pid).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(host.gone(Instant::now()).await < PROMPT);
}

#[tokio::test]
async fn another_version_is_told_so_and_not_served() {
    let mut host = Host::start().await;
    // A second greeting makes no sense either, but a host of another version never gets so far.
    host.say(ToInit::Hello {
        version: PROTOCOL_VERSION + 1,
    })
    .await;
    assert!(host.gone(Instant::now()).await < PROMPT);
}

#[tokio::test]
async fn a_silent_host_is_taken_for_dead() {
    let mut host = Host::start().await;
    let mark = mark(6);
    let request = host.request(&["sleep".into(), mark.clone()]);
    let _step = host.started(request).await;
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    host.say(ToInit::Ping { seq: 1 }).await;
    assert_eq!(host.listen().await, FromInit::Pong { seq: 1 });
    let lived = host.gone(begun).await;
    assert!(
        lived > Duration::from_secs(49) && lived < Duration::from_secs(60),
        "{lived:?}"
    );
    assert_eq!(alive(&mark), 0);
}

#[tokio::test]
async fn a_thousand_daemons_with_sessions_of_their_own_die_with_their_step() {
    let mut host = Host::start().await;
    let mark = mark(7);
    let script = "import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for n in range(1000):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(1000)
        os._exit(0)
    os.wait()";
    let mut argv = python(script);
    argv.push(mark.clone());
    let exit = host.run(argv).await.exit;
    assert_eq!(alive(&mark), 0);
    assert_eq!((exit.status, exit.leftovers), (WaitStatus::Code(0), 1000));
}

/// Forks into new sessions as fast as it can, and hides from `/proc`.
const BOMB: &str = "import ctypes, os, time
if os.fork(): time.sleep(1000)
ctypes.CDLL(None).prctl(4, 0)
while True:
    try:
        os.setsid() if os.fork() == 0 else os.fork()
        if os.fork(): os._exit(0)
    except OSError: pass";

#[tokio::test]
async fn a_fork_bomb_of_sessions_is_ended_alone_or_beside_another_step() {
    let mut host = Host::start().await;
    let mark = mark(8);
    for beside in [false, true] {
        let other = match beside {
            true => {
                let request = host.request(&shell("sleep 1000; exit 4"));
                Some(host.started(request).await)
            }
            false => None,
        };
        let mut argv = python(BOMB);
        argv.push(mark.clone());
        let mut request = host.request(&argv);
        request.limits.processes = Some(100);
        let bomb = host.started(request).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.say(ToInit::Kill { step: bomb.number }).await;
        let ran = host.finish(bomb).await;
        assert_eq!(alive(&mark), 0);
        assert!(ran.exit.killed);
        if let Some(other) = other {
            host.say(ToInit::Signal {
                step: other.number,
                signal: 15,
            })
            .await;
            assert_eq!(host.finish(other).await.exit.status, WaitStatus::Signal(15));
        }
        assert_eq!(
            host.run(shell("exit 3")).await.exit.status,
            WaitStatus::Code(3)
        );
    }
}

/// Prints what succeeds.
const AGAINST_INIT: &str = "import ctypes, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
def trace(target):
    if libc.ptrace(16, target, 0, 0) < 0: raise OSError(ctypes.get_errno(), 'ptrace')
def attempt(name, call, *args):
    try: call(*args)
    except OSError: return
    print(name, args, flush=True)
def read(path): open(path, 'rb').read(1)
def write(path): open(path, 'wb')
keeper = os.getppid()
for target in 1, keeper:
    for number in 9, 15, 18, 19, 20, 40: attempt('kill', os.kill, target, number)
    attempt('limit', resource.prlimit, target, resource.RLIMIT_CPU, (0, 0))
    attempt('limits', resource.prlimit, target, resource.RLIMIT_CPU)
    attempt('affinity', os.sched_setaffinity, target, [0])
    attempt('scheduler', os.sched_setscheduler, target, os.SCHED_IDLE, os.sched_param(0))
    attempt('priority', os.setpriority, os.PRIO_PROCESS, target, 19)
    attempt('pidfd', os.pidfd_open, target)
    attempt('pidfd by folder', signal.pidfd_send_signal, os.open('/proc', os.O_RDONLY), 9)
    attempt('trace', trace, target)
    for file in 'mem', 'environ', 'exe', 'fd', 'maps', 'root':
        attempt(file, read, f'/proc/{target}/{file}')
    for file in 'mem', 'oom_score_adj', 'oom_adj', 'comm', 'autogroup', 'coredump_filter':
        attempt('write ' + file, write, f'/proc/{target}/{file}')
    attempt('descriptors', os.listdir, f'/proc/{target}/fd')
attempt('everybody', os.kill, -1, 9)
attempt('user', os.setpriority, os.PRIO_USER, 0, 19)
attempt('user', os.setpriority, os.PRIO_USER, os.getuid(), 19)
# 0 is a group that is not seen from inside, and names the caller's own.
if os.getpgid(keeper): attempt('group', os.setpriority, os.PRIO_PGRP, os.getpgid(keeper), 19)
attempt('signal by descriptor', __import__('fcntl').fcntl, 0, 10, 9)
attempt('parent of parent', os.kill, -keeper, 9)
os.kill(os.getpid(), 0)
print('end')";

#[tokio::test]
async fn a_step_can_do_nothing_to_init_nor_to_its_keeper() {
    for mut host in [Host::start().await, Host::serve().await] {
        let ran = host.run(python(AGAINST_INIT)).await;
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "end\n");
        assert_eq!(ran.exit.status, WaitStatus::Code(0));
        assert_eq!(
            host.run(shell("exit 3")).await.exit.status,
            WaitStatus::Code(3)
        );
    }
}

/// Signals every number there may be, but its own.
const AGAINST_EVERYBODY: &str = "import os
for target in range(2, 2000):
    if target != os.getpid():
        try: os.kill(target, 9); print(target, flush=True)
        except OSError: pass";

#[tokio::test]
async fn a_step_cannot_signal_another_nor_its_keeper_or_it_ends_the_sandbox() {
    for mut host in [Host::start().await, Host::serve().await] {
        let request = host.request(&shell("sleep 1; exit 4"));
        let other = host.started(request).await;
        let request = host.request(&python(AGAINST_EVERYBODY));
        let attacker = host.started(request).await;
        if landlock_scopes() {
            assert_eq!(host.finish(attacker).await.stdout, b"");
            assert_eq!(host.finish(other).await.exit.status, WaitStatus::Code(4));
        } else {
            let fatal = host.listen().await;
            assert!(matches!(fatal, FromInit::Fatal { .. }), "{fatal:?}");
        }
    }
}

/// Linux 6.12 and newer, where Landlock is on.
fn landlock_scopes() -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_str().unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    version >= (6, 12) && (modules.is_empty() || modules.contains("landlock"))
}
