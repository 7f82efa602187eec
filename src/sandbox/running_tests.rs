use super::*;
use crate::policy::action::Origin;
use crate::protocol::ids::{Digest, RunId};
use crate::protocol::outcome::Outcome;
use crate::protocol::spec::{BackendKind, Limits, RootFs, Tmp};
use crate::sandbox::fake::{FakeBackend, Part};
use std::collections::BTreeMap;

fn spec() -> SandboxSpec {
    SandboxSpec {
        backend: BackendKind::Namespace,
        root: RootFs::HostSystem,
        mounts: Vec::new(),
        tmp: Tmp {
            size: 1 << 20,
            inodes: 100,
            exec: true,
        },
        shm: 1 << 20,
        uid: 1000,
        gid: 1000,
        hostname: "box".to_owned(),
        limits: Limits {
            wall_ms: None,
            cpus: None,
            memory: None,
            swap: None,
            pids: None,
            open_files: None,
            file_size: None,
            log_bytes: None,
            log_line: None,
            workspace_size: None,
            workspace_inodes: None,
        },
        env: BTreeMap::from([
            ("HOME".to_owned(), "/home".to_owned()),
            ("LANG".to_owned(), "C".to_owned()),
        ]),
        stop_grace_ms: 1000,
        require: BTreeMap::new(),
    }
}

fn act(spec: &SandboxSpec, argv: &[&str]) -> ExecAction {
    ExecAction {
        run: RunId::new("run"),
        origin: Origin::Typed,
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        cwd: "/workspace".to_owned(),
        env: BTreeMap::new(),
        stdin: true,
        wall_ms: None,
        sandbox: spec.clone(),
        policy: Digest::new("policy"),
        code: Digest::new("code"),
        names_artifact: false,
    }
}

struct Ran {
    exit: Result<Exit, SandboxError>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    fn outcome(&self) -> Outcome {
        self.exit.as_ref().unwrap().outcome
    }
}

async fn run(sandbox: &Sandbox, act: ExecAction) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let io = StepIo {
        stdin: None,
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel: CancellationToken::new(),
        started: None,
    };
    let exit = sandbox.run(act, io).await;
    Ran {
        exit,
        stdout,
        stderr,
    }
}

#[tokio::test]
async fn a_step_has_one_exit_and_its_output_is_complete_before_it() {
    let backend = FakeBackend::new(|_| Part::exit(3, "to out", "to err"));
    let sandbox = Sandbox::start(&backend, &spec(), "box-1").await.unwrap();
    let ran = run(&sandbox, act(&spec(), &["x"])).await;
    assert_eq!(ran.outcome(), Outcome::Code(3));
    assert_eq!(ran.stdout, b"to out");
    assert_eq!(ran.stderr, b"to err");
    sandbox.end().await.unwrap();
    assert_eq!(backend.gauges.ended(), 1);
}
