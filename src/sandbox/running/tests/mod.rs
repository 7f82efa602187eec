//! Claims of the protocol, against an init that is played from inside this process.

mod hostile;
mod io;
mod stop;
mod watch;

use super::*;
use crate::policy::action::Origin;
use crate::protocol::ids::{Digest, RunId};
use crate::protocol::outcome::Outcome;
use crate::protocol::spec::{BackendKind, Limits, RootFs, Tmp};
use crate::sandbox::channel::MAX_STEPS;
use crate::sandbox::fake::{FakeBackend, Part};
use crate::sandbox::wire::WaitStatus;
use std::collections::BTreeMap;
use tokio::io::AsyncWriteExt;

pub(super) fn spec() -> SandboxSpec {
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
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: 1000,
        require: BTreeMap::new(),
        devices: Default::default(),
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

const MIB: usize = 1024 * 1024;

/// Long enough for anything that is not hung.
const PATIENCE: Duration = Duration::from_secs(120);

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

async fn start(backend: &dyn Backend) -> Sandbox {
    Sandbox::start(backend, &spec(), "box-1").await.unwrap()
}

async fn run(sandbox: &Sandbox, act: ExecAction) -> Ran {
    run_until(sandbox, act, CancellationToken::new()).await
}

async fn run_until(sandbox: &Sandbox, act: ExecAction, cancel: CancellationToken) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let io = StepIo {
        stdin: None,
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel,
        started: None,
    };
    let exit = timeout(PATIENCE, sandbox.run(act, io)).await;
    Ran {
        exit: exit.expect("the step hangs"),
        stdout,
        stderr,
    }
}

/// A program by the name of its part.
fn named(start: &StartStep) -> &str {
    std::str::from_utf8(&start.argv[0]).unwrap()
}

#[tokio::test]
async fn a_step_has_one_exit_and_its_output_is_complete_before_it() {
    let backend = FakeBackend::new(|_| Part::exit(3, "to out", "to err"));
    let sandbox = start(&backend).await;
    let ran = run(&sandbox, act(&spec(), &["x"])).await;
    assert_eq!(ran.stdout, b"to out");
    assert_eq!(ran.stderr, b"to err");
    let exit = ran.exit.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(3));
    assert_eq!((exit.usage.stdout_bytes, exit.usage.stderr_bytes), (6, 6));
    assert_eq!((exit.usage.user_ms, exit.usage.max_rss), (1, 2048));
}

#[tokio::test]
async fn an_end_leaves_nothing() {
    let backend = FakeBackend::new(|_| Part::exit(0, "", ""));
    let sandbox = start(&backend).await;
    sandbox.end().await.unwrap();
    backend.gauges.gone().await;
    assert_eq!(backend.gauges.ended(), 1);
}

#[tokio::test]
async fn a_dropped_sandbox_is_over() {
    let backend = FakeBackend::new(|_| Part::sleep());
    let sandbox = start(&backend).await;
    let ran = timeout(
        Duration::from_millis(50),
        run(&sandbox, act(&spec(), &["x"])),
    );
    assert!(ran.await.is_err());
    drop(sandbox);
    timeout(PATIENCE, backend.gauges.gone()).await.unwrap();
    while backend.gauges.ended() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn signals_are_told_from_codes() {
    let backend = FakeBackend::new(|start| match named(start) {
        "segfault" => Part::signalled(11),
        _ => Part::exit(139, "", ""),
    });
    let sandbox = start(&backend).await;
    let outcome = async |name| run(&sandbox, act(&spec(), &[name])).await.outcome();
    assert_eq!(outcome("segfault").await, Outcome::Signal(11));
    assert_eq!(outcome("139").await, Outcome::Code(139));
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_alone() {
    let backend = FakeBackend::new(|start| match named(start) {
        "missing" => Part::Refused(StartError::NotFound),
        _ => Part::exit(0, "", ""),
    });
    let sandbox = start(&backend).await;
    let ran = run(&sandbox, act(&spec(), &["missing"])).await;
    assert!(matches!(
        ran.exit,
        Err(SandboxError::NotStarted(StartError::NotFound))
    ));
    let next = run(&sandbox, act(&spec(), &["there"])).await;
    assert_eq!(next.outcome(), Outcome::Code(0));
}

#[tokio::test]
async fn init_is_asked_for_what_the_permit_says() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let backend = FakeBackend::new(move |start| {
        tell.send(start.clone()).unwrap();
        Part::exit(0, "", "")
    });
    let sandbox = start(&backend).await;
    let mut asked = act(&spec(), &["prog", "\u{e4}"]);
    asked.argv.push(vec![0xff, 0xfe]);
    asked.env = BTreeMap::from([("LANG".to_owned(), "de".to_owned())]);
    run(&sandbox, asked.clone()).await;
    let told = told.recv().await.unwrap();
    assert_eq!(told.argv, asked.argv);
    assert_eq!(told.cwd, b"/workspace");
    assert!(!told.stdin);
    assert_eq!(told.limits.open_files, Some(64));
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(told.env, [pair("HOME", "/home"), pair("LANG", "de")]);
}

#[tokio::test]
async fn a_permit_for_another_sandbox_is_refused() {
    let backend = FakeBackend::new(|_| Part::exit(0, "", ""));
    let sandbox = start(&backend).await;
    let mut other = spec();
    other.limits.memory = Some(1);
    let ran = run(&sandbox, act(&other, &["x"])).await;
    assert!(matches!(ran.exit, Err(SandboxError::Refused { .. })));
}

#[tokio::test]
async fn steps_run_at_the_same_time_and_do_not_mix() {
    let backend = FakeBackend::new(|start| {
        let name = named(start).to_owned();
        Part::acted(async move |mut seat| {
            for _ in 0..100 {
                seat.stdout.write_all(name.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            WaitStatus::Code(name.parse().unwrap())
        })
    });
    let sandbox = start(&backend).await;
    let names: Vec<_> = (10..40).map(|n| n.to_string()).collect();
    let all = names
        .iter()
        .map(|name| run(&sandbox, act(&spec(), &[name])));
    for (name, ran) in names.iter().zip(futures_util::future::join_all(all).await) {
        assert_eq!(ran.outcome(), Outcome::Code(name.parse().unwrap()));
        assert_eq!(ran.stdout, name.repeat(100).as_bytes());
    }
    assert_eq!(sandbox.alive().await, 0);
}

#[tokio::test]
async fn more_steps_than_there_may_be_are_refused() {
    let backend = FakeBackend::new(|_| Part::sleep());
    let sandbox = start(&backend).await;
    let cancel = CancellationToken::new();
    let many = (0..100).map(|_| run_until(&sandbox, act(&spec(), &["x"]), cancel.clone()));
    let (ran, ()) = tokio::join!(futures_util::future::join_all(many), async {
        while sandbox.alive().await < MAX_STEPS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cancel.cancel();
    });
    let refused = ran.iter().filter(|ran| ran.exit.is_err()).count();
    let first = ran.iter().find_map(|ran| ran.exit.as_ref().err());
    assert!(
        (1..=100 - MAX_STEPS).contains(&refused),
        "{refused} {first:?}"
    );
    assert!(!ran.iter().any(|ran| matches!(
        ran.exit,
        Err(SandboxError::Protocol(_) | SandboxError::Ended(_))
    )));
}

#[tokio::test]
async fn a_weaker_control_than_required_is_an_error_with_a_remedy() {
    let claims = BTreeMap::from([
        (Control::Memory, Strength::Watched),
        (Control::Seccomp, Strength::Enforced),
    ]);
    let backend = FakeBackend::new(|_| Part::exit(0, "", "")).claiming(claims);
    let mut wanted = spec();
    wanted.require = BTreeMap::from([(Control::Memory, Strength::Watched)]);
    Sandbox::start(&backend, &wanted, "a").await.unwrap();
    for (control, have) in [
        (Control::Memory, Strength::Watched),
        (Control::Pids, Strength::Absent),
    ] {
        wanted.require = BTreeMap::from([(control, Strength::Enforced)]);
        let error = Sandbox::start(&backend, &wanted, "b").await.err().unwrap();
        let SandboxError::TooWeak {
            control: named,
            have: found,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((named, found), (control, have));
    }
}
