//! The streams that wait for their step to start.

use crate::wire::StreamHead;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::compat::Compat;

/// A stream of the connection.
pub type Stream = Compat<yamux::Stream>;

/// How long a step waits for a stream whose opening came before the request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The streams of one step.
pub struct StepStreams {
    pub stdin: Option<Stream>,
    pub stdout: Stream,
    pub stderr: Stream,
}

/// Streams whose head is read and whose step is not started.
#[derive(Default)]
pub struct Streams {
    waiting: RefCell<HashMap<StreamHead, Stream>>,
    arrived: Notify,
}

impl Streams {
    pub fn put(&self, head: StreamHead, stream: Stream) {
        self.waiting.borrow_mut().insert(head, stream);
        self.arrived.notify_waiters();
    }

    /// All of a step's; `None` where one was not opened.
    pub async fn take(&self, step: u32, stdin: bool) -> Option<StepStreams> {
        let all = async {
            let stdin = match stdin {
                true => Some(self.take_one(StreamHead::Stdin(step)).await),
                false => None,
            };
            StepStreams {
                stdin,
                stdout: self.take_one(StreamHead::Stdout(step)).await,
                stderr: self.take_one(StreamHead::Stderr(step)).await,
            }
        };
        timeout(PATIENCE, all).await.ok()
    }

    async fn take_one(&self, head: StreamHead) -> Stream {
        loop {
            let arrived = self.arrived.notified();
            if let Some(stream) = self.waiting.borrow_mut().remove(&head) {
                return stream;
            }
            arrived.await;
        }
    }
}
