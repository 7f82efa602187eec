//! What holds of policies, whatever text they are read from.

use super::problem::{PolicySource, Problem};
use super::reader::is_hidden;
use super::render::{Look, render};
use super::{Loaded, PolicyErrors, load, tighten};
use crate::policy::compare::{Mark, compare};
use crate::policy::meet::meet;
use crate::policy::model::{Policy, PolicyMount, Rule};
use crate::policy::origin::Level;
use crate::policy::schema;
use crate::protocol::spec::Access;
use std::path::Path;

/// Between a policy and the one it may extend, in an input.
const PARENT: &str = "#--- base.toml\n";

/// A text, and its parent's where it has one.
pub(crate) fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (own, parent) = text.split_once(PARENT).unwrap_or((text, ""));
    let loaded = match read("mine.toml", own, parent) {
        Ok(loaded) => loaded,
        Err(errors) => return told(&errors.problems, &errors.sources),
    };
    told(&loaded.warnings, &loaded.sources);
    let policy = &loaded.policy;
    // Idempotent, but for the order of what has none.
    let met = meet(policy, policy).expect("a policy excludes nothing of itself");
    assert!(
        compare(policy, &met)
            .iter()
            .all(|one| one.mark == Mark::Equal)
    );
    assert_eq!(meet(&met, &met).as_ref(), Ok(&met));
    assert!(
        compare(policy, policy)
            .iter()
            .all(|one| one.mark == Mark::Equal)
    );
    written_anew(policy);
    under_a_ceiling(&loaded, parent);
}

fn read(label: &str, text: &str, parent: &str) -> Result<Loaded, PolicyErrors> {
    let source = PolicySource::new(label, text).lying_in(Path::new("/policies"));
    load(source, &mut |name| match name {
        "base.toml" => Ok(PolicySource::new("base.toml", parent).lying_in(Path::new("/policies"))),
        _ => Err("there is no such file".to_owned()),
    })
}

/// Every problem has a place, and is told in plain text: a policy may be a stranger's.
fn told(problems: &[Problem], sources: &[PolicySource]) {
    for one in problems {
        let text = &sources[one.source].text;
        assert!(
            one.span.start <= one.span.end && one.span.end <= text.len(),
            "{one:?}"
        );
    }
    for look in [Look::Plain, Look::Drawn { columns: 80 }] {
        let told = render(problems, sources, look);
        assert!(told.chars().all(|c| c == '\n' || !is_hidden(c)), "{told:?}");
    }
}

/// What a policy says, written as a policy, says the same.
fn written_anew(policy: &Policy) {
    let mut lines = vec![
        "schema = 1".to_owned(),
        format!("name = {}", quoted(&policy.name)),
        format!("description = {}", quoted(&policy.description)),
    ];
    lines.extend(schema::values(policy).map(|(key, value)| format!("{} = {value}", key.path)));
    lines.extend(policy.mounts.iter().map(mount));
    lines.extend(policy.approval.rules.iter().map(rule));
    let text = lines.join("\n");
    let again = read("again.toml", &text, "").unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    assert_eq!(again.policy, *policy, "{text}");
    assert_eq!(again.policy.digest(), policy.digest());
}

fn mount(mount: &PolicyMount) -> String {
    let mode = match mount.access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    format!(
        "[[mount]]\nsource = {}\ntarget = {}\nmode = \"{mode}\"",
        quoted(&mount.source),
        quoted(&mount.target)
    )
}

fn rule(rule: &Rule) -> String {
    let word = |value: serde_json::Value| value.to_string();
    let mut out = format!(
        "[[approval.rule]]\nid = {}\naction = {}\ndecision = {}\nreason = {}\n",
        quoted(&rule.id),
        word(serde_json::to_value(rule.action).expect("a word")),
        word(serde_json::to_value(rule.decision).expect("a word")),
        quoted(&rule.reason),
    );
    if !rule.command_prefix.is_empty() {
        let words: Vec<String> = rule.command_prefix.iter().map(|one| quoted(one)).collect();
        out += &format!("command_prefix = [{}]\n", words.join(", "));
    }
    if let Some(wall) = rule.max_wall_ms {
        out += &format!("max_wall_time = \"{wall}ms\"\n");
    }
    if let Some(gpus) = rule.max_gpus {
        out += &format!("max_gpus = {gpus}\n");
    }
    if rule.offline {
        out += "network = \"none\"\n";
    }
    out
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// As the system's word, the other text only takes away.
fn under_a_ceiling(loaded: &Loaded, ceiling: &str) {
    let source = PolicySource::new("system.toml", ceiling).of(Level::System);
    let over = tighten(loaded.clone(), source, &mut |_| Err("no file".to_owned()));
    let Ok(over) = over else { return };
    for one in compare(&loaded.policy, &over.policy) {
        assert!(matches!(one.mark, Mark::Equal | Mark::Tighter), "{one:?}");
    }
}
