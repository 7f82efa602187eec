//! Two policies side by side: which of them is looser, key by key. Pure; it follows the meet, so that
//! it says what composing them would do.

use super::meet;
use super::model::{Decision, Policy, PolicyMount, PolicySecret, Rule, SecretFrom};
use super::schema::{self, Key};
use super::text;
use super::value::{Value, list};
use crate::protocol::spec::Access;
use serde::Serialize;
use std::cmp::Ordering;

/// How the second stands to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    Equal,
    Tighter,
    Looser,
    /// Neither is as tight as the other.
    Other,
}

/// One key of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    pub key: String,
    pub mark: Mark,
    /// As policy files say it; `None` where there is none.
    pub a: Option<String>,
    pub b: Option<String>,
}

/// Every key in the order of the schema; then mounts and rules.
pub fn compare(a: &Policy, b: &Policy) -> Vec<Compared> {
    let keys = schema::KEYS.iter().map(|key| {
        let (a, b) = ((key.slot.get)(a), (key.slot.get)(b));
        Compared {
            key: key.path.to_owned(),
            mark: of_key(key, &a, &b),
            a: Some(key.form.show(&a)),
            b: Some(key.form.show(&b)),
        }
    });
    let mut all: Vec<Compared> = keys.collect();
    all.extend(
        paired(&a.mounts, &b.mounts, |mount| &mount.target).map(|(name, a, b)| Compared {
            key: format!("mount {name}"),
            mark: of_mount(a, b),
            a: a.map(show_mount),
            b: b.map(show_mount),
        }),
    );
    all.extend(
        paired(&a.secrets, &b.secrets, |secret| &secret.name).map(|(name, a, b)| Compared {
            key: format!("secret {name}"),
            mark: of_secret(a, b),
            a: a.map(show_secret),
            b: b.map(show_secret),
        }),
    );
    let (rules_a, rules_b) = (&a.approval.rules, &b.approval.rules);
    all.extend(
        paired(rules_a, rules_b, |rule| &rule.id).map(|(name, a, b)| Compared {
            key: format!("rule {name}"),
            mark: of_rule(a, b),
            a: a.map(show_rule),
            b: b.map(show_rule),
        }),
    );
    all
}

fn of_key(key: &Key, a: &Value, b: &Value) -> Mark {
    let same =
        |one: &Value, other: &Value| key.form.holds(one, other) && key.form.holds(other, one);
    if same(a, b) {
        return Mark::Equal;
    }
    match key.form.meet(a.clone(), b.clone()) {
        Ok(met) if same(&met, b) => Mark::Tighter,
        Ok(met) if same(&met, a) => Mark::Looser,
        Ok(_) | Err(_) => Mark::Other,
    }
}

/// Those of `a` in their order, then those of `b` alone.
fn paired<'p, T>(
    a: &'p [T],
    b: &'p [T],
    name: fn(&T) -> &String,
) -> impl Iterator<Item = (String, Option<&'p T>, Option<&'p T>)> {
    let of = move |all: &'p [T], wanted: &str| all.iter().find(|one| name(one) == wanted);
    let first = a
        .iter()
        .map(move |one| (name(one).clone(), Some(one), of(b, name(one))));
    let rest = b.iter().filter(move |one| of(a, name(one)).is_none());
    first.chain(rest.map(move |one| (name(one).clone(), None, Some(one))))
}

fn of_mount(a: Option<&PolicyMount>, b: Option<&PolicyMount>) -> Mark {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Mark::Equal,
        (Some(a), Some(b)) if a.source != b.source => Mark::Other,
        (Some(_), None) => Mark::Tighter,
        (Some(_), Some(b)) if b.access == Access::ReadOnly => Mark::Tighter,
        (None, None) => Mark::Equal,
        (None | Some(_), Some(_)) => Mark::Looser,
    }
}

fn of_secret(a: Option<&PolicySecret>, b: Option<&PolicySecret>) -> Mark {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Mark::Equal,
        (Some(a), Some(b)) if a.from != b.from => Mark::Other,
        (Some(_), None) => Mark::Tighter,
        (Some(a), Some(b)) if b.grant > a.grant => Mark::Tighter,
        (None, None) => Mark::Equal,
        (None | Some(_), Some(_)) => Mark::Looser,
    }
}

fn of_rule(a: Option<&Rule>, b: Option<&Rule>) -> Mark {
    match (a, b) {
        (Some(a), Some(b)) => both_rules(a, b),
        (Some(a), None) if a.decision == Decision::Allow => Mark::Tighter,
        (None, Some(b)) if b.decision != Decision::Allow => Mark::Tighter,
        (None, None) => Mark::Equal,
        (Some(_), None) | (None, Some(_)) => Mark::Looser,
    }
}

fn both_rules(a: &Rule, b: &Rule) -> Mark {
    let plain = |rule: &Rule| Rule {
        id: String::new(),
        reason: String::new(),
        ..rule.clone()
    };
    let alike = Rule {
        decision: b.decision,
        ..plain(a)
    };
    if plain(a) == plain(b) {
        return Mark::Equal;
    }
    if alike == plain(b) {
        return match b.decision.cmp(&a.decision) {
            Ordering::Greater => Mark::Tighter,
            Ordering::Less | Ordering::Equal => Mark::Looser,
        };
    }
    match (meet::covers(a, b), meet::covers(b, a)) {
        (true, false) => Mark::Tighter,
        (false, true) => Mark::Looser,
        _ => Mark::Other,
    }
}

fn show_mount(mount: &PolicyMount) -> String {
    let mode = match mount.access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    format!("{} ({mode})", text::short(mount.source.as_bytes()))
}

/// As `policy explain` says it, too.
pub(super) fn show_secret(secret: &PolicySecret) -> String {
    let from = match &secret.from {
        SecretFrom::Environment => "your variable".to_owned(),
        SecretFrom::File(path) => text::short(path.as_bytes()),
    };
    let asks = match secret.grant {
        Decision::Allow => "",
        Decision::Ask | Decision::Deny => ", after a question",
    };
    format!("a file, from {from}{asks}")
}

fn show_rule(rule: &Rule) -> String {
    let decision = match rule.decision {
        Decision::Allow => "allow",
        Decision::Ask => "ask",
        Decision::Deny => "deny",
    };
    let mut shown = format!("{decision} {}", rule.action.name());
    if !rule.command_prefix.is_empty() {
        shown.push_str(&format!(" {}", list(&rule.command_prefix)));
    }
    if let Some(wall) = rule.max_wall_ms {
        shown.push_str(&format!(", up to {}", super::unit::time(wall)));
    }
    if let Some(gpus) = rule.max_gpus {
        shown.push_str(&format!(", with {gpus} GPUs at most"));
    }
    if rule.offline {
        shown.push_str(", without a network");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{self, rule};
    use crate::policy::{builtin, meet::meet};

    fn mark(all: &[Compared], key: &str) -> Mark {
        all.iter().find(|one| one.key == key).unwrap().mark
    }

    #[test]
    fn two_built_ins_are_told_apart_key_by_key() {
        let policy = |name| builtin::policy(name).unwrap();
        let (usual, strict) = (policy("offline-train"), policy("locked-down"));
        let there = compare(&usual, &strict);
        let back = compare(&strict, &usual);
        for key in [
            "limits.memory",
            "git.hosts",
            "approval.typed",
            "executor.require",
        ] {
            assert_eq!(mark(&there, key), Mark::Tighter, "{key}");
            assert_eq!(mark(&back, key), Mark::Looser, "{key}");
        }
        assert_eq!(mark(&there, "audit.fail_closed"), Mark::Equal);
        assert!(
            compare(&usual, &usual)
                .iter()
                .all(|one| one.mark == Mark::Equal)
        );
    }

    /// What composing gives is nowhere looser than what it was made of.
    #[test]
    fn a_meet_is_looser_in_nothing() {
        for a in builtin::NAMES.map(|name| builtin::policy(name).unwrap()) {
            for b in builtin::NAMES.map(|name| builtin::policy(name).unwrap()) {
                let met = meet(&a, &b).unwrap();
                for side in [&a, &b] {
                    for one in compare(side, &met) {
                        assert!(matches!(one.mark, Mark::Equal | Mark::Tighter), "{one:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn mounts_and_rules_are_compared_by_name() {
        let (mut a, mut b) = (fixture::policy(), fixture::policy());
        let mount = |source: &str, target: &str, access| PolicyMount {
            source: source.into(),
            target: target.into(),
            access,
        };
        a.mounts = vec![
            mount("x", "/data/x", Access::ReadWrite),
            mount("y", "/data/y", Access::ReadOnly),
        ];
        b.mounts = vec![
            mount("x", "/data/x", Access::ReadOnly),
            mount("z", "/data/z", Access::ReadOnly),
        ];
        a.approval.rules = vec![
            rule("run", Decision::Allow, &["python", "train.py"]),
            rule("no", Decision::Deny, &["rm"]),
        ];
        b.approval.rules = vec![
            rule("run", Decision::Allow, &["python", "train.py", "--small"]),
            rule("ask", Decision::Ask, &["git"]),
        ];
        let all = compare(&a, &b);
        assert_eq!(mark(&all, "mount /data/x"), Mark::Tighter);
        assert_eq!(mark(&all, "mount /data/y"), Mark::Tighter);
        assert_eq!(mark(&all, "mount /data/z"), Mark::Looser);
        assert_eq!(mark(&all, "rule run"), Mark::Tighter);
        assert_eq!(mark(&all, "rule no"), Mark::Looser);
        assert_eq!(mark(&all, "rule ask"), Mark::Tighter);
    }
}
