//! A backend that isolates nothing and runs nothing: a test tool, compiled into no program.
//!
//! It speaks init's side of the real protocol from inside this process and plays out what a test
//! wrote, so that everything above the backends is tested without an engine or a kernel feature. It
//! passes the claims of the protocol (one exit, order, cancel), never those of isolation.

use super::backend::{Backend, Lease, SandboxError, Started};
use super::channel::far_end::{self, FarEnd, FarStream, FarStreams};
use super::counts::Counts;
use super::wire::{
    self, FromInit, PROTOCOL_VERSION, StartError, StartStep, StepExit, StepLimits, StreamHead,
    ToInit, WaitStatus,
};
use crate::protocol::control::Controls;
use crate::protocol::spec::{BackendKind, SandboxSpec};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf};
use tokio::sync::{Notify, mpsc, watch};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// Bytes in a pipe, as the kernel has it.
const PIPE: usize = 64 * 1024;

/// No value.
const UNKNOWN: u64 = u64::MAX;

type Play = dyn Fn(&StartStep) -> Part + Send + Sync;
type Act = Box<dyn FnOnce(Seat) -> BoxFuture<'static, WaitStatus> + Send>;

/// Plays a part for each step.
pub(crate) struct FakeBackend {
    controls: Controls,
    play: Arc<Play>,
    pub(crate) gauges: Gauges,
}

/// What the lease measures, set by a test; and what became of it.
#[derive(Clone)]
pub(crate) struct Gauges {
    counts: Arc<Mutex<Counts>>,
    resident: Arc<AtomicU64>,
    last_words: Arc<Mutex<String>>,
    /// True while init runs.
    alive: Arc<watch::Sender<bool>>,
    /// Leases that were ended.
    ended: Arc<AtomicU64>,
}

/// What one step does.
pub(crate) enum Part {
    /// It is not executed.
    Refused(StartError),
    Acted(Act),
}

/// What a part has to play with.
pub(crate) struct Seat {
    pub(crate) stdin: Option<FarStream>,
    pub(crate) stdout: DuplexStream,
    pub(crate) stderr: DuplexStream,
    pub(crate) signals: mpsc::UnboundedReceiver<i32>,
}

impl Part {
    /// Writes both, and ends with this code.
    pub(crate) fn exit(code: i32, stdout: &str, stderr: &str) -> Self {
        let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
        Self::acted(async move |mut seat| {
            let _ = seat.stdout.write_all(stdout.as_bytes()).await;
            let _ = seat.stderr.write_all(stderr.as_bytes()).await;
            WaitStatus::Code(code)
        })
    }

    /// Dies by this signal at once.
    pub(crate) fn signalled(signal: i32) -> Self {
        Self::acted(async move |_seat| WaitStatus::Signal(signal))
    }

    /// Runs until one of these signals comes; KILL always ends it.
    pub(crate) fn until(deadly: &'static [i32]) -> Self {
        Self::acted(async move |mut seat| {
            loop {
                match seat.signals.recv().await {
                    Some(signal) if deadly.contains(&signal) => {
                        return WaitStatus::Signal(signal);
                    }
                    Some(_) => {}
                    None => return WaitStatus::Signal(SIGKILL),
                }
            }
        })
    }

    /// Runs until TERM.
    pub(crate) fn sleep() -> Self {
        Self::until(&[SIGTERM])
    }

    /// As `cat`.
    pub(crate) fn echo() -> Self {
        Self::acted(async move |mut seat| {
            if let Some(mut stdin) = seat.stdin.take() {
                let _ = tokio::io::copy(&mut stdin, &mut seat.stdout).await;
            }
            WaitStatus::Code(0)
        })
    }

    pub(crate) fn acted<F>(act: impl FnOnce(Seat) -> F + Send + 'static) -> Self
    where
        F: Future<Output = WaitStatus> + Send + 'static,
    {
        Self::Acted(Box::new(|seat| Box::pin(act(seat))))
    }
}

impl FakeBackend {
    /// Holds nothing, and says so.
    pub(crate) fn new(play: impl Fn(&StartStep) -> Part + Send + Sync + 'static) -> Self {
        Self::measured(Gauges::default(), play)
    }

    /// With gauges that the play may turn itself.
    pub(crate) fn measured(
        gauges: Gauges,
        play: impl Fn(&StartStep) -> Part + Send + Sync + 'static,
    ) -> Self {
        Self {
            controls: Controls::new(),
            play: Arc::new(play),
            gauges,
        }
    }

    /// Claims these controls, for tests of what is claimed.
    pub(crate) fn claiming(mut self, controls: Controls) -> Self {
        self.controls = controls;
        self
    }
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            counts: Arc::default(),
            resident: Arc::new(AtomicU64::new(UNKNOWN)),
            last_words: Arc::default(),
            alive: Arc::new(watch::Sender::new(false)),
            ended: Arc::default(),
        }
    }
}

impl Gauges {
    pub(crate) fn set_oom_kills(&self, count: u64) {
        self.counts.lock().unwrap().oom_kills = Some(count);
    }

    pub(crate) fn set_pids_refused(&self, count: u64) {
        self.counts.lock().unwrap().pids_refused = Some(count);
    }

    pub(crate) fn set_resident(&self, bytes: u64) {
        self.resident.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_last_words(&self, words: &str) {
        *self.last_words.lock().unwrap() = words.to_owned();
    }

    /// Waits until init has ended.
    pub(crate) async fn gone(&self) {
        let _ = self.alive.subscribe().wait_for(|&alive| !alive).await;
    }

    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// A lease that measures this, over an init that is played by `init`.
    pub(crate) fn start<F>(&self, init: impl FnOnce(DuplexStream) -> F) -> Started
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (host, far) = tokio::io::duplex(64 * 1024);
        self.alive.send_replace(true);
        let (init, alive) = (init(far), Arc::clone(&self.alive));
        tokio::spawn(async move {
            init.await;
            alive.send_replace(false);
        });
        let (from_init, to_init) = tokio::io::split(host);
        Started {
            from_init: Box::new(from_init),
            to_init: Box::new(to_init),
            lease: Box::new(FakeLease(self.clone())),
        }
    }
}

#[async_trait]
impl Backend for FakeBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Namespace
    }

    async fn controls(&self) -> Result<Controls, SandboxError> {
        Ok(self.controls.clone())
    }

    async fn start(&self, _: &SandboxSpec, _: &str) -> Result<Started, SandboxError> {
        let play = Arc::clone(&self.play);
        Ok(self.gauges.start(|pipe| perform(pipe, play)))
    }
}

struct FakeLease(Gauges);

#[async_trait]
impl Lease for FakeLease {
    async fn counts(&self) -> Counts {
        *self.0.counts.lock().unwrap()
    }

    async fn resident(&self) -> Option<u64> {
        known(&self.0.resident)
    }

    async fn last_words(&self) -> String {
        self.0.last_words.lock().unwrap().clone()
    }

    async fn end(self: Box<Self>) -> Result<(), SandboxError> {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn step_limits(&self) -> StepLimits {
        StepLimits {
            open_files: Some(64),
            file_size: None,
            processes: None,
            cores: None,
            oom_score_adj: 0,
        }
    }
}

fn known(gauge: &AtomicU64) -> Option<u64> {
    let value = gauge.load(Ordering::Relaxed);
    (value != UNKNOWN).then_some(value)
}

/// An init that behaves.
async fn perform(pipe: DuplexStream, play: Arc<Play>) {
    let Some(far) = FarEnd::accept(pipe).await else {
        return;
    };
    let (mut read, mut write, mut streams) = far.split();
    let (say, mut to_say) = mpsc::unbounded_channel();
    let speaking = async {
        while let Some(message) = to_say.recv().await {
            let frame = wire::frame(&message).unwrap();
            if write.write_all(&frame).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
    };
    // In one task: a stream wakes whoever polled it last, reader or writer.
    tokio::select! {
        () = obey(&mut read, &mut streams, play, say) => {}
        () = async { speaking.await; std::future::pending().await } => {}
    }
}

async fn obey(
    read: &mut ReadHalf<FarStream>,
    streams: &mut FarStreams,
    play: Arc<Play>,
    say: mpsc::UnboundedSender<FromInit>,
) {
    let mut steps: HashMap<u32, Strings> = HashMap::new();
    while let Some(message) = far_end::hear(read).await {
        match message {
            ToInit::Hello { .. } => {
                let version = PROTOCOL_VERSION;
                let _ = say.send(FromInit::Hello { version });
            }
            ToInit::Ping { seq } => {
                let _ = say.send(FromInit::Pong { seq });
            }
            ToInit::Shutdown => return,
            // A fake init opens no streams, and has no place for files.
            ToInit::Network { .. } | ToInit::Secrets(_) => {}
            ToInit::Start(start) => {
                let Some((seat, strings)) = take_seat(&start, streams).await else {
                    return;
                };
                let kill = Arc::clone(&strings.kill);
                steps.insert(start.step, strings);
                tokio::spawn(run(start.step, play(&start), seat, kill, say.clone()));
            }
            ToInit::Signal { step, signal } => {
                if let Some(step) = steps.get(&step) {
                    let _ = step.signals.send(signal);
                }
            }
            ToInit::Kill { step } => {
                if let Some(step) = steps.get(&step) {
                    step.kill.notify_one();
                }
            }
        }
    }
}

/// What a part is pulled by.
struct Strings {
    signals: mpsc::UnboundedSender<i32>,
    kill: Arc<Notify>,
}

async fn take_seat(start: &StartStep, streams: &mut FarStreams) -> Option<(Seat, Strings)> {
    let (send, signals) = mpsc::unbounded_channel();
    let stdin = match start.stdin {
        true => Some(streams.take(StreamHead::Stdin(start.step)).await?),
        false => None,
    };
    let stdout = streams.take(StreamHead::Stdout(start.step)).await?;
    let stderr = streams.take(StreamHead::Stderr(start.step)).await?;
    let seat = Seat {
        stdin,
        stdout: pipe_to(stdout),
        stderr: pipe_to(stderr),
        signals,
    };
    let strings = Strings {
        signals: send,
        kill: Arc::default(),
    };
    Some((seat, strings))
}

/// A pipe into a stream: what is in it arrives, also after the writer is gone.
fn pipe_to(mut stream: FarStream) -> DuplexStream {
    let (seat, mut desk) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        if tokio::io::copy(&mut desk, &mut stream).await.is_ok() {
            let _ = stream.shutdown().await;
        }
    });
    seat
}

async fn run(
    step: u32,
    part: Part,
    seat: Seat,
    kill: Arc<Notify>,
    say: mpsc::UnboundedSender<FromInit>,
) {
    let act = match part {
        Part::Acted(act) => act,
        Part::Refused(error) => {
            let _ = say.send(FromInit::StartFailed { step, error });
            return;
        }
    };
    let _ = say.send(FromInit::Started { step });
    let (status, killed) = tokio::select! {
        status = act(seat) => (status, false),
        () = kill.notified() => (WaitStatus::Signal(SIGKILL), true),
    };
    let _ = say.send(FromInit::Exited(exit(step, status, killed)));
}

/// An exit that says nothing but how.
pub(crate) fn exit(step: u32, status: WaitStatus, killed: bool) -> StepExit {
    StepExit {
        step,
        status,
        killed,
        leftovers: 0,
        user_us: 1500,
        system_us: 500,
        max_rss_kib: 2,
        oom_kills: None,
        tmp: None,
        shm: None,
    }
}
