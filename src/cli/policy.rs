//! `fumehood policy`: list, show, check and explain; and the policy that other commands run under.

mod find;
mod text;

use super::args::{PolicyArgs, PolicyCommand};
use super::failure::{self, Failure};
use crate::config::Config;
use crate::context::sanitise::sanitise;
use crate::policy::builtin;
use crate::policy::explain;
use crate::policy::file::problem::{PolicyErrors, PolicySource, Problem};
use crate::policy::file::render::{self, Look};
use crate::policy::file::{self, Loaded};
use crate::policy::model::Policy;
use find::Found;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// The policy of a command, effective: file, parents and `--set` together.
pub(super) struct Effective {
    pub(super) policy: Policy,
    /// What its relative mounts start from.
    pub(super) folder: PathBuf,
}

/// Finds, reads and composes; warnings are said, mistakes end it.
pub(super) fn effective(config: &Config, name: &str, set: &[String]) -> Result<Effective, Failure> {
    let found = find::find(config, name)?;
    let mut loaded = found.load().map_err(|errors| refused(&errors))?;
    for typed in set {
        file::apply_set(&mut loaded, typed).map_err(|errors| refused(&errors))?;
    }
    warn(&loaded);
    Ok(Effective {
        policy: loaded.policy,
        folder: found.folder,
    })
}

/// `fumehood policy …`
pub(super) fn policy(config: &Config, args: &PolicyArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        PolicyCommand::List { json } => list(config, Form::of(*json)),
        PolicyCommand::Show { policy, json } => show(config, policy, Form::of(*json)),
        PolicyCommand::Check {
            policies,
            json,
            strict,
        } => check(config, policies, (Form::of(*json), Strictness::of(*strict))),
        PolicyCommand::Explain {
            policy,
            json,
            command,
        } => explain(config, policy, (command, Form::of(*json))),
    }
}

/// For a person, or for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Form {
    fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Lenient,
    /// Warnings are errors.
    Strict,
}

impl Strictness {
    fn of(strict: bool) -> Self {
        if strict { Self::Strict } else { Self::Lenient }
    }
}

fn list(config: &Config, form: Form) -> Result<ExitCode, Failure> {
    let rows: Vec<text::Row> = find::all(config)
        .iter()
        .map(|found| {
            let loaded = found.load();
            text::Row {
                name: found.name.clone(),
                source: found.source.label.clone(),
                is_default: found.name == builtin::DEFAULT,
                about: match &loaded {
                    Ok(loaded) => loaded.policy.description.clone(),
                    Err(errors) => format!("does not load: {}", text::mistakes(&errors.problems)),
                },
                loads: loaded.is_ok(),
            }
        })
        .collect();
    super::print(&match form {
        Form::Text => text::list(&rows, &config.policies),
        Form::Json => pretty(&json!(rows.iter().map(text::Row::json).collect::<Vec<_>>())),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, name: &str, form: Form) -> Result<ExitCode, Failure> {
    let found = find::find(config, name)?;
    super::print(&match form {
        // As it is written, mistakes and all.
        Form::Text => sanitise(found.source.text.as_bytes(), usize::MAX),
        Form::Json => {
            let loaded = found.load().map_err(|errors| refused(&errors))?;
            pretty(&json!({ "digest": loaded.policy.digest(), "policy": loaded.policy }))
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(
    config: &Config,
    names: &[String],
    (form, strictness): (Form, Strictness),
) -> Result<ExitCode, Failure> {
    let mut bad = 0;
    let mut answers: Vec<Value> = Vec::new();
    for name in names {
        let found = find::find(config, name)?;
        let (sources, problems, policy) = match found.load() {
            Ok(loaded) => (loaded.sources, loaded.warnings, Some(loaded.policy.name)),
            Err(errors) => (errors.sources, errors.problems, None),
        };
        let good = policy.is_some() && (strictness == Strictness::Lenient || problems.is_empty());
        bad += usize::from(!good);
        if form == Form::Json {
            let problems: Vec<Value> = problems
                .iter()
                .map(|one| text::problem(one, &sources))
                .collect();
            answers.push(json!({ "policy": name, "ok": good, "problems": problems }));
            continue;
        }
        if !problems.is_empty() {
            super::say(&render::render(&problems, &sources, look()));
        }
        match good {
            true => super::print(&format!("{}: good", found.source.label))?,
            false => super::say(&text::bad(&found.source.label, &problems)),
        }
    }
    if form == Form::Json {
        super::print(&pretty(&Value::Array(answers)))?;
    }
    Ok(match bad {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::USAGE),
    })
}

fn explain(
    config: &Config,
    name: &str,
    (command, form): (&[String], Form),
) -> Result<ExitCode, Failure> {
    let loaded = find::find(config, name)?
        .load()
        .map_err(|errors| refused(&errors))?;
    warn(&loaded);
    let argv: Vec<Vec<u8>> = command
        .iter()
        .map(|word| word.clone().into_bytes())
        .collect();
    let text = match (argv.is_empty(), form) {
        (true, Form::Text) => text::values(&loaded.policy, &explain::values(&loaded)),
        (true, Form::Json) => pretty(&json!({
            "name": loaded.policy.name,
            "digest": loaded.policy.digest(),
            "values": explain::values(&loaded),
        })),
        (false, Form::Text) => text::command(&explain::command(&loaded, &argv)),
        (false, Form::Json) => pretty(&json!(explain::command(&loaded, &argv))),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn warn(loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        super::say(render::render(&loaded.warnings, &loaded.sources, look()).trim_end());
    }
}

/// A policy that cannot be used: the mistakes first, then what to do.
fn refused(errors: &PolicyErrors) -> Failure {
    let label = errors
        .sources
        .first()
        .map_or("", |source| source.label.as_str());
    let mistakes = text::mistakes(&errors.problems);
    let shown = errors.render(look());
    Failure::new(
        format!(
            "the policy cannot be used: {mistakes} in {label}\n\n{}",
            shown.trim_end()
        ),
        failure::USAGE,
    )
    // Each has its own above; what was typed is mended where it was typed.
    .remedy((label != TYPED).then(|| format!("mend it, then run `fumehood policy check {label}`")))
}

/// The label of `--set`.
const TYPED: &str = "--set";

/// Pictures for a person; lines for a log. `say` takes the colours out where none are wanted.
fn look() -> Look {
    match std::io::stderr().is_terminal() {
        true => Look::Coloured {
            columns: super::terminal::columns(),
        },
        false => Look::Plain,
    }
}

fn pretty(value: &Value) -> String {
    // A `Value` has string keys only.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

impl Found {
    fn load(&self) -> Result<Loaded, PolicyErrors> {
        if let Some(loaded) = self.builtin.then(|| builtin::load(&self.name)).flatten() {
            return Ok(loaded);
        }
        file::load(self.source.clone(), &mut |name| self.beside(name))
    }
}

/// What a JSON reader is told about one place.
fn place(problem: &Problem, sources: &[PolicySource]) -> (String, usize, usize) {
    sources
        .get(problem.source)
        .map_or((String::new(), 0, 0), |source| {
            let place = source.place(problem.span.start);
            (source.label.clone(), place.line, place.column)
        })
}
