//! Reading `[[approval.rule]]`: each fits its act, is not too broad, and holds its own examples.

use super::entry::{Entry, entries};
use super::problem::Code;
use super::reader::{At, Example, Reader, Wanted, one_of};
use super::scalar;
use crate::policy::action::ActionKind;
use crate::policy::inline;
use crate::policy::judge;
use crate::policy::model::{Decision, Rule};
use crate::policy::schema;
use crate::policy::text;
use crate::policy::value::{Form, Unit, Value};
use toml::Spanned;
use toml::de::DeValue;

/// Longest name of a rule.
const MAX_ID: usize = 40;

/// Every `[[approval.rule]]`, each tried on its own examples.
pub(super) fn rules<'v>(
    reader: &mut Reader<'_>,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<(At, Rule)> {
    let mut rules: Vec<(At, Rule)> = Vec::new();
    for entry in entries(reader, "approval.rule", value) {
        entry.check_keys(reader, &schema::RULE);
        let Some((at, rule)) = rule(reader, &entry) else {
            continue;
        };
        if rules.iter().any(|(_, other)| other.id == rule.id) {
            let message = format!("there is a rule {:?} already", rule.id);
            reader
                .note(Code::DuplicateId, &at, message)
                .fix("give each rule a name of its own");
            continue;
        }
        check_breadth(reader, &entry, &rule);
        check_examples(reader, &entry, &rule);
        rules.push((at, rule));
    }
    rules
}

fn rule(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, Rule)> {
    let id = id(reader, entry);
    let action = action(reader, entry);
    let decisions = [Decision::Allow, Decision::Ask, Decision::Deny];
    let words = ["allow", "ask", "deny"];
    let decision = match entry.get("decision") {
        Some((at, value)) => reader.word(&at, value.get_ref(), &words),
        None => entry.needed(reader, "decision", &one_of(&words)).and(None),
    };
    let command_prefix = match entry.get("command_prefix") {
        Some((at, value)) => reader.strings(&at, value.get_ref(), "a list of arguments"),
        None => Some(Vec::new()),
    };
    let max_wall_ms = wall(reader, entry);
    let max_gpus = gpus(reader, entry);
    let offline = match entry.get("network") {
        Some((at, value)) => (reader.word(&at, value.get_ref(), &["none"])).map(|_| true),
        None => Some(false),
    };
    let reason = match entry.get("reason") {
        Some((at, value)) => reader.string(&at, value.get_ref(), "a text in quotes"),
        None => Some(String::new()),
    };
    let (at, id) = id?;
    let rule = Rule {
        id,
        action: action?,
        decision: decisions[decision?],
        command_prefix: command_prefix?.into_iter().map(|(_, word)| word).collect(),
        max_wall_ms: max_wall_ms?,
        max_gpus: max_gpus?,
        offline: offline?,
        reason: reason?,
    };
    check_fit(reader, entry, &rule);
    Some((at, rule))
}

fn id(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, String)> {
    let (at, id) = entry.needed(reader, "id", "\"train-cpu\"")?;
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.len() > MAX_ID || !id.chars().all(letter) {
        reader
            .note(Code::Name, &at, format!("{id:?} is no name for a rule"))
            .allowed(format!("1 to {MAX_ID} of a-z, 0-9 and -"));
        return None;
    }
    Some((at, id))
}

fn action(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<ActionKind> {
    let kinds = [ActionKind::Exec, ActionKind::Clone];
    let words = kinds.map(ActionKind::name);
    let (at, value) = match entry.get("action") {
        Some(found) => found,
        None => return entry.needed(reader, "action", &one_of(&words)).and(None),
    };
    if let Some(word) = value
        .get_ref()
        .as_str()
        .filter(|word| schema::ACTIONS_LATER.contains(word))
    {
        reader
            .note(
                Code::NotBuilt,
                &at,
                format!("{word:?} is not in this version"),
            )
            .allowed(one_of(&words));
        return None;
    }
    reader
        .word(&at, value.get_ref(), &words)
        .map(|index| kinds[index])
}

/// The outer `None` is a mistake, the inner one "not said".
fn wall(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<Option<u64>> {
    let Some((at, value)) = entry.get("max_wall_time") else {
        return Some(None);
    };
    let form = Form::Amount {
        unit: Unit::Milliseconds,
        range: (1_000, u64::from(u32::MAX) * 1_000),
    };
    match scalar::read(reader, &form, &at, value.get_ref())? {
        Value::Amount(wall) => Some(Some(wall)),
        _ => None,
    }
}

/// The outer `None` is a mistake, the inner one "not said".
fn gpus(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<Option<u64>> {
    let Some((at, value)) = entry.get("max_gpus") else {
        return Some(None);
    };
    let form = Form::Amount {
        unit: Unit::Count,
        range: (0, 1024),
    };
    match scalar::read(reader, &form, &at, value.get_ref())? {
        Value::Amount(gpus) => Some(Some(gpus)),
        _ => None,
    }
}

/// What only narrows a rule that allows.
const NARROWS: [&str; 3] = ["max_wall_time", "max_gpus", "network"];

/// Keys that say nothing about this kind of act.
fn check_fit(reader: &mut Reader<'_>, entry: &Entry<'_>, rule: &Rule) {
    let (names, message): (&[_], _) = if rule.action != ActionKind::Exec {
        let of_commands = ["command_prefix", "match", "not_match"];
        let message = format!("it says nothing about {}", rule.action.name());
        (&[&NARROWS[..], &of_commands].concat(), message)
    } else if rule.decision != Decision::Allow {
        let message = "it only narrows what a rule allows: a larger act would slip by";
        (&NARROWS, message.to_owned())
    } else {
        return;
    };
    for (at, _) in names.iter().filter_map(|name| entry.get(name)) {
        reader
            .note(Code::Conflict, &at, message.clone())
            .fix("take it out");
    }
}

fn check_breadth(reader: &mut Reader<'_>, entry: &Entry<'_>, rule: &Rule) {
    if (rule.action, rule.decision) != (ActionKind::Exec, Decision::Allow) {
        return;
    }
    let why = match rule.command_prefix.is_empty() {
        true => "it would allow every command".to_owned(),
        false => match inline::open(&rule.command_prefix) {
            Some(open) => open.to_string(),
            None => return,
        },
    };
    let at = entry
        .get("command_prefix")
        .map_or(entry.at.clone(), |(at, _)| at);
    reader
        .note(Code::RuleTooBroad, &at, why)
        .fix("name the program and the file it runs, such as [\"python\", \"train.py\"]");
}

fn check_examples(reader: &mut Reader<'_>, entry: &Entry<'_>, rule: &Rule) {
    for (name, wanted) in [("match", Wanted::Match), ("not_match", Wanted::NotMatch)] {
        let Some((at, value)) = entry.get(name) else {
            continue;
        };
        const WANTED: &str = "a list of commands such as [[\"python\", \"train.py\"]]";
        let Some(commands) = value.get_ref().as_array() else {
            reader.wrong_type(&at, WANTED, value.get_ref());
            continue;
        };
        for command in commands.iter() {
            let at = At::new(at.key.clone(), command.span());
            let Some(words) = reader.strings(&at, command.get_ref(), WANTED) else {
                continue;
            };
            let argv: Vec<Vec<u8>> = words
                .into_iter()
                .map(|(_, word)| word.into_bytes())
                .collect();
            check_example(reader, &at, (rule, &argv), wanted);
        }
    }
}

fn check_example(
    reader: &mut Reader<'_>,
    at: &At,
    (rule, argv): (&Rule, &[Vec<u8>]),
    wanted: Wanted,
) {
    let line = text::command_line(argv);
    let miss = judge::miss_command(rule, argv).map(|miss| miss.to_string());
    reader.examples.push(Example {
        rule: rule.id.clone(),
        command: line.clone(),
        wanted,
        miss: miss.clone(),
    });
    let message = match (wanted, miss) {
        (Wanted::Match, Some(miss)) => format!("the rule does not match `{line}`: {miss}"),
        (Wanted::NotMatch, None) => format!("the rule matches `{line}`"),
        (Wanted::Match, None) | (Wanted::NotMatch, Some(_)) => return,
    };
    reader
        .note(Code::RuleExample, at, message)
        .fix("mend the example, or the rule");
}
