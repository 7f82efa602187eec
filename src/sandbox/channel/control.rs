//! The control stream: what is said to init, and what is heard from it.

use super::ledger::Ledger;
use super::over::{Ending, Over};
use super::stream::Raw;
use crate::context::sanitise::visible;
use crate::sandbox::wire::{
    self, DEADMAN_MS, FromInit, MAX_FROM_INIT, PING_MS, PROTOCOL_VERSION, ToInit,
};
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// What a silent init is given beyond the timer: after a pause of this process its answers are still
/// in the pipe.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// How much of init's own words is passed on.
const MAX_REASON: usize = 500;

/// Pings sent so far. Answers come in the same order, so the last one is a number too.
#[derive(Default)]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    pub(super) fn beat(&self) -> ToInit {
        ToInit::Ping {
            seq: self.0.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    fn sent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the two directions share.
pub(super) struct Ends {
    pub(super) to_say: mpsc::UnboundedReceiver<Vec<u8>>,
    /// Told once, when init has said hello.
    pub(super) hello: oneshot::Sender<()>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) pulse: Pulse,
    pub(super) ending: Ending,
}

/// Speaks and listens until there is nothing more to hear, which is the end of the connection.
///
/// In one task: a stream wakes whoever polled it last, and of two tasks, one that reads and one that
/// writes, the other would sleep on.
pub(super) async fn converse(stream: Raw, ends: Ends) {
    let (mut from, to) = tokio::io::split(stream.compat());
    let speaking = async {
        speak(to, ends.to_say, &ends.pulse).await;
        // A connection that is gone is noticed by the driver, and by the one that listens.
        pending().await
    };
    let listening = async {
        if let Err(over) = heed_hello(&mut from).await {
            return over;
        }
        // Whoever started it may have gone away; the driver ends then.
        let _ = ends.hello.send(());
        heed(&mut from, &ends.ledger, &ends.pulse).await
    };
    let over: Over = tokio::select! {
        over = listening => over,
        never = speaking => never,
    };
    ends.ending.set(over);
}

/// Says hello, then what there is to say, and pings. Ends with the channel.
async fn speak(
    mut to: impl AsyncWrite + Unpin,
    mut to_say: mpsc::UnboundedReceiver<Vec<u8>>,
    pulse: &Pulse,
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
        if write(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    to.write_all(frame).await?;
    to.flush().await
}

pub(super) async fn heed_hello(from: &mut (impl AsyncRead + Unpin)) -> Result<(), Over> {
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

pub(super) async fn heed(
    from: &mut (impl AsyncRead + Unpin),
    ledger: &Mutex<Ledger>,
    pulse: &Pulse,
) -> Over {
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
                if let Err(nonsense) = super::lock(ledger).hear(about_a_step) {
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
