//! The judgement behind the gate, with its reasons. Pure; the gate turns it into a permit, `explain`
//! prints it.
//!
//! ```text
//!   hard list in code ─▶ deny rules ─▶ ask rules ─▶ allow rules ─▶ contained ─▶ default
//!        Deny              Deny          Ask          Allow         per policy   Ask or Deny
//! ```
//!
//! Among the rules that match, the strictest wins, whatever its place. What the user typed is decided
//! by `[approval] typed` after the deny rules.

use super::action::{ActionKind, Origin};
use super::inline::{self, Open};
use super::model::{Contained, Decision, Policy, Rule};
use super::text;
use std::fmt;

/// A decision with the rule or default that took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub decision: Decision,
    /// `rule ID`, or the name of a key such as `approval.default`.
    pub rule: String,
    pub why: String,
    /// Where the act goes beyond the policy: the line that would put it inside.
    pub widens: Option<String>,
    /// Every rule, and why those that did not match did not.
    pub considered: Vec<Considered>,
}

/// One rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    pub id: String,
    pub decision: Decision,
    /// `None` where it matched.
    pub miss: Option<Miss>,
}

/// Why a rule does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    Action {
        rule: ActionKind,
    },
    /// The first argument that differs.
    Prefix {
        wanted: String,
        given: Option<String>,
    },
    Wall {
        limit_ms: u64,
        asked_ms: Option<u64>,
    },
    Gpus {
        limit: u64,
        has: u64,
    },
    Network {
        reaches: String,
    },
    /// No allow rule covers code that is written in, or named by, arguments.
    Open(Open),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action { rule } => write!(f, "it is about {}", rule.name()),
            Self::Prefix {
                wanted,
                given: Some(given),
            } => {
                write!(f, "it wants {wanted}, the command has {given}")
            }
            Self::Prefix {
                wanted,
                given: None,
            } => {
                write!(f, "it wants {wanted}, the command ends before")
            }
            Self::Wall { limit_ms, asked_ms } => {
                let limit = super::unit::time(*limit_ms);
                match asked_ms {
                    Some(asked) => write!(
                        f,
                        "it allows {limit}, asked is {}",
                        super::unit::time(*asked)
                    ),
                    None => write!(f, "it allows {limit}, asked is no limit"),
                }
            }
            Self::Gpus { limit, has } => {
                write!(f, "it allows {limit} GPUs, the sandbox has {has}")
            }
            Self::Network { reaches } => {
                write!(f, "it allows no network, the sandbox reaches {reaches}")
            }
            Self::Open(open) => write!(f, "{open}, which no allow rule covers"),
        }
    }
}

/// What matters about an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecFacts<'a> {
    pub argv: &'a [Vec<u8>],
    pub origin: Origin,
    /// The time asked for, or else the sandbox's limit.
    pub wall_ms: Option<u64>,
    /// The time limit of the sandbox.
    pub wall_limit_ms: Option<u64>,
    pub names_artifact: bool,
    /// A writable mount beyond the workspace: the act is not contained.
    pub writes_outside: Option<String>,
    /// Hosts it may send to: the act is not contained.
    pub reaches: Option<String>,
    /// GPUs it has.
    pub gpus: u64,
    /// Secrets it may read: the act is not contained.
    pub secrets: Option<String>,
    /// A yes was given to an execution of this run.
    pub yes_given: bool,
    /// A yes was given to exactly this, for the run.
    pub remembered: bool,
}

/// Names of what decided, where it was no rule of the policy.
pub mod by {
    pub const TYPED: &str = "approval.typed";
    pub const CONTAINED: &str = "approval.contained";
    pub const DEFAULT: &str = "approval.default";
    pub const REMEMBER: &str = "approval.remember";
    pub const ARTIFACTS: &str = "artifacts.include";
    pub const WALL_TIME: &str = "limits.wall_time";
    pub const GIT: &str = "git";
    pub const NETWORK: &str = "network.allow";
    pub const SECRETS: &str = "secrets";
    pub const WORKSPACE: &str = "workspace";
    pub const ALWAYS: &str = "always";
}

/// Judges an execution.
pub fn exec(policy: &Policy, facts: &ExecFacts<'_>) -> Judgement {
    let considered = consider(policy, ActionKind::Exec, Some(facts));
    let judge = Judge { policy, considered };
    if let Some(denied) = judge.by_rule(Decision::Deny) {
        return denied;
    }
    if let Some(wider) = judge.beyond_time(facts) {
        return wider;
    }
    if facts.origin == Origin::Typed {
        return judge.typed();
    }
    if facts.names_artifact {
        return judge.artifact(facts);
    }
    if facts.remembered {
        return judge.say(
            Decision::Allow,
            by::REMEMBER,
            "the same bytes were approved for this run",
        );
    }
    judge.with_rules(|| judge.unruled(facts))
}

/// Judges a clone whose URL is formed well; `line` lists it where it is not listed yet.
pub fn clone(policy: &Policy, line: Option<String>) -> Judgement {
    let considered = consider(policy, ActionKind::Clone, None);
    let judge = Judge { policy, considered };
    if let Some(denied) = judge.by_rule(Decision::Deny) {
        return denied;
    }
    if line.is_some() {
        let why = "the policy does not list where it comes from";
        let mut wider = judge.say(policy.approval.default, by::GIT, why);
        wider.widens = line;
        return wider;
    }
    judge.with_rules(|| judge.default("no rule covers it"))
}

/// Judges one more host, which `line` would list.
pub fn host(policy: &Policy, line: String) -> Judgement {
    let considered = consider(policy, ActionKind::Network, None);
    let judge = Judge { policy, considered };
    let why = "the policy does not list it, and everything in the sandbox could send to it";
    let mut wider = judge.say(policy.approval.default, by::NETWORK, why);
    wider.widens = Some(line);
    wider
}

/// Judges handing over secrets that the policy lists; `line` is what would spare the question.
pub fn secret(policy: &Policy, line: Option<String>) -> Judgement {
    let considered = consider(policy, ActionKind::Secret, None);
    let judge = Judge { policy, considered };
    let Some(line) = line else {
        let why = "the policy hands it over";
        return judge.say(Decision::Allow, by::SECRETS, why);
    };
    let why = "everything in the sandbox could read it, and do with it what it likes";
    let mut wider = judge.say(policy.approval.default, by::SECRETS, why);
    wider.widens = Some(line);
    wider
}

/// The names of secrets in a sentence.
pub(super) fn secrets<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Judges a file operation of ours beneath the workspace: it is contained.
pub fn file(policy: &Policy) -> Judgement {
    let considered = consider(policy, ActionKind::File, None);
    let judge = Judge { policy, considered };
    let why = "it stays beneath the workspace";
    judge.with_rules(|| judge.say(Decision::Allow, by::WORKSPACE, why))
}

struct Judge<'a> {
    policy: &'a Policy,
    considered: Vec<Considered>,
}

impl Judge<'_> {
    fn say(&self, decision: Decision, rule: &str, why: impl Into<String>) -> Judgement {
        Judgement {
            decision,
            rule: rule.to_owned(),
            why: why.into(),
            widens: None,
            considered: self.considered.clone(),
        }
    }

    /// The first matching rule with this decision.
    fn by_rule(&self, decision: Decision) -> Option<Judgement> {
        let matched = |one: &&Considered| one.miss.is_none() && one.decision == decision;
        let found = self.considered.iter().find(matched)?;
        let rule = self
            .policy
            .approval
            .rules
            .iter()
            .find(|rule| rule.id == found.id);
        let why = rule
            .map(|rule| rule.reason.clone())
            .filter(|reason| !reason.is_empty())
            .unwrap_or_else(|| "a rule of the policy says so".to_owned());
        Some(self.say(decision, &format!("rule {}", found.id), why))
    }

    /// The strictest of the rules that match and what would be decided without them. Only an allow
    /// rule loosens: a rule that asks asks nobody where the policy would have said no.
    fn with_rules(&self, unruled: impl FnOnce() -> Judgement) -> Judgement {
        if let Some(denied) = self.by_rule(Decision::Deny) {
            return denied;
        }
        let base = self.by_rule(Decision::Allow).unwrap_or_else(unruled);
        match (base.decision, self.by_rule(Decision::Ask)) {
            (Decision::Allow | Decision::Ask, Some(asked)) => asked,
            _ => base,
        }
    }

    fn beyond_time(&self, facts: &ExecFacts<'_>) -> Option<Judgement> {
        let limit = facts.wall_limit_ms?;
        let asked = facts.wall_ms.filter(|asked| *asked > limit)?;
        let asked = super::unit::time(asked);
        let why = format!(
            "it asks for {asked}, the limit is {}",
            super::unit::time(limit)
        );
        let mut wider = self.say(self.policy.approval.default, by::WALL_TIME, why);
        wider.widens = Some(format!("limits.wall_time = \"{asked}\""));
        Some(wider)
    }

    fn typed(&self) -> Judgement {
        let why = match self.policy.approval.typed {
            Decision::Allow => "you typed it",
            Decision::Ask | Decision::Deny => "the policy asks about what is typed, too",
        };
        self.say(self.policy.approval.typed, by::TYPED, why)
    }

    /// The code in it is no part of what a person saw, so an earlier yes says nothing about it.
    fn artifact(&self, facts: &ExecFacts<'_>) -> Judgement {
        let otherwise = self.with_rules(|| self.unruled(facts));
        match otherwise.decision {
            Decision::Deny => otherwise,
            Decision::Ask | Decision::Allow => self.say(
                Decision::Ask,
                by::ARTIFACTS,
                "it names a file that a run wrote as a result, which no approval of code covers",
            ),
        }
    }

    fn unruled(&self, facts: &ExecFacts<'_>) -> Judgement {
        if let Some(mount) = &facts.writes_outside {
            return self.default(&format!("{mount} is writable beyond the workspace"));
        }
        if let Some(hosts) = &facts.reaches {
            return self.default(&format!("it can send what it reads to {hosts}"));
        }
        if let Some(names) = &facts.secrets {
            return self.default(&format!("it can read the secrets it is given: {names}"));
        }
        let (decision, why) = match (self.policy.approval.contained, facts.yes_given) {
            (Contained::Allow, _) => (Decision::Allow, "it stays inside the sandbox as declared"),
            (Contained::AfterFirstYes, true) => (
                Decision::Allow,
                "it stays inside the sandbox, and this run had its first yes",
            ),
            (Contained::AfterFirstYes, false) => (
                Decision::Ask,
                "it is the first of this run; after a yes, what stays inside the sandbox needs none",
            ),
            (Contained::Ask, _) => (Decision::Ask, "the policy asks about each execution"),
        };
        // A policy that answers "no" by default asks nobody.
        match (decision, self.policy.approval.default) {
            (Decision::Ask, Decision::Deny) => self.default(why),
            _ => self.say(decision, by::CONTAINED, why),
        }
    }

    fn default(&self, why: &str) -> Judgement {
        self.say(self.policy.approval.default, by::DEFAULT, why)
    }
}

/// Looks at every rule.
fn consider(policy: &Policy, kind: ActionKind, facts: Option<&ExecFacts<'_>>) -> Vec<Considered> {
    policy
        .approval
        .rules
        .iter()
        .map(|rule| Considered {
            id: rule.id.clone(),
            decision: rule.decision,
            miss: miss(rule, kind, facts),
        })
        .collect()
}

fn miss(rule: &Rule, kind: ActionKind, facts: Option<&ExecFacts<'_>>) -> Option<Miss> {
    if rule.action != kind {
        return Some(Miss::Action { rule: rule.action });
    }
    let facts = facts?;
    if let Some(miss) = miss_command(rule, facts.argv) {
        return Some(miss);
    }
    let asked_ms = facts.wall_ms;
    if let Some(limit_ms) = rule.max_wall_ms
        && asked_ms.is_none_or(|asked| asked > limit_ms)
    {
        return Some(Miss::Wall { limit_ms, asked_ms });
    }
    if let Some(limit) = rule.max_gpus.filter(|most| facts.gpus > *most) {
        let has = facts.gpus;
        return Some(Miss::Gpus { limit, has });
    }
    let reaches = facts.reaches.clone().filter(|_| rule.offline)?;
    Some(Miss::Network { reaches })
}

/// Why a rule's command does not match, leaving time aside. Arguments are compared exactly; no shell
/// and no pattern in between.
pub fn miss_command(rule: &Rule, argv: &[Vec<u8>]) -> Option<Miss> {
    for (index, wanted) in rule.command_prefix.iter().enumerate() {
        let given = argv.get(index);
        if given.is_none_or(|given| given != wanted.as_bytes()) {
            return Some(Miss::Prefix {
                wanted: text::short(wanted.as_bytes()),
                given: given.map(|given| text::short(given)),
            });
        }
    }
    match rule.decision {
        Decision::Allow => inline::open(argv).map(Miss::Open),
        // A rule that is strict is as strict about code in arguments.
        Decision::Ask | Decision::Deny => None,
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
