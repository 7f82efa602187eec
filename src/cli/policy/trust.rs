//! `fumehood policy trust` and `distrust`: whether a project's own policy counts.

use super::{Form, pretty, refused, text};
use crate::app::{self, AppError};
use crate::cli::failure::{self, Failure};
use crate::config::Config;
use crate::context::sanitise::{sanitise, visible};
use crate::policy::builtin;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Shows a project's policy and lets it count. Its mistakes are said, and then it does not.
pub(super) fn trust(config: &Config, folder: &Path) -> Result<ExitCode, Failure> {
    let source = app::project_source(folder).map_err(|error| failed(&error))?;
    // Over the policy that is used where none is named: what it says is looked at, whatever it meets.
    if let Some(usual) = builtin::load(builtin::DEFAULT) {
        let tightened = app::tighten_by_project(usual, source.clone());
        if let Err(AppError::Policy(errors)) = tightened
            && !errors.problems.iter().all(text::is_conflict)
        {
            return Err(refused(&errors));
        }
    }
    let accepted = app::trust(config, folder, &source).map_err(|error| failed(&error))?;
    crate::cli::print(&format!(
        "{}\n\n{} counts from now on in what works on that folder, as it is now (sha256 {}); it can only take away",
        sanitise(source.text.as_bytes(), usize::MAX).trim_end(),
        source.label,
        accepted.sha256,
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A project's policy counts no longer.
pub(super) fn distrust(config: &Config, folder: &Path) -> Result<ExitCode, Failure> {
    let shown = visible(&folder.to_string_lossy());
    let was = app::distrust(config, folder).map_err(|error| failed(&error))?;
    crate::cli::print(&match was {
        true => format!("the policy of {shown} counts no longer"),
        false => format!("the policy of {shown} did not count"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What was accepted.
pub(super) fn list(config: &Config, form: Form) -> Result<ExitCode, Failure> {
    let all = app::all_accepted(config);
    let lines = || {
        all.iter().map(|one| {
            let folder = visible(&one.folder.to_string_lossy());
            format!("{}  {folder}\n", one.sha256)
        })
    };
    crate::cli::print(&match form {
        Form::Json => pretty(&json!(all)),
        Form::Text if all.is_empty() => "no project's policy counts".to_owned(),
        Form::Text => lines().collect(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &AppError) -> Failure {
    Failure::of(error, failure::USAGE).remedy(error.remedy())
}
