//! A Python environment of the host, made visible inside: the environment and the interpreter it
//! names, read-only at their own paths, because both have those paths written into them.
//!
//! ```text
//!   --venv PATH ─┬─ pyvenv.cfg ─▶ venv, virtualenv, uv ─▶ interpreter: bin/python, link by link,
//!                ├─ conda-meta ─▶ conda                    and `home` of pyvenv.cfg
//!                └─ neither ───▶ refused, with the likely one
//! ```
//!
//! Found by reading files only: nothing of the environment is run. It may come from a stranger's
//! repository, so what it names is judged like any other mount, and must look like an interpreter.

mod editable;
mod interpreter;

use super::mount_source::{MountError, MountJudge};
use super::plan::{PythonEnv, Source};
use crate::protocol::spec::{Access, Mount, MountKind, RootFs};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// Largest text file of an environment that is read.
const MAX_TEXT: u64 = 1 << 20;

/// What an environment is judged by.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub judge: &'a MountJudge,
    /// Where a relative path starts.
    pub base: &'a Path,
    /// The workspace on the host: what lies in it is seen inside.
    pub workspace: &'a Path,
    pub root: &'a RootFs,
}

/// Why an environment is not used.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    #[error("--venv {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "--venv {path}: it is not a Python environment (neither pyvenv.cfg nor conda-meta is in it)"
    )]
    NotAnEnvironment {
        path: PathBuf,
        likely: Option<PathBuf>,
    },
    #[error("--venv {path}: its interpreter {interpreter} is not there")]
    NoInterpreter { path: PathBuf, interpreter: PathBuf },
    #[error(
        "--venv {path}: its interpreter {interpreter} does not belong to a Python installation"
    )]
    NotAnInstallation { path: PathBuf, interpreter: PathBuf },
    #[error(
        "--venv {path}: its interpreter {interpreter} is the host's own, and the image has another system"
    )]
    OtherSystem { path: PathBuf, interpreter: PathBuf },
    #[error("--venv: {0}")]
    Mount(#[from] MountError),
}

impl PythonError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Open { .. } => "check the path and its permissions".to_owned(),
            Self::NotAnEnvironment { likely: Some(likely), .. } => {
                format!("did you mean {}?", likely.display())
            }
            Self::NotAnEnvironment { likely: None, .. } => {
                "name the folder that `python3 -m venv`, `uv venv` or `conda create` made".to_owned()
            }
            Self::NoInterpreter { .. } | Self::NotAnInstallation { .. } => {
                "make the environment anew: `python3 -m venv --clear PATH`, or `uv venv --clear PATH`".to_owned()
            }
            Self::OtherSystem { .. } => {
                "leave out --venv and use the image's Python, leave out --image and use `--backend namespace`, or make the environment with a Python of uv or conda".to_owned()
            }
            Self::Mount(error) => error.remedy(),
        }
    }
}

/// Finds out what an environment needs. Reads files; starts nothing.
pub fn find(path: &Path, around: &Surroundings<'_>) -> Result<PythonEnv, PythonError> {
    let typed = around.base.join(path);
    let real = fs::canonicalize(&typed).map_err(|source| PythonError::Open {
        path: path.to_owned(),
        source,
    })?;
    let config = read_text(&real.join("pyvenv.cfg"));
    let conda = config.is_none() && real.join("conda-meta").is_dir();
    if config.is_none() && !conda {
        return Err(PythonError::NotAnEnvironment {
            path: path.to_owned(),
            likely: likely(&real),
        });
    }
    let home = config.as_deref().and_then(|text| setting(text, "home"));
    let mut places = interpreter::places(&real, home.map(Path::new), around.root)?;
    // Scripts have the path written into them that the environment was made under.
    if is_normal(&typed) && typed != real {
        places.push((real.clone(), typed));
    }
    let mounts = judged(&places, around)?;
    let editable = editable::find(&real, around.judge);
    let mut notes = editable::notes(&real, &editable, &mounts, around);
    notes.extend(includes_user_site(config.as_deref()));
    Ok(PythonEnv {
        env: variables(&real, conda),
        path: vec![real.join("bin").display().to_string()],
        editable: editable.into_iter().filter_map(|one| one.seen).collect(),
        mounts,
        notes,
    })
}

fn variables(real: &Path, conda: bool) -> BTreeMap<String, String> {
    let path = real.display().to_string();
    match conda {
        false => BTreeMap::from([("VIRTUAL_ENV".to_owned(), path)]),
        true => {
            let name = real.file_name().unwrap_or_default().to_string_lossy();
            BTreeMap::from([
                ("CONDA_PREFIX".to_owned(), path),
                ("CONDA_DEFAULT_ENV".to_owned(), name.into_owned()),
            ])
        }
    }
}

fn judged(
    places: &[(PathBuf, PathBuf)],
    around: &Surroundings<'_>,
) -> Result<Vec<Mount>, PythonError> {
    let mut mounts: Vec<Mount> = Vec::new();
    for (source, target) in places {
        let in_system = *around.root == RootFs::HostSystem && target.starts_with("/usr");
        // Two names for one place, or a folder within one that is mounted whole.
        let covered = mounts.iter().any(|mount| {
            target.strip_prefix(&mount.target).is_ok_and(|rest| {
                *source == mount.source.join(rest)
                    || *source == mount.source && rest == Path::new("")
            })
        });
        if in_system || covered {
            continue;
        }
        let Source {
            path,
            device,
            inode,
        } = around.judge.judge_environment(source)?;
        mounts.push(Mount {
            kind: MountKind::Environment,
            source: path,
            target: target.clone(),
            access: Access::ReadOnly,
            device,
            inode,
        });
    }
    Ok(mounts)
}

/// The environment that was probably meant.
fn likely(real: &Path) -> Option<PathBuf> {
    let is_one =
        |path: &Path| path.join("pyvenv.cfg").is_file() || path.join("conda-meta").is_dir();
    let above = real.ancestors().skip(1).take(2);
    let below = [".venv", "venv", "env"].map(|name| real.join(name));
    above
        .map(Path::to_owned)
        .chain(below)
        .find(|path| is_one(path))
}

/// `key = value`, as Python's own reader takes it.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().eq_ignore_ascii_case(key)).then_some(value.trim())
    })
}

fn includes_user_site(config: Option<&str>) -> Option<String> {
    let included = setting(config?, "include-system-site-packages")?.eq_ignore_ascii_case("true");
    included.then(|| {
        "packages installed with `pip install --user` are not visible: the sandbox has a home of its own"
            .to_owned()
    })
}

fn is_normal(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// A regular file that is text and not too long; anything else is as if it were not there.
fn read_text(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let read = File::open(path)
        .ok()?
        .take(MAX_TEXT + 1)
        .read_to_string(&mut text)
        .ok()?;
    (read as u64 <= MAX_TEXT).then_some(text)
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
