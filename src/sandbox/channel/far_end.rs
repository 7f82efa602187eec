//! Init's end of the protocol, for tests: the same words, from inside this process.
//!
//! It promises nothing by itself: whoever has it says what it likes, nonsense too.

use crate::sandbox::wire::{self, FromInit, MAX_TO_INIT, StreamHead, ToInit};
use std::collections::HashMap;
use std::future::poll_fn;
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

/// A stream that the host opened.
pub(crate) type FarStream = Compat<yamux::Stream>;

/// One connection, from init's side.
pub(crate) struct FarEnd {
    read: ReadHalf<FarStream>,
    pub(crate) write: WriteHalf<FarStream>,
    pub(crate) streams: FarStreams,
    orders: mpsc::UnboundedSender<Order>,
}

/// The streams of steps, in whatever order they come.
pub(crate) struct FarStreams {
    arrived: mpsc::UnboundedReceiver<(StreamHead, FarStream)>,
    waiting: HashMap<StreamHead, FarStream>,
}

enum Order {
    OpenStream,
    Close,
}

impl FarEnd {
    /// Takes up a connection, up to the control stream.
    pub(crate) async fn accept(pipe: DuplexStream) -> Option<Self> {
        let (arrive, arrived) = mpsc::unbounded_channel();
        let (orders, orders_of_driver) = mpsc::unbounded_channel();
        tokio::spawn(drive(pipe, arrive, orders_of_driver));
        let mut streams = FarStreams {
            arrived,
            waiting: HashMap::new(),
        };
        let control = streams.take(StreamHead::Control).await?;
        let (read, write) = tokio::io::split(control);
        Some(Self {
            read,
            write,
            streams,
            orders,
        })
    }

    /// The next message; `None` at the end.
    pub(crate) async fn hear(&mut self) -> Option<ToInit> {
        hear(&mut self.read).await
    }

    pub(crate) async fn say(&mut self, message: FromInit) {
        self.say_bytes(&wire::frame(&message).unwrap()).await;
    }

    /// Anything at all. What the host does not take any more is lost.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes).await;
        let _ = self.write.flush().await;
    }

    /// What init never does.
    pub(crate) fn open_stream(&self) {
        let _ = self.orders.send(Order::OpenStream);
    }

    /// Ends, as a dying init does.
    pub(crate) fn close(&self) {
        let _ = self.orders.send(Order::Close);
    }

    pub(crate) fn split(self) -> (ReadHalf<FarStream>, WriteHalf<FarStream>, FarStreams) {
        (self.read, self.write, self.streams)
    }
}

pub(crate) async fn hear(from: &mut ReadHalf<FarStream>) -> Option<ToInit> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await.ok()?;
    let mut body = vec![0; wire::body_length(prefix, MAX_TO_INIT).unwrap()];
    from.read_exact(&mut body).await.ok()?;
    Some(wire::parse(&body).unwrap())
}

impl FarStreams {
    /// Waits for it; `None` when the connection is gone.
    pub(crate) async fn take(&mut self, head: StreamHead) -> Option<FarStream> {
        loop {
            if let Some(stream) = self.waiting.remove(&head) {
                return Some(stream);
            }
            let (head, stream) = self.arrived.recv().await?;
            self.waiting.insert(head, stream);
        }
    }
}

async fn drive(
    pipe: DuplexStream,
    arrive: mpsc::UnboundedSender<(StreamHead, FarStream)>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let (read, write) = tokio::io::split(pipe);
    let pipe = tokio::io::join(
        BufReader::with_capacity(64 * 1024, read),
        BufWriter::with_capacity(64 * 1024, write),
    );
    let mut connection = Connection::new(pipe.compat(), Config::default(), Mode::Server);
    loop {
        let inbound = tokio::select! {
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => inbound,
            Some(order) = orders.recv() => match order {
                Order::Close => return,
                Order::OpenStream => {
                    let mut stream = poll_fn(|cx| connection.poll_new_outbound(cx))
                        .await
                        .unwrap()
                        .compat();
                    tokio::spawn(async move { stream.write_all(b"hello").await });
                    continue;
                }
            },
        };
        let Some(Ok(stream)) = inbound else { return };
        let arrive = arrive.clone();
        tokio::spawn(async move {
            let mut stream = stream.compat();
            let mut prefix = [0; 4];
            stream.read_exact(&mut prefix).await.ok()?;
            let mut body = vec![0; wire::body_length(prefix, 16).unwrap()];
            stream.read_exact(&mut body).await.ok()?;
            arrive.send((wire::parse(&body).unwrap(), stream)).ok()
        });
    }
}
