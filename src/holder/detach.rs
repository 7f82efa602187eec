//! A client's output stream, and whether the program minds when it breaks.
//!
//! ```text
//!   writes ──▶ client        breaks: on_disconnect = "stop" ──▶ an error, the program sees a closed pipe
//!                            breaks: "finish" ─┬ the client is gone ──▶ taken and forgotten; the log has it
//!                                              └ it only closed this one ──▶ an error
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// A client that dies closes everything at once; the news of it may come in any order.
const NEWS: Duration = Duration::from_secs(10);

type Doubt = Pin<Box<dyn Future<Output = bool> + Send>>;

pub(super) struct Output {
    /// `None` once the client is gone and the program goes on.
    to: Option<UnixStream>,
    /// Told when the client is gone; `None`: it is minded.
    gone: Option<CancellationToken>,
    doubt: Option<Doubt>,
}

impl Output {
    /// `gone` where the program goes on without its client.
    pub(super) fn new(to: UnixStream, gone: Option<CancellationToken>) -> Self {
        Self {
            to: Some(to),
            gone,
            doubt: None,
        }
    }

    /// After an error: whether to go on.
    fn poll_doubt(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(doubt) = &mut self.doubt else {
            return Poll::Ready(Ok(()));
        };
        let gone = ready!(doubt.as_mut().poll(context));
        self.doubt = None;
        match gone {
            true => {
                self.to = None;
                Poll::Ready(Ok(()))
            }
            false => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_doubt(context))?;
            let Some(to) = &mut self.to else {
                return Poll::Ready(Ok(bytes.len()));
            };
            let error = match ready!(Pin::new(to).poll_write(context, bytes)) {
                Ok(written) => return Poll::Ready(Ok(written)),
                Err(error) => error,
            };
            let Some(gone) = self.gone.clone() else {
                return Poll::Ready(Err(error));
            };
            self.doubt = Some(Box::pin(async move {
                tokio::time::timeout(NEWS, gone.cancelled()).await.is_ok()
            }));
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn after_the_reader_left(gone: Option<CancellationToken>) -> io::Result<()> {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        Output::new(near, gone).write_all(b"said to nobody").await
    }

    #[tokio::test]
    async fn a_program_goes_on_without_its_client_only_where_that_is_meant() {
        let gone = CancellationToken::new();
        gone.cancel();
        assert!(after_the_reader_left(Some(gone)).await.is_ok());
        assert!(after_the_reader_left(None).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_only_closed_its_output_is_minded() {
        let there = CancellationToken::new();
        assert!(after_the_reader_left(Some(there)).await.is_err());
    }
}
