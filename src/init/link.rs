//! The ends of the pipe, and frames.
//!
//! ```text
//!   serve        stdin, stdout ──────────────────────────────────────────▶ the pipe
//!   serve door   connect to the host's door ── its one byte ─────────────▶ the pipe; stdin, stdout: the
//!                        │                                                 life line, which says nothing
//!                        └ no door, or shut ── our one byte on stdout ───▶ stdin, stdout are the pipe
//! ```
//!
//! Not tokio's own standard streams, which cost a thread each, nor its pipes, which refuse what some
//! engines attach: a socket.

use crate::pump;
use crate::wire;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter, Join, ReadBuf, join,
};

/// Below yamux, which writes a header and a body at a time: a whole frame goes out in one piece, for
/// each piece is read, framed and passed on by itself wherever an engine stands between.
const BUFFER: usize = 2 * pump::BUFFER;

/// How the host may be reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Stdio,
    /// At its door if it opens, else as above.
    Door,
}

/// One end: anything that can be polled.
pub struct End(AsyncFd<OwnedFd>);

/// Both ends, as the connection takes them.
pub type Pipe = Join<BufReader<End>, BufWriter<End>>;

/// Standard input and output where they are not the pipe: held open, for their end is the host's.
pub struct LifeLine {
    input: End,
    _output: End,
}

/// Takes standard input and output, and leaves `/dev/null` in their place, so that no other process
/// ever holds an end of the pipe.
pub fn take() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok((input, output))
}

/// Makes the pipe of them, or of what the host opens instead.
///
/// # Errors
/// When they cannot be polled, or nobody is at their other end.
pub async fn meet(
    (input, output): (OwnedFd, OwnedFd),
    way: Way,
) -> io::Result<(Pipe, Option<LifeLine>)> {
    let (input, mut output) = (End::new(input)?, End::new(output)?);
    if way == Way::Stdio {
        return Ok((pipe(input, output), None));
    }
    if let Ok((from, to)) = knock().await {
        let _output = output;
        return Ok((pipe(from, to), Some(LifeLine { input, _output })));
    }
    output.write_all(&[wire::HERE]).await?;
    Ok((pipe(input, output), None))
}

fn pipe(from: End, to: End) -> Pipe {
    let from = BufReader::with_capacity(BUFFER, from);
    join(from, BufWriter::with_capacity(BUFFER, to))
}

/// Connecting waits for nobody: the host listens since before this process was there.
async fn knock() -> io::Result<(End, End)> {
    let socket = UnixStream::connect(wire::DOOR)?;
    let mut from = End::new(socket.try_clone()?.into())?;
    let mut word = [0];
    from.read_exact(&mut word).await?;
    match word {
        [wire::HERE] => Ok((from, End::new(socket.into())?)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

impl LifeLine {
    /// Waits for its end. True where something was said on it instead.
    pub async fn broken(mut self) -> bool {
        matches!(self.input.read(&mut [0]).await, Ok(1))
    }
}

impl End {
    /// # Errors
    /// When it cannot be polled (a regular file).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(poll(fd)?))
    }
}

/// Has the runtime watch a descriptor that is owned by what is given.
#[expect(unsafe_code, reason = "registering a descriptor with the runtime")]
pub fn poll<T: AsRawFd + AsFd>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: both owners used here, `OwnedFd` and `SignalFd`, keep their descriptor open, and the
    // same, until they are dropped, which is after it was deregistered.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            if let Ok(done) = ready.try_io(|fd| uninterrupted(|| nix::unistd::read(fd, room))) {
                return Poll::Ready(done.map(|count| buffer.advance(count)));
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(done) = ready.try_io(|fd| uninterrupted(|| nix::unistd::write(fd, bytes))) {
                return Poll::Ready(done);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn uninterrupted(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

/// The next frame; `None` where the stream ends before one begins.
pub async fn read_frame<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    if from.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut prefix[1..]).await?;
    let length = wire::body_length(prefix, max).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    wire::parse(&body).map(Some).map_err(io::Error::other)
}

pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let frame = wire::frame(message).map_err(io::Error::other)?;
    if frame.len() > wire::MAX_FROM_INIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    to.write_all(&frame).await?;
    to.flush().await
}
