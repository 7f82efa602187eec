//! The control stream: what is said to init, and what is heard from it.

use super::ledger::Ledger;
use super::over::{Ending, Over};
use crate::context::sanitise::visible;
use crate::sandbox::wire::{
    self, DEADMAN_MS, FromInit, MAX_FROM_INIT, PING_MS, PROTOCOL_VERSION, ToInit,
};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

/// What a silent init is given beyond the timer: after a pause of this process its answers are still
/// in the pipe.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// How much of init's own words is passed on.
const MAX_REASON: usize = 500;

/// Pings sent so far. Answers come in the same order, so the last one is a number too.
#[derive(Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    fn beat(&self) -> ToInit {
        ToInit::Ping {
            seq: self.0.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    fn sent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says hello, then what there is to say, and pings. Ends with the channel.
pub(super) async fn speak(
    mut to: impl AsyncWrite + Unpin,
    mut to_say: mpsc::UnboundedReceiver<Vec<u8>>,
    pulse: Arc<Pulse>,
) {
    let version = PROTOCOL_VERSION;
    let Ok(hello) = wire::frame(&ToInit::Hello { version }) else {
        return;
    };
    if write(&mut to, &hello).await.is_err() {
        return;
    }
    let period = Duration::from_millis(PING_MS);
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            frame = to_say.recv() => frame,
            _ = ticks.tick() => wire::frame(&pulse.beat()).ok(),
        };
        let Some(frame) = frame else { return };
        // A connection that is gone is noticed by the driver.
        if write(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    to.write_all(frame).await?;
    to.flush().await
}

/// What the listening end has.
pub(super) struct Listener<R> {
    pub(super) from: R,
    /// Told once, when init has said hello.
    pub(super) hello: oneshot::Sender<()>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) ending: Ending,
}

/// Listens until there is nothing more to hear, which is the end of the connection.
pub(super) async fn listen(mut listener: Listener<impl AsyncRead + Unpin>) {
    let over = match heed_hello(&mut listener.from).await {
        Err(over) => over,
        Ok(()) => {
            // Whoever started it may have gone away; the driver ends then.
            let _ = listener.hello.send(());
            heed(&mut listener.from, &listener.ledger, &listener.pulse).await
        }
    };
    listener.ending.set(over);
}

async fn heed_hello(from: &mut (impl AsyncRead + Unpin)) -> Result<(), Over> {
    match read(from).await? {
        FromInit::Hello { version } if version == PROTOCOL_VERSION => Ok(()),
        FromInit::Hello { version } => Err(Over::Protocol(format!(
            "it speaks version {version}, this program version {PROTOCOL_VERSION}"
        ))),
        FromInit::Fatal { reason } => Err(fatal(&reason)),
        other => Err(Over::Protocol(format!(
            "{} instead of a hello",
            name(&other)
        ))),
    }
}

async fn heed(from: &mut (impl AsyncRead + Unpin), ledger: &Mutex<Ledger>, pulse: &Pulse) -> Over {
    let limit = Duration::from_millis(DEADMAN_MS);
    let mut pong = 0;
    let mut alive = Instant::now();
    loop {
        let message = match hear_until(alive + limit, from).await {
            Ok(message) => message,
            Err(over) => return over,
        };
        match message {
            FromInit::Pong { seq } if seq == pong + 1 && seq <= pulse.sent() => {
                pong = seq;
                alive = Instant::now();
            }
            FromInit::Pong { .. } => {
                return Over::Protocol("it answered a ping that was not sent".to_owned());
            }
            FromInit::Hello { .. } => return Over::Protocol("it said hello twice".to_owned()),
            FromInit::Fatal { reason } => return fatal(&reason),
            about_a_step => {
                let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(nonsense) = ledger.hear(about_a_step) {
                    return Over::Protocol(nonsense);
                }
            }
        }
    }
}

async fn hear_until(
    deadline: Instant,
    from: &mut (impl AsyncRead + Unpin),
) -> Result<FromInit, Over> {
    let reading = read(from);
    tokio::pin!(reading);
    if let Ok(read) = timeout_at(deadline, &mut reading).await {
        return read;
    }
    match timeout(SECOND_CHANCE, reading).await {
        Ok(read) => read,
        Err(_) => Err(Over::Ended(format!(
            "init answered no ping for {} s",
            DEADMAN_MS / 1000
        ))),
    }
}

/// The next message. An end in between is the end of the pipe, which is no nonsense.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<FromInit, Over> {
    let closed = |_| Over::Ended("init closed the pipe".to_owned());
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await.map_err(closed)?;
    let length = wire::body_length(prefix, MAX_FROM_INIT)
        .ok_or_else(|| Over::Protocol(format!("a message above {MAX_FROM_INIT} bytes")))?;
    let mut body = vec![0; length];
    from.read_exact(&mut body).await.map_err(closed)?;
    wire::parse(&body).map_err(|_| Over::Protocol("a message that cannot be read".to_owned()))
}

fn fatal(reason: &str) -> Over {
    let words: String = visible(reason).chars().take(MAX_REASON).collect();
    Over::Ended(format!("init gave up: {words}"))
}

fn name(message: &FromInit) -> &'static str {
    match message {
        FromInit::Hello { .. } => "a hello",
        FromInit::Started { .. } => "a start",
        FromInit::StartFailed { .. } => "a failed start",
        FromInit::Exited(_) => "an exit",
        FromInit::Pong { .. } => "a pong",
        FromInit::Fatal { .. } => "last words",
    }
}
