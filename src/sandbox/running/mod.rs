//! A running sandbox: steps run in it, one connection and one lease hold it.
//!
//! ```text
//!   Sandbox::start ─ required words held? ─ Backend::start ─ handshake ─▶ Sandbox
//!                                                                          │ step(permit, io) ─▶ Exit
//!   guardian   waits for the end of the connection, whoever brought it ─ last words ─ Lease::end
//!   watch      measures memory and disk while steps run ─ over a limit ─▶ kills all steps
//! ```
//!
//! A sandbox that is dropped is over at once: its pipe closes, and init kills everything. One that
//! said nonsense is ended by force. It decides nothing about what may run: a step costs a permit.

mod drive;
mod held;
mod pump;
mod reached;
mod usage;
mod verdict;
mod watch;

use super::backend::{Backend, SandboxError, Started};
use super::channel::{Channel, Duplex, NotBegun, Over};
use super::egress::Egress;
use super::wire::{MAX_OUTBOUND_STREAMS, Secret, StartError, StartStep, StepLimits};
use crate::policy::action::ExecAction;
use crate::policy::permit::Permit;
use crate::protocol::alarm::{Free, Level, Pulse};
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::outcome::Exit;
use crate::protocol::spec::SandboxSpec;
use held::{Guardian, Held};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use watch::Watch;

/// How long init may take to say hello: an engine on a busy machine takes a second, and one that starts
/// fifty at once on two cores takes many.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// One running sandbox. Steps may run at the same time.
pub struct Sandbox {
    name: String,
    spec: SandboxSpec,
    controls: Controls,
    step_limits: StepLimits,
    channel: Channel,
    held: Arc<Held>,
    watch: Watch,
    guardian: Guardian,
    outside: Outside,
}

/// The task that serves what init opens, where there is a network.
struct Outside(Option<JoinHandle<()>>);

impl Outside {
    /// Cuts what is open, and waits until all of it is recorded.
    async fn end(mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            // It was aborted, or had ended: both are the end.
            let _ = task.await;
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

fn connect(egress: Option<Arc<Egress>>) -> (Option<mpsc::Sender<Duplex>>, Outside) {
    let Some(egress) = egress else {
        return (None, Outside(None));
    };
    let (inbound, streams) = mpsc::channel(MAX_OUTBOUND_STREAMS);
    let task = tokio::spawn(egress.serve(streams));
    (Some(inbound), Outside(Some(task)))
}

/// What a step reads and writes.
pub struct StepIo<'a> {
    /// `None` is `/dev/null`. It is not waited for: a step may end and leave it unread.
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin + 'a>>,
    /// Raw bytes. A slow writer slows the program down; a writer that fails is written to no more, and
    /// the program sees a closed pipe.
    pub stdout: &'a mut (dyn AsyncWrite + Send + Unpin),
    pub stderr: &'a mut (dyn AsyncWrite + Send + Unpin),
    /// Cancelled: TERM to the program's group, the sandbox's grace, then KILL of everything.
    pub cancel: CancellationToken,
    /// Told when the program was executed.
    pub started: Option<oneshot::Sender<()>>,
}

impl Sandbox {
    /// Starts a sandbox that is as `spec` says, or none.
    ///
    /// # Errors
    /// [`SandboxError::TooWeak`] where this machine holds a control more weakly than `spec` requires;
    /// what the backend says; an init that does not answer.
    pub async fn start(
        backend: &dyn Backend,
        spec: &SandboxSpec,
        name: &str,
    ) -> Result<Self, SandboxError> {
        Self::start_connected(backend, spec, name, None).await
    }

    /// As [`Self::start`], for a specification with a network: `egress` is where it leads.
    ///
    /// # Errors
    /// As [`Self::start`]; and [`SandboxError::Refused`] where only one of the two has a network.
    pub async fn start_connected(
        backend: &dyn Backend,
        spec: &SandboxSpec,
        name: &str,
        egress: Option<Arc<Egress>>,
    ) -> Result<Self, SandboxError> {
        let began = Instant::now();
        if spec.network.is_some() != egress.is_some() {
            return Err(SandboxError::Refused {
                what: "network".to_owned(),
                why: "what is shown and where it leads do not agree".to_owned(),
                remedy: "make the plan anew".to_owned(),
            });
        }
        let controls = backend.controls().await?;
        check_required(spec, &controls)?;
        let watched = Watch::prepare(spec).await?;
        let Started {
            from_init,
            to_init,
            lease,
        } = backend.start(spec, name).await?;
        let step_limits = lease.step_limits();
        let held = Arc::new(Held::new(lease));
        let (inbound, outside) = connect(egress);
        let opening = timeout(HANDSHAKE, Channel::open(from_init, to_init, inbound));
        let channel = match opening.await {
            Ok((channel, Ok(()))) => channel,
            Ok((_, Err(over))) => return Err(held.give_up(over).await),
            Err(_) => {
                let why = format!("init did not answer within {} s", HANDSHAKE.as_secs());
                return Err(held.give_up(Over::Ended(why)).await);
            }
        };
        tracing::debug!(name, backend = %spec.backend, took = ?began.elapsed(), "sandbox up");
        Ok(Self {
            name: name.to_owned(),
            spec: spec.clone(),
            controls,
            step_limits,
            watch: Watch::spawn(watched, Arc::clone(&held)),
            guardian: Guardian::spawn(channel.ending(), Arc::clone(&held)),
            channel,
            held,
            outside,
        })
    }

    /// A word for each control, as this machine holds it.
    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// Runs one step and spends the permit. Returns when its first process has ended, all its
    /// descendants are gone, and all it wrote was written on. Dropped before that, the step is killed.
    ///
    /// # Errors
    /// [`SandboxError::Refused`] where the permit is for another sandbox, or `io` passes an input the
    /// permit does not name; [`SandboxError::NotStarted`]; and the end of the sandbox.
    pub async fn step(
        &self,
        permit: Permit<ExecAction>,
        io: StepIo<'_>,
    ) -> Result<Exit, SandboxError> {
        self.run(permit.into_act(), io).await
    }

    /// Hands secrets over, of which the specification tells: to every step that is started after this.
    pub fn give(&self, secrets: &[Secret]) {
        self.channel.give(secrets.to_vec());
    }

    /// What it uses now, as far as it is limited and measured.
    pub async fn pulse(&self) -> Pulse {
        let limits = &self.spec.limits;
        let level = |used: Option<u64>, most: Option<u64>| {
            used.zip(most).map(|(used, most)| Level { used, most })
        };
        let memory = match self.held.counts().await.memory {
            None => self.held.resident().await,
            counted => counted,
        };
        let measured = self.watch.measured();
        let amount = measured.amount;
        Pulse {
            memory: level(memory, limits.memory),
            workspace: level(amount.map(|all| all.bytes), limits.workspace_size),
            files: level(amount.map(|all| all.files), limits.workspace_inodes),
            free: measured.free.map(|[now, floor]| Free {
                bytes: now.bytes,
                floor: floor.bytes,
            }),
        }
    }

    /// Steps that run now.
    pub async fn alive(&self) -> usize {
        self.channel.alive()
    }

    /// Ends it, and returns when nothing of it is left.
    ///
    /// # Errors
    /// Where something is left.
    pub async fn end(self) -> Result<(), SandboxError> {
        let began = Instant::now();
        drop(self.channel);
        self.outside.end().await;
        let done = self.guardian.done().await;
        tracing::debug!(name = self.name, took = ?began.elapsed(), ok = done.is_ok(), "sandbox gone");
        done
    }

    async fn run(&self, act: ExecAction, io: StepIo<'_>) -> Result<Exit, SandboxError> {
        self.check(&act, &io)?;
        let (ticket, streams) = match self.channel.prepare(io.stdin.is_some()).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(self.not_begun(error).await),
        };
        let wall = [self.spec.limits.wall_ms, act.wall_ms];
        let wall = wall.into_iter().flatten().min().map(Duration::from_millis);
        let order = self.order(ticket.step(), act, io.stdin.is_some());
        drive::Step {
            sandbox: self,
            ticket,
            order,
            streams,
            wall,
        }
        .drive(io)
        .await
    }

    /// A permit is for what was shown: another world is another question.
    fn check(&self, act: &ExecAction, io: &StepIo<'_>) -> Result<(), SandboxError> {
        let why = if act.sandbox != self.spec {
            "its permit is for another sandbox"
        } else if io.stdin.is_some() && !act.stdin {
            "its permit passes no input"
        } else {
            return Ok(());
        };
        Err(SandboxError::Refused {
            what: "step".to_owned(),
            why: why.to_owned(),
            remedy: "ask again, for the sandbox as it is".to_owned(),
        })
    }

    fn order(&self, step: u32, act: ExecAction, stdin: bool) -> StartStep {
        let mut env = self.spec.env.clone();
        env.extend(act.env);
        let env = env.into_iter();
        StartStep {
            step,
            argv: act.argv,
            env: env
                .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
                .collect(),
            cwd: act.cwd.into_bytes(),
            stdin,
            limits: self.step_limits.clone(),
        }
    }

    async fn not_begun(&self, error: NotBegun) -> SandboxError {
        match error {
            NotBegun::Over => self.guardian.verdict().await,
            NotBegun::TooLarge => SandboxError::NotStarted(StartError::TooLarge),
            NotBegun::TooMany => SandboxError::Refused {
                what: "step".to_owned(),
                why: format!("{} run at the same time already", self.channel.alive()),
                remedy: "wait until one of them has ended".to_owned(),
            },
        }
    }
}

/// Never a silent weakening. A control nobody spoke of is absent.
///
/// # Errors
/// [`SandboxError::TooWeak`] for the first that is held more weakly than is required.
pub fn check_required(spec: &SandboxSpec, controls: &Controls) -> Result<(), SandboxError> {
    let held = |control: &Control| controls.get(control).copied().unwrap_or(Strength::Absent);
    let weak = |(control, want): &(&Control, &Strength)| held(control) < **want;
    let Some((&control, &want)) = spec.require.iter().find(weak) else {
        return Ok(());
    };
    // All of them: one line to paste, not one after the other.
    let accepted: Vec<String> = (spec.require.iter().filter(weak))
        .map(|(control, _)| format!("\"{control}:{}\"", held(control)))
        .collect();
    Err(SandboxError::TooWeak {
        control,
        have: held(&control),
        want,
        remedy: format!(
            "`fumehood doctor` says what this machine misses for it; or accept it: --set 'executor.require=[{}]', or the same in the policy",
            accepted.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests;
