//! The watch: what no kernel limit holds is measured while steps run, and over a limit all steps are
//! killed.
//!
//! | measured | by | how often |
//! |---|---|---|
//! | memory, where no controller counts it | the lease | every 40 ms |
//! | bytes and files of workspace and home | a walk | ten times the time it takes, 0.25 to 5 s |
//! | free space and files around them | the file system | every 0.1 s |
//!
//! Nothing runs while no step does. Nobody can say whose bytes they are, so all steps go.

use super::held::Held;
use super::usage::{self, Amount, Ceiling, Free, Roots};
use super::verdict::{Alone, Full, Stop};
use crate::protocol::spec::SandboxSpec;
use crate::sandbox::backend::SandboxError;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks at memory; with the look itself it stays below 100 ms.
const MEMORY: Duration = Duration::from_millis(40);

/// Between two looks at free space.
const SPACE: Duration = Duration::from_millis(100);

/// A walk may take a tenth of the time.
const WALK_SHARE: u32 = 9;
const WALK_LEAST: Duration = Duration::from_millis(250);
const WALK_MOST: Duration = Duration::from_secs(5);

/// More stops than this at once are the same stop.
const STOPS: usize = 8;

/// Counts steps, and tells them to stop.
pub(super) struct Watch {
    crowd: Arc<watch::Sender<Crowd>>,
    stops: broadcast::Sender<Stop>,
    gauge: Gauge,
}

/// What was measured last.
#[derive(Clone, Default)]
pub(super) struct Gauge(Arc<Mutex<Measured>>);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) amount: Option<Amount>,
    /// What is free, and what has to stay so.
    pub(super) free: Option<[Free; 2]>,
}

impl Gauge {
    fn set(&self, change: impl FnOnce(&mut Measured)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn read(&self) -> Measured {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Default)]
struct Crowd {
    running: usize,
    /// Ever.
    entered: u64,
}

/// A step that is watched while this lives.
pub(super) struct Presence {
    crowd: Arc<watch::Sender<Crowd>>,
    stops: broadcast::Sender<Stop>,
    first: bool,
    number: u64,
}

impl Watch {
    /// # Errors
    /// Where what is to be measured is not what the specification says, or over its limit already.
    pub(super) async fn prepare(spec: &SandboxSpec) -> Result<Prepared, SandboxError> {
        let roots = Arc::new(Roots::open(spec)?);
        let ceiling = Ceiling {
            bytes: spec.limits.workspace_size,
            files: spec.limits.workspace_inodes,
        };
        if !ceiling.is_open() {
            let roots = Arc::clone(&roots);
            let checking = tokio::task::spawn_blocking(move || usage::check(&roots, ceiling));
            checking.await.map_err(|error| SandboxError::Io {
                context: "failed to measure the workspace".to_owned(),
                source: std::io::Error::other(error),
            })??;
        }
        Ok(Prepared {
            roots,
            ceiling,
            memory: spec.limits.memory,
        })
    }

    /// From now on; ends when this is dropped and no step runs.
    pub(super) fn spawn(prepared: Prepared, held: Arc<Held>) -> Self {
        let crowd = Arc::new(watch::Sender::new(Crowd::default()));
        let (stops, _) = broadcast::channel(STOPS);
        let gauge = Gauge::default();
        let Prepared {
            roots,
            ceiling,
            memory,
        } = prepared;
        tokio::spawn(look(
            crowd.subscribe(),
            stops.clone(),
            memory.map(|limit| (limit, held)),
            (Arc::clone(&roots), gauge.clone()),
        ));
        if !ceiling.is_open() && !roots.is_empty() {
            let to_walk = (roots, ceiling, gauge.clone());
            tokio::spawn(walk(crowd.subscribe(), stops.clone(), to_walk));
        }
        Self {
            crowd,
            stops,
            gauge,
        }
    }

    /// What was measured last, while a step ran.
    pub(super) fn measured(&self) -> Measured {
        self.gauge.read()
    }

    /// A step begins.
    pub(super) fn enter(&self) -> Presence {
        let mut now = Crowd::default();
        self.crowd.send_modify(|crowd| {
            crowd.running += 1;
            crowd.entered += 1;
            now = *crowd;
        });
        Presence {
            crowd: Arc::clone(&self.crowd),
            stops: self.stops.clone(),
            first: now.running == 1,
            number: now.entered,
        }
    }
}

/// What to watch.
pub(super) struct Prepared {
    roots: Arc<Roots>,
    ceiling: Ceiling,
    memory: Option<u64>,
}

impl Presence {
    /// Waits to be told to stop.
    pub(super) async fn stopped(&self) -> Stop {
        let mut stops = self.stops.subscribe();
        loop {
            match stops.recv().await {
                Ok(stop) => return stop,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
        }
    }

    /// Whether no other step ran at any time so far.
    pub(super) fn alone(&self) -> Alone {
        match self.first && self.crowd.borrow().entered == self.number {
            true => Alone::Yes,
            false => Alone::No,
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.crowd.send_modify(|crowd| crowd.running -= 1);
    }
}

/// Looks at memory and free space while steps run.
async fn look(
    mut crowd: watch::Receiver<Crowd>,
    stops: broadcast::Sender<Stop>,
    memory: Option<(u64, Arc<Held>)>,
    (roots, gauge): (Arc<Roots>, Gauge),
) {
    while crowd.wait_for(|crowd| crowd.running > 0).await.is_ok() {
        tokio::select! {
            _ = crowd.wait_for(|crowd| crowd.running == 0) => {}
            () = look_at_memory(memory.as_ref(), &stops) => {}
            () = look_at_space(&roots, &stops, &gauge) => {}
        }
    }
}

async fn look_at_memory(memory: Option<&(u64, Arc<Held>)>, stops: &broadcast::Sender<Stop>) {
    let Some((limit, held)) = memory else {
        return pending().await;
    };
    loop {
        sleep(MEMORY).await;
        match held.resident().await {
            None => return pending().await,
            Some(resident) if resident > *limit => stop(stops, Stop::OutOfMemory),
            Some(_) => {}
        }
    }
}

async fn look_at_space(roots: &Arc<Roots>, stops: &broadcast::Sender<Stop>, gauge: &Gauge) {
    let Some(before) = free(roots).await else {
        return pending().await;
    };
    let floor = before.floor();
    loop {
        sleep(SPACE).await;
        let Some(now) = free(roots).await else {
            continue;
        };
        gauge.set(|measured| measured.free = Some([now, floor]));
        if now.is_below(floor) {
            stop(stops, Stop::Disk(Full::Floor));
        }
    }
}

/// The least of what is free around the roots. Asking a file system may take its time.
async fn free(roots: &Arc<Roots>) -> Option<Free> {
    let roots = Arc::clone(roots);
    tokio::task::spawn_blocking(move || roots.free())
        .await
        .ok()?
}

/// Walks when it is due and a step runs. The clock goes on between steps, so that many short ones
/// are no way around it.
async fn walk(
    mut crowd: watch::Receiver<Crowd>,
    stops: broadcast::Sender<Stop>,
    (roots, ceiling, gauge): (Arc<Roots>, Ceiling, Gauge),
) {
    let mut due = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            // The sandbox is gone.
            Err(_) = crowd.wait_for(|_| false) => return,
        }
        if crowd.wait_for(|crowd| crowd.running > 0).await.is_err() {
            return;
        }
        let begun = Instant::now();
        let roots = Arc::clone(&roots);
        let measured = tokio::task::spawn_blocking(move || usage::measure(&roots, ceiling)).await;
        match measured {
            Ok(Ok(amount)) => gauge.set(|measured| measured.amount = Some(amount)),
            Ok(Err(full)) => stop(&stops, Stop::Disk(full)),
            Err(_) => {}
        }
        let pause = begun.elapsed() * WALK_SHARE;
        due = Instant::now() + pause.clamp(WALK_LEAST, WALK_MOST);
    }
}

fn stop(stops: &broadcast::Sender<Stop>, stop: Stop) {
    // Nobody is there when the last step has just ended.
    let _ = stops.send(stop);
}
