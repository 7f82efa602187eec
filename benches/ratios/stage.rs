//! A sandbox as a user's own command gets one: policy, plan, permit, step.

use anyhow::{Context, Result, bail};
use fumehood::policy::action::{ExecAction, Origin};
use fumehood::policy::builtin;
use fumehood::policy::gate::{Standing, decide_exec};
use fumehood::policy::model::Policy;
use fumehood::policy::permit::Verdict;
use fumehood::protocol::ids::{Digest, RunId};
use fumehood::protocol::outcome::Outcome;
use fumehood::protocol::spec::{BackendKind, RootFs, SandboxSpec, WORKSPACE_TARGET};
use fumehood::sandbox::backend::Backend;
use fumehood::sandbox::docker::DockerBackend;
use fumehood::sandbox::init_binary;
use fumehood::sandbox::namespace::NamespaceBackend;
use fumehood::sandbox::owner::{Owner, caller, sandbox_name};
use fumehood::sandbox::plan::{PlanInput, Source, WorkspaceFacts, plan, run_as};
use fumehood::sandbox::{Sandbox, StepIo};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll};
use tempfile::TempDir;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

/// Owner of the workspace where the bench runs as root.
const OWNER: (u32, u32) = (4242, 4243);

/// What sandboxes are started from.
pub(super) struct Stage {
    policy: Policy,
    spec: SandboxSpec,
    backend: Box<dyn Backend>,
    _dir: TempDir,
}

/// Counts what a program writes, and throws it away.
#[derive(Default)]
pub(super) struct Counted(pub(super) u64);

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0 += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stage {
    pub(super) fn namespace() -> Result<Self> {
        let dir = open_dir()?;
        let backend = NamespaceBackend::new(init_binary::install(dir.path())?)?;
        Self::of(Box::new(backend), RootFs::HostSystem, dir)
    }

    pub(super) async fn docker(host: &str, image: &str) -> Result<Self> {
        let dir = open_dir()?;
        let init = init_binary::install(dir.path())?;
        let backend = DockerBackend::connect(init, Some(host)).await?;
        let image = backend.resolve_image(image).await?;
        let root = RootFs::Image {
            reference: image.reference,
            id: image.id,
        };
        Self::of(Box::new(backend), root, dir)
    }

    fn of(backend: Box<dyn Backend>, root: RootFs, dir: TempDir) -> Result<Self> {
        let policy = builtin::policy("dev-loop").context("dev-loop is built in")?;
        let spec = planned(&policy, backend.kind(), root, dir.path())?;
        Ok(Self {
            policy,
            spec,
            backend,
            _dir: dir,
        })
    }

    pub(super) async fn start(&self) -> Result<Sandbox> {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let owner = Owner::this_process().context("this process's start time")?;
        let name = sandbox_name(owner, &RunId::new("bench"), n);
        Ok(Sandbox::start(&*self.backend, &self.spec, &name).await?)
    }

    /// Runs a command that must succeed; gives the bytes of its standard output.
    pub(super) async fn run(&self, sandbox: &Sandbox, argv: &[&str]) -> Result<u64> {
        let act = ExecAction {
            run: RunId::new("bench"),
            origin: Origin::Typed,
            argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
            cwd: WORKSPACE_TARGET.to_owned(),
            env: BTreeMap::new(),
            stdin: false,
            wall_ms: None,
            sandbox: self.spec.clone(),
            policy: self.policy.digest(),
            code: Digest::new("code"),
            names_artifact: false,
        };
        let Verdict::Allowed(permit) = decide_exec(&self.policy, &Standing::default(), act) else {
            bail!("dev-loop lets a typed command run");
        };
        let (mut stdout, mut stderr) = (Counted::default(), Counted::default());
        let io = StepIo {
            stdin: None,
            stdout: &mut stdout,
            stderr: &mut stderr,
            cancel: CancellationToken::new(),
            started: None,
        };
        let exit = sandbox.step(permit, io).await?;
        match exit.outcome {
            Outcome::Code(0) => Ok(stdout.0),
            outcome => bail!("{argv:?}: {outcome}"),
        }
    }
}

/// A temporary folder that everybody can enter.
fn open_dir() -> Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("fumehood-bench-")
        .tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

fn folder(dir: &Path, name: &str, (uid, gid): (u32, u32)) -> Result<Source> {
    let path = dir.join(name);
    fs::create_dir(&path)?;
    chown(&path, Some(uid), Some(gid))?;
    let found = fs::metadata(&path)?;
    Ok(Source {
        path,
        device: found.dev(),
        inode: found.ino(),
    })
}

fn planned(policy: &Policy, kind: BackendKind, root: RootFs, dir: &Path) -> Result<SandboxSpec> {
    let caller = caller();
    let owner = if caller.0 == 0 { OWNER } else { caller };
    let workspace = WorkspaceFacts {
        root: folder(dir, "workspace", owner)?,
        protected: Vec::new(),
        covered: Vec::new(),
    };
    let home = folder(dir, "home", owner)?;
    let (uid, gid) = run_as(policy, kind, owner, caller);
    Ok(plan(&PlanInput {
        secrets: &[],
        policy,
        backend: kind,
        root,
        uid,
        gid,
        workspace: &workspace,
        home: &home,
        inputs: &[],
        python: None,
        gpus: None,
        passed: &BTreeMap::new(),
        network: None,
        typed: &BTreeMap::new(),
        hostname: "bench",
        cores: 2,
    })?)
}
