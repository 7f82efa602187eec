//! Where a policy lies: a built-in's name, a file that was named, or a name in the user's folder. A
//! file that merely lies in the current folder is never taken for a policy: repositories bring files.

use crate::app::read_policy;
use crate::cli::failure::{self, Failure};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::builtin;
use crate::policy::file::problem::PolicySource;
use std::fs;
use std::path::{Path, PathBuf};

/// A policy that was found, not read yet.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) builtin: bool,
    pub(super) source: PolicySource,
    /// The folder it lies in: its parents and its relative mounts start there.
    pub(super) folder: PathBuf,
}

/// Finds what was typed.
pub(super) fn find(config: &Config, typed: &str) -> Result<Found, Failure> {
    if let Some(found) = find_builtin(config, typed) {
        return Ok(found);
    }
    if typed.contains('/') || typed.ends_with(".toml") {
        return at(Path::new(typed), typed);
    }
    let path = config.policies.join(format!("{typed}.toml"));
    match path.exists() {
        true => at(&path, typed),
        false => Err(unknown(config, typed)),
    }
}

/// Every policy that has a name: the built-in ones and those in the user's folder.
pub(super) fn all(config: &Config) -> Vec<Found> {
    let mut all: Vec<Found> = builtin::NAMES
        .iter()
        .filter_map(|name| find_builtin(config, name))
        .collect();
    let mut own: Vec<String> = fs::read_dir(&config.policies)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".toml").map(str::to_owned))
        .collect();
    own.sort_unstable();
    all.extend(own.iter().filter_map(|name| {
        let path = config.policies.join(format!("{name}.toml"));
        at(&path, name).ok()
    }));
    all
}

impl Found {
    /// A file in the same folder, for `extends`.
    pub(super) fn beside(&self, name: &str) -> Result<PolicySource, String> {
        let path = self.folder.join(name);
        let text = read_policy(&path)?;
        Ok(PolicySource::new(label(&path), text).lying_in(&self.folder))
    }
}

fn find_builtin(config: &Config, name: &str) -> Option<Found> {
    let name = name.strip_prefix("builtin:").unwrap_or(name);
    Some(Found {
        name: name.to_owned(),
        builtin: true,
        source: builtin::source(name)?,
        folder: config.policies.clone(),
    })
}

fn at(path: &Path, typed: &str) -> Result<Found, Failure> {
    let text = read_policy(path).map_err(|why| {
        Failure::new(format!("policy {}: {why}", label(path)), failure::USAGE)
            .remedy(Some("`fumehood policy list` shows what there is"))
    })?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    Ok(Found {
        name: typed.to_owned(),
        builtin: false,
        source: PolicySource::new(label(path), text).lying_in(&folder),
        folder,
    })
}

fn label(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

fn unknown(config: &Config, typed: &str) -> Failure {
    let names: Vec<String> = all(config).into_iter().map(|found| found.name).collect();
    let near = names
        .iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        .filter(|(like, _)| *like > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let remedy = match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!(
            "there are {}; a file is named with its path, as in ./mine.toml",
            names.join(", ")
        ),
    };
    Failure::new(
        format!("there is no policy {:?}", visible(typed)),
        failure::USAGE,
    )
    .remedy(Some(remedy))
}
