//! The namespace backend with the real init, over a host of a hundred lines. Each claim is tried as
//! whoever runs the tests; started by root it is tried once more as an ordinary user, in a process of
//! its own.

use fumehood::policy::names::MOUNT_ROOTS;
use fumehood::protocol::control::{Control, Strength};
use fumehood::protocol::device::DeviceNode;
use fumehood::protocol::ids::RunId;
use fumehood::protocol::spec::*;
use fumehood::sandbox::backend::{Backend, Lease, SandboxError};
use fumehood::sandbox::init_binary;
use fumehood::sandbox::mount_source::{MountJudge, MountRequest};
use fumehood::sandbox::namespace::NamespaceBackend;
use fumehood::sandbox::owner::{self, Owner, sandbox_name};
use fumehood::sandbox::plan::UNPRIVILEGED;
use fumehood::sandbox::python;
use fumehood::sandbox::wire::{
    self, FromInit, MAX_FROM_INIT, PROTOCOL_VERSION, StartStep, StepExit, StreamHead, ToInit,
    WaitStatus,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

type Stream = Compat<yamux::Stream>;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An ordinary user; no account is needed.
const USER: u32 = 1000;

/// Set in the process that holds a sandbox until it is killed.
const HOLD: &str = "FUMEHOOD_TEST_HOLD";

fn is_root() -> bool {
    geteuid().is_root()
}

/// This very test once more, in a process of an ordinary user's.
fn once_more_as_a_user(test: &str) {
    if !is_root() {
        return;
    }
    let dir = open_dir();
    let output = as_user(dir.path(), test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "as uid {USER}: {said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A test of this binary, by its name; the binary is linked to where that user can read it.
fn as_user(dir: &Path, test: &str) -> Command {
    let mut command = itself(dir, test);
    command.uid(USER).gid(USER);
    command
}

fn itself(dir: &Path, test: &str) -> Command {
    let copy = dir.join("it");
    let own = std::env::current_exe().unwrap();
    fs::hard_link(&own, &copy)
        .or_else(|_| fs::copy(&own, &copy).map(drop))
        .unwrap();
    let mut command = Command::new(copy);
    command
        .args([&format!("namespace::{test}"), "--exact", "--nocapture"])
        .current_dir("/");
    command
}

/// A temporary folder that everybody can enter.
fn open_dir() -> TempDir {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A backend, and a workspace and a home that belong to whoever runs in the sandbox.
struct Bench {
    dir: TempDir,
    backend: NamespaceBackend,
    spec: SandboxSpec,
}

impl Bench {
    fn new() -> Self {
        let dir = open_dir();
        let init = init_binary::install(dir.path()).unwrap();
        Self {
            backend: NamespaceBackend::new(init).unwrap(),
            spec: spec(dir.path()),
            dir,
        }
    }

    async fn start(&self) -> Inside {
        Inside::start(&self.backend, &self.spec, &name())
            .await
            .unwrap()
    }

    async fn refused(&self) -> SandboxError {
        match Inside::start(&self.backend, &self.spec, &name()).await {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    }

    fn add_input(&mut self, folder: &str, access: Access) -> PathBuf {
        let path = self.dir.path().join(folder);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(self.spec.uid), Some(self.spec.gid)).unwrap();
        let target = format!("{}/{folder}", MOUNT_ROOTS[0]);
        self.spec
            .mounts
            .push(mount(MountKind::Input, &path, &target, access));
        path
    }
}

fn ids() -> (u32, u32) {
    match is_root() {
        true => (UNPRIVILEGED, UNPRIVILEGED),
        false => (geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    }
}

fn name() -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    let owner = Owner::this_process().unwrap();
    sandbox_name(
        owner,
        &RunId::new("test"),
        N.fetch_add(1, Ordering::Relaxed),
    )
}

fn mount(kind: MountKind, source: &Path, target: &str, access: Access) -> Mount {
    let found = fs::metadata(source).unwrap();
    Mount {
        kind,
        source: source.to_owned(),
        target: target.into(),
        access,
        device: found.dev(),
        inode: found.ino(),
    }
}

fn spec(dir: &Path) -> SandboxSpec {
    let (uid, gid) = ids();
    let folder = |name: &str| {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(uid), Some(gid)).unwrap();
        path
    };
    let workspace = folder("workspace");
    let git = folder("workspace/.git");
    let home = folder("home");
    SandboxSpec {
        backend: BackendKind::Namespace,
        root: RootFs::HostSystem,
        mounts: vec![
            mount(
                MountKind::Workspace,
                &workspace,
                WORKSPACE_TARGET,
                Access::ReadWrite,
            ),
            mount(
                MountKind::Protected,
                &git,
                "/workspace/.git",
                Access::ReadOnly,
            ),
            mount(MountKind::Home, &home, HOME_TARGET, Access::ReadWrite),
        ],
        tmp: Tmp {
            size: 4 << 20,
            inodes: 64,
            exec: false,
        },
        shm: 2 << 20,
        uid,
        gid,
        hostname: "bench".into(),
        limits: limits(),
        env: BTreeMap::new(),
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: 1000,
        require: BTreeMap::new(),
        devices: Default::default(),
    }
}

fn limits() -> Limits {
    Limits {
        wall_ms: None,
        cpus: Some(0.5),
        memory: Some(200 << 20),
        swap: Some(0),
        pids: Some(64),
        open_files: Some(512),
        file_size: Some(8 << 20),
        log_bytes: None,
        log_line: None,
        workspace_size: None,
        workspace_inodes: None,
    }
}

/// A running sandbox and the host's end of its connection.
struct Inside {
    open: mpsc::UnboundedSender<oneshot::Sender<Stream>>,
    control: Stream,
    lease: Box<dyn Lease>,
    next: u32,
}

struct Ran {
    exit: StepExit,
    stdout: String,
    stderr: String,
}

impl Inside {
    async fn start(
        backend: &NamespaceBackend,
        spec: &SandboxSpec,
        name: &str,
    ) -> Result<Self, SandboxError> {
        let started = backend.start(spec, name).await?;
        let pipe = tokio::io::join(started.from_init, started.to_init).compat();
        let connection =
            yamux::Connection::new(pipe, yamux::Config::default(), yamux::Mode::Client);
        let (open, requests) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, requests));
        let mut inside = Self {
            control: stream(&open, StreamHead::Control).await,
            open,
            lease: started.lease,
            next: 0,
        };
        let version = PROTOCOL_VERSION;
        inside.say(&ToInit::Hello { version }).await;
        assert_eq!(inside.listen().await, FromInit::Hello { version });
        Ok(inside)
    }

    async fn say(&mut self, message: &ToInit) {
        let frame = wire::frame(message).unwrap();
        self.control.write_all(&frame).await.unwrap();
        self.control.flush().await.unwrap();
    }

    async fn listen(&mut self) -> FromInit {
        let frame = read_frame(&mut self.control);
        timeout(PATIENCE, frame).await.expect("init is silent")
    }

    /// Starts a step and waits until it runs.
    async fn begin(&mut self, argv: &[&str]) -> (Stream, Stream) {
        self.next += 1;
        let step = self.next;
        let stdout = stream(&self.open, StreamHead::Stdout(step)).await;
        let stderr = stream(&self.open, StreamHead::Stderr(step)).await;
        let start = StartStep {
            step,
            argv: argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
            env: vec![
                (b"PATH".to_vec(), b"/usr/bin:/bin".to_vec()),
                (b"HOME".to_vec(), HOME_TARGET.into()),
            ],
            cwd: WORKSPACE_TARGET.into(),
            stdin: false,
            limits: self.lease.step_limits(),
        };
        self.say(&ToInit::Start(start)).await;
        assert_eq!(self.listen().await, FromInit::Started { step });
        (stdout, stderr)
    }

    async fn run(&mut self, argv: &[&str]) -> Ran {
        let (mut out, mut err) = self.begin(argv).await;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let reading = async {
            tokio::join!(
                out.read_to_string(&mut stdout),
                err.read_to_string(&mut stderr)
            )
        };
        let (out, err) = timeout(PATIENCE, reading)
            .await
            .expect("the output does not end");
        let _read = (out.unwrap(), err.unwrap());
        match self.listen().await {
            FromInit::Exited(exit) => Ran {
                exit,
                stdout,
                stderr,
            },
            other => panic!("{other:?}"),
        }
    }

    async fn python(&mut self, script: &str) -> Ran {
        self.run(&["/usr/bin/python3", "-c", script]).await
    }

    /// Standard output of a script that must succeed.
    async fn say_python(&mut self, script: &str) -> String {
        let ran = self.python(script).await;
        assert_eq!(
            ran.exit.status,
            WaitStatus::Code(0),
            "{script}: {}",
            ran.stderr
        );
        ran.stdout.trim().to_owned()
    }

    async fn end(self) {
        drop((self.control, self.open));
        self.lease.end().await.unwrap();
    }
}

async fn stream(open: &mpsc::UnboundedSender<oneshot::Sender<Stream>>, head: StreamHead) -> Stream {
    let (send, receive) = oneshot::channel();
    open.send(send).unwrap();
    let mut stream = receive.await.unwrap();
    stream
        .write_all(&wire::frame(&head).unwrap())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> FromInit {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await.unwrap();
    let mut body = vec![0; wire::body_length(prefix, MAX_FROM_INIT).unwrap()];
    from.read_exact(&mut body).await.unwrap();
    wire::parse(&body).unwrap()
}

/// Moves bytes and opens streams; ends, and closes the pipe, when nobody can ask for one any more.
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

/// Folders of a sandbox in every hierarchy of this machine.
fn cgroups(name: &str) -> Vec<PathBuf> {
    walkdir::WalkDir::new("/sys/fs/cgroup")
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| {
            let file = entry.file_name().to_string_lossy();
            file.starts_with(&format!("{name}@"))
        })
        .map(walkdir::DirEntry::into_path)
        .collect()
}

#[tokio::test]
async fn a_sandbox_starts_runs_and_leaves_nothing() {
    let bench = Bench::new();
    let name = name();
    let mut inside = Inside::start(&bench.backend, &bench.spec, &name)
        .await
        .unwrap();
    let ran = inside
        .run(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
        .await;
    assert_eq!(ran.exit.status, WaitStatus::Code(3));
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("out\n", "err\n")
    );
    if is_root() {
        assert!(!cgroups(&name).is_empty());
    }
    inside.end().await;
    assert_eq!(cgroups(&name), [""; 0].map(PathBuf::from));
    once_more_as_a_user("a_sandbox_starts_runs_and_leaves_nothing");
}

#[tokio::test]
async fn what_is_promised_is_what_holds() {
    let bench = Bench::new();
    let controls = bench.backend.controls().await.unwrap();
    assert_eq!(controls.len(), Control::ALL.len());
    for control in [
        Control::Pids,
        Control::Cpu,
        Control::Seccomp,
        Control::NetworkNone,
    ] {
        assert_eq!(controls[&control], Strength::Enforced, "{control}");
    }
    assert!(controls[&Control::Memory] >= Strength::Watched);
    let mut inside = bench.start().await;
    let status = inside
        .say_python("print(open('/proc/self/status').read())")
        .await;
    let line = |key: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(key));
        found.unwrap().trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (line("NoNewPrivs:"), line("Seccomp:")),
        ("1".into(), "2".into())
    );
    let seen = inside
        .say_python("import os; print(os.listdir('/'), os.listdir('/workspace'))")
        .await;
    assert!(!seen.contains("root") && seen.contains(".git"), "{seen}");
    inside.end().await;
    once_more_as_a_user("what_is_promised_is_what_holds");
}

#[tokio::test]
async fn files_come_out_as_their_owner_s() {
    let bench = Bench::new();
    let mut inside = bench.start().await;
    inside
        .say_python("open('/workspace/x', 'w').write('1'); open('/home/fumehood/y', 'w').close()")
        .await;
    let denied = inside.python("open('/workspace/.git/config', 'w')").await;
    assert_eq!(denied.exit.status, WaitStatus::Code(1));
    assert!(
        denied.stderr.contains("Read-only file system"),
        "{}",
        denied.stderr
    );
    inside.end().await;
    let made = fs::metadata(bench.dir.path().join("workspace/x")).unwrap();
    assert_eq!((made.uid(), made.gid()), ids());
    once_more_as_a_user("files_come_out_as_their_owner_s");
}

/// By the kernel's count where there is a cgroup; else what the host watches grows over the limit.
#[tokio::test]
async fn memory_over_the_limit_is_noticed() {
    let bench = Bench::new();
    let enforced = bench.backend.controls().await.unwrap()[&Control::Memory] == Strength::Enforced;
    let mut inside = bench.start().await;
    let before = inside.lease.counts().await.oom_kills;
    let take = "import time; x = bytearray(300 << 20); print(len(x), flush=True); time.sleep(60)";
    if enforced {
        assert_eq!(inside.lease.resident().await, None);
        let ran = inside.python(take).await;
        assert_eq!(ran.exit.status, WaitStatus::Signal(9));
        assert!(inside.lease.counts().await.oom_kills > before);
        // Init survived to say so.
        assert_eq!(inside.say_python("print(1)").await, "1");
    } else {
        assert_eq!(before, None);
        let small = inside.lease.resident().await.unwrap();
        assert!(small < 50 << 20, "{small}");
        let (mut out, _err) = inside.begin(&["/usr/bin/python3", "-c", take]).await;
        out.read_u8().await.unwrap();
        let big = inside.lease.resident().await.unwrap();
        assert!(big > 300 << 20, "{big}");
    }
    inside.end().await;
    once_more_as_a_user("memory_over_the_limit_is_noticed");
}

/// Forked processes share their pages: a plain sum is far over the limit, and nothing is wrong.
#[tokio::test]
async fn shared_memory_is_counted_once_where_it_is_watched() {
    let bench = Bench::new();
    let mut inside = bench.start().await;
    let share = "import os, time\nx = bytearray(60 << 20)\nfor i in range(8):\n if os.fork() == 0: time.sleep(60)\nprint(1, flush=True); time.sleep(60)";
    let (mut out, _err) = inside.begin(&["/usr/bin/python3", "-c", share]).await;
    out.read_u8().await.unwrap();
    if let Some(resident) = inside.lease.resident().await {
        assert!((60 << 20..150 << 20).contains(&resident), "{resident}");
    }
    inside.end().await;
    once_more_as_a_user("shared_memory_is_counted_once_where_it_is_watched");
}

/// A mapped data set is the kernel's cache: it goes when memory is needed.
#[tokio::test]
async fn a_mapped_file_is_not_taken_for_memory() {
    let mut bench = Bench::new();
    let data = bench.add_input("large", Access::ReadOnly);
    fs::File::create(data.join("x"))
        .unwrap()
        .set_len(400 << 20)
        .unwrap();
    let mut inside = bench.start().await;
    let map = "import mmap, time\nf = open('/data/large/x', 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nn = sum(m[i] for i in range(0, len(m), 4096))\nprint(n, flush=True); time.sleep(60)";
    let (mut out, _err) = inside.begin(&["/usr/bin/python3", "-c", map]).await;
    out.read_u8().await.unwrap();
    if let Some(resident) = inside.lease.resident().await {
        assert!(resident < 50 << 20, "{resident}");
    }
    inside.end().await;
    once_more_as_a_user("a_mapped_file_is_not_taken_for_memory");
}

#[tokio::test]
async fn processes_and_threads_stop_at_the_limit() {
    let bench = Bench::new();
    let mut inside = bench.start().await;
    let fork = "import os, time\nn = 0\ntry:\n while True:\n  if os.fork() == 0: time.sleep(60)\n  n += 1\nexcept OSError as e: print(n, e.errno)";
    let made = inside.say_python(fork).await;
    let (count, errno) = made.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    assert!((40..64).contains(&count), "{made}");
    assert_eq!(errno, "11");
    let thread = "import threading, time\nn = 0\ntry:\n while True:\n  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n  n += 1\nexcept RuntimeError: print(n)";
    let ran = inside.python(thread).await;
    let threads: u64 = ran.stdout.trim().parse().unwrap();
    assert!((40..64).contains(&threads), "{threads}");
    inside.end().await;
    once_more_as_a_user("processes_and_threads_stop_at_the_limit");
}

#[tokio::test]
async fn tmp_and_shared_memory_have_their_sizes() {
    let bench = Bench::new();
    let mut inside = bench.start().await;
    let fill = |path: &str| {
        format!(
            "n = 0\ntry:\n f = open('{path}', 'wb')\n while True: f.write(b'x' * 65536); f.flush(); n += 65536\nexcept OSError as e: print(n >> 20, e.errno)"
        )
    };
    let full = |size| format!("{size} 28");
    let tmp = inside.say_python(&fill("/tmp/x")).await;
    assert_eq!(tmp, full(4));
    assert_eq!(inside.say_python(&fill("/dev/shm/x")).await, full(2));
    let many = "n = 0\ntry:\n for i in range(1000): open(f'/tmp/{i}', 'w').close(); n += 1\nexcept OSError as e: print(n < 64, e.errno)";
    assert_eq!(inside.say_python(many).await, "True 28");
    let large = "f = open('/workspace/x', 'wb')\ntry:\n for i in range(200): f.write(b'x' * 65536); f.flush()\nexcept OSError as e: print(e.errno)";
    let capped = inside.python(large).await;
    assert_eq!(capped.stdout.trim(), "27", "{}", capped.stderr);
    inside.end().await;
    once_more_as_a_user("tmp_and_shared_memory_have_their_sizes");
}

/// Half a core is half the time by quota, or one core by affinity.
#[tokio::test]
async fn the_processor_is_shared_as_promised() {
    let bench = Bench::new();
    let mut inside = bench.start().await;
    let burn = "import os, time\nfor i in range(3): os.fork()\nend = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass\nif os.getppid() != 1: [os.wait() for i in range(3) if True]";
    let ran = inside.python(burn).await;
    let used = Duration::from_micros(ran.exit.user_us + ran.exit.system_us);
    let most = match is_root() {
        true => Duration::from_millis(900),
        false => Duration::from_millis(1900),
    };
    assert!(used < most, "{used:?}");
    if !is_root() {
        assert_eq!(
            inside
                .say_python("import os; print(len(os.sched_getaffinity(0)))")
                .await,
            "1"
        );
        let widened = inside
            .python("import os; os.sched_setaffinity(0, range(os.cpu_count()))")
            .await;
        assert!(
            widened.stderr.contains("PermissionError"),
            "{}",
            widened.stderr
        );
    }
    inside.end().await;
    once_more_as_a_user("the_processor_is_shared_as_promised");
}

#[tokio::test]
async fn a_mount_that_was_swapped_is_refused_and_named() {
    let mut bench = Bench::new();
    let data = bench.add_input("data", Access::ReadOnly);
    bench.start().await.end().await;
    fs::rename(&data, bench.dir.path().join("aside")).unwrap();
    fs::create_dir(&data).unwrap();
    let error = bench.refused().await;
    assert!(
        error.to_string().contains("data: not what it was"),
        "{error}"
    );
    assert!(error.remedy().is_some());
    fs::remove_dir(&data).unwrap();
    std::os::unix::fs::symlink(bench.dir.path().join("aside"), &data).unwrap();
    let error = bench.refused().await;
    assert!(matches!(error, SandboxError::Refused { .. }), "{error:?}");
    fs::remove_file(&data).unwrap();
    let error = bench.refused().await;
    assert!(error.to_string().contains("No such file"), "{error}");
    once_more_as_a_user("a_mount_that_was_swapped_is_refused_and_named");
}

#[tokio::test]
async fn a_device_is_bound_only_while_it_is_the_one_that_was_shown() {
    let mut bench = Bench::new();
    let node = |minor| DeviceNode {
        source: "/dev/zero".into(),
        target: "/dev/nvidia0".into(),
        major: 1,
        minor,
        group: None,
    };
    bench.spec.devices.nodes = vec![node(5)];
    let mut inside = bench.start().await;
    let said = inside
        .run(&[
            "/bin/sh",
            "-c",
            "head -c 2 /dev/nvidia0 | od -An -tx1; echo x > /dev/nvidia0; echo x > /dev/nvidia1",
        ])
        .await;
    assert_eq!(said.stdout, " 00 00\n", "{}", said.stderr);
    assert!(said.stderr.contains("nvidia1") && !said.stderr.contains("nvidia0"));
    inside.end().await;
    for (wrong, why) in [
        (node(3), "not the device it was"),
        (
            DeviceNode {
                source: "/etc/passwd".into(),
                ..node(5)
            },
            "not the device it was",
        ),
        (
            DeviceNode {
                source: "/proc/self/root/dev/zero".into(),
                ..node(5)
            },
            "a link is on the way",
        ),
        (
            DeviceNode {
                target: "/etc/zero".into(),
                ..node(5)
            },
            "not in /dev",
        ),
    ] {
        bench.spec.devices.nodes = vec![wrong];
        let error = bench.refused().await;
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    once_more_as_a_user("a_device_is_bound_only_while_it_is_the_one_that_was_shown");
}

#[tokio::test]
async fn inputs_are_read_only_unless_they_were_given_writable() {
    let mut bench = Bench::new();
    let read = bench.add_input("read", Access::ReadOnly);
    let write = bench.add_input("write", Access::ReadWrite);
    fs::write(read.join("x"), "42").unwrap();
    let mut inside = bench.start().await;
    assert_eq!(
        inside
            .say_python("print(open('/data/read/x').read())")
            .await,
        "42"
    );
    inside
        .say_python("open('/data/write/x', 'w').write('43')")
        .await;
    let denied = inside.python("open('/data/read/y', 'w')").await;
    assert!(
        denied.stderr.contains("Read-only file system"),
        "{}",
        denied.stderr
    );
    inside.end().await;
    assert_eq!(fs::read_to_string(write.join("x")).unwrap(), "43");
    once_more_as_a_user("inputs_are_read_only_unless_they_were_given_writable");
}

#[tokio::test]
async fn another_user_s_sandbox_is_refused_to_an_ordinary_user() {
    let mut bench = Bench::new();
    bench.spec.uid = if is_root() { 0 } else { 4242 };
    let error = bench.refused().await;
    assert!(matches!(error, SandboxError::Refused { .. }), "{error:?}");
    once_more_as_a_user("another_user_s_sandbox_is_refused_to_an_ordinary_user");
}

#[tokio::test]
async fn an_init_that_is_none_is_an_error_with_its_last_words() {
    let dir = open_dir();
    let init = dir.path().join("init");
    fs::write(&init, "#!/bin/sh\necho 'I am no init' >&2\n").unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let backend = NamespaceBackend::new(init).unwrap();
    let error = backend.controls().await.unwrap_err();
    assert!(error.to_string().contains("I am no init"), "{error}");
    let report = backend.report().await;
    assert!(!report.usable && !report.findings.is_empty());
}

#[tokio::test]
async fn doctor_s_report_says_what_this_machine_holds() {
    let bench = Bench::new();
    let report = bench.backend.report().await;
    assert!(report.usable, "{report:?}");
    assert_eq!(report.controls, bench.backend.controls().await.unwrap());
    if report.controls[&Control::Memory] != Strength::Enforced {
        assert!(
            report
                .findings
                .iter()
                .any(|finding| finding.what.starts_with("memory is watched"))
        );
    }
    assert!(
        report
            .findings
            .iter()
            .all(|finding| !finding.remedy.is_empty())
    );
    once_more_as_a_user("doctor_s_report_says_what_this_machine_holds");
}

/// A process that ends, and with it its claim to a start time.
fn dead_owner() -> Owner {
    let mut child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
    let owner = Owner::of(child.id()).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    owner
}

#[tokio::test]
async fn a_sweep_removes_a_dead_owner_s_cgroups_with_what_is_in_them() {
    let bench = Bench::new();
    let dead = sandbox_name(dead_owner(), &RunId::new("swept"), 1);
    if !is_root() {
        return;
    }
    // As the backend would have made them, had its owner lived.
    let inside = Inside::start(&bench.backend, &bench.spec, &dead)
        .await
        .unwrap();
    let folders = cgroups(&dead);
    assert!(!folders.is_empty());
    let mine = bench.start().await;
    let swept = bench.backend.sweep().await.unwrap();
    assert!(swept.contains(&dead), "{swept:?}");
    assert_eq!(cgroups(&dead), [""; 0].map(PathBuf::from));
    assert!(
        swept
            .iter()
            .all(|name| owner::owner_in(name) != Owner::this_process().ok())
    );
    mine.end().await;
    inside.end().await;
}

/// Holds a sandbox, with something running in it, until it is killed: see the test below.
#[tokio::test]
async fn holds_a_sandbox_until_it_is_killed() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let bench = Bench::new();
    let name = name();
    let mut inside = Inside::start(&bench.backend, &bench.spec, &name)
        .await
        .unwrap();
    let script = "import os, time\nos.fork() or os.setsid()\nprint(1, flush=True)\ntime.sleep(600)";
    let (mut out, _err) = inside.begin(&["/usr/bin/python3", "-c", script]).await;
    out.read_u8().await.unwrap();
    println!("HOLDING {name}");
    sleep(Duration::from_secs(120)).await;
}

/// Processes below a process, found by who started whom.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
        }
    }
    all.split_off(1)
}

#[tokio::test]
async fn nothing_is_left_when_the_owner_is_killed() {
    let dir = open_dir();
    let mut holder = itself(dir.path(), "holds_a_sandbox_until_it_is_killed")
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let name = tokio::task::spawn_blocking({
        let stdout = holder.stdout.take().unwrap();
        move || {
            use std::io::BufRead;
            let mut lines = std::io::BufReader::new(stdout)
                .lines()
                .map_while(Result::ok);
            let found = lines.find_map(|line| Some(line.split_once("HOLDING ")?.1.to_owned()));
            found.expect("it held nothing")
        }
    });
    let name = timeout(PATIENCE, name).await.unwrap().unwrap();
    let living: Vec<Owner> = descendants(holder.id())
        .into_iter()
        .filter_map(|pid| Owner::of(pid).unwrap())
        .collect();
    // The outer half, init, a keeper, and two of the program's.
    assert!(living.len() >= 5, "{living:?}");
    let killed = Instant::now();
    kill(Pid::from_raw(holder.id() as i32), Signal::SIGKILL).unwrap();
    holder.wait().unwrap();
    let alive = |one: &&Owner| Owner::of(one.pid).unwrap() == Some(**one);
    while living.iter().any(|one| alive(&one)) || !cgroups(&name).is_empty() {
        let left: Vec<_> = living.iter().filter(alive).collect();
        assert!(
            killed.elapsed() < Duration::from_secs(60),
            "{left:?} {:?}",
            cgroups(&name)
        );
        sleep(Duration::from_millis(10)).await;
    }
    once_more_as_a_user("nothing_is_left_when_the_owner_is_killed");
}

/// The host's own installation, copied to where no rule of the house expects one.
fn install_python(prefix: &Path) -> PathBuf {
    let program = fs::canonicalize("/usr/bin/python3").unwrap();
    let name = program.file_name().unwrap().to_owned();
    let library = Path::new("lib").join(&name);
    fs::create_dir_all(prefix.join("bin")).unwrap();
    fs::create_dir_all(prefix.join("lib")).unwrap();
    fs::copy(&program, prefix.join("bin").join(&name)).unwrap();
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=ownership"])
        .args([Path::new("/usr").join(&library), prefix.join(&library)])
        .status();
    assert!(copied.unwrap().success());
    prefix.join("bin").join(name)
}

#[tokio::test]
async fn a_venv_runs_with_the_installation_it_names() {
    let mut bench = Bench::new();
    let program = install_python(&bench.dir.path().join("opt/py"));
    let venv = bench.dir.path().join("venv");
    let made = Command::new(&program)
        .args(["-m", "venv", "--without-pip"])
        .arg(&venv)
        .status();
    assert!(made.unwrap().success());
    let judge = MountJudge::new(
        &bench.dir.path().join("nobody"),
        &bench.dir.path().join("state"),
    );
    let around = python::Surroundings {
        judge: &judge,
        base: Path::new("/"),
        workspace: &bench.dir.path().join("workspace"),
        root: &RootFs::HostSystem,
    };
    let env = python::find(&venv, &around).unwrap();
    bench.spec.mounts.extend(env.mounts.iter().cloned());
    let mut inside = bench.start().await;
    let script = "import sys, json, ssl; print(sys.prefix, sys.base_prefix)";
    let interpreter = venv.join("bin/python");
    let ran = inside
        .run(&[interpreter.to_str().unwrap(), "-c", script])
        .await;
    let prefixes = format!(
        "{} {}",
        venv.display(),
        bench.dir.path().join("opt/py").display()
    );
    assert_eq!(ran.stdout.trim(), prefixes, "{}", ran.stderr);
    let script = "import sys; open(sys.executable, 'r+')";
    let denied = inside
        .run(&[interpreter.to_str().unwrap(), "-c", script])
        .await;
    assert_eq!(denied.exit.status, WaitStatus::Code(1), "it can be written");
    inside.end().await;
    once_more_as_a_user("a_venv_runs_with_the_installation_it_names");
}

#[tokio::test]
async fn a_judged_mount_is_what_the_sandbox_sees() {
    let mut bench = Bench::new();
    let data = bench.dir.path().join("judged");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("x"), "7").unwrap();
    let judge = MountJudge::new(
        &bench.dir.path().join("nobody"),
        &bench.dir.path().join("state"),
    );
    let request = MountRequest::parse("src=judged,dst=/models/m").unwrap();
    bench
        .spec
        .mounts
        .push(judge.judge(&request, bench.dir.path()).unwrap());
    let mut inside = bench.start().await;
    assert_eq!(
        inside.say_python("print(open('/models/m/x').read())").await,
        "7"
    );
    inside.end().await;
    once_more_as_a_user("a_judged_mount_is_what_the_sandbox_sees");
}
