//! One stream of the connection, as its users see it.

use crate::sandbox::wire::{self, StreamHead};
use futures_util::{AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use std::io;
use tokio_util::compat::Compat;
use yamux::Packet;

pub(super) type Raw = yamux::Stream;

/// A stream that init opened, both ways.
pub(crate) type Duplex = Compat<yamux::Stream>;

/// From the program to the host. Dropped before its end, it tells the program that nobody reads.
pub(crate) struct Output(Raw);

/// From the host to the program. Dropped, it is the end of the program's input.
pub(crate) struct Input(Raw);

/// How a stream went on.
pub(crate) enum Next {
    /// Never empty.
    Bytes(Packet),
    /// All was sent.
    End,
    /// It broke off: init reset it, or the connection is gone.
    Broken,
}

impl Output {
    pub(super) fn new(raw: Raw) -> Self {
        Self(raw)
    }

    /// The next bytes, as they came in: not copied.
    pub(crate) async fn next(&mut self) -> Next {
        let next = self.0.next().await;
        self.told(next)
    }

    /// The next bytes, if they are here already.
    pub(crate) fn ready(&mut self) -> Option<Next> {
        let next = self.0.next().now_or_never()?;
        Some(self.told(next))
    }

    fn told(&self, next: Option<io::Result<Packet>>) -> Next {
        match next {
            Some(Ok(packet)) => Next::Bytes(packet),
            // Our own half stays open, so only a stream that broke is closed altogether.
            None if !self.0.is_closed() => Next::End,
            None | Some(Err(_)) => Next::Broken,
        }
    }
}

impl Input {
    pub(super) fn new(raw: Raw) -> Self {
        Self(raw)
    }

    /// An error means that the program reads no more.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// End of file, after all that was written.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.0.close().await
    }
}

pub(super) async fn write_head(raw: &mut Raw, head: StreamHead) -> io::Result<()> {
    let frame = wire::frame(&head).map_err(io::Error::other)?;
    raw.write_all(&frame).await?;
    raw.flush().await
}
