//! The docker backend against a real engine, without our init: a script in its place says what the
//! container looks like from inside. Needs an engine and the image of `sandbox-images/`; where they
//! are not there the tests say so and pass, unless `FUMEHOOD_REQUIRE_DOCKER=1`.

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use fumehood::protocol::ids::RunId;
use fumehood::protocol::spec::*;
use fumehood::sandbox::backend::{Backend, SandboxError, Started};
use fumehood::sandbox::docker::DockerBackend;
use fumehood::sandbox::owner::{Owner, sandbox_name};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// The image that `sandbox-images/base` makes.
pub(crate) const IMAGE: &str = "fumehood-test:base";

/// Evaluates each line it gets as Python, and answers with one line of JSON.
const SCRIPT: &str = r#"#!/usr/bin/python3
import sys, os, json, socket, ctypes, errno, subprocess
def attempt(act):
    try:
        act()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
def status(key):
    return [l.split(None, 1)[1].strip() for l in open("/proc/self/status") if l.startswith(key + ":")][0]
def mount(path):
    found = [l.split() for l in open("/proc/self/mounts") if l.split()[1] == path]
    return found[-1][3].split(",") if found else None
def knock():
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect("/.fumehood/door/host")
        return s.recv(1).decode(), s
    except OSError as e:
        return errno.errorcode[e.errno], s
def serve():
    for line in sys.stdin:
        print(json.dumps(eval(line)), flush=True)
"#;

/// How init behaves that is given no door.
const PLAIN: &str = "serve()\n";

/// The engine, or `None` with a visible word where there is none and none is required.
pub(crate) async fn backend(init: PathBuf) -> Option<DockerBackend> {
    let host = std::env::var("DOCKER_HOST").ok();
    let found = match DockerBackend::connect(init, host.as_deref()).await {
        Ok(backend) => backend.resolve_image(IMAGE).await.map(|_| backend),
        Err(error) => Err(error),
    };
    match found {
        Ok(backend) => Some(backend),
        Err(error) if std::env::var_os("FUMEHOOD_REQUIRE_DOCKER").is_some() => {
            panic!("{error}; {}", error.remedy().unwrap_or("run `make setup`"))
        }
        Err(error) => {
            eprintln!("SKIPPED, no engine or no test image: {error}");
            None
        }
    }
}

pub(crate) struct Bench {
    dir: TempDir,
    backend: DockerBackend,
    spec: SandboxSpec,
}

impl Bench {
    async fn new() -> Option<Self> {
        let bench = Self::with(PLAIN).await?;
        let backend = bench.backend.without_doors();
        Some(Self { backend, ..bench })
    }

    /// With a door, and a script that ends so.
    pub(crate) async fn with(end: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let init = dir.path().join("init");
        fs::write(&init, format!("{SCRIPT}{end}")).unwrap();
        fs::set_permissions(&init, fs::Permissions::from_mode(0o555)).unwrap();
        let backend = backend(init).await?;
        let image = backend.resolve_image(IMAGE).await.unwrap();
        let spec = spec(dir.path(), &image.id);
        Some(Self { dir, backend, spec })
    }

    pub(crate) async fn try_start(&self) -> Result<Started, SandboxError> {
        self.backend.start(&self.spec, &name()).await
    }

    pub(crate) async fn start(&self) -> Inside {
        Inside::of(self.try_start().await.unwrap())
    }
}

/// A started container that answers questions.
pub(crate) struct Inside {
    from: BufReader<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    to: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    lease: Box<dyn fumehood::sandbox::backend::Lease>,
}

impl Inside {
    fn of(started: Started) -> Self {
        Self {
            from: BufReader::new(started.from_init),
            to: started.to_init,
            lease: started.lease,
        }
    }

    pub(crate) async fn ask(&mut self, question: &str) -> Value {
        self.to
            .write_all(format!("{question}\n").as_bytes())
            .await
            .unwrap();
        self.to.flush().await.unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).await.unwrap();
        let words = self.lease.last_words().await;
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{question}: {line:?} {words}"))
    }

    pub(crate) async fn end(self) {
        drop((self.from, self.to));
        self.lease.end().await.unwrap();
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

fn small() -> Limits {
    Limits {
        wall_ms: None,
        cpus: Some(1.0),
        memory: Some(128 << 20),
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

/// A workspace with a protected folder, a home, and small limits.
fn spec(dir: &Path, image: &str) -> SandboxSpec {
    let me = fs::metadata(dir).unwrap();
    let (uid, gid) = if me.uid() == 0 {
        (4242, 4243)
    } else {
        (me.uid(), me.gid())
    };
    for folder in ["workspace", "workspace/.git", "home"] {
        let path = dir.join(folder);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(uid), Some(gid)).unwrap();
    }
    let (workspace, git, home) = (
        dir.join("workspace"),
        dir.join("workspace/.git"),
        dir.join("home"),
    );
    SandboxSpec {
        backend: BackendKind::Docker,
        root: RootFs::Image {
            reference: IMAGE.into(),
            id: image.into(),
        },
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
        limits: small(),
        env: BTreeMap::new(),
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: 1000,
        require: BTreeMap::new(),
        devices: Default::default(),
    }
}

async fn exists(name: &str) -> bool {
    let docker = Docker::connect_with_defaults().unwrap();
    docker.inspect_container(name, None).await.is_ok()
}

#[tokio::test]
async fn the_pipe_goes_both_ways_and_its_end_removes_the_container() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let name = name();
    let mut inside = Inside::of(bench.backend.start(&bench.spec, &name).await.unwrap());
    assert_eq!(inside.ask("1 + 1").await, 2);
    assert!(exists(&name).await);
    inside.end().await;
    assert!(!exists(&name).await);
}

#[tokio::test]
async fn what_ignores_the_end_of_its_pipe_is_removed_by_force() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let name = name();
    let mut inside = Inside::of(bench.backend.start(&bench.spec, &name).await.unwrap());
    inside
        .to
        .write_all(b"__import__('time').sleep(600)\n")
        .await
        .unwrap();
    inside.to.flush().await.unwrap();
    inside.end().await;
    assert!(!exists(&name).await);
}

#[tokio::test]
async fn last_words_are_kept_apart_from_the_pipe() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    inside
        .to
        .write_all(b"sys.exit('the last words')\n")
        .await
        .unwrap();
    inside.to.flush().await.unwrap();
    let mut rest = Vec::new();
    inside.from.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(inside.lease.last_words().await, "the last words");
    inside.end().await;
}

#[tokio::test]
async fn the_process_has_no_privilege_and_no_network() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(
            inside.ask(&format!("int(status('{set}'), 16)")).await,
            0,
            "{set}"
        );
    }
    assert_eq!(inside.ask("status('NoNewPrivs')").await, "1");
    assert_eq!(inside.ask("status('Seccomp')").await, "2");
    let ids = format!("[{0}, {0}, {1}, {1}]", bench.spec.uid, bench.spec.gid);
    let ids: Value = serde_json::from_str(&ids).unwrap();
    if !matches!(
        bench.backend.facts().users,
        fumehood::sandbox::docker::UserMapping::Rootless { .. }
    ) {
        assert_eq!(
            inside
                .ask("[os.getuid(), os.geteuid(), os.getgid(), os.getegid()]")
                .await,
            ids
        );
        assert_eq!(
            inside.ask("os.getgroups()").await,
            serde_json::json!([bench.spec.gid])
        );
    }
    assert_eq!(
        inside.ask("[n for _, n in socket.if_nameindex()]").await,
        serde_json::json!(["lo"])
    );
    assert_eq!(
        inside
            .ask("open('/etc/resolv.conf').read().count('127.0.0.1')")
            .await,
        1
    );
    assert_eq!(
        inside
            .ask("socket.gethostbyname(socket.gethostname())")
            .await,
        "127.0.0.1"
    );
    assert_eq!(
        inside
            .ask("open('/proc/self/oom_score_adj').read().strip()")
            .await,
        "500"
    );
    assert_eq!(inside.ask("os.getpid()").await, 1);
    inside.end().await;
}

#[tokio::test]
async fn only_the_listed_places_are_writable() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    let write = |path: &str| format!("attempt(lambda: open('{path}/x', 'w').write('x'))");
    for place in ["/workspace", "/home/fumehood", "/tmp", "/dev/shm"] {
        assert_eq!(inside.ask(&write(place)).await, "done", "{place}");
        let flags = inside.ask(&format!("mount('{place}')")).await;
        if place != "/workspace" && place != "/home/fumehood" {
            for flag in ["nosuid", "nodev", "noexec"] {
                assert!(
                    flags.as_array().unwrap().contains(&flag.into()),
                    "{place} {flags}"
                );
            }
        }
    }
    for place in [
        "/",
        "/usr",
        "/etc",
        "/var/tmp",
        "/workspace/.git",
        "/dev",
        "/proc/sys/kernel",
        "/.fumehood",
    ] {
        assert_ne!(inside.ask(&write(place)).await, "done", "{place}");
    }
    let init = inside
        .ask("attempt(lambda: open('/.fumehood/init', 'a'))")
        .await;
    assert!(init == "EROFS" || init == "EACCES", "{init}");
    for mask in ["/sys/kernel", "/sys/firmware"] {
        assert_eq!(
            inside.ask(&format!("os.listdir('{mask}')")).await,
            serde_json::json!([]),
            "{mask}"
        );
    }
    inside.end().await;
    let made = fs::metadata(bench.dir.path().join("workspace/x")).unwrap();
    assert_eq!((made.uid(), made.gid()), (bench.spec.uid, bench.spec.gid));
}

#[tokio::test]
async fn sizes_and_counts_are_held_by_the_kernel() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    let fill = |path: &str, mib: u32| {
        format!(
            "attempt(lambda: open('{path}/big', 'wb', 0).write(b'x' * ({mib} << 20)) == ({mib} << 20) or os.strerror(os.write(os.open('{path}/big', os.O_WRONLY | os.O_APPEND), b'x' * 4096)))"
        )
    };
    assert_eq!(inside.ask(&fill("/tmp", 6)).await, "ENOSPC");
    assert_eq!(inside.ask(&fill("/dev/shm", 3)).await, "ENOSPC");
    let many = "attempt(lambda: [open(f'/tmp/{n}', 'w') for n in range(100)])";
    assert_eq!(inside.ask(many).await, "ENOSPC");
    let limits = "[__import__('resource').getrlimit(n)[1] for n in (7, 1, 4)]";
    assert_eq!(
        inside.ask(limits).await,
        // Of a core dump 1 byte: then there is none.
        serde_json::json!([512, 8 << 20, 1])
    );
    let forks = "attempt(lambda: [subprocess.Popen(['sleep', '60']) for _ in range(100)])";
    assert_eq!(inside.ask(forks).await, "EAGAIN");
    inside.end().await;
}

#[tokio::test]
async fn the_kernels_memory_kills_are_counted() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    let Some(before) = inside.lease.counts().await.oom_kills else {
        eprintln!("SKIPPED, this engine's cgroups are not visible here");
        return inside.end().await;
    };
    let hog = "subprocess.run(['python3', '-c', 'open(\"/proc/self/oom_score_adj\", \"w\").write(\"900\"); x = b\"x\" * (400 << 20)']).returncode";
    assert_eq!(inside.ask(hog).await, -9);
    assert_eq!(inside.lease.counts().await.oom_kills, Some(before + 1));
    inside.end().await;
}

#[tokio::test]
async fn refused_system_calls_stay_refused() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let mut inside = bench.start().await;
    for attempt in [
        "attempt(lambda: os.mkfifo('/workspace/fifo'))",
        "attempt(lambda: os.mknod('/workspace/node'))",
        "attempt(lambda: os.chmod('/workspace', 0o4755))",
        "attempt(lambda: os.open('/workspace/suid', os.O_CREAT, 0o4755))",
        "attempt(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))",
        "attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))",
        "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    ] {
        assert_eq!(inside.ask(attempt).await, "EPERM", "{attempt}");
    }
    inside.end().await;
}

#[tokio::test]
async fn a_missing_image_is_refused_with_the_way_to_get_it() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let error = bench
        .backend
        .resolve_image("fumehood-test:never")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no such image"), "{error}");
    assert!(
        error
            .remedy()
            .unwrap()
            .contains("docker pull fumehood-test:never")
    );
}

#[tokio::test]
async fn a_mount_that_was_swapped_is_refused_and_nothing_stays() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    bench.spec.mounts[0].inode += 1;
    let name = name();
    let error = bench.backend.start(&bench.spec, &name).await.err().unwrap();
    assert!(error.to_string().contains("took its place"), "{error}");
    assert!(!exists(&name).await);
}

#[tokio::test]
async fn a_container_that_cannot_start_is_removed() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let init = bench.dir.path().join("init");
    fs::set_permissions(init, fs::Permissions::from_mode(0o444)).unwrap();
    let name = name();
    let error = bench.backend.start(&bench.spec, &name).await.err().unwrap();
    assert!(matches!(error, SandboxError::Engine { .. }), "{error}");
    assert!(!exists(&name).await);
}

/// Whether the engine comes to have no such container, and has none for a second on end: what was
/// asked before the start was given up may be made only now.
async fn stays_away(name: &str) -> bool {
    let mut away = 0;
    for _ in 0..600 {
        away = if exists(name).await { 0 } else { away + 1 };
        if away == 20 {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    for wait in [1, 10, 30, 60, 120] {
        let name = name();
        let start = bench.backend.start(&bench.spec, &name);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(wait), start).await;
        assert!(stays_away(&name).await, "given up after {wait} ms");
    }
}

#[tokio::test]
async fn the_sweep_takes_what_a_dead_owner_left_and_nothing_else() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let docker = Docker::connect_with_defaults().unwrap();
    let dead = Owner {
        pid: 4_194_305,
        start: std::process::id().into(),
    };
    let namespace = fumehood::sandbox::owner::pid_namespace().unwrap();
    let make = async |owner: Owner| {
        let name = sandbox_name(owner, &RunId::new("swept"), 1);
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            cmd: Some(vec!["true".into()]),
            labels: Some(HashMap::from([
                ("fumehood.name".into(), name.clone()),
                ("fumehood.owner".into(), owner.to_string()),
                ("fumehood.pid-namespace".into(), namespace.to_string()),
            ])),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        docker.create_container(Some(options), body).await.unwrap();
        name
    };
    let left = make(dead).await;
    let alive = make(Owner::this_process().unwrap()).await;
    bench.backend.sweep().await.unwrap();
    assert!(!exists(&left).await);
    assert!(exists(&alive).await);
    docker.remove_container(&alive, None).await.unwrap();
}

/// An image that tries to steer whoever starts it.
async fn commit_hostile(docker: &Docker, tag: &str) {
    let source = docker
        .create_container(
            None,
            ContainerCreateBody {
                image: Some(IMAGE.into()),
                cmd: Some(vec!["true".into()]),
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let changes = "ENTRYPOINT [\"/bin/false\"]\nCMD [\"x\"]\nUSER root\nWORKDIR /nowhere\nVOLUME /data\nVOLUME /var/lib/x\nENV LD_PRELOAD=/evil.so\nENV NVIDIA_VISIBLE_DEVICES=all\nHEALTHCHECK CMD /bin/true\nLABEL fumehood.owner=1-1";
    let options = CommitContainerOptionsBuilder::default()
        .container(&source.id)
        .repo("fumehood-test")
        .tag(tag)
        .changes(changes)
        .build();
    docker
        .commit_container(options, bollard::models::ContainerConfig::default())
        .await
        .unwrap();
    let remove = RemoveContainerOptionsBuilder::default().force(true).build();
    docker
        .remove_container(&source.id, Some(remove))
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_that_an_image_names_is_run_or_kept() {
    let Some(mut bench) = Bench::new().await else {
        return;
    };
    let docker = Docker::connect_with_defaults().unwrap();
    let tag = format!("hostile-{}", std::process::id());
    commit_hostile(&docker, &tag).await;
    let image = bench
        .backend
        .resolve_image(&format!("fumehood-test:{tag}"))
        .await
        .unwrap();
    assert_eq!(image.volumes.len(), 2, "{image:?}");
    bench.spec.root = RootFs::Image {
        reference: image.reference.clone(),
        id: image.id.clone(),
    };
    let mut inside = bench.start().await;
    assert_eq!(
        inside.ask("os.environ.get('LD_PRELOAD')").await,
        Value::Null
    );
    assert_eq!(
        inside.ask("os.environ['NVIDIA_VISIBLE_DEVICES']").await,
        "void"
    );
    assert_eq!(inside.ask("os.getcwd()").await, "/");
    assert_ne!(inside.ask("os.getuid()").await, 0);
    for volume in ["/data", "/var/lib/x"] {
        let flags = inside.ask(&format!("mount('{volume}')")).await;
        assert!(
            flags.as_array().unwrap().contains(&"size=16384k".into()),
            "{flags}"
        );
    }
    inside.end().await;
    docker
        .remove_image(
            &format!("fumehood-test:{tag}"),
            None::<bollard::query_parameters::RemoveImageOptions>,
            None,
        )
        .await
        .unwrap();
}

/// True where an engine and the test image are there; says so where they are not and need not be.
pub(crate) fn there() -> bool {
    // On a thread of its own: the caller may drive a runtime already.
    let look = || {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(backend(PathBuf::from("/dev/null")))
            .is_some()
    };
    std::thread::spawn(look).join().unwrap()
}
