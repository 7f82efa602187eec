//! What is laid over the policy that the user chose: the project's, and the system's.

use super::AppError;
use super::trust::{self, MAX_FILE, PROJECT_POLICY, Project};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::file::problem::PolicySource;
use crate::policy::file::{self, Loaded};
use crate::policy::origin::Level;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// A policy with everything that holds over it.
pub struct Layered {
    pub loaded: Loaded,
    /// What holds, or does not, and the user should know of.
    pub notes: Vec<String>,
}

/// Lays the project's policy over the user's, where the folder has one that counts, and the system's
/// over both.
///
/// # Errors
/// When one of them cannot be used, or excludes what the user wants.
pub fn lay_over(
    config: &Config,
    chosen: Loaded,
    folder: Option<&Path>,
) -> Result<Layered, AppError> {
    let mut layered = Layered {
        loaded: chosen,
        notes: Vec::new(),
    };
    let project = folder.map(|folder| trust::project(config, folder));
    match project.transpose()?.unwrap_or(Project::Absent) {
        Project::Absent => {}
        Project::Unknown { path } => {
            let path = visible(&path.to_string_lossy());
            layered.notes.push(format!(
                "{path} does not count: read it, then `fumehood policy trust` its folder if you want to be held to it"
            ));
        }
        Project::Accepted(source) => {
            layered
                .notes
                .push(format!("{} holds as well", source.label));
            layered.loaded = tighten_by_project(layered.loaded, source)?;
        }
    }
    if let Some(source) = system(config)? {
        layered
            .notes
            .push(format!("{} is a ceiling over the policy", source.label));
        let folder = source.folder.clone();
        let mut beside = |name: &str| match &folder {
            Some(folder) => beside(folder, name),
            None => Err("there is no such file".to_owned()),
        };
        layered.loaded = file::tighten(layered.loaded, source, &mut beside)?;
    }
    Ok(layered)
}

/// What a project brings extends built-ins only: what was accepted is this one file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn tighten_by_project(chosen: Loaded, source: PolicySource) -> Result<Loaded, AppError> {
    let mut nothing = |_: &str| Err(format!("{PROJECT_POLICY} extends built-ins only"));
    Ok(file::tighten(chosen, source, &mut nothing)?)
}

/// The administrator's policy; a machine without one has no ceiling, one that cannot be read is none
/// to be passed over.
fn system(config: &Config) -> Result<Option<PolicySource>, AppError> {
    let path = &config.system_policy;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let text = read_policy(path).map_err(|why| AppError::PolicyFile {
        path: path.clone(),
        why,
    })?;
    let source = PolicySource::new(visible(&path.to_string_lossy()), text).of(Level::System);
    Ok(Some(match path.parent() {
        Some(folder) => source.lying_in(folder),
        None => source,
    }))
}

fn beside(folder: &Path, name: &str) -> Result<PolicySource, String> {
    let path = folder.join(name);
    let text = read_policy(&path)?;
    Ok(PolicySource::new(visible(&path.to_string_lossy()), text).lying_in(folder))
}

/// A regular file of sensible size that is text; else why not.
///
/// # Errors
/// Why not, in words.
pub fn read_policy(path: &Path) -> Result<String, String> {
    let said = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    let metadata = fs::metadata(path).map_err(said)?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let file = fs::File::open(path).map_err(said)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(said)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("it is larger than {MAX_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())
}
