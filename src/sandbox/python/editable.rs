//! Packages that an environment only points to: `pip install -e`, and folders named in `.pth` files.
//!
//! What they point to is outside the environment and is not mounted with it. A package from the
//! workspace is seen (the plan mounts it at its own path as well); any other is named to the user
//! before a program fails to import it.

use super::{Surroundings, read_text};
use crate::protocol::spec::{Mount, RootFs};
use crate::sandbox::mount_source::MountJudge;
use crate::sandbox::plan::Editable;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use url::Url;

/// Entries of a `site-packages` that are looked at.
const MAX_ENTRIES: usize = 20_000;

/// A package and its folder.
pub(super) struct Pointed {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    /// `None` where it may not be mounted.
    pub(super) seen: Option<Editable>,
}

/// [PEP 610](https://peps.python.org/pep-0610/).
#[derive(Deserialize)]
struct DirectUrl {
    url: String,
    dir_info: Option<DirInfo>,
}

#[derive(Deserialize)]
struct DirInfo {
    #[serde(default)]
    editable: bool,
}

pub(super) fn find(env: &Path, judge: &MountJudge) -> Vec<Pointed> {
    let mut found: Vec<(String, PathBuf)> = Vec::new();
    let mut add = |name: String, folder: PathBuf| {
        let known = found.iter().any(|(_, other)| folder.starts_with(other));
        if folder.is_dir() && !folder.starts_with(env) && !known {
            found.push((name, folder));
        }
    };
    let entries = entries(env);
    // Those that say so themselves first: their folder holds the one that a `.pth` file names.
    for entry in &entries {
        if let Some((name, folder)) = direct_url(entry) {
            add(name, folder);
        }
    }
    for entry in &entries {
        for folder in path_file(entry) {
            add(stem(entry), folder);
        }
    }
    found
        .into_iter()
        .map(|(name, folder)| {
            let seen = judge
                .judge_environment(&folder)
                .ok()
                .map(|folder| Editable {
                    name: name.clone(),
                    folder,
                });
            Pointed { name, folder, seen }
        })
        .collect()
}

/// What is in the `site-packages` folders.
fn entries(env: &Path) -> Vec<PathBuf> {
    let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    list(env.join("lib"))
        .flat_map(|version| list(version.path().join("site-packages")))
        .take(MAX_ENTRIES)
        .map(|entry| entry.path())
        .collect()
}

fn direct_url(entry: &Path) -> Option<(String, PathBuf)> {
    let name = entry.file_name()?.to_str()?.strip_suffix(".dist-info")?;
    let text = read_text(&entry.join("direct_url.json"))?;
    let parsed: DirectUrl = serde_json::from_str(&text).ok()?;
    let editable = parsed.dir_info.is_some_and(|info| info.editable);
    let folder = Url::parse(&parsed.url).ok()?.to_file_path().ok()?;
    let package = name.split('-').next().unwrap_or(name);
    editable.then(|| (package.to_owned(), folder))
}

/// Lines of a `.pth` file that are paths; those that begin with `import` are code, and not ours to run.
fn path_file(entry: &Path) -> Vec<PathBuf> {
    let is_one = entry
        .extension()
        .is_some_and(|ext| ext == "pth" || ext == "egg-link");
    let text = is_one
        .then(|| read_text(entry))
        .flatten()
        .unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| super::is_normal(path))
        .collect()
}

/// `__editable__.name-0.1.pth` is `name`.
fn stem(entry: &Path) -> String {
    let stem = entry.file_stem().unwrap_or_default().to_string_lossy();
    let plain = stem
        .trim_start_matches("__editable__")
        .trim_start_matches(['.', '_']);
    plain.split('-').next().unwrap_or(plain).to_owned()
}

/// What the user should know about packages that are only pointed to.
pub(super) fn notes(
    env: &Path,
    pointed: &[Pointed],
    mounts: &[Mount],
    around: &Surroundings<'_>,
) -> Vec<String> {
    let visible = |one: &Pointed| {
        let system = *around.root == RootFs::HostSystem && one.folder.starts_with("/usr");
        let mounted = mounts
            .iter()
            .any(|mount| one.folder.starts_with(&mount.target));
        let workspace = one.folder.starts_with(around.workspace) && one.seen.is_some();
        system || mounted || workspace
    };
    let mut notes: Vec<String> = pointed
        .iter()
        .filter(|one| !visible(one))
        .map(|one| {
            format!(
                "{} is installed editable from {}, which is not visible inside: mount that folder and name it in PYTHONPATH, or install it without -e",
                one.name,
                one.folder.display()
            )
        })
        .collect();
    if entries(env).iter().any(|entry| is_linked(entry)) {
        notes.push(
            "packages of this environment are links into a cache that is not visible inside: make it anew with `uv venv` and UV_LINK_MODE=copy"
                .to_owned(),
        );
    }
    notes
}

/// uv's link mode "symlink": the files of a package are links into its cache.
fn is_linked(entry: &Path) -> bool {
    entry.extension().is_some_and(|ext| ext == "dist-info")
        && fs::symlink_metadata(entry.join("METADATA")).is_ok_and(|found| found.is_symlink())
}
