//! Reading what repeats: `[[mount]]` and `[[approval.rule]]`.

use super::problem::Code;
use super::reader::{At, Example, Reader, Wanted, nearest, one_of};
use super::scalar;
use crate::policy::action::ActionKind;
use crate::policy::inline;
use crate::policy::judge;
use crate::policy::model::{Decision, PolicyMount, Rule};
use crate::policy::names::{self, TargetError};
use crate::policy::schema;
use crate::policy::text;
use crate::policy::value::{Form, Unit, Value};
use crate::protocol::spec::Access;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest name of a rule.
const MAX_ID: usize = 40;

/// Places of the host that no policy names; the rest is judged by identity when it is mounted.
const NEVER: [&str; 8] = [
    "/", "/proc", "/sys", "/dev", "/etc", "/boot", "/var", "/run",
];

/// One entry of a repeating table, as it is read.
pub(super) struct Entry<'v> {
    /// `mount`, `secrets` or `approval.rule`.
    path: &'static str,
    pub(super) at: At,
    table: &'v DeTable<'v>,
}

impl<'v> Entry<'v> {
    pub(super) fn get(&self, name: &str) -> Option<(At, &'v Spanned<DeValue<'v>>)> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((
            At::new(format!("{}.{name}", self.path), value.span()),
            value,
        ))
    }

    /// Keys that are none of `known`.
    pub(super) fn check_keys(&self, reader: &mut Reader<'_>, known: &[&str]) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            let at = At::new(format!("{}.{name}", self.path), key.span());
            if schema::is_not_built(&at.key) {
                reader.not_built(&at);
            } else if !known.contains(&name) {
                let near = nearest(name, known.iter().copied()).map(str::to_owned);
                reader.unknown_key(&at, near);
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn needed(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        wanted: &str,
    ) -> Option<(At, String)> {
        let Some((at, value)) = self.get(name) else {
            reader
                .note(Code::Missing, &self.at, format!("an entry needs `{name}`"))
                .fix(format!("{name} = {wanted}"));
            return None;
        };
        let text = reader.string(&at, value.get_ref(), wanted)?;
        Some((at, text))
    }
}

/// The tables of an array of tables.
pub(super) fn entries<'v>(
    reader: &mut Reader<'_>,
    path: &'static str,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<Entry<'v>> {
    let at = At::new(path, value.span());
    let Some(array) = value.get_ref().as_array() else {
        reader
            .note(
                Code::Type,
                &at,
                "it repeats, and is written as an array of tables",
            )
            .fix(format!("[[{path}]]"));
        return Vec::new();
    };
    let mut entries = Vec::new();
    for one in array.iter() {
        let at = At::new(path, one.span());
        if let Some(table) = reader.table(&at, one) {
            entries.push(Entry { path, at, table });
        }
    }
    entries
}

/// Every `[[mount]]`.
pub(super) fn mounts<'v>(
    reader: &mut Reader<'_>,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<(At, PolicyMount)> {
    let mut mounts: Vec<(At, PolicyMount)> = Vec::new();
    for entry in entries(reader, "mount", value) {
        entry.check_keys(reader, &schema::MOUNT);
        let source = source(reader, &entry);
        let target = target(reader, &entry);
        let access = match entry.get("mode") {
            None => Some(Access::ReadOnly),
            Some((at, mode)) => reader
                .word(&at, mode.get_ref(), &["ro", "rw"])
                .map(|index| [Access::ReadOnly, Access::ReadWrite][index]),
        };
        let (Some(source), Some((at, target)), Some(access)) = (source, target, access) else {
            continue;
        };
        let over = mounts.iter().find(|(_, other)| {
            let (a, b) = (Path::new(&target), Path::new(&other.target));
            a.starts_with(b) || b.starts_with(a)
        });
        if let Some((_, other)) = over {
            let message = format!("{target} and {} cover each other", other.target);
            reader
                .note(Code::MountOverlap, &at, message)
                .fix("give each mount a target beside the other, not in it");
            continue;
        }
        mounts.push((
            entry.at.clone(),
            PolicyMount {
                source,
                target,
                access,
            },
        ));
    }
    mounts
}

fn source(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<String> {
    let (at, source) = entry.needed(reader, "source", "\"data/cifar10\"")?;
    if source.starts_with("volume:") {
        reader.note(Code::NotBuilt, &at, "volumes are not in this version");
        return None;
    }
    if source.is_empty() || source.starts_with('~') || source.contains('$') {
        reader
            .note(
                Code::PathChars,
                &at,
                format!("{source:?} is taken as it is: `~` and `$` mean nothing here"),
            )
            .fix("write the whole path, or one relative to this file");
        return None;
    }
    if source.split('/').any(|part| part == "..") {
        reader
            .note(
                Code::PathTraversal,
                &at,
                format!("{source:?} climbs with `..`"),
            )
            .fix("write the absolute path");
        return None;
    }
    let plain = match source.trim_end_matches('/') {
        "" => "/",
        plain => plain,
    };
    if NEVER.contains(&plain) || plain.ends_with(".sock") {
        reader
            .note(
                Code::MountForbidden,
                &at,
                format!("{plain} opens the machine and is never mounted"),
            )
            .fix("name the folder that holds the data");
        return None;
    }
    Some(source)
}

fn target(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, String)> {
    let (at, target) = entry.needed(reader, "target", "\"/data/NAME\"")?;
    if let Err(error) = names::check_target(Path::new(&target)) {
        let code = match error {
            TargetError::NotPlain { .. } => Code::PathChars,
            TargetError::Place { .. } => Code::MountTarget,
        };
        reader
            .note(code, &at, error.to_string())
            .fix(error.remedy());
        return None;
    }
    Some((at, target))
}

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

/// Keys that say nothing about this kind of act.
fn check_fit(reader: &mut Reader<'_>, entry: &Entry<'_>, rule: &Rule) {
    if rule.action != ActionKind::Exec {
        for name in ["command_prefix", "max_wall_time", "match", "not_match"] {
            if let Some((at, _)) = entry.get(name) {
                let message = format!("it says nothing about {}", rule.action.name());
                reader.note(Code::Conflict, &at, message).fix("take it out");
            }
        }
    } else if rule.decision != Decision::Allow
        && let Some((at, _)) = entry.get("max_wall_time")
    {
        let message = "it only narrows what a rule allows: a longer act would slip by";
        reader.note(Code::Conflict, &at, message).fix("take it out");
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
