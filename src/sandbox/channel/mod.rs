//! The host's end of a sandbox's pipe: one multiplexed connection over init's stdin and stdout, or over
//! the socket that a backend gives instead.
//!
//! ```text
//!   driver    moves the connection, opens streams         ends with the last [`Channel`], and with
//!   speaker   frames to init, and a ping now and then     it the pipe, and with it the sandbox
//!   listener  frames from init, judged by the [`Ledger`]
//!                 └─ nonsense, silence, a closed pipe ──▶ [`Over`], once; nothing goes on after it
//! ```
//!
//! What comes out of the pipe is hostile: frames are bounded, windows are bounded, init may open no
//! stream unless somebody takes them, and every message must fit the state of its step. It knows nothing of leases, specs and
//! policies; those are [`running`](super::running)'s. The multiplexer is named nowhere else on the host.

mod control;
mod driver;
#[cfg(test)]
pub(super) mod far_end;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod ledger;
mod over;
mod stream;

pub(super) use ledger::Heard;
pub(super) use over::{Ending, Over};
pub(super) use stream::{Duplex, Input, Next, Output};

use super::wire::{self, MAX_TO_INIT, Secret, StartStep, StreamHead, ToInit};
use crate::protocol::net::PROXY_PORT;
use control::Pulse;
use ledger::Ledger;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// Most steps at one time: with three streams each they stay below the connection's bound.
pub(super) const MAX_STEPS: usize = 64;

/// A connection to an init that has said hello.
pub(super) struct Channel {
    streams: mpsc::Sender<driver::Request>,
    say: mpsc::UnboundedSender<Vec<u8>>,
    ledger: Arc<Mutex<Ledger>>,
    ending: Ending,
}

/// Why a step did not begin.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// The connection is over.
    Over,
    /// As many as there may be run already.
    TooMany,
    /// Its arguments and environment do not fit in a frame.
    TooLarge,
}

/// A step's ends, before anything was asked of init.
pub(super) struct Streams {
    pub(super) stdin: Option<Input>,
    /// `None` when nobody wants it any more.
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
}

/// The number of a step, held until it was asked for.
pub(super) struct Ticket {
    step: u32,
    heard: mpsc::UnboundedReceiver<Heard>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Ticket {
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    /// What init says about it, in order. Pending for ever once the connection is over.
    pub(super) async fn hear(&mut self) -> Heard {
        match self.heard.recv().await {
            Some(heard) => heard,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.ledger).release(self.step);
    }
}

impl Channel {
    /// Opens the connection and shakes hands. How long that may take is the caller's to say. Streams
    /// that init opens go to `inbound`; without it, that is nonsense.
    pub(super) async fn open(
        from_init: Box<dyn AsyncRead + Send + Unpin>,
        to_init: Box<dyn AsyncWrite + Send + Unpin>,
        inbound: Option<mpsc::Sender<Duplex>>,
    ) -> (Self, Result<(), Over>) {
        let ending = Ending::default();
        let connects = inbound.is_some();
        let streams = driver::spawn(from_init, to_init, (inbound, ending.clone()));
        let (say, to_say) = mpsc::unbounded_channel();
        let channel = Self {
            streams,
            say,
            ledger: Arc::default(),
            ending,
        };
        let hello = channel.greet(to_say).await;
        if connects {
            channel.say(&ToInit::Network { proxy: PROXY_PORT });
        }
        (channel, hello)
    }

    async fn greet(&self, to_say: mpsc::UnboundedReceiver<Vec<u8>>) -> Result<(), Over> {
        let Ok(stream) = self.stream(StreamHead::Control).await else {
            return Err(self.ending.reached().await);
        };
        let (hello, greeted) = oneshot::channel();
        tokio::spawn(control::converse(
            stream,
            control::Ends {
                to_say,
                hello,
                ledger: Arc::clone(&self.ledger),
                pulse: Pulse::default(),
                ending: self.ending.clone(),
            },
        ));
        match greeted.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ending.reached().await),
        }
    }

    /// Opens the streams of a step, under a number nobody else has.
    pub(super) async fn prepare(&self, stdin: bool) -> Result<(Ticket, Streams), NotBegun> {
        let reserved = lock(&self.ledger).reserve(MAX_STEPS);
        let (step, heard) = reserved.ok_or(NotBegun::TooMany)?;
        let ticket = Ticket {
            step,
            heard,
            ledger: Arc::clone(&self.ledger),
        };
        let stdin = match stdin {
            true => Some(self.stream(StreamHead::Stdin(step)).await?),
            false => None,
        };
        let stdout = self.stream(StreamHead::Stdout(step)).await?;
        let stderr = self.stream(StreamHead::Stderr(step)).await?;
        let streams = Streams {
            stdin: stdin.map(Input::new),
            stdout: Some(Output::new(stdout)),
            stderr: Some(Output::new(stderr)),
        };
        Ok((ticket, streams))
    }

    /// Asks init for it. The ticket tells what comes of it.
    pub(super) fn start(&self, start: StartStep) -> Result<(), NotBegun> {
        let step = start.step;
        let frame = wire::frame(&ToInit::Start(start)).map_err(|_| NotBegun::TooLarge)?;
        if frame.len() > MAX_TO_INIT {
            return Err(NotBegun::TooLarge);
        }
        lock(&self.ledger).begin(step);
        self.send(frame);
        Ok(())
    }

    /// Before any step that is asked for later.
    pub(super) fn give(&self, secrets: Vec<Secret>) {
        self.say(&ToInit::Secrets(secrets));
    }

    pub(super) fn signal(&self, step: u32, signal: i32) {
        self.say(&ToInit::Signal { step, signal });
    }

    pub(super) fn kill(&self, step: u32) {
        self.say(&ToInit::Kill { step });
    }

    /// Steps that run or are about to.
    pub(super) fn alive(&self) -> usize {
        lock(&self.ledger).alive()
    }

    /// Ends it for this reason, unless it is over already.
    pub(super) fn fail(&self, over: Over) {
        self.ending.set(over);
    }

    /// To be told why it ended.
    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }

    fn say(&self, message: &ToInit) {
        if let Ok(frame) = wire::frame(message) {
            self.send(frame);
        }
    }

    fn send(&self, frame: Vec<u8>) {
        // Nobody listens any more only when everything ends.
        let _ = self.say.send(frame);
    }

    async fn stream(&self, head: StreamHead) -> Result<stream::Raw, NotBegun> {
        let (reply, opened) = oneshot::channel();
        if self.streams.send(reply).await.is_err() {
            return Err(NotBegun::Over);
        }
        let opened = opened.await.map_err(|_| NotBegun::Over)?;
        let mut stream = opened.ok_or(NotBegun::TooMany)?;
        match stream::write_head(&mut stream, head).await {
            Ok(()) => Ok(stream),
            Err(_) => Err(NotBegun::Over),
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
