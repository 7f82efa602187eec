//! The model's own hands in the workspace, through the router as a model calls them.

use async_trait::async_trait;
use fumehood::policy::builtin;
use fumehood::protocol::control::Controls;
use fumehood::protocol::event::{Approver, Event};
use fumehood::protocol::ids::CallId;
use fumehood::protocol::message::{ToolAnswer, ToolCall};
use fumehood::protocol::question::{Answer, QuestionView};
use fumehood::protocol::spec::{BackendKind, RootFs, SandboxSpec};
use fumehood::record::{RunRecord, RunStore, new_run_id};
use fumehood::sandbox::backend::{Backend, SandboxError, Started};
use fumehood::sandbox::owner::Owner;
use fumehood::tools::bench::{Bench, BenchSetup};
use fumehood::tools::desk::Desk;
use fumehood::tools::door::{Answered, Door};
use fumehood::tools::files::file_tools;
use fumehood::tools::{CallContext, Router};
use fumehood::workspace::{Opening, Texts, Workspace};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Nothing is executed here.
struct NoBackend;

#[async_trait]
impl Backend for NoBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Namespace
    }
    async fn controls(&self) -> Result<Controls, SandboxError> {
        Ok(Controls::new())
    }
    async fn start(&self, _: &SandboxSpec, name: &str) -> Result<Started, SandboxError> {
        panic!("a file tool started a sandbox: {name}")
    }
}

struct Nobody;

#[async_trait]
impl Door for Nobody {
    fn show(&self, _: &Event) {}
    async fn ask(&self, question: &QuestionView) -> Answered {
        Answered {
            answer: Answer::No {
                reason: question.summary.clone(),
            },
            approver: Approver::NoTerminal,
        }
    }
}

struct Hands {
    home: tempfile::TempDir,
    record: Arc<RunRecord>,
    router: Router,
}

impl Hands {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let run = new_run_id();
        let state = home.path().join("state");
        let record = Arc::new(RunStore::open(&state).create(&run).unwrap());
        let opening = Opening {
            state: &state,
            user_home: None,
            run: &run,
        };
        let workspace = Workspace::fresh(record.dir(), &opening).unwrap();
        let policy = Arc::new(builtin::policy("dev-loop").unwrap());
        let bench = Bench::new(BenchSetup {
            secrets: Vec::new(),
            run: run.clone(),
            owner: Owner::this_process().unwrap(),
            spec: SandboxSpec {
                backend: BackendKind::Namespace,
                root: RootFs::HostSystem,
                mounts: Vec::new(),
                tmp: policy.tmp.clone(),
                shm: policy.shm,
                uid: 1000,
                gid: 1000,
                hostname: "fumehood".to_owned(),
                limits: policy.limits.clone(),
                env: std::collections::BTreeMap::new(),
                network: None,
                secrets: Vec::new(),
                stop_grace_ms: 1000,
                require: std::collections::BTreeMap::new(),
                devices: Default::default(),
            },
            policy,
            controls: Controls::new(),
            backend: Arc::new(NoBackend),
            workspace: Arc::new(workspace),
            texts: Texts::create(&record.blobs_dir()).unwrap(),
            desk: Desk::new(record.clone(), Arc::new(Nobody)),
            outside: fumehood::sandbox::egress::Outside::new(None, Vec::new()),
        });
        let router = Router::new(file_tools(&Arc::new(bench.unwrap())));
        Self {
            home,
            record,
            router,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.record.dir().join("workspace").join(path)
    }

    async fn call(&self, name: &str, arguments: Value) -> ToolAnswer {
        let call = ToolCall {
            id: CallId::new("1"),
            name: name.to_owned(),
            arguments: arguments.to_string(),
        };
        let context = CallContext {
            call: call.id.clone(),
            cancel: CancellationToken::new(),
        };
        self.router.call(&call, &context).await.unwrap()
    }

    async fn said(&self, name: &str, arguments: Value) -> String {
        let answer = self.call(name, arguments).await;
        assert!(answer.ok, "{}", answer.text);
        answer.text
    }

    async fn refused(&self, name: &str, arguments: Value) -> String {
        let answer = self.call(name, arguments).await;
        assert!(!answer.ok, "{}", answer.text);
        answer.text
    }
}

#[tokio::test]
async fn a_script_is_written_read_edited_and_listed() {
    let hands = Hands::new();
    let content = "import sys\nlr = 0.1\nprint(lr)\n";
    assert_eq!(
        hands
            .said("write", json!({"path": "src/train.py", "content": content}))
            .await,
        "wrote src/train.py (3 lines, 30 bytes, new)"
    );
    assert_eq!(
        hands
            .said(
                "edit",
                json!({"path": "/workspace/src/train.py", "old": "lr = 0.1", "new": "lr = 0.2\nseed = 1"})
            )
            .await,
        "edited src/train.py at line 2: 1 line became 2"
    );
    let text = hands.said("read", json!({"path": "src/train.py"})).await;
    assert!(
        text.ends_with(":\nimport sys\nlr = 0.2\nseed = 1\nprint(lr)\n"),
        "{text}"
    );
    assert_eq!(
        hands.said("list", json!({})).await,
        "src/\nsrc/train.py  39 bytes"
    );
}

#[tokio::test]
async fn a_write_is_decided_on_the_record_before_it_is_done() {
    let hands = Hands::new();
    hands
        .said("write", json!({"path": "a.py", "content": "x"}))
        .await;
    let store = RunStore::open(&hands.home.path().join("state"));
    let events: Vec<Event> = store
        .newest()
        .unwrap()
        .events()
        .unwrap()
        .map(|record| record.unwrap().event)
        .collect();
    let [
        Event::Decided {
            action,
            allowed: true,
            approver: Approver::Policy { .. },
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(action, "file");
}

#[tokio::test]
async fn what_leads_out_is_refused_with_words_and_nothing_is_touched() {
    let hands = Hands::new();
    let outside = hands.home.path().join("secret");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, hands.at("link")).unwrap();
    for path in [
        "../secret",
        "/etc/passwd",
        "/workspace/../x",
        "link",
        "a\u{0}b",
    ] {
        for (name, arguments) in [
            ("read", json!({"path": path})),
            ("write", json!({"path": path, "content": "x"})),
            ("edit", json!({"path": path, "old": "secret", "new": "x"})),
            ("list", json!({"path": path})),
        ] {
            let why = hands.refused(name, arguments).await;
            assert!(!why.contains("secret\n"), "{why}");
        }
    }
    assert_eq!(fs::read_to_string(outside).unwrap(), "secret");
}

#[tokio::test]
async fn protected_folders_are_not_written() {
    let hands = Hands::new();
    for path in [".git/hooks/post-checkout", "a/.envrc", ".vscode/tasks.json"] {
        hands
            .refused("write", json!({"path": path, "content": "x"}))
            .await;
    }
    assert_eq!(hands.said("list", json!({})).await, "(empty)");
}

#[tokio::test]
async fn a_failed_edit_says_what_is_near() {
    let hands = Hands::new();
    let content = "batch = 32\nlearning_rate = 0.1\n";
    hands
        .said("write", json!({"path": "a.py", "content": content}))
        .await;
    let why = hands
        .refused(
            "edit",
            json!({"path": "a.py", "old": "learning_rate=0.1", "new": "x"}),
        )
        .await;
    assert!(
        why.contains("line 2 comes closest: learning_rate = 0.1"),
        "{why}"
    );
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_answered() {
    let hands = Hands::new();
    for (name, arguments) in [
        ("read", json!({})),
        ("read", json!({"path": 3})),
        ("read", json!({"path": "a", "offset": -1})),
        ("write", json!({"path": "a"})),
        ("write", json!({"path": "", "content": "x"})),
        ("write", json!({"path": "a", "content": "x", "mode": "777"})),
        ("edit", json!({"path": "a", "old": "x"})),
        ("list", json!({"path": "gone"})),
    ] {
        hands.refused(name, arguments).await;
    }
}
