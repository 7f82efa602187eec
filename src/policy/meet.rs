//! Composition: the loosest policy that is as tight as both. Pure.
//!
//! Numbers are the smaller, lists of what is allowed the common part, controls the stronger word,
//! rules that ask or deny add up, rules that allow must be in both. It is associative, commutative and
//! idempotent, and never looser than either side; two sides may exclude each other.

use super::model::{Decision, Policy, PolicyMount, PolicySecret, Rule};
use super::schema;
use crate::protocol::spec::Access;

/// Keys for which the two policies exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the two policies exclude each other in {}", .0.join(", "))]
pub struct Conflict(pub Vec<&'static str>);

/// The meet of two policies; name and description are those of `b`.
pub fn meet(a: &Policy, b: &Policy) -> Result<Policy, Conflict> {
    let mut met = b.clone();
    let mut excluded = Vec::new();
    for key in schema::KEYS {
        match key.form.meet((key.slot.get)(a), (key.slot.get)(b)) {
            Ok(value) => (key.slot.put)(&mut met, value),
            Err(_) => excluded.push(key.path),
        }
    }
    met.mounts = mounts(&a.mounts, &b.mounts);
    met.secrets = secrets(&a.secrets, &b.secrets);
    met.approval.rules = rules(&a.approval.rules, &b.approval.rules);
    match excluded.is_empty() {
        true => Ok(met),
        false => Err(Conflict(excluded)),
    }
}

/// What both mount, read-only where one of them says so.
fn mounts(a: &[PolicyMount], b: &[PolicyMount]) -> Vec<PolicyMount> {
    a.iter()
        .filter_map(|mount| {
            let same = |other: &&PolicyMount| {
                (&other.source, &other.target) == (&mount.source, &mount.target)
            };
            let other = b.iter().find(same)?;
            let access = match (mount.access, other.access) {
                (Access::ReadWrite, Access::ReadWrite) => Access::ReadWrite,
                _ => Access::ReadOnly,
            };
            Some(PolicyMount {
                access,
                ..mount.clone()
            })
        })
        .collect()
}

/// What both hand over, after a question where one of them says so.
fn secrets(a: &[PolicySecret], b: &[PolicySecret]) -> Vec<PolicySecret> {
    a.iter()
        .filter_map(|secret| {
            let same =
                |other: &&PolicySecret| (&other.name, &other.from) == (&secret.name, &secret.from);
            let other = b.iter().find(same)?;
            Some(PolicySecret {
                grant: secret.grant.max(other.grant),
                ..secret.clone()
            })
        })
        .collect()
}

fn rules(a: &[Rule], b: &[Rule]) -> Vec<Rule> {
    let allows = |rule: &&Rule| rule.decision == Decision::Allow;
    let mut met: Vec<Rule> = Vec::new();
    for rule in a.iter().chain(b).filter(|rule| !allows(rule)) {
        if !met.contains(rule) {
            met.push(rule.clone());
        }
    }
    let both = a.iter().filter(allows).flat_map(|one| {
        b.iter()
            .filter(allows)
            .filter_map(move |other| narrower(one, other))
    });
    for rule in both {
        if !met.iter().any(|other| covers(other, &rule)) {
            met.retain(|other| !covers(&rule, other));
            met.push(rule);
        }
    }
    met
}

/// The allow rule that covers what both cover, if there is something.
fn narrower(a: &Rule, b: &Rule) -> Option<Rule> {
    let (short, long) = match a.command_prefix.len() <= b.command_prefix.len() {
        true => (a, b),
        false => (b, a),
    };
    let beneath =
        long.action == short.action && long.command_prefix.starts_with(&short.command_prefix);
    let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    };
    beneath.then(|| Rule {
        max_wall_ms: least(a.max_wall_ms, b.max_wall_ms),
        max_gpus: least(a.max_gpus, b.max_gpus),
        offline: a.offline || b.offline,
        ..long.clone()
    })
}

/// Whether one allow rule covers everything that another covers.
pub(super) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let within = |wide: Option<u64>, narrow: Option<u64>| match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow <= wide,
    };
    wide.decision == Decision::Allow
        && narrow.decision == Decision::Allow
        && wide.action == narrow.action
        && narrow.command_prefix.starts_with(&wide.command_prefix)
        && within(wide.max_wall_ms, narrow.max_wall_ms)
        && within(wide.max_gpus, narrow.max_gpus)
        && (narrow.offline || !wide.offline)
}

#[cfg(test)]
#[path = "meet_tests.rs"]
mod tests;
