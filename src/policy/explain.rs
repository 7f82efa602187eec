//! Why a policy is as it is and decides as it does: values with their origin, decisions with every rule
//! that was looked at and the smallest change that would turn them. Data only; doors print it.

use super::action::{ActionKind, Origin as Author};
use super::compare;
use super::file::Loaded;
use super::git_url;
use super::inline;
use super::judge::{self, ExecFacts, Judgement, by, secrets};
use super::model::{Contained, Decision, Policy};
use super::network;
use super::origin::{Level, Provenance};
use super::schema;
use super::text;
use super::value::list;
use crate::protocol::spec::{Access, SECRETS_TARGET, WORKSPACE_TARGET};
use serde::Serialize;

/// One effective value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub key: String,
    /// As a policy file says it.
    pub value: String,
    pub about: String,
    /// Whose word it is; `None` is the schema's own.
    pub layer: Option<Level>,
    /// `default`, or the text and line it is written in.
    pub origin: String,
    /// Values that were written and lost, the latest first.
    pub lost: Vec<LostValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostValue {
    pub value: String,
    pub layer: Option<Level>,
    pub origin: String,
}

/// What is decided about a command, case by case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandExplained {
    /// One printable line.
    pub command: String,
    pub cases: Vec<Case>,
    /// What else may decide, and can only be known when it runs.
    pub notes: Vec<String>,
}

/// One way in which a command may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    pub when: &'static str,
    pub decision: Decision,
    /// `rule ID`, or the key that decided.
    pub by: String,
    /// Where that is written.
    pub origin: String,
    pub why: String,
    pub rules: Vec<RuleSeen>,
    /// The smallest change that would decide otherwise.
    pub change: String,
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleSeen {
    pub id: String,
    pub decision: Decision,
    pub origin: String,
    pub matched: bool,
    /// Why it did not match.
    pub why_not: Option<String>,
}

/// Every value, in the order of the schema; then mounts, secrets and rules.
pub fn values(loaded: &Loaded) -> Vec<Explained> {
    let policy = &loaded.policy;
    let keys = schema::values(policy)
        .map(|(key, value)| (key.path.to_owned(), value, key.about.to_owned()));
    let mounts = policy.mounts.iter().map(|mount| {
        let mode = match mount.access {
            Access::ReadOnly => "ro",
            Access::ReadWrite => "rw",
        };
        let value = format!("{} ({mode})", text::short(mount.source.as_bytes()));
        (
            format!("mount {}", mount.target),
            value,
            "A folder of the host".to_owned(),
        )
    });
    let secrets = policy.secrets.iter().map(|secret| {
        let about = format!("A secret, at {SECRETS_TARGET}/{}", secret.name);
        let value = compare::show_secret(secret);
        (format!("secret {}", secret.name), value, about)
    });
    let rules = policy.approval.rules.iter().map(|rule| {
        let prefix = match rule.action {
            ActionKind::Exec => format!(" {}", list(&rule.command_prefix)),
            ActionKind::Clone | ActionKind::File | ActionKind::Network | ActionKind::Secret => {
                String::new()
            }
        };
        let value = format!("{} {}{prefix}", word(rule.decision), rule.action.name());
        (format!("rule {}", rule.id), value, rule.reason.clone())
    });
    keys.chain(mounts)
        .chain(secrets)
        .chain(rules)
        .map(|(key, value, about)| {
            let found = loaded.origins.get(&key);
            Explained {
                lost: found.map(|one| lost(one, &value)).unwrap_or_default(),
                layer: found.and_then(|one| one.origin.level()),
                origin: origin(found),
                key,
                value,
                about,
            }
        })
        .collect()
}

/// What would be decided about a command, for each way it may come.
pub fn command(loaded: &Loaded, argv: &[Vec<u8>]) -> CommandExplained {
    let first = (
        "an agent asks for it, first in its run",
        Author::Model,
        false,
    );
    let later = (
        "an agent asks for it, after a yes to another",
        Author::Model,
        true,
    );
    let typed = ("you type it: fumehood exec", Author::Typed, false);
    let mut cases: Vec<Case> = [first, later, typed]
        .into_iter()
        .map(|(when, author, yes_given)| case(loaded, argv, (when, author, yes_given)))
        .collect();
    // Where a first yes says nothing, one case stands for both.
    if cases[0].decision == cases[1].decision && cases[0].by == cases[1].by {
        cases.remove(1);
        cases[0].when = "an agent asks for it";
    }
    let mut notes = Vec::new();
    for path in results(&loaded.policy, argv) {
        notes.push(format!(
            "it asks whenever {path} exists: artifacts.include makes that a result, and no code that was approved"
        ));
    }
    CommandExplained {
        command: text::command_line(argv),
        cases,
        notes,
    }
}

fn case(
    loaded: &Loaded,
    argv: &[Vec<u8>],
    (when, author, yes_given): (&'static str, Author, bool),
) -> Case {
    let policy = &loaded.policy;
    let facts = ExecFacts {
        argv,
        origin: author,
        wall_ms: policy.limits.wall_ms,
        wall_limit_ms: policy.limits.wall_ms,
        names_artifact: false,
        writes_outside: None,
        secrets: secrets(policy.secrets.iter().map(|secret| &secret.name)),
        reaches: network::is_on(&policy.network).then(|| "the hosts listed".to_owned()),
        gpus: u64::from(policy.gpu.devices.count),
        yes_given,
        remembered: false,
    };
    let judgement = judge::exec(policy, &facts);
    let change = change(policy, argv, &judgement);
    said(loaded, (when, change), judgement)
}

/// What would be decided about a clone.
pub fn clone(loaded: &Loaded, url: &str) -> CommandExplained {
    let policy = &loaded.policy;
    let (judgement, change) = match git_url::check_url(url, &policy.git) {
        Ok(checked) => {
            let line = checked.widens().map(str::to_owned);
            let judgement = judge::clone(policy, line);
            let change = change_clone(&judgement);
            (judgement, change)
        }
        Err(error) => {
            let refused = Judgement {
                decision: Decision::Deny,
                rule: by::GIT.to_owned(),
                why: format!("no policy allows it: {error}"),
                widens: None,
                considered: Vec::new(),
            };
            (refused, error.remedy().to_owned())
        }
    };
    CommandExplained {
        command: format!("clone {}", text::short(url.as_bytes())),
        cases: vec![said(loaded, ("an agent asks for it", change), judgement)],
        notes: Vec::new(),
    }
}

fn change_clone(judgement: &Judgement) -> String {
    const RULE: &str =
        "[[approval.rule]] with action = \"clone\", decision = \"allow\" allows what is listed";
    match (judgement.decision, &judgement.widens) {
        (Decision::Allow, _) => format!("without {:?} it asks", judgement.rule),
        (_, Some(line)) => format!("{line} lists it, then --yes may answer; with it, {RULE}"),
        (_, None) if judgement.rule.starts_with("rule ") => {
            format!("without {:?} it goes by the rest", judgement.rule)
        }
        (Decision::Ask, None) => RULE.to_owned(),
        (Decision::Deny, None) => format!("approval.default = \"ask\" asks; {RULE}"),
    }
}

/// A judgement with where its reasons are written, and who can change them.
fn said(loaded: &Loaded, (when, change): (&'static str, String), judgement: Judgement) -> Case {
    let decided = loaded.origins.get(&judgement.rule);
    let over = decided
        .and_then(|one| one.origin.level())
        .filter(|level| level.only_tightens());
    Case {
        when,
        decision: judgement.decision,
        origin: origin(decided),
        rules: judgement
            .considered
            .iter()
            .map(|one| RuleSeen {
                id: one.id.clone(),
                decision: one.decision,
                origin: origin(loaded.origins.get(&format!("rule {}", one.id))),
                matched: one.miss.is_none(),
                why_not: one.miss.as_ref().map(ToString::to_string),
            })
            .collect(),
        change: match over {
            Some(level) => format!("only in the {}'s policy: {change}", level.name()),
            None => change,
        },
        by: judgement.rule,
        why: judgement.why,
    }
}

/// What to write so that it is decided otherwise.
fn change(policy: &Policy, argv: &[Vec<u8>], judgement: &Judgement) -> String {
    let rule = judgement.rule.strip_prefix("rule ");
    match (judgement.decision, rule, judgement.rule.as_str()) {
        (Decision::Allow, Some(id), _) => {
            format!("without rule {id:?} it is no longer allowed by one")
        }
        (Decision::Allow, None, by::TYPED) => "approval.typed = \"ask\" asks".to_owned(),
        (Decision::Allow, None, _) => "approval.contained = \"ask\" asks".to_owned(),
        (_, Some(id), _) => format!(
            "without rule {id:?}, or with a longer command_prefix in it, it goes by the rest"
        ),
        (Decision::Ask, None, by::TYPED) => "approval.typed = \"allow\" allows".to_owned(),
        (Decision::Ask, None, _) => allowing(policy, argv),
        (Decision::Deny, None, _) => format!(
            "approval.default = \"ask\" asks; {}",
            allowing(policy, argv)
        ),
    }
}

/// An allow rule where one can cover it; else the key that asks less often.
fn allowing(policy: &Policy, argv: &[Vec<u8>]) -> String {
    if let Some(open) = inline::open(argv) {
        let next = match policy.approval.contained {
            Contained::Ask => "approval.contained = \"after-first-yes\" asks once a run",
            Contained::AfterFirstYes | Contained::Allow => "approval.contained = \"allow\" allows",
        };
        return format!("{next}; no rule can allow it, as {open}");
    }
    let length = (1..=argv.len())
        .find(|length| inline::open(&argv[..*length]).is_none())
        .unwrap_or(argv.len());
    let prefix: Vec<String> = argv[..length]
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    format!(
        "[[approval.rule]] with action = \"exec\", decision = \"allow\", command_prefix = {} allows",
        list(&prefix)
    )
}

/// Files named by the command that would count as results.
fn results(policy: &Policy, argv: &[Vec<u8>]) -> Vec<String> {
    let globs: Vec<_> = policy
        .artifacts
        .include
        .iter()
        .filter_map(|glob| {
            globset::GlobBuilder::new(glob.strip_prefix("./").unwrap_or(glob))
                .literal_separator(true)
                .build()
                .ok()
        })
        .map(|glob| glob.compile_matcher())
        .collect();
    let mut found = Vec::new();
    for word in argv
        .iter()
        .skip(1)
        .map(|word| String::from_utf8_lossy(word))
    {
        let path = word.rsplit('=').next().unwrap_or(&word);
        let path = path
            .strip_prefix(WORKSPACE_TARGET)
            .map_or(path, |rest| rest.trim_start_matches('/'));
        let path = path.strip_prefix("./").unwrap_or(path);
        if globs.iter().any(|glob| glob.is_match(path)) {
            found.push(text::short(path.as_bytes()));
        }
    }
    found
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Ask => "ask",
        Decision::Deny => "deny",
    }
}

fn origin(found: Option<&Provenance>) -> String {
    found.map_or_else(|| "default".to_owned(), |one| one.origin.to_string())
}

/// Those that said something else.
fn lost(provenance: &Provenance, value: &str) -> Vec<LostValue> {
    provenance
        .lost
        .iter()
        .filter(|lost| lost.value != value)
        .map(|lost| LostValue {
            value: lost.value.clone(),
            layer: lost.origin.level(),
            origin: lost.origin.to_string(),
        })
        .collect()
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
