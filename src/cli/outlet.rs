//! Where a program's output comes out: as it is into a pipe or a file, sanitised onto a terminal.
//!
//! Known values were replaced where it was logged; on a terminal they are once more: what stood between
//! the pieces of one may be gone there. A log that is read again is redacted on every way out, by what is
//! known today.

use super::direct;
use super::hush;
use crate::context::redact::{Redacting, Redactor};
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
    /// On a terminal, and where a log is read again.
    redacting: Option<Redacting>,
    /// Text that is not written yet.
    pending: Vec<u8>,
    /// Why bytes could not be written, other than that their reader is gone.
    lost: Option<io::Error>,
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
        let redacting = sanitiser.is_some().then(|| hush::redactor().stream());
        Self {
            to,
            sanitiser,
            redacting,
            pending: Vec::new(),
            lost: None,
        }
    }

    /// The same, redacting by what `redactor` knows on a terminal.
    pub(super) fn knowing(mut self, redactor: &Redactor) -> Self {
        if self.sanitiser.is_some() {
            self.redacting = Some(redactor.stream());
        }
        self
    }

    /// The same, redacting on every way out.
    pub(super) fn again(mut self) -> Self {
        let redactor = hush::redactor();
        if !redactor.is_idle() {
            self.redacting = Some(redactor.stream());
        }
        self
    }

    /// What the bytes come to, in line to be written.
    fn take(&mut self, bytes: &[u8]) {
        let text;
        let plain = match &mut self.sanitiser {
            Some(sanitiser) => {
                text = sanitiser.push(bytes);
                text.as_bytes()
            }
            None => bytes,
        };
        match &mut self.redacting {
            Some(redacting) => redacting.push(plain, &mut self.pending),
            None => self.pending.extend_from_slice(plain),
        }
    }

    /// Writes what was held back. A reader that is gone takes nothing, and that is its choice; a disk
    /// that is full has lost what was asked for.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if let Some(sanitiser) = &mut self.sanitiser {
            let rest = sanitiser.finish();
            match &mut self.redacting {
                Some(redacting) => redacting.push(rest.as_bytes(), &mut self.pending),
                None => self.pending.extend_from_slice(rest.as_bytes()),
            }
        }
        if let Some(redacting) = &mut self.redacting {
            redacting.finish(&mut self.pending);
        }
        let pending = std::mem::take(&mut self.pending);
        let written = match self.to.write_all(&pending).await {
            Ok(()) => self.to.flush().await,
            error => error,
        };
        if let Err(error) = written {
            self.note(&error);
        }
        self.lost.map_or(Ok(()), Err)
    }

    fn note(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe && self.lost.is_none() {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => error.kind().into(),
            };
            self.lost = Some(copy);
        }
    }

    fn flush_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(redacting) = &mut self.redacting {
            redacting.pause(&mut self.pending);
        }
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.to).poll_flush(context)
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
        if this.sanitiser.is_none() && this.redacting.is_none() {
            let written = ready!(Pin::new(&mut this.to).poll_write(context, bytes));
            if let Err(error) = &written {
                this.note(error);
            }
            return Poll::Ready(written);
        }
        // The text of the bytes before goes first; only then are new ones taken.
        ready!(this.poll_pending(context))?;
        this.take(bytes);
        match this.poll_pending(context) {
            Poll::Ready(Err(error)) => {
                this.note(&error);
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.flush_all(context));
        if let Err(error) = &flushed {
            self.note(error);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_full_disk_has_lost_bytes_and_a_reader_that_is_gone_has_not() {
        for direct in [true, false] {
            let full = std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap();
            let to: Box<dyn AsyncWrite + Send + Unpin> = match direct {
                true => direct::open(full.as_fd())
                    .unwrap_or_else(|| Box::new(tokio::fs::File::from_std(full))),
                false => Box::new(tokio::io::duplex(8).0),
            };
            let mut outlet = Outlet::new(to, None);
            // Some tell only when they are flushed.
            let _ = outlet.write_all(b"bytes").await;
            assert_eq!(outlet.finish().await.is_err(), direct);
        }
    }

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
            outlet.finish().await.unwrap();
            assert_eq!(reader.await.unwrap(), expected);
        }
    }
}
