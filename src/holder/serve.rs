//! The holder's life: it answers, until it is closed, stopped, idle for too long, or done.
//!
//! ```text
//!   serving ──close, TERM, idle, its one execution done──▶ stopping ──steps ended──▶ closing ──▶ down
//!                                                           (no new ones)            (the run)
//! ```

use super::audience::Audience;
use super::end::End;
use super::error::HolderError;
use super::exec;
use super::socket::Listener;
use super::transfer;
use super::view;
use super::wire::{
    self, FromHolder, HolderStatus, Opening, PROTOCOL, StepStatus, StreamKind, ToHolder,
};
use crate::protocol::ids::StepNumber;
use crate::tools::bench::Bench;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Executions at one time.
const MAX_EXECS: usize = 32;

/// Files that are moved at one time.
const MAX_TRANSFERS: usize = 32;

/// Connections at one time: four for each execution, one for each file, and some that only ask. One too
/// many waits to be taken; none of those that only ask stays long.
const MAX_CONNECTIONS: usize = 4 * MAX_EXECS + MAX_TRANSFERS + 64;

/// How long a connection may take to say what it is.
const OPENING: Duration = Duration::from_secs(10);

/// How long a holder for one execution waits for it.
pub(super) const FIRST: Duration = Duration::from_secs(20);

/// How long the last words to clients may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a holder is set up from.
pub struct HolderSetup {
    pub bench: Arc<Bench>,
    /// Cancelled: everything is stopped, and the run ends as interrupted.
    pub stop: CancellationToken,
    pub service: Service,
}

/// What a holder is for.
#[derive(Debug, Clone)]
pub enum Service {
    /// A box: executions and files, until it is closed, or nothing was asked of it for so long.
    Box { idle: Option<Duration> },
    /// One execution, with which the run ends.
    Once,
    /// An agent, with which the run ends.
    Agent(Arc<Audience>),
}

/// The living holder.
pub struct Holder {
    pub(super) bench: Arc<Bench>,
    pub(super) stop: CancellationToken,
    pub(super) service: Service,
    pub(super) execs: Semaphore,
    pub(super) transfers: Semaphore,
    end: Mutex<Option<End>>,
    /// Streams that are announced and not connected yet.
    expected: Mutex<HashMap<(String, StreamKind), oneshot::Sender<UnixStream>>>,
    steps: Mutex<BTreeMap<StepNumber, Step>>,
    activity: watch::Sender<Activity>,
    /// How closing the run went, once it was tried.
    down: watch::Sender<Option<Result<(), String>>>,
}

/// A step that runs now.
struct Step {
    command: String,
    cancel: CancellationToken,
}

/// What is done at the moment, and since when nothing is.
#[derive(Clone, Copy)]
struct Activity {
    now: usize,
    since: Instant,
}

/// Something is asked and not done yet.
pub(super) struct Busy(Arc<Holder>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.activity.send_modify(|activity| {
            activity.now -= 1;
            activity.since = Instant::now();
        });
    }
}

/// A step as it is listed; gone from the list with the value.
pub(super) struct ListedStep(Arc<Holder>, StepNumber);

impl Drop for ListedStep {
    fn drop(&mut self) {
        lock(&self.0.steps).remove(&self.1);
    }
}

impl Holder {
    pub fn new(setup: HolderSetup) -> Arc<Self> {
        let since = Instant::now();
        Arc::new(Self {
            bench: setup.bench,
            stop: setup.stop,
            service: setup.service,
            execs: Semaphore::new(MAX_EXECS),
            transfers: Semaphore::new(MAX_TRANSFERS),
            end: Mutex::default(),
            expected: Mutex::default(),
            steps: Mutex::default(),
            activity: watch::Sender::new(Activity { now: 0, since }),
            down: watch::Sender::new(None),
        })
    }

    /// Answers until it ends, stops what still runs, and lets `close` end the run.
    ///
    /// # Errors
    /// What `close` says.
    pub async fn serve<E: std::fmt::Display>(
        self: Arc<Self>,
        listener: Listener,
        close: impl AsyncFnOnce(End) -> Result<(), E>,
    ) -> Result<(), E> {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                idle = self.idle() => self.finish(End::Idle(idle)),
                Some(_) = tasks.join_next() => {}
                accepted = next(&listener, &connections) => match accepted {
                    Ok((stream, place)) => {
                        let holder = self.clone();
                        tasks.spawn(async move {
                            holder.answer(stream).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection could be taken");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        // Steps were told by the same token: each has its grace, and what is not gone then is killed.
        let mut activity = self.activity.subscribe();
        // The sender is ours.
        let _ = activity.wait_for(|activity| activity.now == 0).await;
        let end = lock(&self.end).take().unwrap_or(End::Stopped);
        let closed = close(end).await;
        let told = closed.as_ref().map(|_| ()).map_err(ToString::to_string);
        self.down.send_replace(Some(told));
        drop(listener);
        let words = async { while tasks.join_next().await.is_some() {} };
        // A client that does not listen is not waited for.
        let _ = timeout(LAST_WORDS, words).await;
        closed
    }

    /// Lets something work until it says how the holder ends. It is waited for.
    pub fn carry(self: &Arc<Self>, work: impl Future<Output = End> + Send + 'static) {
        let (holder, busy) = (self.clone(), self.busy());
        tokio::spawn(async move {
            // A panic in it has been reported, and is its end too.
            let end = tokio::spawn(work).await.unwrap_or(End::Stopped);
            holder.finish(end);
            drop(busy);
        });
    }

    /// Ends it; the first reason stays.
    pub(super) fn finish(&self, end: End) {
        lock(&self.end).get_or_insert(end);
        self.stop.cancel();
    }

    /// How closing the run went.
    pub(super) async fn is_down(&self) -> Result<(), String> {
        let mut down = self.down.subscribe();
        match down.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(told)) => told.clone(),
            // The sender is ours.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.activity.send_modify(|activity| activity.now += 1);
        Busy(self.clone())
    }

    pub(super) fn listed(
        self: &Arc<Self>,
        step: StepNumber,
        command: String,
        cancel: CancellationToken,
    ) -> ListedStep {
        lock(&self.steps).insert(step, Step { command, cancel });
        ListedStep(self.clone(), step)
    }

    /// Where a stream of an execution will arrive.
    pub(super) fn expect(&self, token: &str, stream: StreamKind) -> oneshot::Receiver<UnixStream> {
        let (send, arrived) = oneshot::channel();
        lock(&self.expected).insert((token.to_owned(), stream), send);
        arrived
    }

    /// What did not arrive will not.
    pub(super) fn expect_no_more(&self, token: &str) {
        lock(&self.expected).retain(|(of, _), _| of != token);
    }

    /// Returns when nothing was asked for too long.
    async fn idle(&self) -> Duration {
        let patience = match self.service {
            Service::Box { idle: Some(idle) } => idle,
            Service::Box { idle: None } | Service::Agent(_) => {
                return std::future::pending().await;
            }
            Service::Once => FIRST,
        };
        let mut activity = self.activity.subscribe();
        loop {
            let Activity { now, since } = *activity.borrow_and_update();
            tokio::select! {
                () = sleep_until(since + patience), if now == 0 => return patience,
                // The sender is ours.
                _ = activity.changed() => {}
            }
        }
    }

    async fn answer(self: Arc<Self>, mut stream: UnixStream) {
        let opening = timeout(OPENING, wire::read_message::<Opening>(&mut stream)).await;
        let Ok(Ok(Some(Opening { protocol, ask }))) = opening else {
            return;
        };
        if protocol != PROTOCOL {
            let error = HolderError::Nonsense {
                what: format!("it speaks version {protocol}, and this is {PROTOCOL}"),
            };
            // Whoever asked may be gone.
            let _ = wire::write_message(&mut stream, &wire::refusal(&error)).await;
            return;
        }
        match ask {
            ToHolder::Exec(ask) => exec::exec(&self, stream, ask).await,
            ToHolder::Stream {
                token,
                stream: kind,
            } => {
                let expected = lock(&self.expected).remove(&(token, kind));
                if let Some(expected) = expected {
                    // Its execution may have been given up.
                    let _ = expected.send(stream);
                }
            }
            ToHolder::Put(ask) => transfer::put(&self, stream, ask).await,
            ToHolder::Get { path } => transfer::get(&self, stream, &path).await,
            ToHolder::Status => tell(stream, FromHolder::Status(self.status())).await,
            ToHolder::Watch { from, seat } => view::view(&self, stream, (from, seat)).await,
            ToHolder::StopStep { .. } if matches!(self.service, Service::Agent(_)) => {
                let error = HolderError::Refused {
                    why: "an agent's step ends with its agent".to_owned(),
                    remedy: None,
                };
                tell(stream, wire::refusal(&error)).await;
            }
            ToHolder::StopStep { step } => {
                if let Some(step) = lock(&self.steps).get(&step) {
                    step.cancel.cancel();
                }
                tell(stream, FromHolder::Done).await;
            }
            ToHolder::Close => self.close(stream).await,
            ToHolder::Cancel | ToHolder::Answer { .. } => {}
        }
    }

    async fn close(&self, stream: UnixStream) {
        self.finish(End::Closed);
        let said = match self.is_down().await {
            Ok(()) => FromHolder::Done,
            Err(why) => FromHolder::Refused {
                why,
                remedy: None,
                denied: false,
            },
        };
        tell(stream, said).await;
    }

    fn status(&self) -> HolderStatus {
        let steps = lock(&self.steps);
        let Activity { now, since } = *self.activity.borrow();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        HolderStatus {
            run: self.bench.run().clone(),
            steps: steps
                .iter()
                .map(|(step, running)| StepStatus {
                    step: *step,
                    command: running.command.clone(),
                })
                .collect(),
            idle_ms: match now {
                0 => millis(since.elapsed()),
                _ => 0,
            },
            idle_timeout_ms: match self.service {
                Service::Box { idle } => idle.map(millis),
                Service::Once | Service::Agent(_) => None,
            },
        }
    }
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}

/// One message, and the end. Whoever asked may be gone, or not read it.
pub(super) async fn tell(mut stream: UnixStream, said: FromHolder) {
    let told = async {
        if wire::write_message(&mut stream, &said).await.is_ok() {
            let _ = stream.shutdown().await;
        }
    };
    let _ = timeout(LAST_WORDS, told).await;
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
