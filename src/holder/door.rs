//! The door of a holder: what is to be seen and asked goes to the client whose execution it is about.
//!
//! Which client that is, the task knows: an execution is one task from its request to its end, and the
//! bench asks within it. What concerns no client goes to the holder's own door: its log.

use super::wire::FromHolder;
use crate::protocol::event::{Approver, Event};
use crate::protocol::question::{Answer, QuestionView};
use crate::tools::door::{Answered, Door};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// The client of the execution that this task carries out.
    pub(super) static CLIENT: Arc<Client>;
}

/// The far end of one execution.
pub(super) struct Client {
    say: mpsc::Sender<FromHolder>,
    waiting: Mutex<Option<oneshot::Sender<Answered>>>,
    gone: CancellationToken,
}

impl Client {
    pub(super) fn new(say: mpsc::Sender<FromHolder>) -> Self {
        Self {
            say,
            waiting: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// An answer came. One to no question is nobody's.
    pub(super) fn answered(&self, answer: Answer, approver: Approver) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.take() {
            // The question may have been dropped.
            let _ = waiting.send(Answered { answer, approver });
        }
    }

    /// Nobody is there any more.
    pub(super) fn is_gone(&self) {
        self.gone.cancel();
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        let (send, answered) = oneshot::channel();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(send);
        let asked = self.say.send(FromHolder::Ask(Box::new(question.clone())));
        tokio::select! {
            biased;
            () = self.gone.cancelled() => nobody(),
            answered = async {
                match asked.await {
                    Ok(()) => answered.await.unwrap_or_else(|_| nobody()),
                    Err(_) => nobody(),
                }
            } => answered,
        }
    }
}

fn nobody() -> Answered {
    Answered {
        answer: Answer::No {
            reason: "nobody can be asked: the client went away".to_owned(),
        },
        approver: Approver::NoTerminal,
    }
}

/// The door of this process.
pub struct HolderDoor {
    own: Arc<dyn Door>,
}

impl HolderDoor {
    /// `own` is shown what concerns no client.
    pub fn new(own: Arc<dyn Door>) -> Self {
        Self { own }
    }
}

#[async_trait]
impl Door for HolderDoor {
    fn show(&self, event: &Event) {
        let shown = CLIENT.try_with(|client| {
            let text = match event {
                Event::Notice { text } => Some(text.clone()),
                Event::Alarm { alarm, .. } => Some(format!("noticed: {alarm}")),
                _ => None,
            };
            if let Some(text) = text {
                // A client that does not read misses a notice; the record has it.
                let _ = client.say.try_send(FromHolder::Notice { text });
            }
        });
        if shown.is_err() {
            self.own.show(event);
        }
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        match CLIENT.try_with(Arc::clone) {
            Ok(client) => client.ask(question).await,
            Err(_) => self.own.ask(question).await,
        }
    }
}
