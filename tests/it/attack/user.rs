//! A user of Fumehood, their workspace, and runs in it as the command opens them: policy, plan, gates,
//! record, the person who is asked.

use crate::docker::IMAGE;
use crate::env::{TestEnv, give};
use async_trait::async_trait;
use fumehood::app::{AppError, OpenedRun, RunEnd, RunStart, SandboxRequest, open_run};
use fumehood::config::Config;
use fumehood::policy::builtin;
use fumehood::policy::model::{BackendChoice, Contained, Policy};
use fumehood::protocol::event::{Approver, Event};
use fumehood::protocol::ids::CallId;
use fumehood::protocol::question::{Answer, QuestionView};
use fumehood::protocol::spec::BackendKind;
use fumehood::protocol::stop::StopReason;
use fumehood::tools::bench::Bench;
use fumehood::tools::door::{Answered, Door};
use fumehood::tools::exec::ExecTool;
use fumehood::tools::files::file_tools;
use fumehood::tools::{CallContext, Tool, ToolOutput, ToolStop};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// A person who says yes to the first question of each command, meddles while it stands, and says no
/// to any other, and to what they never allow.
#[derive(Default)]
pub(super) struct Person {
    seen: Mutex<Vec<Event>>,
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) meddle: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// The action's name in policies.
    pub(super) never: Mutex<Option<&'static str>>,
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
        let never = *self.never.lock().unwrap() == Some(question.action.as_str());
        let answer = match asked.len() {
            1 if !never => Answer::Yes,
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

/// One user, with a backend and variables of their own.
#[derive(Clone)]
pub(super) struct User {
    pub(super) env: Arc<TestEnv>,
    kind: BackendKind,
    variables: Vec<(OsString, OsString)>,
}

impl User {
    /// `None` where the backend is not there.
    pub(super) fn on(kind: BackendKind) -> Option<Self> {
        if kind == BackendKind::Docker && !crate::docker::there() {
            return None;
        }
        let env = TestEnv::new();
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), env.path("home").into()),
            ("FUMEHOOD_HOME".into(), env.state().into()),
        ];
        variables.extend(std::env::var_os("DOCKER_HOST").map(|host| ("DOCKER_HOST".into(), host)));
        let env = Arc::new(env);
        Some(Self {
            env,
            kind,
            variables,
        })
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub(super) fn config(&self) -> Config {
        Config::from(self.variables.clone()).unwrap()
    }

    /// A folder that a sandbox may write to, laid out so.
    pub(super) fn workspace(&self, lay: impl FnOnce(&Path)) -> PathBuf {
        let workspace = self.env.workspace("mine", &[]);
        lay(&workspace);
        if nix::unistd::geteuid().is_root() {
            give(&workspace, 4242);
        }
        workspace
    }

    /// Opens a run in that folder, or in one of its own.
    pub(super) async fn opens(
        &self,
        policy: Policy,
        workspace: Option<&Path>,
        change: impl FnOnce(&mut SandboxRequest),
    ) -> Result<Run, AppError> {
        let (backend, image) = match self.kind {
            BackendKind::Docker => (BackendChoice::Docker, Some(IMAGE.to_owned())),
            BackendKind::Namespace => (BackendChoice::Namespace, None),
        };
        let mut request = SandboxRequest {
            artifacts: None,
            policy,
            policy_notes: Vec::new(),
            policy_folder: self.env.path("work"),
            backend: Some(backend),
            image,
            workspace: workspace.map(Path::to_owned),
            unpack: None,
            venv: None,
            mounts: Vec::new(),
            env: BTreeMap::new(),
        };
        change(&mut request);
        let start = RunStart {
            command: "run",
            task: "an attack".to_owned(),
            model: None,
            cancel: CancellationToken::new(),
        };
        let person = Arc::new(Person::default());
        let opened = open_run(&self.config(), request, start, person.clone()).await?;
        Ok(Run {
            env: self.env.clone(),
            workspace: opened.bench.workspace().path().to_owned(),
            opened,
            person,
        })
    }
}

pub(super) struct Run {
    env: Arc<TestEnv>,
    pub(super) workspace: PathBuf,
    opened: OpenedRun,
    pub(super) person: Arc<Person>,
}

impl Run {
    pub(super) async fn open(
        kind: BackendKind,
        policy: Policy,
        lay: impl FnOnce(&Path),
    ) -> Option<Self> {
        let user = User::on(kind)?;
        let workspace = user.workspace(lay);
        Some(user.opens(policy, Some(&workspace), |_| {}).await.unwrap())
    }

    pub(super) fn bench(&self) -> &Arc<Bench> {
        &self.opened.bench
    }

    /// As the model calls it; every call has a person who says yes once.
    pub(super) async fn try_exec(&self, argv: &[&str]) -> Result<ToolOutput, ToolStop> {
        self.person.asked.lock().unwrap().clear();
        let tool = ExecTool::new(self.opened.bench.clone());
        tool.call(json!({"argv": argv}), &call()).await
    }

    pub(super) async fn exec(&self, argv: &[&str]) -> ToolOutput {
        self.try_exec(argv).await.unwrap()
    }

    pub(super) async fn python(&self, script: &str) -> ToolOutput {
        self.exec(&["/usr/bin/python3", "-c", script]).await
    }

    /// One of the model's own hands in the workspace.
    pub(super) async fn hand(&self, name: &str, arguments: Value) -> ToolOutput {
        let tools = file_tools(&self.opened.bench);
        let tool = tools.iter().find(|tool| tool.spec().name == name).unwrap();
        tool.call(arguments, &call()).await.unwrap()
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

fn call() -> CallContext {
    CallContext {
        call: CallId::new("1"),
        cancel: CancellationToken::new(),
    }
}

pub(super) struct Closed {
    pub(super) env: Arc<TestEnv>,
    pub(super) record: PathBuf,
    pub(super) seen: Vec<Event>,
}

pub(super) fn asks_each_time() -> Policy {
    builtin::policy("offline-train").unwrap()
}

pub(super) fn asks_never() -> Policy {
    let mut policy = builtin::policy("dev-loop").unwrap();
    policy.approval.contained = Contained::Allow;
    policy
}
