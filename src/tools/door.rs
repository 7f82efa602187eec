//! Where a run is watched from and asked at: a terminal, a JSON stream, a test.

use crate::protocol::event::{Approver, Event};
use crate::protocol::question::{Answer, QuestionView};
use async_trait::async_trait;

/// A person's end of a run.
///
/// Contract: `show` neither blocks for long nor fails; what cannot be shown is dropped. `ask` returns
/// only for a person's own act, for `--yes`, or because nobody can be asked; it is cancelled by being
/// dropped, and then nothing was answered.
#[async_trait]
pub trait Door: Send + Sync {
    fn show(&self, event: &Event);
    async fn ask(&self, question: &QuestionView) -> Answered;
}

/// An answer, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub answer: Answer,
    pub approver: Approver,
}
