//! Bytes between a step's streams and its caller.

use crate::sandbox::channel::{Input, Next, Output};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::sleep;

/// Bytes of input read at a time: two frames of the connection.
const BUFFER: usize = 32 * 1024;

/// How long a stream may stand still after its step has ended: init has it all by then.
const STANDSTILL: Duration = Duration::from_secs(10);

/// How much may come after the end: what was under way, which the connection's windows bound.
const MAX_LATE: u64 = 128 * 1024 * 1024;

/// An output stream that does not end as it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Reset, or lost with the connection.
    Cut,
    /// Nothing comes, and no end either.
    Stuck,
    /// It goes on and on.
    Endless,
}

impl Broken {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Cut => "an output stream was cut off",
            Self::Stuck => "an output stream did not end with its step",
            Self::Endless => "an output stream goes on after the end of its step",
        }
    }
}

/// Writes on what the program writes, until its end, or until the writer fails: then the stream is
/// dropped, which the program sees as a closed pipe.
pub(super) async fn output(
    from: &mut Option<Output>,
    to: &mut (dyn AsyncWrite + Send + Unpin),
    exited: watch::Receiver<bool>,
    count: &AtomicU64,
) -> Result<(), Broken> {
    if let Some(open) = from
        && pass(open, to, exited, count).await? == Passed::Unwanted
    {
        *from = None;
    }
    Ok(())
}

/// How a stream came to its end.
#[derive(PartialEq, Eq)]
enum Passed {
    All,
    /// The writer failed.
    Unwanted,
}

async fn pass(
    from: &mut Output,
    to: &mut (dyn AsyncWrite + Send + Unpin),
    exited: watch::Receiver<bool>,
    count: &AtomicU64,
) -> Result<Passed, Broken> {
    let mut late = 0;
    loop {
        let next = match from.ready() {
            Some(next) => next,
            // Nothing is here: whoever looks at the other end shall see what was written.
            None if to.flush().await.is_err() => return Ok(Passed::Unwanted),
            None => tokio::select! {
                next = from.next() => next,
                () = standstill(exited.clone()) => return Err(Broken::Stuck),
            },
        };
        let packet = match next {
            Next::Bytes(packet) => packet,
            Next::Broken => return Err(Broken::Cut),
            Next::End => {
                // A writer that fails at the last is one that fails.
                let _ = to.shutdown().await;
                return Ok(Passed::All);
            }
        };
        let bytes: &[u8] = packet.as_ref();
        count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if *exited.borrow() {
            late += bytes.len() as u64;
            if late > MAX_LATE {
                return Err(Broken::Endless);
            }
        }
        if to.write_all(bytes).await.is_err() {
            return Ok(Passed::Unwanted);
        }
    }
}

async fn standstill(mut exited: watch::Receiver<bool>) {
    // The sender outlives the pumps.
    let _ = exited.wait_for(|&exited| exited).await;
    sleep(STANDSTILL).await;
}

/// Passes input on until its end, or until the program reads no more. Only a failure to read is an
/// error: the program must not take half of its input for the whole.
pub(super) async fn input(
    mut from: Box<dyn AsyncRead + Send + Unpin + '_>,
    mut to: Input,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        let written = match count {
            0 => to.close().await,
            count => to.write_all(&buffer[..count]).await,
        };
        if count == 0 || written.is_err() {
            return Ok(());
        }
    }
}
