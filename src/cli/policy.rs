//! `fumehood policy`: list, show, check and explain; and the policy that other commands run under.

mod compare;
mod effective;
mod find;
mod text;
mod trust;

use super::args::{ActionArg, LayerArgs, PolicyArgs, PolicyCommand};
use super::failure::{self, Failure};
use crate::config::Config;
use crate::context::sanitise::sanitise;
use crate::policy::builtin;
use crate::policy::explain::{self, CommandExplained};
use crate::policy::file::problem::{PolicyErrors, PolicySource, Problem};
use crate::policy::file::render::{self, Look};
use crate::policy::file::{self, Loaded};
use crate::policy::json_schema;
use crate::policy::origin::Level;
use compare::Keys;
pub(super) use effective::{Brought, Chosen, Effective, effective};
use find::Found;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::ExitCode;

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
            layers,
            json,
            action,
            command,
        } => explain(config, layers, (*action, command, Form::of(*json))),
        PolicyCommand::Diff {
            from,
            to,
            all,
            json,
        } => compare::diff(config, (from, to), (Keys::of(*all), Form::of(*json))),
        PolicyCommand::Test { policies, json } => compare::test(config, policies, Form::of(*json)),
        PolicyCommand::Schema => {
            super::print(&pretty(&json_schema::document()))?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Trust { folder: None, json } => trust::list(config, Form::of(*json)),
        PolicyCommand::Trust {
            folder: Some(folder),
            ..
        } => trust::trust(config, folder),
        PolicyCommand::Distrust { folder } => trust::distrust(config, folder),
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
pub(super) enum Strictness {
    Lenient,
    /// Warnings are errors.
    Strict,
}

impl Strictness {
    pub(super) fn of(strict: bool) -> Self {
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
    layers: &LayerArgs,
    (action, command, form): (ActionArg, &[String], Form),
) -> Result<ExitCode, Failure> {
    let effective = effective(
        config,
        &Chosen {
            policy: &layers.policy,
            backend: None,
            set: &layers.set,
            workspace: layers.workspace.as_deref(),
            strictness: Strictness::Lenient,
        },
    )?;
    let loaded = effective.loaded;
    for note in &effective.notes {
        super::say(&format!("note: {note}"));
    }
    let text = match (about(&loaded, action, command)?, form) {
        (None, Form::Text) => text::values(&loaded.policy, &explain::values(&loaded)),
        (None, Form::Json) => pretty(&json!({
            "name": loaded.policy.name,
            "digest": loaded.policy.digest(),
            "values": explain::values(&loaded),
        })),
        (Some(explained), Form::Text) => text::command(&explained),
        (Some(explained), Form::Json) => pretty(&json!(explained)),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What would be decided about it; `None` where nothing was asked about.
fn about(
    loaded: &Loaded,
    action: ActionArg,
    words: &[String],
) -> Result<Option<CommandExplained>, Failure> {
    match (action, words) {
        (_, []) => Ok(None),
        (ActionArg::Exec, words) => {
            let argv: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
            Ok(Some(explain::command(loaded, &argv)))
        }
        (ActionArg::Clone, [url]) => Ok(Some(explain::clone(loaded, url))),
        (ActionArg::Clone, _) => Err(Failure::new("--action clone takes one URL", failure::USAGE)),
    }
}

fn warn(loaded: &Loaded) {
    if !loaded.warnings.is_empty() {
        super::say(render::render(&loaded.warnings, &loaded.sources, look()).trim_end());
    }
}

/// A policy that cannot be used: the mistakes first, then what to do.
fn refused(errors: &PolicyErrors) -> Failure {
    let first = errors
        .problems
        .first()
        .and_then(|problem| errors.sources.get(problem.source));
    let label = first.map_or("", |source| source.label.as_str());
    let typed = first.is_some_and(|source| source.level == Level::Typed);
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
    .remedy((!typed).then(|| format!("mend it, then run `fumehood policy check {label}`")))
}

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
