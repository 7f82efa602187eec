//! Permits: the only values that acts are carried out on.
//!
//! ```text
//!   act ── gate::decide ──┬─ Allowed(Permit)            a rule or default of the policy
//!                         ├─ Ask(Question) ── grant ──▶ Permit     bound to the digest that was shown
//!                         └─ Denied(Denial)   └─ refuse ──▶ Denial
//! ```
//!
//! A [`Permit`] cannot be made outside this module's tree: its fields are private and both ways to
//! one start in [`super::gate`]. Code that runs something undecided does not compile.

use super::action::Act;
use crate::protocol::event::Approver;
use crate::protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The right to carry out exactly this act, once.
#[derive(Debug)]
pub struct Permit<A> {
    act: A,
    digest: Digest,
    approver: Approver,
}

impl<A: Act> Permit<A> {
    /// Only the gate calls this.
    pub(super) fn issue(act: A, approver: Approver) -> Self {
        let digest = digest_of(&act);
        Self {
            act,
            digest,
            approver,
        }
    }
}

impl<A> Permit<A> {
    pub fn act(&self) -> &A {
        &self.act
    }
    /// SHA-256 of the act's canonical bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    pub fn approver(&self) -> &Approver {
        &self.approver
    }
    /// Spends the permit.
    pub fn into_act(self) -> A {
        self.act
    }
}

/// An act that needs a yes.
#[derive(Debug)]
pub struct Question<A> {
    act: A,
    digest: Digest,
    asking: Asking,
}

/// Why there is a question, and what a yes to it can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    /// The rule or default that asks.
    pub(super) rule: String,
    pub(super) why: String,
    /// Where the act goes beyond the policy: the line that would put it inside.
    pub(super) widens: Option<String>,
    pub(super) reach: Reach,
}

/// How far a yes may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// This once.
    Once,
    /// Or to the same bytes, for the rest of the run.
    Run,
}

impl<A: Act> Question<A> {
    pub(super) fn new(act: A, asking: Asking) -> Self {
        let digest = digest_of(&act);
        Self {
            act,
            digest,
            asking,
        }
    }

    /// A yes to what carries this digest. Another digest is a question about something else: refused.
    pub fn grant(self, shown: &Digest, approver: Approver) -> Result<Permit<A>, Denial> {
        if *shown != self.digest {
            return Err(Denial {
                rule: self.asking.rule,
                why: "the answer was given to another question".into(),
            });
        }
        if let (Some(line), Approver::YesFlag) = (&self.asking.widens, &approver) {
            return Err(Denial {
                rule: self.asking.rule,
                why: format!("--yes answers only inside the policy; add to it: {line}"),
            });
        }
        Ok(Permit {
            act: self.act,
            digest: self.digest,
            approver,
        })
    }

    /// A no.
    pub fn refuse(self, why: impl Into<String>) -> Denial {
        Denial {
            rule: self.asking.rule,
            why: why.into(),
        }
    }
}

impl<A> Question<A> {
    pub fn act(&self) -> &A {
        &self.act
    }
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
    pub fn rule(&self) -> &str {
        &self.asking.rule
    }
    /// Why it asks, in words for a person.
    pub fn why(&self) -> &str {
        &self.asking.why
    }
    /// How far a yes may reach.
    pub fn reach(&self) -> Reach {
        self.asking.reach
    }
    /// The line that would put the act inside the policy, where it goes beyond it.
    pub fn widens(&self) -> Option<&str> {
        self.asking.widens.as_deref()
    }
}

/// A no, with the rule that said it and words for the model and the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("denied by {rule}: {why}")]
pub struct Denial {
    pub rule: String,
    pub why: String,
}

/// What the gate answers.
#[derive(Debug)]
pub enum Verdict<A> {
    Allowed(Permit<A>),
    Ask(Question<A>),
    Denied(Denial),
}

/// SHA-256 of an act's canonical bytes.
pub fn digest_of(act: &impl Act) -> Digest {
    digest_of_bytes(&act.canonical())
}

/// SHA-256 in lower-case hex.
pub fn digest_of_bytes(bytes: &[u8]) -> Digest {
    let hash = Sha256::digest(bytes);
    Digest::new(
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}
