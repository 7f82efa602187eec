//! A stream whose first bytes are looked at before they are passed on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What is read at once.
const PIECE: usize = 4096;

/// The stream, and what was read of it and is still to be had.
pub(super) struct Client<S> {
    stream: S,
    held: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Client<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            held: Vec::new(),
        }
    }

    /// What is there to look at.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Looks further. `false` at the end of the stream.
    pub(super) async fn look(&mut self) -> io::Result<bool> {
        let before = self.held.len();
        self.held.reserve(PIECE);
        let read = (&mut self.stream)
            .take(PIECE as u64)
            .read_buf(&mut self.held)
            .await?;
        debug_assert_eq!(self.held.len(), before + read);
        Ok(read > 0)
    }

    /// Takes what was looked at.
    pub(super) fn consume(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.held.split_off(bytes.min(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Client<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held[..count]);
        self.held.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Client<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
