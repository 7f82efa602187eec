//! Against what is around a sandbox: the approval, the workspace it leaves, the record.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use async_trait::async_trait;
use fumehood::app::{OpenedRun, RunEnd, RunStart, SandboxRequest, open_run};
use fumehood::config::Config;
use fumehood::policy::builtin;
use fumehood::policy::model::{BackendChoice, Policy};
use fumehood::protocol::event::{Approver, Event};
use fumehood::protocol::ids::CallId;
use fumehood::protocol::question::{Answer, QuestionView};
use fumehood::protocol::spec::BackendKind;
use fumehood::protocol::stop::StopReason;
use fumehood::record::RunStore;
use fumehood::tools::door::{Answered, Door};
use fumehood::tools::exec::ExecTool;
use fumehood::tools::{CallContext, Tool, ToolOutput};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// A person who says yes to the first question of each command, meddles while it stands, and says no
/// to any other.
struct Person {
    seen: Mutex<Vec<Event>>,
    asked: Mutex<Vec<String>>,
    meddle: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[async_trait]
impl Door for Person {
    fn show(&self, event: &Event) {
        self.seen.lock().unwrap().push(event.clone());
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        let mut asked = self.asked.lock().unwrap();
        asked.push(serde_json::to_string(&question.body).unwrap());
        if let Some(meddle) = self.meddle.lock().unwrap().take() {
            meddle();
        }
        let answer = match asked.len() {
            1 => Answer::Yes,
            _ => Answer::No {
                reason: "this is not what I read".to_owned(),
            },
        };
        Answered {
            answer,
            approver: Approver::Person,
        }
    }
}

pub(super) struct Run {
    env: TestEnv,
    pub(super) workspace: PathBuf,
    opened: OpenedRun,
    person: Arc<Person>,
}

impl Run {
    pub(super) async fn open(
        kind: BackendKind,
        policy: Policy,
        lay: impl FnOnce(&Path),
    ) -> Option<Self> {
        if kind == BackendKind::Docker && !crate::docker::there() {
            return None;
        }
        let env = TestEnv::new();
        let workspace = env.workspace("mine", &[]);
        lay(&workspace);
        if nix::unistd::geteuid().is_root() {
            crate::env::give(&workspace, 4242);
        }
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), env.path("home").into()),
            ("FUMEHOOD_HOME".into(), env.state().into()),
        ];
        variables.extend(std::env::var_os("DOCKER_HOST").map(|host| ("DOCKER_HOST".into(), host)));
        let (backend, image) = match kind {
            BackendKind::Docker => (BackendChoice::Docker, Some(IMAGE.to_owned())),
            BackendKind::Namespace => (BackendChoice::Namespace, None),
        };
        let request = SandboxRequest {
            artifacts: None,
            policy,
            policy_notes: Vec::new(),
            policy_folder: env.path("work"),
            backend: Some(backend),
            image,
            workspace: Some(workspace.clone()),
            unpack: None,
            venv: None,
            mounts: Vec::new(),
            env: BTreeMap::new(),
        };
        let start = RunStart {
            command: "run",
            task: "an attack".to_owned(),
            model: None,
            cancel: CancellationToken::new(),
        };
        let person = Arc::new(Person {
            seen: Mutex::default(),
            asked: Mutex::default(),
            meddle: Mutex::default(),
        });
        let config = Config::from(variables).unwrap();
        let opened = open_run(&config, request, start, person.clone()).await;
        Some(Self {
            env,
            workspace,
            opened: opened.unwrap(),
            person,
        })
    }

    /// As the model calls it; every call has a person who says yes once.
    async fn exec(&self, argv: &[&str]) -> ToolOutput {
        self.person.asked.lock().unwrap().clear();
        let context = CallContext {
            call: CallId::new("1"),
            cancel: CancellationToken::new(),
        };
        let tool = ExecTool::new(self.opened.bench.clone());
        tool.call(json!({"argv": argv}), &context).await.unwrap()
    }

    pub(super) async fn python(&self, script: &str) -> ToolOutput {
        self.exec(&["/usr/bin/python3", "-c", script]).await
    }

    /// Ends the run; what it showed, and its folder.
    pub(super) async fn close(self) -> Closed {
        let Self {
            env,
            opened,
            person,
            ..
        } = self;
        let record = opened.record.dir().to_owned();
        let end = RunEnd {
            stop: StopReason::Finished,
            exit_code: 0,
            text: String::new(),
        };
        opened.close(end).await.unwrap();
        let seen = std::mem::take(&mut *person.seen.lock().unwrap());
        Closed { env, record, seen }
    }
}

pub(super) struct Closed {
    env: TestEnv,
    record: PathBuf,
    pub(super) seen: Vec<Event>,
}

fn asks_each_time() -> Policy {
    builtin::policy("offline-train").unwrap()
}

pub(super) fn asks_never() -> Policy {
    let mut policy = builtin::policy("dev-loop").unwrap();
    policy.approval.contained = fumehood::policy::model::Contained::Allow;
    policy
}

pub(crate) async fn a_file_swapped_between_yes_and_start(kind: BackendKind) {
    type Swap = fn(&Path);
    let swaps: [(&str, Swap); 5] = [
        ("written over", |at| {
            fs::write(at.join("main.py"), "print('SWAPPED')").unwrap();
        }),
        ("the same size, the old time", |at| {
            let path = at.join("main.py");
            let before = fs::metadata(&path).unwrap();
            fs::write(
                &path,
                "import part # SWAPPED\nprint(part.WORD)                    "
                    .get(..before.len() as usize)
                    .unwrap(),
            )
            .unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }),
        ("another put in its place", |at| {
            fs::write(at.join("new.py"), "print('SWAPPED')").unwrap();
            fs::rename(at.join("new.py"), at.join("main.py")).unwrap();
        }),
        ("what it imports", |at| {
            fs::write(at.join("part.py"), "WORD = 'SWAPPED'").unwrap();
        }),
        ("something found before the library's", |at| {
            fs::write(at.join("json.py"), "print('SWAPPED')").unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let lay = |at: &Path| {
            fs::write(
                at.join("main.py"),
                "import part, json\nprint(part.WORD)         ",
            )
            .unwrap();
            fs::write(at.join("part.py"), "WORD = 'approved'").unwrap();
        };
        let Some(run) = Run::open(kind, asks_each_time(), lay).await else {
            return;
        };
        // Without a swap, the yes is one.
        let fine = run.exec(&["/usr/bin/python3", "main.py"]).await;
        assert!(fine.ok && fine.text.contains("approved"), "{fine:?}");
        let at = run.workspace.clone();
        *run.person.meddle.lock().unwrap() = Some(Box::new(move || swap(&at)));
        let ran = run.exec(&["/usr/bin/python3", "main.py", "again"]).await;
        assert_eq!(run.person.asked.lock().unwrap().len(), 2, "{what}: {ran:?}");
        assert!(
            !ran.ok && ran.text.contains("not what I read"),
            "{what}: {ran:?}"
        );
        let closed = run.close().await;
        let started = |event: &&Event| matches!(event, Event::StepStarted { .. });
        assert_eq!(closed.seen.iter().filter(started).count(), 1, "{what}");
    }
}

/// Bytes that would hide, fake, or act, were they to reach a terminal, a model or the record as such.
pub(crate) const LIES: &str = include_str!("probes/lies.py");

/// Whether a terminal shows it and does nothing else.
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|c| {
        let acts = c.is_control() && !matches!(c, '\n' | '\t');
        let deceives = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        !acts && !deceives
    })
}

pub(crate) async fn words_that_lie(kind: BackendKind) {
    let Some(run) = Run::open(kind, asks_never(), |_| {}).await else {
        return;
    };
    let ran = run.python(LIES).await;
    assert!(ran.ok, "{ran:?}");
    assert!(is_plain(&ran.text), "the model reads {:?}", ran.text);
    assert!(
        ran.text.contains("FORGED") && ran.text.contains("cleared"),
        "{ran:?}"
    );
    // In names, too: of arguments, of files, of folders.
    let named = "import os\nfor n in ('\\x1b]52;c;AA\\x07', 'a\\nrun-ended', '\\u202egpj', 'x\\ry'): open(n, 'w').close(); os.mkdir(n + 'd')\nos.symlink('/etc/passwd', '\\x1b[2Jlink')";
    let ran = run.python(named).await;
    assert!(is_plain(&ran.text), "{:?}", ran.text);
    let ran = run
        .exec(&["/bin/echo", "\u{1b}]52;c;AA\u{7}", "\r\nforged"])
        .await;
    assert!(is_plain(&ran.text), "{:?}", ran.text);
    let Closed {
        env, record, seen, ..
    } = run.close().await;
    for event in &seen {
        for text in texts(&serde_json::to_value(event).unwrap()) {
            assert!(is_plain(&text), "{event:?}");
        }
        // One line of `--json`, whatever it holds.
        let line = serde_json::to_string(event).unwrap();
        assert!(!line.contains('\n') && is_plain(&line), "{line}");
    }
    let ends = |event: &&Event| matches!(event, Event::RunEnded { .. });
    assert_eq!(seen.iter().filter(ends).count(), 1);
    let written = fs::read_to_string(record.join("events.jsonl")).unwrap();
    let types = written.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["event"]["type"].as_str().unwrap().to_owned()
    });
    assert_eq!(types.filter(|kind| kind == "run-ended").count(), 1);
    let id = record.file_name().unwrap().to_str().unwrap();
    let stored = RunStore::open(&env.state()).find(id).unwrap();
    let verified = stored.verify().unwrap();
    assert!(
        format!("{verified:?}").starts_with("Intact"),
        "{verified:?}"
    );
}

/// Every string in it.
fn texts(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(all) => all.iter().flat_map(texts).collect(),
        serde_json::Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

pub(crate) async fn a_flood_of_log(kind: BackendKind) {
    const KEPT: u64 = 1 << 20;
    let mut policy = asks_never();
    policy.limits.log_bytes = Some(KEPT);
    let Some(run) = Run::open(kind, policy, |_| {}).await else {
        return;
    };
    let flood = "head -c 64M /dev/zero | tr '\\0' x; echo; yes | head -c 64M >&2; echo the end; echo the end >&2";
    let ran = run.exec(&["/bin/sh", "-c", flood]).await;
    assert!(ran.ok && ran.text.contains("the end"), "{ran:?}");
    assert!(
        ran.text.len() < 64 << 10,
        "the model reads {} bytes",
        ran.text.len()
    );
    let closed = run.close().await;
    let shown: usize = closed
        .seen
        .iter()
        .map(|event| match event {
            Event::Output { text, .. } => text.len(),
            _ => 0,
        })
        .sum();
    assert!(shown < 8 << 20, "{shown} bytes were shown");
    let files = walkdir::WalkDir::new(&closed.record);
    let stored: u64 = files
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|found| found.is_file())
        .map(|found| found.len())
        .sum();
    assert!(stored < 3 * KEPT, "{stored} bytes are kept");
    let dropped = closed.seen.iter().find_map(|event| match event {
        Event::StepEnded { log_dropped, .. } => Some(*log_dropped),
        _ => None,
    });
    assert!(dropped.unwrap() > 120 << 20, "{dropped:?}");
}
