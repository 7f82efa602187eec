//! The one path on which anything is executed, for the agent's `exec` and for the user's alike.
//!
//! ```text
//!   request ─▶ look at the workspace ─▶ act (argv, sandbox, code tree, policy) ─▶ gate ─▶ permit
//!                  ▲                                                                 │
//!                  │ the tree changed meanwhile: a new question                      ▼
//!                  └───────────────────────── look again ◀── sandbox up (kept for the run)
//!                                                  │ the same
//!                                                  ▼
//!              recorded ─▶ step ─▶ log on disk, and whoever reads along ─▶ recorded, with what changed
//! ```

mod approve;
mod attend;
mod ear;
mod gpu_time;
mod network;
mod reached;
mod secrets;
mod step;

pub(super) use ear::Ear;
#[cfg(test)]
pub(super) use ear::Heard;

use super::desk::Desk;
use super::{Passing, ToolStop};
use crate::policy::action::{HostAction, Origin};
use crate::policy::gate::Standing;
use crate::policy::model::Policy;
use crate::policy::network::joined;
use crate::policy::permit::{Denial, Permit};
use crate::protocol::control::Controls;
use crate::protocol::event::Event;
use crate::protocol::ids::{Digest, RunId, StepNumber};
use crate::protocol::net::HostRule;
use crate::protocol::outcome::Exit;
use crate::protocol::spec::{RootFs, SandboxSpec};
use crate::sandbox::Sandbox;
use crate::sandbox::backend::{Backend, SandboxError};
use crate::sandbox::egress::{Egress, Grants, Outside};
use crate::sandbox::gpu::Meter;
use crate::sandbox::owner::{Owner, sandbox_name};
use crate::sandbox::wire::{Secret, StartError};
use crate::workspace::{Artifacts, Snapshot, Texts, Workspace, WorkspaceError};
use gpu_time::GpuTime;
use network::{Blocked, Told};
use secrets::Handed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

/// Bytes of a line where the policy sets none.
const LOG_LINE: u64 = 64 * 1024;

/// What a bench is set up from.
pub struct BenchSetup {
    pub run: RunId,
    pub owner: Owner,
    pub policy: Arc<Policy>,
    pub spec: SandboxSpec,
    pub controls: Controls,
    pub backend: Arc<dyn Backend>,
    pub workspace: Arc<Workspace>,
    /// Where small texts of the workspace are kept, for the differences that questions show.
    pub texts: Texts,
    pub desk: Desk,
    /// Values of the secrets that the specification tells of.
    pub secrets: Vec<Secret>,
    /// How this machine gets out, for a sandbox with a network.
    pub outside: Outside,
}

/// One workspace, one sandbox that stays warm, and what has been said yes to.
pub struct Bench {
    setup: Arc<BenchSetup>,
    artifacts: Arc<Artifacts>,
    policy_digest: Digest,
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    memory: Mutex<Memory>,
    /// Hosts that a person approved.
    grants: Grants,
    /// Where a network of the policy's leads: one for the run, as its limits are the run's.
    egress: Option<Arc<Egress>>,
    blocked: Blocked,
    handed: Mutex<Handed>,
    steps: AtomicU32,
    gpu_time: GpuTime,
    meter: OnceCell<Option<Arc<Meter>>>,
    /// Sandboxes started so far: each has a name of its own.
    sandboxes: AtomicU32,
}

/// What a run remembers of its approvals.
#[derive(Default)]
struct Memory {
    standing: Standing,
    /// The workspace as last seen: unchanged files are not read again.
    seen: Option<Arc<Snapshot>>,
    /// The workspace at the last yes: what a question shows the difference to.
    approved: Option<Arc<Snapshot>>,
}

/// The workspace at one moment, and what of it is code.
struct Seen {
    tree: Arc<Snapshot>,
    code: Digest,
}

/// One execution as asked for.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    pub origin: Origin,
    pub argv: Vec<Vec<u8>>,
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    pub wall_ms: Option<u64>,
}

/// The streams of one execution.
pub struct BenchIo<'a> {
    /// From [`Bench::next_step`]: names the logs.
    pub step: StepNumber,
    /// `None` is the empty input.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin + 'a>>,
    pub stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    pub stderr: &'a mut (dyn AsyncWrite + Send + Unpin),
    /// What the two of them get; the log is redacted in any case.
    pub passing: Passing,
    pub cancel: CancellationToken,
}

/// How an execution went.
#[derive(Debug, Serialize, Deserialize)]
pub enum Executed {
    Ran {
        exit: Exit,
        /// Files of the workspace that came, changed or went.
        changed: Vec<String>,
        /// What it wanted of the network and did not get, one line each.
        blocked: Vec<String>,
    },
    Denied(Denial),
    /// The program was not executed.
    NotStarted(StartError),
}

impl Bench {
    /// # Errors
    /// When the policy's artifact globs make no sense.
    pub fn new(setup: BenchSetup) -> Result<Self, WorkspaceError> {
        let grants = Grants::default();
        let blocked = Blocked::default();
        let egress = setup.spec.network.as_ref().map(|network| {
            let witness = Told {
                desk: setup.desk.clone(),
                blocked: blocked.clone(),
            };
            let outside = setup.outside.clone();
            Arc::new(Egress::new(
                network,
                grants.clone(),
                outside,
                Arc::new(witness),
            ))
        });
        Ok(Self {
            policy_digest: setup.policy.digest(),
            artifacts: Arc::new(Artifacts::new(&setup.policy.artifacts.include)?),
            gpu_time: GpuTime::new(&setup.policy, &setup.spec),
            setup: Arc::new(setup),
            sandbox: Mutex::new(None),
            memory: Mutex::default(),
            grants,
            egress,
            blocked,
            handed: Mutex::default(),
            steps: AtomicU32::new(0),
            meter: OnceCell::new(),
            sandboxes: AtomicU32::new(0),
        })
    }

    pub fn desk(&self) -> &Desk {
        &self.setup.desk
    }

    pub fn workspace(&self) -> &Workspace {
        &self.setup.workspace
    }

    pub fn policy(&self) -> &Policy {
        &self.setup.policy
    }

    pub fn policy_digest(&self) -> &Digest {
        &self.policy_digest
    }

    pub fn spec(&self) -> &SandboxSpec {
        &self.setup.spec
    }

    /// Uid and gid that everything in the workspace is done as.
    pub fn user(&self) -> (u32, u32) {
        (self.setup.spec.uid, self.setup.spec.gid)
    }

    pub fn run(&self) -> &RunId {
        &self.setup.run
    }

    /// Decides, asks where the policy says so, runs, records. Output goes to `io` as it comes.
    ///
    /// # Errors
    /// When the run cannot go on: a person ended it, the sandbox or the record failed.
    pub async fn exec(&self, request: &ExecRequest, io: BenchIo<'_>) -> Result<Executed, ToolStop> {
        let executed = self.decide_and_run(request, io).await?;
        // What it says of files and hosts is a program's choice.
        let redacted = self.setup.desk.redactor().anything(&executed);
        Ok(redacted.unwrap_or(executed))
    }

    async fn decide_and_run(
        &self,
        request: &ExecRequest,
        io: BenchIo<'_>,
    ) -> Result<Executed, ToolStop> {
        if let Err(denial) = self.settle_secrets(&io.cancel).await? {
            return Ok(Executed::Denied(denial));
        }
        let mut seen = self.look(request.origin).await?;
        loop {
            let act = self.act(request, &seen, &io);
            let permit = match self.settle(act, &seen, &io.cancel).await? {
                Ok(permit) => permit,
                Err(denial) => return Ok(Executed::Denied(denial)),
            };
            let sandbox = self.sandbox().await?;
            if self.setup.policy.approval.alone && sandbox.alive().await > 0 {
                return Ok(Executed::Denied(not_alone()));
            }
            let now = self.look(request.origin).await?;
            if now.code == permit.act().code {
                let wall = [request.wall_ms, self.setup.spec.limits.wall_ms];
                let time = match self.gpu_time.take(wall.into_iter().flatten().min()) {
                    Ok(time) => time,
                    Err(denial) => return Ok(Executed::Denied(denial)),
                };
                self.hand_over(&sandbox).await?;
                return self.start(permit, (&sandbox, time), &now, io).await;
            }
            self.setup.desk.emit(&Event::Notice {
                text: "the code changed between the yes and the start: it was not run".to_owned(),
            })?;
            seen = now;
        }
    }

    /// A number for the next execution; numbers of what was denied are not used again.
    pub fn next_step(&self) -> StepNumber {
        StepNumber(self.steps.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Bytes of one line in anything but the raw log.
    pub fn max_line(&self) -> usize {
        let bytes = self.setup.policy.limits.log_line.unwrap_or(LOG_LINE);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Starts the sandbox before the first execution. Only init runs in it; what else does needs a permit.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn warm(&self) -> Result<(), ToolStop> {
        self.sandbox().await.map(drop)
    }

    /// Lets a host be reached for the rest of the run. Says which.
    pub fn grant(&self, permit: Permit<HostAction>) -> String {
        let HostAction { host, port, .. } = permit.into_act();
        let at = joined(&host, port);
        self.grants.add(HostRule {
            host,
            ports: vec![port],
            methods: Vec::new(),
            address: None,
            source: None,
            private: false,
        });
        at
    }

    /// Ends the sandbox, if one was started.
    pub async fn end(&self) -> Result<(), ToolStop> {
        let Some(sandbox) = self.sandbox.lock().await.take() else {
            return Ok(());
        };
        let name = sandbox.name().to_owned();
        // A step that still holds it keeps it; its cancellation ends it, and the pipe the rest.
        if let Ok(sandbox) = Arc::try_unwrap(sandbox) {
            sandbox.end().await.map_err(broken)?;
        }
        self.setup.desk.emit(&Event::SandboxEnded { name })
    }

    /// The run's sandbox, started with the first execution.
    async fn sandbox(&self) -> Result<Arc<Sandbox>, ToolStop> {
        let mut held = self.sandbox.lock().await;
        if let Some(sandbox) = &*held {
            return Ok(sandbox.clone());
        }
        let BenchSetup {
            owner, run, spec, ..
        } = &*self.setup;
        let n = self.sandboxes.fetch_add(1, Ordering::Relaxed) + 1;
        let name = sandbox_name(*owner, run, n);
        let sandbox =
            Sandbox::start_connected(&*self.setup.backend, spec, &name, self.egress.clone())
                .await
                .map_err(broken)?;
        self.setup.desk.emit(&Event::SandboxStarted {
            name,
            backend: spec.backend,
            image: match &spec.root {
                RootFs::HostSystem => None,
                RootFs::Image { id, .. } => Some(id.clone()),
            },
            controls: sandbox.controls().clone(),
            gpus: spec.devices.gpus.clone(),
        })?;
        let sandbox = Arc::new(sandbox);
        *held = Some(sandbox.clone());
        Ok(sandbox)
    }
}

fn not_alone() -> Denial {
    Denial {
        rule: "approval.alone".to_owned(),
        why: "another step is still running in the sandbox".to_owned(),
    }
}

fn broken(error: SandboxError) -> ToolStop {
    ToolStop::Sandbox {
        error: error.to_string(),
        remedy: error.remedy().map(str::to_owned),
    }
}
