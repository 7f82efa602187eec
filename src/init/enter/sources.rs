//! Everything that is mounted from outside, copied before any of its paths is covered.
//!
//! A root start does this before it drops, so that a workspace beneath a closed folder is reached
//! once, by descriptor; an ordinary user, and root of a container that may not mount, does it in the
//! new mount namespace, where alone it may.

use super::failure::{At, Result, refused};
use super::mount::{self, Detached, Use};
use super::{dev, proc};
use crate::wire::{Stage, World, WorldDevice, WorldMount, WorldSystem};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// Copies, each with the path it will be attached at.
pub(super) struct Sources {
    pub(super) system: Vec<(PathBuf, Detached)>,
    pub(super) devices: Vec<(PathBuf, Detached)>,
    pub(super) topology: Vec<(PathBuf, Detached)>,
    pub(super) mounts: Vec<(PathBuf, Detached)>,
}

pub(super) fn open(world: &World) -> Result<Sources> {
    let mut system = Vec::new();
    for entry in &world.system {
        if let WorldSystem::Bind { source, path } = entry {
            let (_, detached) = own_place(Path::new(source), Use::ReadOnly)?;
            system.push((PathBuf::from(path), detached));
        }
    }
    let mut devices = dev::NODES
        .iter()
        .map(|path| own_place(Path::new(path), Use::Device))
        .collect::<Result<Vec<_>>>()?;
    for wanted in &world.devices {
        devices.push(device(wanted)?);
    }
    let mut topology = Vec::new();
    for path in proc::TOPOLOGY {
        if Path::new(path).is_dir() {
            topology.push(own_place(Path::new(path), Use::ReadOnly)?);
        }
    }
    let mounts = world.mounts.iter().map(judged).collect::<Result<_>>()?;
    Ok(Sources {
        system,
        devices,
        topology,
        mounts,
    })
}

/// Something of the host's own system, at its own path.
fn own_place(path: &Path, allowed: Use) -> Result<(PathBuf, Detached)> {
    let source = mount::open_source(path).at(Stage::Sources, path.display())?;
    let detached = mount::detach(&source, allowed).at(Stage::Sources, path.display())?;
    Ok((path.to_owned(), detached))
}

/// A node that was judged and shown: only a character device with its numbers, only below `/dev`.
fn device(wanted: &WorldDevice) -> Result<(PathBuf, Detached)> {
    let at = &wanted.source;
    let source = match mount::open_source(Path::new(at)) {
        Err(Errno::ELOOP) => {
            return Err(refused(Stage::Mounts, format!("{at}: a link is on the way")));
        }
        opened => opened.at(Stage::Mounts, at)?,
    };
    let found = mount::character_device(&source).at(Stage::Mounts, at)?;
    if found != Some((wanted.major, wanted.minor)) {
        let detail = format!("{at}: not the device it was when it was checked");
        return Err(refused(Stage::Mounts, detail));
    }
    if !wanted.target.starts_with("/dev/") {
        return Err(refused(Stage::Mounts, format!("{at}: its place is not in /dev")));
    }
    let detached = mount::detach(&source, Use::Device).at(Stage::Mounts, at)?;
    Ok((PathBuf::from(&wanted.target), detached))
}

/// A mount that was judged and shown: it must still be the very same thing.
fn judged(wanted: &WorldMount) -> Result<(PathBuf, Detached)> {
    let source = match mount::open_source(Path::new(&wanted.source)) {
        Err(Errno::ELOOP) => {
            let detail = format!("{}: a link is on the way", wanted.source);
            return Err(refused(Stage::Mounts, detail));
        }
        opened => opened.at(Stage::Mounts, &wanted.source)?,
    };
    let found = mount::identity(&source).at(Stage::Mounts, &wanted.source)?;
    if found != (wanted.device, wanted.inode) {
        let detail = format!("{}: not what it was when it was checked", wanted.source);
        return Err(refused(Stage::Mounts, detail));
    }
    let allowed = match wanted.writable {
        true => Use::Writable,
        false => Use::ReadOnly,
    };
    let detached = mount::detach(&source, allowed).at(Stage::Mounts, &wanted.source)?;
    Ok((PathBuf::from(&wanted.target), detached))
}
