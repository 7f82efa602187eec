//! From what was typed to what the house understands, and from its errors to what a person reads.

use super::args::{BackendArg, SandboxArgs};
use super::failure::{self, Failure};
use super::policy::{self, Brought, Chosen, Effective, Strictness};
use crate::app::{AppError, SandboxRequest};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::images::ImageError;
use crate::policy::model::BackendChoice;
use crate::policy::unit::{self, UnitError};
use crate::sandbox::gpu::GpuError;
use crate::sandbox::mount_source::MountRequest;
use crate::tools::ToolStop;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads everything that shapes a sandbox; the first thing that makes no sense is said.
pub(super) fn sandbox(config: &Config, args: &SandboxArgs) -> Result<SandboxRequest, Failure> {
    let effective = policy::effective(
        config,
        &Chosen {
            policy: &args.policy,
            backend: args.backend.and_then(backend_word),
            set: &args.set,
            workspace: args.workspace.as_deref(),
            strictness: Strictness::of(args.strict),
        },
    )?;
    let mounts = mounts(&effective, &args.mounts)?;
    if let Some(venv) = &args.venv {
        effective.allows(&Brought {
            flag: format!("--venv {}", visible(&venv.to_string_lossy())),
            // One that is not there lies nowhere that is listed.
            source: &std::fs::canonicalize(venv).unwrap_or_else(|_| PathBuf::from("/")),
            place: None,
        })?;
    }
    let env = environment(config, &args.env)?;
    effective.allows_env(&env)?;
    Ok(SandboxRequest {
        policy: effective.loaded.policy,
        policy_notes: effective.notes,
        policy_folder: effective.folder,
        backend: args.backend.map(backend),
        image: args.image.clone(),
        workspace: args.workspace.clone(),
        unpack: args.unpack.clone(),
        venv: args.venv.clone(),
        mounts,
        env,
        artifacts: args.artifacts.as_deref().map(absolute).transpose()?,
    })
}

fn mounts(effective: &Effective, typed: &[String]) -> Result<Vec<MountRequest>, Failure> {
    typed
        .iter()
        .map(|spec| {
            let mount = MountRequest::parse(spec).map_err(|error| {
                Failure::of(&error, failure::USAGE).remedy(Some(error.remedy()))
            })?;
            effective.allows(&Brought {
                flag: format!("--mount {}", visible(spec)),
                source: &absolute(&mount.source)?,
                place: Some((&mount.target, mount.access)),
            })?;
            Ok(mount)
        })
        .collect()
}

/// Relative to where the user is; no link is followed.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::of(&error, failure::USAGE))
}

/// A backend that was asked for; `auto` leaves it to the policy.
fn backend_word(typed: BackendArg) -> Option<&'static str> {
    match typed {
        BackendArg::Auto => None,
        BackendArg::Docker => Some("docker"),
        BackendArg::Namespace => Some("namespace"),
    }
}

pub(super) fn backend(typed: BackendArg) -> BackendChoice {
    match typed {
        BackendArg::Auto => BackendChoice::Auto,
        BackendArg::Docker => BackendChoice::Docker,
        BackendArg::Namespace => BackendChoice::Namespace,
    }
}

/// `NAME=VALUE`, or `NAME` for the user's own value.
pub(super) fn environment(
    config: &Config,
    typed: &[String],
) -> Result<BTreeMap<String, String>, Failure> {
    typed
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => match config.environment.get(pair) {
                Some(value) => Ok((pair.clone(), value.clone())),
                None => Err(Failure::new(
                    format!("--env {pair}: you have no such variable"),
                    failure::USAGE,
                )
                .remedy(Some(format!("write --env {pair}=VALUE")))),
            },
        })
        .collect()
}

/// `90s`, `30m`, `2h`: milliseconds. A bare number has no unit and is refused.
pub(super) fn duration_ms(flag: &str, text: &str) -> Result<u64, Failure> {
    let wrong = |why: &str| {
        Failure::new(format!("{flag} {text}: {why}"), failure::USAGE)
            .remedy(Some("write a number and a unit, as in 90s, 30m or 2h"))
    };
    match unit::parse_time(text) {
        Ok(0) => Err(wrong("it is no time at all")),
        Ok(milliseconds) => Ok(milliseconds),
        Err(UnitError::NoUnit) => Err(wrong("it has no unit")),
        Err(UnitError::Unknown) => Err(wrong("it is no number with a unit")),
        Err(UnitError::Range) => Err(wrong("it is too long")),
    }
}

/// The time limit of one command, as typed.
pub(super) fn timeout(typed: Option<&str>) -> Result<Option<u64>, Failure> {
    typed.map(|text| duration_ms("--timeout", text)).transpose()
}

/// An error of the wiring, with its remedy. Who interrupted it gets the code for that, from any command.
pub(super) fn app_failure(error: &AppError, code: u8) -> Failure {
    let code = match error {
        AppError::Gpu(GpuError::Cancelled { .. }) | AppError::Stop(ToolStop::Interrupted) => {
            failure::INTERRUPTED
        }
        _ => code,
    };
    Failure::of(error, code).remedy(error.remedy())
}

/// The exit code of `run` for a run that did not come about: what was typed, or the sandbox.
pub(super) fn app_code(error: &AppError) -> u8 {
    match error {
        AppError::Policy(_)
        | AppError::PolicyFile { .. }
        | AppError::ProjectChanged { .. }
        | AppError::Mount(_)
        | AppError::Python(_)
        | AppError::Plan(_)
        | AppError::Workspace(_)
        | AppError::Upstream(_)
        | AppError::NoAuthorities
        | AppError::Authorities { .. }
        | AppError::ImageNotAllowed { .. }
        | AppError::PullNotAllowed { .. }
        | AppError::Image(
            ImageError::Name { .. }
            | ImageError::NotPinned { .. }
            | ImageError::Taken { .. }
            | ImageError::Unknown { .. }
            | ImageError::Moved { .. }
            | ImageError::NotUnpacked { .. }
            | ImageError::NoRecipe { .. }
            | ImageError::NoBase { .. },
        )
        | AppError::Secret { .. }
        | AppError::SecretFile { .. }
        | AppError::NoImage => failure::USAGE,
        AppError::TooManyRuns { .. } => failure::DENIED,
        AppError::Record(_)
        | AppError::Sandbox(_)
        | AppError::Image(_)
        | AppError::Gpu(_)
        | AppError::Init { .. }
        | AppError::Machine { .. }
        | AppError::Repo(_)
        | AppError::Stop(_) => failure::SANDBOX,
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod layer_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_a_unit() {
        assert_eq!(duration_ms("--timeout", "90s").unwrap(), 90_000);
        for text in ["90", "", "0s", "soon", "-1s"] {
            let failure = duration_ms("--timeout", text).unwrap_err();
            assert!(failure.remedy.unwrap().contains("unit"), "{text}");
        }
    }
}
