//! `fumehood policy diff` and `fumehood policy test`.

use super::text::{DIM, GREEN, RED, YELLOW};
use super::{Form, find, pretty, refused};
use crate::cli::failure::{self, Failure};
use crate::config::Config;
use crate::policy::compare::{Compared, Mark, compare};
use crate::policy::file::{self, Example, Tried, Wanted};
use crate::policy::model::Policy;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Which keys are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Different,
    All,
}

impl Keys {
    pub(super) fn of(all: bool) -> Self {
        if all { Self::All } else { Self::Different }
    }
}

/// As `diff` has it.
const DIFFERENT: u8 = 1;

/// Two policies side by side, each with what it extends and without what holds over it.
pub(super) fn diff(
    config: &Config,
    (from, to): (&str, &str),
    (keys, form): (Keys, Form),
) -> Result<ExitCode, Failure> {
    let load = |name: &str| -> Result<Policy, Failure> {
        let loaded = find::find(config, name)?.load();
        Ok(loaded.map_err(|errors| refused(&errors))?.policy)
    };
    let mut all = compare(&load(from)?, &load(to)?);
    let same = all.iter().all(|one| one.mark == Mark::Equal);
    let summary = summary(&all, to);
    if keys == Keys::Different {
        all.retain(|one| one.mark != Mark::Equal);
    }
    crate::cli::print(&match form {
        Form::Json => pretty(&json!(all)),
        Form::Text => all.iter().map(line).chain([summary]).collect::<String>(),
    })?;
    Ok(match same {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIFFERENT),
    })
}

fn line(one: &Compared) -> String {
    let (style, sign, word) = match one.mark {
        Mark::Equal => (DIM, "=", "equal"),
        Mark::Tighter => (GREEN, "-", "tighter"),
        Mark::Looser => (RED, "+", "looser"),
        Mark::Other => (YELLOW, "~", "other"),
    };
    let value = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
    let change = match one.mark {
        Mark::Equal => value(&one.a),
        _ => format!("{} -> {}", value(&one.a), value(&one.b)),
    };
    format!("{style}{sign} {word:7}{style:#}  {}  {change}\n", one.key)
}

fn summary(all: &[Compared], to: &str) -> String {
    let count = |mark| all.iter().filter(|one| one.mark == mark).count();
    format!(
        "{to}: {} looser, {} tighter, {} other, {} equal\n",
        count(Mark::Looser),
        count(Mark::Tighter),
        count(Mark::Other),
        count(Mark::Equal)
    )
}

/// Each rule on its own examples.
pub(super) fn test(config: &Config, names: &[String], form: Form) -> Result<ExitCode, Failure> {
    let mut failed = 0;
    let mut answers: Vec<Value> = Vec::new();
    for name in names {
        let found = find::find(config, name)?;
        let tried = file::try_examples(found.source.clone(), &mut |name| found.beside(name));
        let tried = tried.map_err(|errors| refused(&errors))?;
        failed += tried.examples.iter().filter(|one| !one.holds()).count();
        match form {
            Form::Json => answers.extend(tried.examples.iter().map(|one| as_json(name, one))),
            Form::Text => crate::cli::print(&report(&found.source.label, &tried))?,
        }
    }
    if form == Form::Json {
        crate::cli::print(&pretty(&Value::Array(answers)))?;
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::USAGE),
    })
}

fn report(label: &str, tried: &Tried) -> String {
    let mut out = format!("{label}\n");
    for one in &tried.examples {
        let (style, word) = match one.holds() {
            true => (GREEN, "ok"),
            false => (RED, "FAIL"),
        };
        let said = match &one.miss {
            None => "matches".to_owned(),
            Some(miss) => format!("does not match: {miss}"),
        };
        out.push_str(&format!(
            "  {style}{word:4}{style:#} {}  {}  {DIM}{said}{DIM:#}\n",
            one.rule, one.command
        ));
    }
    for id in &tried.bare {
        out.push_str(&format!("  {YELLOW}-{YELLOW:#}    {id}  has no examples\n"));
    }
    if tried.examples.is_empty() && tried.bare.is_empty() {
        out.push_str("  has no rules about commands\n");
    }
    out
}

fn as_json(policy: &str, one: &Example) -> Value {
    let wanted: Wanted = one.wanted;
    json!({
        "policy": policy,
        "rule": one.rule,
        "command": one.command,
        "wanted": wanted,
        "ok": one.holds(),
        "miss": one.miss,
    })
}
