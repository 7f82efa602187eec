//! A sandbox with everything around it, for suites that run on every backend: policy, plan, permit,
//! step, as a user's own command takes them.

use super::docker;
use fumehood::images::{Store, import_from_engine};
use fumehood::policy::action::{ExecAction, Origin};
use fumehood::policy::builtin;
use fumehood::policy::gate::{Standing, decide_exec};
use fumehood::policy::model::Policy;
use fumehood::policy::network::is_on;
use fumehood::policy::permit::{Permit, Verdict};
use fumehood::protocol::event::Approver;
use fumehood::protocol::ids::{Digest, RunId};
use fumehood::protocol::net::Network;
use fumehood::protocol::outcome::{Exit, Outcome};
use fumehood::protocol::spec::{BackendKind, RootFs, SandboxSpec, WORKSPACE_TARGET};
use fumehood::sandbox::backend::{Backend, SandboxError};
use fumehood::sandbox::docker::DockerBackend;
use fumehood::sandbox::egress::Egress;
use fumehood::sandbox::init_binary;
use fumehood::sandbox::namespace::{ImageRoot, NamespaceBackend};
use fumehood::sandbox::owner::{Owner, sandbox_name};
use fumehood::sandbox::plan::{NetworkFacts, PlanInput, Source, WorkspaceFacts, plan, run_as};
use fumehood::sandbox::{Sandbox, StepIo};
use nix::unistd::{getegid, geteuid};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Who owns the workspace where the tests run as root.
const OWNER: (u32, u32) = (4242, 4243);

/// A running sandbox and what it was made of.
pub(crate) struct Stage {
    pub(crate) policy: Policy,
    pub(crate) spec: SandboxSpec,
    pub(crate) sandbox: Sandbox,
    backend: Box<dyn Backend>,
    dir: TempDir,
}

/// A command, and how it is run.
pub(crate) struct Ask {
    pub(crate) argv: Vec<Vec<u8>>,
    pub(crate) cwd: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) wall_ms: Option<u64>,
    pub(crate) cancel: CancellationToken,
    pub(crate) started: Option<oneshot::Sender<()>>,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) exit: Result<Exit, SandboxError>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    pub(crate) fn exit(&self) -> &Exit {
        let said = String::from_utf8_lossy(&self.stderr);
        self.exit.as_ref().unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.exit().outcome
    }

    /// Standard output of a command that succeeded.
    pub(crate) fn text(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr);
        assert_eq!(self.outcome(), Outcome::Code(0), "{said}");
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

pub(crate) fn argv(words: &[&str]) -> Ask {
    Ask {
        argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: WORKSPACE_TARGET.to_owned(),
        env: BTreeMap::new(),
        stdin: None,
        wall_ms: None,
        cancel: CancellationToken::new(),
        started: None,
    }
}

pub(crate) fn sh(script: &str) -> Ask {
    argv(&["/bin/sh", "-c", script])
}

pub(crate) fn python(script: &str) -> Ask {
    argv(&["/usr/bin/python3", "-c", script])
}

impl Ask {
    pub(crate) fn within(self, wall_ms: u64) -> Self {
        Self {
            wall_ms: Some(wall_ms),
            ..self
        }
    }

    pub(crate) fn at(self, cwd: &str) -> Self {
        Self {
            cwd: cwd.to_owned(),
            ..self
        }
    }

    pub(crate) fn given(self, stdin: impl Into<Vec<u8>>) -> Self {
        Self {
            stdin: Some(stdin.into()),
            ..self
        }
    }
}

impl Stage {
    /// `None` where the backend is not there, which was said.
    pub(crate) async fn set(kind: BackendKind, change: impl FnOnce(&mut Policy)) -> Option<Self> {
        Self::build(kind, |engine| engine, change, |_| None).await
    }

    /// With the network of its policy, which leads where `connect` says.
    pub(crate) async fn connected(
        kind: BackendKind,
        change: impl FnOnce(&mut Policy),
        connect: impl FnOnce(&Network) -> Arc<Egress>,
    ) -> Option<Self> {
        let connect = |spec: &SandboxSpec| spec.network.as_ref().map(connect);
        Self::build(kind, |engine| engine, change, connect).await
    }

    /// On an engine, as where no socket reaches init.
    pub(crate) async fn over_stdio() -> Option<Self> {
        let engine = DockerBackend::without_doors;
        Self::build(BackendKind::Docker, engine, |_| {}, |_| None).await
    }

    async fn build(
        kind: BackendKind,
        engine: impl FnOnce(DockerBackend) -> DockerBackend,
        change: impl FnOnce(&mut Policy),
        connect: impl FnOnce(&SandboxSpec) -> Option<Arc<Egress>>,
    ) -> Option<Self> {
        let ground = open_dir();
        let dir = &ground;
        let init = init_binary::install(dir.path()).unwrap();
        let (backend, root): (Box<dyn Backend>, _) = match kind {
            BackendKind::Namespace => (
                Box::new(NamespaceBackend::new(init).unwrap()),
                RootFs::HostSystem,
            ),
            BackendKind::Docker => {
                let backend = engine(docker::backend(init).await?);
                let image = backend.resolve_image(docker::IMAGE).await.unwrap();
                let root = RootFs::Image {
                    reference: image.reference,
                    id: image.id,
                };
                (Box::new(backend), root)
            }
        };
        let backend = (backend, kind);
        Some(Self::on(backend, root, ground, change, connect).await)
    }

    /// On a root of its own: the test image, unpacked once for a build.
    pub(crate) async fn unpacked() -> Option<Self> {
        let ground = open_dir();
        let init = init_binary::install(ground.path()).unwrap();
        let engine = docker::backend(init.clone()).await?;
        let id = engine.resolve_image(docker::IMAGE).await.unwrap().id;
        let store = Store::open(Path::new(env!("CARGO_TARGET_TMPDIR")));
        if store.unpacked(&id).unwrap().is_none() {
            let (from, now) = ((docker::IMAGE, "test"), "2026-01-01T00:00:00Z".to_owned());
            import_from_engine(&store, &engine, from, now)
                .await
                .unwrap();
        }
        let held = store.hold(&id).unwrap().unwrap();
        let backend = NamespaceBackend::new(init).unwrap().with_image(ImageRoot {
            id: id.clone(),
            path: held.path.clone(),
            hold: Box::new(held),
        });
        let root = RootFs::Image {
            reference: "test".to_owned(),
            id,
        };
        Some(
            Self::on(
                (Box::new(backend), BackendKind::Namespace),
                root,
                ground,
                |_| {},
                |_| None,
            )
            .await,
        )
    }

    async fn on(
        (backend, kind): (Box<dyn Backend>, BackendKind),
        root: RootFs,
        dir: TempDir,
        change: impl FnOnce(&mut Policy),
        connect: impl FnOnce(&SandboxSpec) -> Option<Arc<Egress>>,
    ) -> Self {
        let mut policy = builtin::policy("dev-loop").unwrap();
        policy.limits.memory = Some(1 << 30);
        policy.process.stop_grace_ms = 500;
        change(&mut policy);
        let spec = planned(&policy, kind, root, dir.path());
        let egress = connect(&spec);
        let sandbox = Sandbox::start_connected(&*backend, &spec, &name(), egress).await;
        Self {
            policy,
            spec,
            sandbox: sandbox.unwrap_or_else(|e| panic!("{e}; {:?}", e.remedy())),
            backend,
            dir,
        }
    }

    pub(crate) async fn end(self) {
        self.sandbox.end().await.unwrap();
    }

    /// One more sandbox like its own, on the same folders.
    pub(crate) async fn another(&self) -> Result<Sandbox, SandboxError> {
        Sandbox::start(&*self.backend, &self.spec, &name()).await
    }

    /// Where the host has what the stage is made of: `workspace`, `home`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new folder of the workspace: its path inside, and on the host.
    pub(crate) fn folder(&self, name: &str) -> (String, PathBuf) {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{n}");
        let path = self.dir.path().join("workspace").join(&name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(self.spec.uid), Some(self.spec.gid)).unwrap();
        (format!("{WORKSPACE_TARGET}/{name}"), path)
    }

    pub(crate) fn act(&self, ask: &Ask) -> ExecAction {
        ExecAction {
            run: RunId::new("run"),
            origin: Origin::Typed,
            argv: ask.argv.clone(),
            cwd: ask.cwd.clone(),
            env: ask.env.clone(),
            stdin: ask.stdin.is_some(),
            wall_ms: ask.wall_ms,
            sandbox: self.spec.clone(),
            policy: self.policy.digest(),
            code: Digest::new("code"),
            names_artifact: false,
        }
    }

    pub(crate) fn permit(&self, ask: &Ask) -> Permit<ExecAction> {
        match decide_exec(&self.policy, &Standing::default(), self.act(ask)) {
            Verdict::Allowed(permit) => permit,
            Verdict::Ask(question) => {
                let shown = question.digest().clone();
                question.grant(&shown, Approver::Person).unwrap()
            }
            Verdict::Denied(denial) => panic!("{denial}"),
        }
    }

    pub(crate) async fn run(&self, mut ask: Ask) -> Ran {
        let permit = self.permit(&ask);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let stdin = ask.stdin.take().map(std::io::Cursor::new);
        let io = StepIo {
            stdin: stdin.map(|bytes| Box::new(bytes) as Box<_>),
            stdout: &mut stdout,
            stderr: &mut stderr,
            cancel: ask.cancel.clone(),
            started: ask.started.take(),
        };
        let exit = timeout(PATIENCE, self.sandbox.step(permit, io)).await;
        Ran {
            exit: exit.expect("the step hangs"),
            stdout,
            stderr,
        }
    }

    pub(crate) async fn text(&self, ask: Ask) -> String {
        self.run(ask).await.text()
    }
}

/// A temporary folder that everybody can enter.
pub(crate) fn open_dir() -> TempDir {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn name() -> String {
    static N: AtomicU32 = AtomicU32::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    sandbox_name(Owner::this_process().unwrap(), &RunId::new("stage"), n)
}

fn planned(policy: &Policy, backend: BackendKind, root: RootFs, dir: &Path) -> SandboxSpec {
    let caller = (geteuid().as_raw(), getegid().as_raw());
    let owner = if caller.0 == 0 { OWNER } else { caller };
    let folder = |name: &str| {
        let path = dir.join(name);
        fs::create_dir(&path).unwrap();
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        let found = fs::metadata(&path).unwrap();
        Source {
            path,
            device: found.dev(),
            inode: found.ino(),
        }
    };
    let workspace = WorkspaceFacts {
        root: folder("workspace"),
        protected: Vec::new(),
        covered: Vec::new(),
    };
    let home = folder("home");
    let network = is_on(&policy.network).then(|| NetworkFacts {
        network: Network {
            allow: policy.network.allow.clone(),
            upload_bytes: policy.network.upload_bytes,
            download_bytes: policy.network.download_bytes,
        },
        env: BTreeMap::new(),
        authorities: None,
    });
    let (uid, gid) = run_as(policy, backend, owner, caller);
    let planned = plan(&PlanInput {
        secrets: &[],
        policy,
        backend,
        root,
        uid,
        gid,
        workspace: &workspace,
        home: &home,
        inputs: &[],
        python: None,
        gpus: None,
        passed: &BTreeMap::new(),
        network: network.as_ref(),
        typed: &BTreeMap::new(),
        hostname: "stage",
        cores: 2,
    });
    planned.unwrap()
}

/// One for the whole suite: a sandbox lives on the runtime it was started on.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// Runs a claim in a stage that other claims use at the same time; the last one ends it.
pub(crate) fn on_shared(kind: BackendKind, claim: impl AsyncFnOnce(&Stage)) {
    static SHARED: [Mutex<Weak<Stage>>; 2] = [const { Mutex::const_new(Weak::new()) }; 2];
    let shared = &SHARED[usize::from(kind == BackendKind::Docker)];
    share(shared, async || Stage::set(kind, |_| {}).await, claim);
}

/// The same on an unpacked image.
pub(crate) fn on_unpacked(claim: impl AsyncFnOnce(&Stage)) {
    static SHARED: Mutex<Weak<Stage>> = Mutex::const_new(Weak::new());
    share(&SHARED, Stage::unpacked, claim);
}

/// The same on an engine, as where no socket reaches init.
pub(crate) fn on_shared_over_stdio(claim: impl AsyncFnOnce(&Stage)) {
    static SHARED: Mutex<Weak<Stage>> = Mutex::const_new(Weak::new());
    share(&SHARED, Stage::over_stdio, claim);
}

fn share(
    shared: &'static Mutex<Weak<Stage>>,
    set: impl AsyncFnOnce() -> Option<Stage>,
    claim: impl AsyncFnOnce(&Stage),
) {
    runtime().block_on(async {
        let mut shared = shared.lock().await;
        let stage = match shared.upgrade() {
            Some(stage) => stage,
            None => {
                let Some(stage) = set().await else {
                    return;
                };
                let stage = Arc::new(stage);
                *shared = Arc::downgrade(&stage);
                stage
            }
        };
        drop(shared);
        claim(&stage).await;
        if let Some(stage) = Arc::into_inner(stage) {
            stage.end().await;
        }
    });
}

/// Runs a claim that sets its own stage.
pub(crate) fn on_own<F: Future<Output = ()>>(
    kind: BackendKind,
    claim: impl FnOnce(BackendKind) -> F,
) {
    runtime().block_on(claim(kind));
}
