//! Moves the connection: nothing flows on any stream but while this task runs.

use super::over::{Ending, Over};
use super::stream::Duplex;
use crate::sandbox::wire::MAX_OUTBOUND_STREAMS;
use std::future::poll_fn;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, Join};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, FrameDecodeError, Mode, Stream};

/// Below the multiplexer, which writes a header and a body at a time.
const BUFFER: usize = 64 * 1024;

/// Streams of a connection: three for each step, and some that are being let go.
const MAX_STREAMS: usize = 256;

/// What fast readers win on top of the window of each stream.
const EXTRA: usize = 32 * 1024 * 1024;

/// Streams of init's own that wait to be taken.
pub(super) type Inbound = Option<mpsc::Sender<Duplex>>;

/// Somebody wants a stream. The answer is `None` when there are too many.
pub(super) type Request = oneshot::Sender<Option<Stream>>;

type Pipe = Compat<
    Join<
        BufReader<Box<dyn AsyncRead + Send + Unpin>>,
        BufWriter<Box<dyn AsyncWrite + Send + Unpin>>,
    >,
>;

/// Starts the task. It ends, and closes the pipe, when the sender is dropped or an end is reached.
pub(super) fn spawn(
    from_init: Box<dyn AsyncRead + Send + Unpin>,
    to_init: Box<dyn AsyncWrite + Send + Unpin>,
    (inbound, ending): (Inbound, Ending),
) -> mpsc::Sender<Request> {
    let pipe = tokio::io::join(
        BufReader::with_capacity(BUFFER, from_init),
        BufWriter::with_capacity(BUFFER, to_init),
    );
    let mut config = Config::default();
    let streams = match inbound {
        Some(_) => MAX_STREAMS + MAX_OUTBOUND_STREAMS,
        None => MAX_STREAMS,
    };
    config.set_max_num_streams(streams);
    // What init may send unread on all streams together.
    config
        .set_max_connection_receive_window(Some(streams * yamux::DEFAULT_CREDIT as usize + EXTRA));
    let connection = Connection::new(pipe.compat(), config, Mode::Client);
    let (send, requests) = mpsc::channel(1);
    tokio::spawn(async move {
        let ended = Ended(ending);
        let over = drive(connection, requests, (&inbound, &ended.0)).await;
        ended.0.set(over);
    });
    send
}

/// The end has a reason also where the multiplexer gave way to what init sent.
struct Ended(Ending);

impl Drop for Ended {
    fn drop(&mut self) {
        let nonsense = "its connection could not be followed".to_owned();
        self.0.set(Over::Protocol(nonsense));
    }
}

async fn drive(
    mut connection: Connection<Pipe>,
    mut requests: mpsc::Receiver<Request>,
    (taker, ending): (&Inbound, &Ending),
) -> Over {
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(reply) = request else {
                    return Over::Ended("it was let go".to_owned());
                };
                let opened = match poll_fn(|cx| connection.poll_new_outbound(cx)).await {
                    Ok(stream) => Some(stream),
                    Err(ConnectionError::TooManyStreams) => None,
                    Err(error) => return broken(&error),
                };
                // Whoever asked may have gone away; then the stream is dropped.
                let _ = reply.send(opened);
            }
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => match (inbound, taker) {
                // One too many at once is dropped, which its client sees.
                (Some(Ok(stream)), Some(taker)) => drop(taker.try_send(stream.compat())),
                (Some(Ok(_)), None) => {
                    return Over::Protocol("it opened a stream of its own".to_owned());
                }
                (Some(Err(error)), _) => return broken(&error),
                (None, _) => return broken(&ConnectionError::Closed),
            },
            over = ending.reached() => return over,
        }
    }
}

/// Nonsense is told from an end: init that is killed in the middle of a frame has said nothing wrong.
fn broken(error: &ConnectionError) -> Over {
    match error {
        ConnectionError::Closed => Over::Ended("init closed the pipe".to_owned()),
        ConnectionError::Io(error) | ConnectionError::Decode(FrameDecodeError::Io(error)) => {
            match error.kind() {
                io::ErrorKind::InvalidData => Over::Protocol(error.to_string()),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                    Over::Ended("init closed the pipe".to_owned())
                }
                _ => Over::Ended(format!("its pipe failed: {error}")),
            }
        }
        other => Over::Protocol(other.to_string()),
    }
}
