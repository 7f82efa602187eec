//! Where everything that happens passes: into the record first, then before the person's eyes; and
//! where a question is settled. Values that are known to be secret are replaced here for both.
//!
//! ```text
//!   event ─▶ record (flushed) ─▶ door        a record that cannot be written stops the run
//!
//!   verdict ─┬─ allowed ──────────────────────────┐
//!            ├─ denied ───────────────────────────┼─▶ Decided ─▶ permit, or words for the model
//!            └─ ask ─ Asked ─ door.ask ─ answer ──┘
//! ```

use super::ToolStop;
use super::door::{Answered, Door};
use crate::context::redact::Redactor;
use crate::policy::action::Act;
use crate::policy::permit::{Denial, Permit, Question, Reach, Verdict, digest_of};
use crate::protocol::event::{Approver, Event};
use crate::protocol::ids::Digest;
use crate::protocol::question::{Answer, QuestionBody, QuestionView};
use crate::record::RunRecord;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The record and the door of one run.
#[derive(Clone)]
pub struct Desk {
    record: Arc<RunRecord>,
    door: Arc<dyn Door>,
    redactor: Redactor,
    /// Held while an event goes into the record and before the eyes: it is seen in the record's order.
    order: Arc<Mutex<()>>,
}

/// How a question ended.
#[derive(Debug)]
pub enum Settled<A> {
    Granted { permit: Permit<A>, scope: Scope },
    Denied(Denial),
}

/// How far a yes reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// No person was asked.
    Unasked,
    Once,
    /// These very bytes, for the rest of the run.
    Run,
}

/// What bounds the waiting for an answer.
#[derive(Debug, Clone)]
pub struct Patience {
    /// After it the answer is no.
    pub timeout: Option<Duration>,
    pub cancel: CancellationToken,
}

impl Desk {
    pub fn new(record: Arc<RunRecord>, door: Arc<dyn Door>) -> Self {
        Self {
            record,
            door,
            redactor: Redactor::default(),
            order: Arc::default(),
        }
    }

    /// The same, to which these values are known.
    pub fn redacting(self, redactor: Redactor) -> Self {
        Self { redactor, ..self }
    }

    /// What knows the values that nobody is to read.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Records, then shows. When it returns, the record is on disk. Known values in it are replaced; in
    /// pieces of a stream whoever cuts the pieces has done so.
    ///
    /// # Errors
    /// When the record cannot be written: then nothing may be done.
    pub fn emit(&self, event: &Event) -> Result<(), ToolStop> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if event.is_transient() {
            self.door.show(event);
            return Ok(());
        }
        let redacted = self.redactor.anything(event);
        let event = redacted.as_ref().unwrap_or(event);
        self.record
            .append(event)
            .map_err(|error| ToolStop::Record {
                error: error.to_string(),
            })?;
        self.door.show(event);
        Ok(())
    }

    /// From a verdict to a permit or a no, asking where the policy says so. `body` is what is shown.
    pub async fn settle<A: Act>(
        &self,
        about: About,
        verdict: Verdict<A>,
        body: impl FnOnce(&A) -> QuestionBody,
        patience: &Patience,
    ) -> Result<Settled<A>, ToolStop> {
        match verdict {
            Verdict::Allowed(permit) => {
                self.decided(&about, permit.approver().clone(), None)?;
                Ok(Settled::Granted {
                    permit,
                    scope: Scope::Unasked,
                })
            }
            Verdict::Denied(denial) => {
                let approver = Approver::Policy {
                    rule: denial.rule.clone(),
                };
                self.decided(&about, approver, Some(&denial.why))?;
                Ok(Settled::Denied(denial))
            }
            Verdict::Ask(question) => {
                let view = about.view(&question, body(question.act()));
                let answered = self.ask(&view, patience).await?;
                self.apply(&about, question, answered)
            }
        }
    }

    /// The same for an act that is allowed or denied and not asked about: where the policy would ask,
    /// it is denied.
    pub fn settle_unasked<A: Act>(
        &self,
        about: &About,
        verdict: Verdict<A>,
    ) -> Result<Result<Permit<A>, Denial>, ToolStop> {
        let denial = match verdict {
            Verdict::Allowed(permit) => {
                self.decided(about, permit.approver().clone(), None)?;
                return Ok(Ok(permit));
            }
            Verdict::Denied(denial) => denial,
            Verdict::Ask(question) => question.refuse("nobody is asked about such an act"),
        };
        let approver = Approver::Policy {
            rule: denial.rule.clone(),
        };
        self.decided(about, approver, Some(&denial.why))?;
        Ok(Err(denial))
    }

    async fn ask(&self, view: &QuestionView, patience: &Patience) -> Result<Answered, ToolStop> {
        let redacted = self.redactor.anything(view);
        let view = redacted.as_ref().unwrap_or(view);
        self.emit(&Event::Asked {
            digest: view.digest.clone(),
            action: view.action.clone(),
            summary: view.summary.clone(),
            rule: view.rule.clone(),
            detail: serde_json::to_value(&view.body).unwrap_or_default(),
        })?;
        let answer = self.door.ask(view);
        let bounded = async {
            match patience.timeout {
                None => answer.await,
                Some(limit) => tokio::time::timeout(limit, answer)
                    .await
                    .unwrap_or_else(|_| nobody_answered(limit)),
            }
        };
        tokio::select! {
            biased;
            () = patience.cancel.cancelled() => Err(ToolStop::Interrupted),
            answered = bounded => Ok(answered),
        }
    }

    fn apply<A: Act>(
        &self,
        about: &About,
        question: Question<A>,
        Answered { answer, approver }: Answered,
    ) -> Result<Settled<A>, ToolStop> {
        let scope = match answer {
            Answer::Yes => Scope::Once,
            Answer::YesForRun => Scope::Run,
            Answer::No { reason } => {
                self.decided(about, approver.clone(), Some(&reason))?;
                return match approver {
                    Approver::NoTerminal => Err(about.nobody_asked(question.widens())),
                    _ => Ok(Settled::Denied(question.refuse(reason))),
                };
            }
            Answer::Abort => {
                self.decided(about, approver, Some("no, and the run ends"))?;
                return Err(ToolStop::Aborted {
                    why: about.summary.clone(),
                });
            }
        };
        // Judged again with the answer: `--yes` does not reach beyond the policy.
        match question.grant(&about.digest, approver.clone()) {
            Ok(permit) => {
                self.decided(about, approver, None)?;
                Ok(Settled::Granted { permit, scope })
            }
            Err(denial) => {
                self.decided(about, approver, Some(&denial.why))?;
                Ok(Settled::Denied(denial))
            }
        }
    }

    /// `why` is there when it was a no.
    fn decided(
        &self,
        about: &About,
        approver: Approver,
        why: Option<&str>,
    ) -> Result<(), ToolStop> {
        self.emit(&Event::Decided {
            digest: about.digest.clone(),
            action: about.action.clone(),
            allowed: why.is_none(),
            approver,
            why: why.unwrap_or_default().to_owned(),
        })
    }
}

/// What a verdict is about, kept while the act itself goes through the gate.
#[derive(Debug, Clone)]
pub struct About {
    digest: Digest,
    action: String,
    summary: String,
}

impl About {
    pub fn act(act: &impl Act) -> Self {
        Self {
            digest: digest_of(act),
            action: act.kind().name().to_owned(),
            summary: act.summary(),
        }
    }

    fn view<A: Act>(&self, question: &Question<A>, body: QuestionBody) -> QuestionView {
        QuestionView {
            digest: self.digest.clone(),
            action: self.action.clone(),
            summary: self.summary.clone(),
            rule: question.rule().to_owned(),
            why: question.why().to_owned(),
            widens: question.widens().map(str::to_owned),
            for_run: question.reach() == Reach::Run,
            body,
        }
    }

    /// `widens` is the line that would put it inside the policy: what `--yes` does not answer.
    fn nobody_asked(&self, widens: Option<&str>) -> ToolStop {
        let why = match widens {
            None => "needs a yes, and nobody can be asked",
            Some(_) => "goes beyond the policy, and nobody can be asked",
        };
        ToolStop::NobodyAsked {
            why: format!("{} {why}", self.summary),
            remedy: match widens {
                None => "run it on a terminal, or add --yes to answer yes to what lies inside the policy".to_owned(),
                Some(line) => format!("run it on a terminal, or add to the policy: {line}"),
            },
        }
    }
}

fn nobody_answered(limit: Duration) -> Answered {
    Answered {
        answer: Answer::No {
            reason: format!("nobody answered within {} s", limit.as_secs()),
        },
        approver: Approver::Policy {
            rule: "approval.timeout".to_owned(),
        },
    }
}
