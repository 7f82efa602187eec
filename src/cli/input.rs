//! Standard input for a step.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf, Stdin};

/// A terminal that went away has no more input: what that means for the step, its signal says. Anything else
/// that cannot be read is an error.
pub(super) struct Input<R> {
    from: R,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Terminal,
    Other,
}

impl Input<Stdin> {
    pub(super) fn standard() -> Self {
        use std::io::IsTerminal as _;
        Self {
            from: tokio::io::stdin(),
            source: match io::stdin().is_terminal() {
                true => Source::Terminal,
                false => Source::Other,
            },
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Input<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.from).poll_read(cx, buffer)) {
            Err(error)
                if self.source == Source::Terminal
                    && error.raw_os_error() == Some(nix::libc::EIO) =>
            {
                Poll::Ready(Ok(()))
            }
            read => Poll::Ready(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    struct Gone;

    impl AsyncRead for Gone {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::Error::from_raw_os_error(nix::libc::EIO)))
        }
    }

    #[tokio::test]
    async fn a_terminal_that_went_away_is_the_end_of_input_and_a_broken_disk_is_not() {
        let read = async |source| {
            let mut all = Vec::new();
            Input { from: Gone, source }.read_to_end(&mut all).await
        };
        assert_eq!(read(Source::Terminal).await.unwrap(), 0);
        assert!(read(Source::Other).await.is_err());
    }
}
