//! The policy that a command runs under: what was chosen and typed, under what holds over it.

use super::find;
use super::{Strictness, refused, warn};
use crate::app::{self, AppError};
use crate::cli::failure::{self, Failure};
use crate::config::Config;
use crate::policy::file::{self, Loaded};
use crate::policy::origin::Level;
use crate::protocol::spec::Access;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the user says about the policy.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Chosen<'a> {
    pub(in crate::cli) policy: &'a str,
    /// `--backend`, where it is one.
    pub(in crate::cli) backend: Option<&'a str>,
    pub(in crate::cli) set: &'a [String],
    /// Whose project's policy holds as well.
    pub(in crate::cli) workspace: Option<&'a Path>,
    pub(in crate::cli) strictness: Strictness,
}

impl<'a> Chosen<'a> {
    /// That policy, and nothing else said.
    pub(in crate::cli) fn named(policy: &'a str) -> Self {
        Self {
            policy,
            backend: None,
            set: &[],
            workspace: None,
            strictness: Strictness::Lenient,
        }
    }
}

/// Every layer together.
pub(in crate::cli) struct Effective {
    pub(in crate::cli) loaded: Loaded,
    pub(in crate::cli) notes: Vec<String>,
    /// What its relative mounts start from.
    pub(in crate::cli) folder: PathBuf,
}

/// Finds, reads and composes; warnings are said, mistakes end it.
pub(in crate::cli) fn effective(
    config: &Config,
    chosen: &Chosen<'_>,
) -> Result<Effective, Failure> {
    let found = find::find(config, chosen.policy)?;
    let mut loaded = found.load().map_err(|errors| refused(&errors))?;
    for typed in chosen.set {
        file::apply_set(&mut loaded, typed).map_err(|errors| refused(&errors))?;
    }
    if let Some(backend) = chosen.backend {
        let typed = format!("executor.backend={backend}");
        file::apply_typed(&mut loaded, "--backend", &typed).map_err(|errors| refused(&errors))?;
    }
    let layered = app::lay_over(config, loaded, chosen.workspace).map_err(|error| match error {
        AppError::Policy(errors) => refused(&errors),
        error => Failure::of(&error, failure::USAGE).remedy(error.remedy()),
    })?;
    warn(&layered.loaded);
    if chosen.strictness == Strictness::Strict && !layered.loaded.warnings.is_empty() {
        let ignored = super::text::mistakes(&layered.loaded.warnings);
        let message = format!("{ignored} in the policy, and --strict takes none");
        return Err(Failure::new(message, failure::USAGE));
    }
    Ok(Effective {
        loaded: layered.loaded,
        notes: layered.notes,
        folder: found.folder,
    })
}

/// A folder of the host that a flag brings into the sandbox.
pub(in crate::cli) struct Brought<'a> {
    /// The flag as it was typed.
    pub(in crate::cli) flag: String,
    pub(in crate::cli) source: &'a Path,
    /// Where it is mounted and how; an environment lies where it lay.
    pub(in crate::cli) place: Option<(&'a Path, Access)>,
}

impl Effective {
    /// What was typed stays beneath what a project or the system says about mounts.
    ///
    /// # Errors
    /// Where it does not: nothing that was typed is passed over.
    pub(in crate::cli) fn allows(&self, brought: &Brought<'_>) -> Result<(), Failure> {
        match self.loaded.refuses_mount(brought.source, brought.place) {
            None => Ok(()),
            Some(origin) => Err(Failure::new(
                format!("{}: {origin} does not list it", brought.flag),
                failure::USAGE,
            )
            .remedy(Some(
                "leave it out; that policy lists every mount there may be",
            ))),
        }
    }

    /// A variable that was typed does not replace one that a project or the system sets.
    pub(in crate::cli) fn allows_env(
        &self,
        typed: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let over = self.loaded.origins.get("env.set");
        let over = over.filter(|one| one.origin.level().is_some_and(Level::only_tightens));
        let Some(over) = over else {
            return Ok(());
        };
        let set = &self.loaded.policy.env.set;
        match typed
            .iter()
            .find(|(name, value)| set.get(*name).is_some_and(|held| held != *value))
        {
            None => Ok(()),
            Some((name, _)) => Err(Failure::new(
                format!("--env {name}: {} sets it", over.origin),
                failure::USAGE,
            )
            .remedy(Some("leave it out"))),
        }
    }
}
