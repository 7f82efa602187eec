//! A program's output on its way: onto the disk first, then to whoever reads along.

use crate::record::LogWriter;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Writes to a log and to `next`. What `next` takes is logged exactly once; when it takes no more,
/// neither does this, and the program feels it.
pub(super) struct Tee<'a> {
    log: LogWriter,
    next: &'a mut (dyn AsyncWrite + Send + Unpin),
}

impl<'a> Tee<'a> {
    pub(super) fn new(log: LogWriter, next: &'a mut (dyn AsyncWrite + Send + Unpin)) -> Self {
        Self { log, next }
    }

    pub(super) fn into_log(self) -> LogWriter {
        self.log
    }
}

impl AsyncWrite for Tee<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = match ready!(Pin::new(&mut *self.next).poll_write(context, bytes)) {
            Ok(taken) => taken,
            Err(error) => {
                // Nobody reads along any more; what the program said is still kept.
                self.log.put(bytes);
                return Poll::Ready(Err(error));
            }
        };
        self.log.put(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.next).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.next).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::StepNumber;
    use crate::record::{RunStore, Stream, new_run_id};
    use tokio::io::AsyncWriteExt;

    /// Takes three bytes at a time, and after twelve none.
    struct Narrow(Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.0.len() >= 12 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let taken = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_log_has_what_was_taken_once_and_what_broke_the_pipe() {
        let home = tempfile::tempdir().unwrap();
        let record = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        let log = record
            .step_log(StepNumber(1), Stream::Stdout, None)
            .unwrap();
        let mut narrow = Narrow(Vec::new());
        let mut tee = Tee::new(log, &mut narrow);
        tee.write_all(b"twelve bytes").await.unwrap();
        tee.write_all(b" and more").await.unwrap_err();
        let summary = tee.into_log().finish();
        assert_eq!(narrow.0, b"twelve bytes");
        assert_eq!(
            std::fs::read(summary.path).unwrap(),
            b"twelve bytes and more"
        );
    }
}
