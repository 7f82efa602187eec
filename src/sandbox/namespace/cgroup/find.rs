//! Where cgroups of sandboxes can be made on this machine, by whoever asks: read from the mount table
//! and this process's own groups, and tried by making a folder.

use super::{Base, Controller};
use crate::sandbox::wire::CgroupJoin;
use std::fs;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Cgroups {
    pub(in super::super) bases: Vec<Base>,
    /// Highest version of a hierarchy that carries what is limited here; `None` where none does.
    pub(in super::super) version: Option<u8>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    top: PathBuf,
    /// This process's own folder.
    own: PathBuf,
    /// `None` is version 2.
    controllers: Option<Vec<Controller>>,
}

impl Cgroups {
    /// Tries this machine. `folder` is a name nobody else uses.
    pub(in super::super) fn find(folder: &str, is_root: bool) -> Self {
        let hierarchies = of_this_process();
        let mut bases: Vec<Base> = Vec::new();
        for hierarchy in &hierarchies {
            let found = match &hierarchy.controllers {
                Some(controllers) => version_1(hierarchy, controllers, folder),
                None => version_2(hierarchy, folder, is_root),
            };
            bases.extend(found);
        }
        let version = |hierarchy: &Hierarchy| match &hierarchy.controllers {
            Some(controllers) => (!controllers.is_empty()).then_some(1),
            None => carries(&hierarchy.top).then_some(2),
        };
        Self {
            version: hierarchies.iter().filter_map(version).max(),
            bases,
        }
    }

    /// The same without the bases of version 2, where joining them turned out to be forbidden.
    pub(in super::super) fn without_version_2(mut self) -> Self {
        self.bases.retain(|base| base.join == CgroupJoin::Tasks);
        self
    }

    pub(in super::super) fn holds(&self, controller: Controller) -> bool {
        self.bases
            .iter()
            .any(|base| base.controllers.contains(&controller))
    }
}

/// Tops of all hierarchies that limit something.
pub(super) fn tops() -> Vec<PathBuf> {
    of_this_process()
        .into_iter()
        .map(|found| found.top)
        .collect()
}

fn of_this_process() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// A unified tree beside version 1 may have no controller that matters.
fn carries(top: &Path) -> bool {
    listed(&top.join("cgroup.controllers")).contains(&Controller::Memory)
}

/// Reads both tables: `id parent dev root point options - type source superoptions`, and
/// `number:controllers:path`.
fn hierarchies(mounts: &str, own: &str) -> Vec<Hierarchy> {
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ').skip(3);
            let (root, top) = (fields.next()?, PathBuf::from(fields.next()?));
            let mut fields = right.split(' ');
            let controllers = match fields.next()? {
                "cgroup2" => None,
                "cgroup" => Some(known(fields.nth(1)?.split(','))),
                _ => return None,
            };
            let names = |one: &Controller| one.name();
            let path = own_path(
                own,
                controllers.as_ref().map(|all| all.iter().map(names).next()),
            )?;
            let below = Path::new(path).strip_prefix(root).ok()?;
            Some(Hierarchy {
                own: top.join(below),
                top,
                controllers,
            })
        })
        .collect()
}

/// `Some(None)` asks for a version 1 hierarchy with nothing of interest in it.
fn own_path<'a>(own: &'a str, controller: Option<Option<&str>>) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let wanted = match controller {
            None => names.is_empty(),
            Some(controller) => names.split(',').any(|name| Some(name) == controller),
        };
        wanted.then_some(path)
    })
}

fn known<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Controller> {
    Controller::ALL
        .into_iter()
        .filter(|controller| names.clone().any(|name| name == controller.name()))
        .collect()
}

fn version_1(hierarchy: &Hierarchy, controllers: &[Controller], folder: &str) -> Option<Base> {
    let base = Base {
        dir: hierarchy.own.clone(),
        join: CgroupJoin::Tasks,
        controllers: controllers.to_vec(),
    };
    (!controllers.is_empty() && try_folder(&base.dir, folder).is_some()).then_some(base)
}

/// The nearest folder above that hands down the most. No process may be in a folder that hands down,
/// so it is never this process's own, but for the top.
fn version_2(hierarchy: &Hierarchy, folder: &str, is_root: bool) -> Option<Base> {
    let above = hierarchy
        .own
        .ancestors()
        .take_while(|dir| dir.starts_with(&hierarchy.top));
    let mut best: Option<Base> = None;
    for dir in above {
        let had = best.as_ref().map_or(0, |best| best.controllers.len());
        if is_root && dir == hierarchy.top && had < Controller::ALL.len() {
            hand_down(dir);
        }
        let promised = listed(&dir.join("cgroup.subtree_control"));
        if promised.len() <= had {
            continue;
        }
        if let Some(controllers) = try_folder(dir, folder).filter(|found| !found.is_empty()) {
            best = Some(Base {
                dir: dir.to_owned(),
                join: CgroupJoin::Clone,
                controllers,
            });
        }
    }
    best
}

/// Root may let the top hand down what it has; a system manager does so for its own units anyway.
fn hand_down(top: &Path) {
    for controller in listed(&top.join("cgroup.controllers")) {
        let wish = format!("+{}", controller.name());
        // Refused: then it is not handed down, and what is says so.
        let _ = fs::write(top.join("cgroup.subtree_control"), wish);
    }
}

/// Makes a folder and removes it; what it could limit, where that could be done.
fn try_folder(base: &Path, folder: &str) -> Option<Vec<Controller>> {
    let dir = base.join(folder);
    fs::create_dir(&dir).ok()?;
    let found = listed(&dir.join("cgroup.controllers"));
    fs::remove_dir(&dir).ok()?;
    Some(found)
}

fn listed(file: &Path) -> Vec<Controller> {
    let text = fs::read_to_string(file).unwrap_or_default();
    known(text.split_ascii_whitespace())
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
