//! The mounts of a sandbox, in the order they are applied: what lies inside another comes after it.

use super::{PlanError, PlanInput, PythonEnv, Source, WorkspaceFacts};
use crate::policy::names;
use crate::protocol::spec::{
    AUTHORITIES_TARGET, Access, HOME_TARGET, Mount, MountKind, WORKSPACE_TARGET,
};
use std::path::{Component, Path, PathBuf};

/// All of them, none at the place of another.
pub(super) fn mounts(input: &PlanInput<'_>) -> Result<Vec<Mount>, PlanError> {
    let WorkspaceFacts {
        root,
        protected,
        covered,
    } = input.workspace;
    let mut mounts = vec![mount(
        MountKind::Workspace,
        root,
        WORKSPACE_TARGET.into(),
        Access::ReadWrite,
    )];
    let held = protected.iter().map(|source| (&source.path, source));
    let covers = covered.iter().map(|door| (&door.place, &door.blank));
    for (place, source) in held.chain(covers) {
        let target = inside(root, place).ok_or_else(|| PlanError::OutsideWorkspace {
            path: place.clone(),
        })?;
        mounts.push(mount(
            MountKind::Protected,
            source,
            target,
            Access::ReadOnly,
        ));
    }
    mounts.push(mount(
        MountKind::Home,
        input.home,
        HOME_TARGET.into(),
        Access::ReadWrite,
    ));
    if let Some(python) = input.python {
        mounts.extend(environment(input, python, &mounts)?);
    }
    mounts.extend(super::gpus::mounts(input));
    let authorities = input.network.and_then(|facts| facts.authorities.as_ref());
    mounts.extend(authorities.map(|source| {
        mount(
            MountKind::Authorities,
            source,
            AUTHORITIES_TARGET.into(),
            Access::ReadOnly,
        )
    }));
    mounts.extend(checked_inputs(input)?);
    check_overlaps(&mounts)?;
    Ok(mounts)
}

pub(super) fn mount(kind: MountKind, source: &Source, target: PathBuf, access: Access) -> Mount {
    Mount {
        kind,
        source: source.path.clone(),
        target,
        access,
        device: source.device,
        inode: source.inode,
    }
}

/// Where a path of the workspace is inside; `None` for the workspace itself and for what is not in it.
fn inside(root: &Source, path: &Path) -> Option<PathBuf> {
    let beneath = path.strip_prefix(&root.path).ok()?;
    let plain = beneath
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && beneath != Path::new("")).then(|| Path::new(WORKSPACE_TARGET).join(beneath))
}

/// The environment at its own path. One that lies in the workspace is read-only there too: the user's
/// shell runs what is in it. A package installed "editable" from the workspace is seen at its own path,
/// where the environment points.
fn environment(
    input: &PlanInput<'_>,
    python: &PythonEnv,
    before: &[Mount],
) -> Result<Vec<Mount>, PlanError> {
    let root = &input.workspace.root;
    let mut own: Vec<Mount> = python
        .editable
        .iter()
        .filter(|editable| editable.folder.path.starts_with(&root.path))
        .map(|editable| {
            mount(
                MountKind::Environment,
                &editable.folder,
                editable.folder.path.clone(),
                Access::ReadOnly,
            )
        })
        .collect();
    own.extend(python.mounts.iter().cloned());
    // A folder before what is in it, and one of two that are the same.
    own.sort_by_key(|mount| mount.target.components().count());
    own.dedup_by(|b, a| a.target == b.target && a.source == b.source);
    // What another mount puts at that very place already (a workspace that is at /workspace outside too).
    own.retain(|mount| !is_there(before, mount));
    for mount in &own {
        if !may_hold_environment(&mount.target) {
            return Err(PlanError::EnvironmentPlace {
                path: mount.target.clone(),
            });
        }
    }
    let mut covered: Vec<Mount> = python
        .mounts
        .iter()
        .filter_map(|env| {
            Some(Mount {
                kind: MountKind::Protected,
                target: inside(root, &env.source)?,
                ..env.clone()
            })
        })
        .filter(|mount| !own.iter().any(|other| other.target == mount.target))
        .collect();
    covered.dedup_by(|b, a| a.target == b.target);
    covered.extend(own);
    Ok(covered)
}

fn is_there(mounts: &[Mount], wanted: &Mount) -> bool {
    let same = |one: &Mount| {
        one.target == wanted.target && (one.device, one.inode) == (wanted.device, wanted.inode)
    };
    mounts.iter().any(same)
}

/// Not over, and not around, what the sandbox makes itself.
fn may_hold_environment(target: &Path) -> bool {
    let own = ["/proc", "/sys", "/dev", "/etc", "/run", "/usr", HOME_TARGET];
    let plain = target
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let taken = own
        .iter()
        .any(|place| target.starts_with(place) || Path::new(place).starts_with(target));
    target.is_absolute()
        && plain
        && !taken
        && target != Path::new("/tmp")
        && target != Path::new(WORKSPACE_TARGET)
}

/// Inputs were judged as sources; here they are judged against the rest of the sandbox.
fn checked_inputs(input: &PlanInput<'_>) -> Result<Vec<Mount>, PlanError> {
    let mut inputs = input.inputs.to_vec();
    for mount in &inputs {
        names::check_target(&mount.target).map_err(|error| PlanError::Target {
            mount: mount.source.clone(),
            error,
        })?;
        if mount.access == Access::ReadWrite {
            check_unprotected(input, mount)?;
        }
    }
    inputs.sort_by_key(|mount| mount.target.components().count());
    Ok(inputs)
}

/// A second, writable way to what is read-only in the workspace.
fn check_unprotected(input: &PlanInput<'_>, mount: &Mount) -> Result<(), PlanError> {
    let environments = input.python.map_or(&[][..], |python| &python.mounts);
    let held = input
        .workspace
        .protected
        .iter()
        .map(|source| &source.path)
        .chain(environments.iter().map(|mount| &mount.source))
        .find(|held| held.starts_with(&mount.source) || mount.source.starts_with(held));
    match held {
        None => Ok(()),
        Some(held) => Err(PlanError::Unprotected {
            input: mount.source.clone(),
            target: mount.target.clone(),
            held: held.clone(),
        }),
    }
}

/// Two mounts at one place, or one that covers another which was there before.
fn check_overlaps(mounts: &[Mount]) -> Result<(), PlanError> {
    for (index, later) in mounts.iter().enumerate() {
        let covered = mounts[..index]
            .iter()
            .find(|earlier| earlier.target.starts_with(&later.target));
        if let Some(earlier) = covered {
            return Err(PlanError::Overlap {
                target: later.target.clone(),
                first: earlier.source.clone(),
                second: later.source.clone(),
            });
        }
    }
    Ok(())
}
