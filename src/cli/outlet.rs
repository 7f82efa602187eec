//! Where a program's output comes out: raw into a pipe or a file, sanitised onto a terminal.

use super::direct;
use crate::context::sanitise::Sanitiser;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// One of this process's own output streams.
pub(super) struct Outlet {
    to: Box<dyn AsyncWrite + Send + Unpin>,
    /// On a terminal only.
    sanitiser: Option<Sanitiser>,
    /// Sanitised text that is not written yet.
    pending: Vec<u8>,
}

impl Outlet {
    pub(super) fn stdout(max_line: usize) -> Self {
        let plain = || Box::new(tokio::io::stdout()) as Box<_>;
        Self::new(
            direct::open(io::stdout().as_fd()).unwrap_or_else(plain),
            io::stdout()
                .is_terminal()
                .then(|| Sanitiser::live(max_line)),
        )
    }

    pub(super) fn stderr(max_line: usize) -> Self {
        let plain = || Box::new(tokio::io::stderr()) as Box<_>;
        Self::new(
            direct::open(io::stderr().as_fd()).unwrap_or_else(plain),
            io::stderr()
                .is_terminal()
                .then(|| Sanitiser::live(max_line)),
        )
    }

    fn new(to: Box<dyn AsyncWrite + Send + Unpin>, sanitiser: Option<Sanitiser>) -> Self {
        Self {
            to,
            sanitiser,
            pending: Vec::new(),
        }
    }

    /// Writes what was held back. A reader that is gone takes nothing, and that is its choice.
    pub(super) async fn finish(mut self) {
        if let Some(sanitiser) = &mut self.sanitiser {
            self.pending
                .extend_from_slice(sanitiser.finish().as_bytes());
        }
        let pending = std::mem::take(&mut self.pending);
        let _ = self.to.write_all(&pending).await;
        let _ = self.to.flush().await;
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.to).poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.sanitiser.is_none() {
            return Pin::new(&mut this.to).poll_write(context, bytes);
        }
        // The text of the bytes before goes first; only then are new ones taken.
        ready!(this.poll_pending(context))?;
        if let Some(sanitiser) = &mut this.sanitiser {
            this.pending
                .extend_from_slice(sanitiser.push(bytes).as_bytes());
        }
        match this.poll_pending(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.to).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.to).poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_terminal_gets_no_escape_and_a_pipe_gets_every_byte() {
        for (sanitised, expected) in [
            (true, &b"a clean line\n"[..]),
            (false, b"a \x1b]52;c;AAAA\x07clean line\n"),
        ] {
            let (near, mut far) = tokio::io::duplex(16);
            let mut outlet = Outlet::new(Box::new(near), sanitised.then(|| Sanitiser::live(1024)));
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                all
            });
            outlet
                .write_all(b"a \x1b]52;c;AAAA\x07clean line\n")
                .await
                .unwrap();
            outlet.finish().await;
            assert_eq!(reader.await.unwrap(), expected);
        }
    }
}
