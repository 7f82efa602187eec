//! What holds a sandbox: its lease, and the task that ends it.

use crate::context::sanitise::visible;
use crate::sandbox::backend::{Lease, SandboxError};
use crate::sandbox::channel::{Ending, Over};
use crate::sandbox::counts::Counts;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of them goes into a message.
const MAX_WORDS: usize = 2000;

/// A lease until it is ended.
pub(super) struct Held(RwLock<Option<Box<dyn Lease>>>);

impl Held {
    pub(super) fn new(lease: Box<dyn Lease>) -> Self {
        Self(RwLock::new(Some(lease)))
    }

    /// What the kernel counted since the start.
    pub(super) async fn counts(&self) -> Counts {
        match self.0.read().await.as_ref() {
            Some(lease) => lease.counts().await,
            None => Counts::default(),
        }
    }

    /// Resident bytes, where memory is watched.
    pub(super) async fn resident(&self) -> Option<u64> {
        match self.0.read().await.as_ref() {
            Some(lease) => lease.resident().await,
            None => None,
        }
    }

    async fn last_words(&self) -> String {
        match self.0.read().await.as_ref() {
            Some(lease) => lease.last_words().await,
            None => String::new(),
        }
    }

    /// The reason, with what else is known about the end.
    async fn explain(&self, over: Over) -> Over {
        let words = async {
            let killed = matches!(self.counts().await.oom_kills, Some(1..));
            (self.last_words().await, killed)
        };
        let (words, killed) = timeout(LAST_WORDS, words).await.unwrap_or_default();
        let words: String = visible(words.trim()).chars().take(MAX_WORDS).collect();
        let add = |mut text: String| {
            if killed {
                text.push_str("; the kernel killed processes in it for memory");
            }
            if !words.is_empty() {
                text.push_str(": ");
                text.push_str(&words);
            }
            text
        };
        match over {
            Over::Protocol(text) => Over::Protocol(add(text)),
            Over::Ended(text) => Over::Ended(add(text)),
        }
    }

    async fn end(&self) -> Result<(), SandboxError> {
        let lease = self.0.write().await.take();
        match lease {
            Some(lease) => lease.end().await,
            None => Ok(()),
        }
    }

    /// Ends what was started and did not come up; the pipe is closed already.
    pub(super) async fn give_up(&self, error: Over) -> SandboxError {
        let over = self.explain(error).await;
        // Why it did not come up says more than what is left of it, which is swept later.
        let _ = self.end().await;
        over.into_error()
    }
}

/// Waits for the end, says why, and ends the lease: also where the sandbox was dropped.
pub(super) struct Guardian {
    verdict: watch::Receiver<Option<Over>>,
    task: JoinHandle<Result<(), SandboxError>>,
}

impl Guardian {
    pub(super) fn spawn(ending: Ending, held: Arc<Held>) -> Self {
        let (say, verdict) = watch::channel(None);
        let task = tokio::spawn(async move {
            let over = held.explain(ending.reached().await).await;
            say.send_replace(Some(over));
            held.end().await
        });
        Self { verdict, task }
    }

    /// Why it ended. Waits until it has.
    pub(super) async fn verdict(&self) -> SandboxError {
        let mut verdict = self.verdict.clone();
        match verdict.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(over)) => over.clone().into_error(),
            Ok(None) | Err(_) => SandboxError::Ended("nobody knows why".to_owned()),
        }
    }

    /// Waits until nothing is left.
    pub(super) async fn done(self) -> Result<(), SandboxError> {
        self.task.await.unwrap_or_else(|error| {
            Err(SandboxError::Io {
                context: "failed to end the sandbox".to_owned(),
                source: std::io::Error::other(error),
            })
        })
    }
}
