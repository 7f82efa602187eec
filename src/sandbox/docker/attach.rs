//! The container's stdio as two byte streams: the engine's frames are taken apart here.
//!
//! Stdout is init's half of the pipe, unless init came to the [door](super::door): then it says nothing.
//! Stderr is init's last words, kept for an error message, and never mixed into the pipe. Anything else
//! (a frame that is neither, a torn one) is a protocol error.

use super::engine::{self, Engine};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::last_words::LastWords;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use bytes::{Buf, Bytes};
use futures_util::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Both ends of an attached container.
pub(super) struct Attached {
    pub(super) from_init: FromInit,
    pub(super) to_init: Pin<Box<dyn AsyncWrite + Send>>,
    pub(super) words: LastWords,
}

/// Init's standard output.
pub(super) struct FromInit {
    frames: Frames,
    rest: Bytes,
    words: LastWords,
    /// Must come before anything else.
    owed: Option<u8>,
}

/// Attaches to a container that is created and not yet started: nothing it says is lost.
pub(super) async fn attach(engine: &Engine, name: &str) -> Result<Attached, SandboxError> {
    let options = AttachContainerOptionsBuilder::default()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .build();
    let both = engine
        .client
        .attach_container(name, Some(options))
        .await
        .map_err(|error| engine::failed("attach to container", &error))?;
    let words = LastWords::default();
    Ok(Attached {
        from_init: FromInit {
            frames: both.output,
            rest: Bytes::new(),
            words: words.clone(),
            owed: None,
        },
        to_init: both.input,
        words,
    })
}

impl FromInit {
    /// Waits until there is something to read, and leaves it there. False at the end.
    pub(super) fn poll_spoke(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.rest.is_empty() {
            match ready!(self.frames.as_mut().poll_next(context)) {
                None => return Poll::Ready(Ok(false)),
                Some(Ok(LogOutput::StdOut { message })) => self.rest = message,
                Some(Ok(LogOutput::StdErr { message })) => self.words.add(&message),
                Some(Ok(LogOutput::StdIn { .. } | LogOutput::Console { .. })) => {
                    return Poll::Ready(Err(nonsense(
                        "the engine sent a frame that is neither stdout nor stderr",
                    )));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        match self.owed {
            Some(owed) if self.rest[0] != owed => {
                Poll::Ready(Err(nonsense("init does not say that it found no door")))
            }
            Some(_) => {
                self.owed = None;
                self.rest.advance(1);
                self.poll_spoke(context)
            }
            None => Poll::Ready(Ok(true)),
        }
    }

    /// What begins with this byte, which is no part of it.
    pub(super) fn after(mut self, owed: u8) -> Self {
        self.owed = Some(owed);
        self
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl AsyncRead for FromInit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_spoke(context))? {
            return Poll::Ready(Ok(()));
        }
        let length = self.rest.len().min(into.remaining());
        into.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
impl Attached {
    /// One of no engine.
    pub(super) fn saying(stdout: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        use futures_util::StreamExt;
        let words = LastWords::default();
        Self {
            from_init: FromInit {
                frames: Box::pin(stdout.map(|message| Ok(LogOutput::StdOut { message }))),
                rest: Bytes::new(),
                words: words.clone(),
                owed: None,
            },
            to_init: Box::pin(tokio::io::sink()),
            words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::last_words::MAX_WORDS;
    use tokio::io::AsyncReadExt;

    fn from(frames: Vec<LogOutput>) -> FromInit {
        FromInit {
            frames: Box::pin(futures_util::stream::iter(frames.into_iter().map(Ok))),
            rest: Bytes::new(),
            words: LastWords::default(),
            owed: None,
        }
    }

    fn out(text: &'static str) -> LogOutput {
        LogOutput::StdOut {
            message: Bytes::from_static(text.as_bytes()),
        }
    }

    fn err(message: Vec<u8>) -> LogOutput {
        LogOutput::StdErr {
            message: message.into(),
        }
    }

    #[tokio::test]
    async fn stdout_is_the_pipe_and_stderr_the_last_words() {
        let mut reader = from(vec![
            out("ab"),
            out(""),
            err(b"oh no\n".to_vec()),
            out("cd"),
        ]);
        let mut read = String::new();
        reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "abcd");
        assert_eq!(reader.words.text(), "oh no");
    }

    #[tokio::test]
    async fn what_is_owed_comes_first_or_nothing_does() {
        let mut read = String::new();
        let mut reader = from(vec![out("-"), out("ab")]).after(b'-');
        reader.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "ab");
        let mut reader = from(vec![out("ab")]).after(b'-');
        let error = reader.read(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn last_words_are_bounded() {
        let mut reader = from(vec![err(vec![b'x'; 100_000]), err(vec![b'y'; 10])]);
        assert_eq!(reader.read(&mut [0; 4]).await.unwrap(), 0);
        assert_eq!(reader.words.text().len(), MAX_WORDS);
    }

    #[tokio::test]
    async fn an_unknown_frame_is_a_protocol_error() {
        let console = LogOutput::Console {
            message: Bytes::from_static(b"x"),
        };
        let error = from(vec![console]).read(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
