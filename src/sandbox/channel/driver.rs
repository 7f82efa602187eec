//! Moves the connection: nothing flows on any stream but while this task runs.

use super::over::{Ending, Over};
use std::future::poll_fn;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter, Join};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, FrameDecodeError, Mode, Stream};

/// Below the multiplexer, which writes a header and a body at a time.
const BUFFER: usize = 64 * 1024;

/// Streams of a connection: three for each step, and some that are being let go.
const MAX_STREAMS: usize = 256;

/// What init may send unread on all streams together: the window of each stream, and this much that
/// fast readers win on top.
const WINDOW: usize = MAX_STREAMS * yamux::DEFAULT_CREDIT as usize + 32 * 1024 * 1024;

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
    ending: Ending,
) -> mpsc::Sender<Request> {
    let pipe = tokio::io::join(
        BufReader::with_capacity(BUFFER, from_init),
        BufWriter::with_capacity(BUFFER, to_init),
    );
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(WINDOW));
    let connection = Connection::new(pipe.compat(), config, Mode::Client);
    let (send, requests) = mpsc::channel(1);
    tokio::spawn(async move {
        let ended = Ended(ending);
        let over = drive(connection, requests, &ended.0).await;
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
    ending: &Ending,
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
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => return match inbound {
                Some(Ok(_)) => Over::Protocol("it opened a stream of its own".to_owned()),
                Some(Err(error)) => broken(&error),
                None => broken(&ConnectionError::Closed),
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
