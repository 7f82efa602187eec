//! Who looks at an agent's run, and who answers its questions.
//!
//! ```text
//!   desk ─ show ─▶ Audience ─┬─▶ seat: events as they happen, after those of the record
//!                            └─▶ seat   one that does not keep up loses its seat, and takes it again
//!   desk ─ ask ──▶ --yes was typed ─▶ yes, to what lies inside the policy
//!                  a person is there ─▶ asked; the first answer counts
//!                  nobody is there ─┬ it was started from a terminal ─▶ it waits for who attaches
//!                                   └ it was not ─▶ no, as without a holder
//! ```
//!
//! How long a question waits is the policy's to say (`approval.timeout`): the desk takes it back.

use super::wire::{FromHolder, RunOver, Seat, When};
use crate::protocol::event::{Approver, Event};
use crate::protocol::question::{Answer, QuestionView};
use crate::tools::door::{Answered, Door};
use async_trait::async_trait;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Turns, mpsc, oneshot};

/// Events that wait for one who looks.
const UNSEEN: usize = 1024;

/// Who answers while nobody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// `--yes`.
    Yes,
    /// Whoever comes.
    Person,
    /// It was started where nobody could be asked.
    Nobody,
}

/// All who look.
pub struct Audience {
    standing: Standing,
    /// One question at a time.
    turns: Turns<()>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Events shown that are in the record.
    recorded: u64,
    seats: Vec<Taken>,
    next: u64,
    asking: Option<Asking>,
    over: Option<RunOver>,
}

struct Taken {
    number: u64,
    seat: Seat,
    say: mpsc::Sender<FromHolder>,
}

struct Asking {
    question: QuestionView,
    answer: oneshot::Sender<Answered>,
}

/// A seat; free again with the value.
pub(super) struct Sitting {
    audience: Arc<Audience>,
    number: u64,
    /// Ends where it did not keep up.
    pub(super) live: mpsc::Receiver<FromHolder>,
    /// Records that were there before.
    pub(super) before: u64,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        let number = self.number;
        self.audience
            .lock()
            .seats
            .retain(|taken| taken.number != number);
    }
}

impl Audience {
    pub fn new(standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            standing,
            turns: Turns::new(()),
            inner: Mutex::default(),
        })
    }

    /// How it ended, for those who look when the run is closed.
    pub fn is_over(&self, over: RunOver) {
        self.lock().over = Some(over);
    }

    pub(super) fn over(&self) -> Option<RunOver> {
        self.lock().over.clone()
    }

    /// From now on all is shown there; an open question first.
    pub(super) fn sit(self: &Arc<Self>, seat: Seat) -> Sitting {
        let (say, live) = mpsc::channel(UNSEEN);
        let mut inner = self.lock();
        if let (Seat::Asked, Some(asking)) = (seat, &inner.asking) {
            // It is the first in an empty queue.
            let _ = say.try_send(FromHolder::Ask(Box::new(asking.question.clone())));
        }
        let number = inner.next;
        inner.next += 1;
        inner.seats.push(Taken { number, seat, say });
        Sitting {
            audience: self.clone(),
            number,
            live,
            before: inner.recorded,
        }
    }

    /// An answer to the open question; one to none is nobody's.
    pub(super) fn answered(&self, answered: Answered) {
        if let Some(asking) = self.lock().asking.take() {
            // It may have been taken back.
            let _ = asking.answer.send(answered);
        }
    }

    fn shown(&self, event: &Event) {
        let mut inner = self.lock();
        let lasting = !event.is_transient();
        inner.recorded += u64::from(lasting);
        inner.seats.retain(|taken| {
            let seen = FromHolder::Seen {
                event: Box::new(event.clone()),
                when: When::Now,
            };
            match taken.say.try_send(seen) {
                Ok(()) => true,
                // What streams may be missed. What is lasting it reads from the record.
                Err(mpsc::error::TrySendError::Full(_)) => !lasting,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        if self.standing == Standing::Yes {
            return Answered {
                answer: Answer::Yes,
                approver: Approver::YesFlag,
            };
        }
        let _turn = self.turns.lock().await;
        let Some(answer) = self.put(question) else {
            return nobody();
        };
        let _settled = Settled(self);
        answer.await.unwrap_or_else(|_| nobody())
    }

    /// Before all who can answer; `None` where nobody can, or will.
    fn put(&self, question: &QuestionView) -> Option<oneshot::Receiver<Answered>> {
        let mut inner = self.lock();
        let mut asked = false;
        inner.seats.retain(|taken| {
            if taken.seat == Seat::Looking {
                return true;
            }
            let ask = FromHolder::Ask(Box::new(question.clone()));
            let told = taken.say.try_send(ask).is_ok();
            asked |= told;
            told
        });
        if !asked && self.standing == Standing::Nobody {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        inner.asking = Some(Asking {
            question: question.clone(),
            answer,
        });
        Some(answered)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// Takes the question away from all who see it.
struct Settled<'a>(&'a Audience);

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.asking = None;
        inner.seats.retain(|taken| {
            taken.seat == Seat::Looking || taken.say.try_send(FromHolder::Settled).is_ok()
        });
    }
}

fn nobody() -> Answered {
    Answered {
        answer: Answer::No {
            reason: "nobody can be asked: there is no terminal".to_owned(),
        },
        approver: Approver::NoTerminal,
    }
}

/// The door of an agent's holder.
pub struct AgentDoor {
    audience: Arc<Audience>,
    /// The holder's own: its log.
    own: Arc<dyn Door>,
}

impl AgentDoor {
    pub fn new(audience: Arc<Audience>, own: Arc<dyn Door>) -> Self {
        Self { audience, own }
    }
}

#[async_trait]
impl Door for AgentDoor {
    fn show(&self, event: &Event) {
        self.own.show(event);
        self.audience.shown(event);
    }

    async fn ask(&self, question: &QuestionView) -> Answered {
        self.audience.ask(question).await
    }
}

#[cfg(test)]
#[path = "audience_tests.rs"]
mod tests;
