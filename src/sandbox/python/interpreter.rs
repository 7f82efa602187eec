//! Which interpreter an environment runs, and every path on the way to it.
//!
//! `bin/python` of an environment is a link to a link to a program in some other folder. Inside, each
//! of those names must lead there too: folders by mounting the installation under that name as well,
//! a single link by mounting the program in its place.

use super::PythonError;
use crate::protocol::spec::RootFs;
use std::fs;
use std::path::{Path, PathBuf};

/// More links than this and it is a loop, or meant to be one.
const MAX_LINKS: usize = 16;

/// Sources and targets: the environment, the installation, and other names of the installation.
pub(super) fn places(
    env: &Path,
    home: Option<&Path>,
    root: &RootFs,
) -> Result<Vec<(PathBuf, PathBuf)>, PythonError> {
    let start = ["python", "python3"]
        .map(|name| env.join("bin").join(name))
        .into_iter()
        .find(|path| path.symlink_metadata().is_ok())
        .unwrap_or_else(|| env.join("bin/python"));
    let program = fs::canonicalize(&start).map_err(|_| PythonError::NoInterpreter {
        path: env.to_owned(),
        interpreter: last_link(&start),
    })?;
    let own = |path: &Path| (path.to_owned(), path.to_owned());
    let mut places = vec![own(env)];
    let names = || {
        links(&start)
            .into_iter()
            .chain(home.map(|home| home.join("python")))
            .filter(|name| !name.starts_with(env))
    };
    if program.starts_with("/usr") {
        check_system(env, &program, root)?;
        // `/usr` is there; a link in some other folder that leads to it is not.
        for name in names().filter(|name| name.symlink_metadata().is_ok()) {
            if !is_system(&name) {
                places.push((program.clone(), name));
            }
        }
        return Ok(places);
    }
    let Some(prefix) = installation(&program) else {
        return Err(PythonError::NotAnInstallation {
            path: env.to_owned(),
            interpreter: program,
        });
    };
    places.push(own(&prefix));
    for name in names() {
        places.extend(other_name(&name, &program, &prefix));
    }
    Ok(places)
}

/// The host's `/usr` is inside only where the host's system is.
fn check_system(env: &Path, program: &Path, root: &RootFs) -> Result<(), PythonError> {
    match root {
        RootFs::HostSystem => Ok(()),
        RootFs::Image { .. } => Err(PythonError::OtherSystem {
            path: env.to_owned(),
            interpreter: program.to_owned(),
        }),
    }
}

fn is_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/etc/alternatives"]
        .iter()
        .any(|place| path.starts_with(place))
}

/// Every name on the way from a link to what it leads to, the first and the last included.
fn links(start: &Path) -> Vec<PathBuf> {
    let mut names = vec![start.to_owned()];
    let mut here = start.to_owned();
    while let (Ok(target), true) = (fs::read_link(&here), names.len() <= MAX_LINKS) {
        let folder = here.parent().unwrap_or(Path::new("/"));
        here = match super::is_normal(&target) {
            true => folder.join(target),
            // With `..` in it: the folder it means, then the name.
            false => {
                let target = folder.join(target);
                let real = target
                    .parent()
                    .and_then(|parent| fs::canonicalize(parent).ok());
                match (real, target.file_name()) {
                    (Some(real), Some(name)) => real.join(name),
                    _ => break,
                }
            }
        };
        names.push(here.clone());
    }
    names
}

/// Where a broken chain breaks.
fn last_link(start: &Path) -> PathBuf {
    links(start).pop().unwrap_or_else(|| start.to_owned())
}

/// The folder of a Python installation: `PREFIX/bin/python3.12` beside `PREFIX/lib/python3.12/os.py`.
fn installation(program: &Path) -> Option<PathBuf> {
    let bin = program.parent()?;
    let prefix = bin.parent()?;
    let has_library = ["lib", "lib64"].iter().any(|lib| {
        let Ok(entries) = fs::read_dir(prefix.join(lib)) else {
            return false;
        };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let versioned = name.to_string_lossy();
            (versioned.starts_with("python") || versioned.starts_with("pypy"))
                && entry.path().join("os.py").is_file()
        })
    });
    (bin.file_name()? == "bin" && has_library).then(|| prefix.to_owned())
}

/// How a name that is not in the installation itself leads there inside as well.
fn other_name(name: &Path, program: &Path, prefix: &Path) -> Option<(PathBuf, PathBuf)> {
    if name.starts_with(prefix) || is_system(name) {
        return None;
    }
    let folder = name.parent()?;
    let above = folder.parent()?;
    if fs::canonicalize(above).is_ok_and(|real| real == prefix) {
        // Another name of the whole installation, as uv's `cpython-3.12` for `cpython-3.12.11`.
        return Some((prefix.to_owned(), above.to_owned()));
    }
    let leads_there = fs::canonicalize(name).is_ok_and(|real| real == program);
    (leads_there && fs::symlink_metadata(name).is_ok())
        .then(|| (program.to_owned(), name.to_owned()))
}
