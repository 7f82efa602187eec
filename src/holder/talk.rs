//! A connection to a client as two queues of messages.

use super::wire::{self, FromHolder, ToHolder};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a client may take to read our last words.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Messages that wait for a client to read them.
const UNREAD: usize = 64;

/// A connection as two queues. The one from the client ends when it is gone, or talks nonsense.
pub(super) struct Talk {
    pub(super) said: mpsc::Receiver<ToHolder>,
    pub(super) say: mpsc::Sender<FromHolder>,
    writer: JoinHandle<()>,
}

impl Talk {
    pub(super) fn over(stream: UnixStream) -> Self {
        let (mut from, mut to) = stream.into_split();
        let (heard, said) = mpsc::channel(8);
        let (say, mut to_say) = mpsc::channel::<FromHolder>(UNREAD);
        tokio::spawn(async move {
            while let Ok(Some(message)) = wire::read_message(&mut from).await {
                if heard.send(message).await.is_err() {
                    break;
                }
            }
        });
        let writer = tokio::spawn(async move {
            while let Some(message) = to_say.recv().await {
                if wire::write_message(&mut to, &message).await.is_err() {
                    break;
                }
            }
        });
        Self { said, say, writer }
    }

    /// Says the last word. Whoever does not read it is not waited for.
    pub(super) async fn end(self, last: FromHolder) {
        let Self { said, say, writer } = self;
        // A writer that has ended takes nothing.
        let _ = timeout(LAST_WORDS, say.send(last)).await;
        drop((said, say));
        let _ = timeout(LAST_WORDS, writer).await;
    }
}
