//! A program's output on its way: known values replaced, onto the disk first, then to whoever reads
//! along.
//!
//! ```text
//!   bytes ─▶ redacted ─▶ log, ear ─▶ next          --raw: next gets the very bytes, the log does not
//! ```

use super::bench::Ear;
use crate::context::redact::{Redacting, Redactor};
use crate::record::LogWriter;
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// What whoever reads along gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passing {
    /// Known values replaced.
    #[default]
    Redacted,
    /// The very bytes, as the user asked for them.
    Raw,
}

/// Writes to a log and to `next`. What `next` takes is logged exactly once; when it takes no more,
/// neither does this, and the program feels it.
pub(super) struct Tee<'a> {
    log: LogWriter,
    ear: Ear,
    next: &'a mut (dyn AsyncWrite + Send + Unpin),
    passing: Passing,
    /// `None` where there is nothing to look for.
    redacting: Option<Redacting>,
    /// Decided and logged, and not taken by `next` yet.
    pending: Vec<u8>,
}

impl<'a> Tee<'a> {
    pub(super) fn new(
        (log, ear): (LogWriter, Ear),
        next: &'a mut (dyn AsyncWrite + Send + Unpin),
        (redactor, passing): (&Redactor, Passing),
    ) -> Self {
        Self {
            log,
            ear,
            next,
            passing,
            redacting: (!redactor.is_idle()).then(|| redactor.stream()),
            pending: Vec::new(),
        }
    }

    /// The log, whole, and whose values were found. `next` has what it got at the stream's end; what is
    /// held of a stream that was cut off is in the log alone.
    pub(super) fn into_log(mut self) -> (LogWriter, BTreeSet<String>) {
        self.decide(Redacting::finish);
        self.ear.finish();
        let found = self.redacting.map(|redacting| redacting.found().clone());
        (self.log, found.unwrap_or_default())
    }

    /// What the redactor gives out is logged, and passed on where that is wanted.
    fn decide(&mut self, give: impl FnOnce(&mut Redacting, &mut Vec<u8>)) {
        let Some(redacting) = &mut self.redacting else {
            return;
        };
        let mut decided = Vec::new();
        give(redacting, &mut decided);
        self.keep(&decided);
        if self.passing == Passing::Redacted {
            self.pending.extend_from_slice(&decided);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.log.put(bytes);
        self.ear.hear(bytes);
    }

    /// The bytes as they are to `next`, and then to the log.
    fn pass(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut *self.next).poll_write(context, bytes));
        // Where nobody reads along any more, what the program said is still kept.
        let logged = &bytes[..*taken.as_ref().unwrap_or(&bytes.len())];
        match self.redacting {
            Some(_) => self.decide(|redacting, out| redacting.push(logged, out)),
            None => self.keep(logged),
        }
        Poll::Ready(taken)
    }

    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let next = Pin::new(&mut *self.next);
            match ready!(next.poll_write(context, &self.pending))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => drop(self.pending.drain(..taken)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tee<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.redacting.is_none() || this.passing == Passing::Raw {
            return this.pass(context, bytes);
        }
        // What came before goes first; only then is more taken.
        let before = ready!(this.poll_pending(context));
        this.decide(|redacting, out| redacting.push(bytes, out));
        before?;
        match this.poll_pending(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Nothing more is there for now: what was said so far shall be seen.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.decide(Redacting::pause);
        ready!(self.poll_pending(context))?;
        Pin::new(&mut *self.next).poll_flush(context)
    }

    /// The stream has ended; `next` is its owner's to close.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.decide(Redacting::finish);
        ready!(self.poll_pending(context))?;
        Pin::new(&mut *self.next).poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::redact::Known;
    use crate::protocol::ids::StepNumber;
    use crate::record::{RunStore, Stream, new_run_id};
    use crate::tools::bench::Heard;
    use tokio::io::AsyncWriteExt;

    /// Takes three bytes at a time, and after so many none.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.0.len() >= self.1 {
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

    fn log(home: &tempfile::TempDir) -> LogWriter {
        let record = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        record
            .step_log(StepNumber(1), Stream::Stdout, None)
            .unwrap()
    }

    fn to(home: &tempfile::TempDir) -> (LogWriter, Ear) {
        (log(home), Heard::default().ear())
    }

    fn redactor() -> Redactor {
        let mut known = Known::default();
        known.add("KEY", b"hf_12345678");
        Redactor::new(&known)
    }

    #[tokio::test]
    async fn the_log_has_what_was_taken_once_and_what_broke_the_pipe() {
        for redactor in [Redactor::default(), redactor()] {
            let home = tempfile::tempdir().unwrap();
            let mut narrow = Narrow(Vec::new(), 12);
            let mut tee = Tee::new(to(&home), &mut narrow, (&redactor, Passing::Redacted));
            tee.write_all(b"twelve bytes").await.unwrap();
            tee.write_all(b" and more").await.unwrap_err();
            let summary = tee.into_log().0.finish();
            assert_eq!(narrow.0, b"twelve bytes");
            assert_eq!(
                std::fs::read(summary.path).unwrap(),
                b"twelve bytes and more"
            );
        }
    }

    #[tokio::test]
    async fn a_known_value_is_replaced_on_disk_always_and_for_others_unless_asked_for_raw() {
        let text = b"one hf_12345678 two hf_1234";
        let hidden = b"one *********** two hf_1234";
        for passing in [Passing::Redacted, Passing::Raw] {
            let home = tempfile::tempdir().unwrap();
            let mut narrow = Narrow(Vec::new(), 1000);
            let mut tee = Tee::new(to(&home), &mut narrow, (&redactor(), passing));
            for byte in text {
                tee.write_all(&[*byte]).await.unwrap();
                tee.flush().await.unwrap();
            }
            tee.shutdown().await.unwrap();
            let (log, found) = tee.into_log();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), ["KEY"]);
            assert_eq!(narrow.0.len(), text.len());
            let end = &narrow.0[15..];
            assert_eq!(end, &text[15..]);
            let passed = narrow.0.windows(11).any(|part| part == b"hf_12345678");
            assert_eq!(passed, passing == Passing::Raw);
            let logged = std::fs::read(log.finish().path).unwrap();
            assert_eq!(logged.len(), text.len());
            assert!(!logged.windows(8).any(|part| part == b"12345678"));
            assert_eq!(&logged[7..], &hidden[7..]);
        }
    }
}
