//! Puts an agent to a run's bench.

use super::{AppError, OpenedRun};
use crate::agent::{Agent, AgentEnd, Caps, Driver};
use crate::config::Config;
use crate::context::prompt::{self, Facts};
use crate::llm::ChatModel;
use crate::protocol::ids::RunId;
use crate::record::{RecordError, RunStore, Verified};
use crate::repo::{NetConfig, ProxyConfig, RepoClient};
use crate::tools::Router;
use crate::tools::clone::CloneTool;
use crate::tools::exec::ExecTool;
use crate::tools::files::file_tools;
use crate::tools::host::HostTool;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What an agent is put to work with.
pub struct AgentRequest {
    pub model: Arc<dyn ChatModel>,
    pub task: String,
    pub max_turns: u32,
    pub cancel: CancellationToken,
}

/// An agent that is ready to work.
pub struct ReadyAgent {
    driver: Driver,
    system: String,
    task: String,
}

impl ReadyAgent {
    /// Lets it work until it stops.
    pub async fn work(self) -> AgentEnd {
        self.driver.run_task(self.system, self.task).await
    }
}

/// Gives the agent its tools. Nothing is asked of the model yet.
pub fn ready_agent(
    config: &Config,
    run: &OpenedRun,
    request: AgentRequest,
) -> Result<ReadyAgent, AppError> {
    let policy = run.bench.policy();
    let clone_from: Vec<String> = policy
        .git
        .hosts
        .iter()
        .chain(&policy.git.remotes)
        .cloned()
        .collect();
    let system = prompt::system(&Facts {
        sandbox: run.bench.spec(),
        clone_from: &clone_from,
        artifacts: &policy.artifacts.include,
        notes: &run.notes,
    });
    let agent = Agent {
        model: request.model,
        router: router(config, run)?,
        desk: run.desk.clone(),
        caps: Caps {
            turns: request.max_turns,
        },
    };
    let system = run.desk.redactor().text(&system).into_owned();
    Ok(ReadyAgent {
        driver: Driver::new(agent, request.cancel),
        system,
        task: request.task,
    })
}

/// The tools of this version.
fn router(config: &Config, run: &OpenedRun) -> Result<Router, AppError> {
    let scratch = run.record.dir().join("scratch");
    private(&scratch)?;
    let client = RepoClient::new(NetConfig {
        ca_bundle: config.ca_bundle.clone(),
        proxy: ProxyConfig::from_variables(&config.environment),
        ..NetConfig::default()
    })?;
    let mut tools: Vec<Box<dyn crate::tools::Tool>> = vec![
        Box::new(ExecTool::new(run.bench.clone())),
        Box::new(CloneTool::new(run.bench.clone(), client, scratch)),
    ];
    tools.extend(file_tools(&run.bench));
    if run.bench.spec().network.is_some() {
        tools.push(Box::new(HostTool::new(run.bench.clone())));
    }
    Ok(Router::new(tools))
}

fn private(dir: &Path) -> Result<(), AppError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| AppError::Machine {
            what: "the state folder",
            source,
        })
}

/// Lays a repository down as a local remote, for the demo. Returns its `file://` address.
pub fn lay_down_remote(
    config: &Config,
    name: &str,
    files: &[(&str, &[u8])],
) -> Result<String, AppError> {
    let remotes = config.state.join("demo");
    let dir = remotes.join(format!("{name}.git"));
    private(&remotes)?;
    crate::workspace::remove_tree(&dir)?;
    crate::repo::lay_down(&dir, files)?;
    Ok(crate::repo::file_url(&dir))
}

/// Reads a finished run's record back and says how it stands.
pub fn verify(config: &Config, run: &RunId) -> Result<Verified, RecordError> {
    RunStore::open(&config.state).find(run.as_str())?.verify()
}
