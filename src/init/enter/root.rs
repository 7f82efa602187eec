//! The root of the world: an empty tmpfs, filled, entered, and sealed.

use super::failure::{At, Result};
use super::mount::{self, Detached};
use super::proc::Zeros;
use super::sources::Sources;
use super::{dev, etc, proc};
use crate::wire::{SECRETS_ROOM, Stage, World, WorldSystem};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, mkdir, pivot_root, symlinkat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the new root is assembled. Everything needed from beneath it has been copied.
const ASSEMBLY: &str = "/usr";

/// Room for mount points and a few small files; the payload never writes here.
const ROOM: &str = "size=4m,nr_inodes=4096,mode=0755";

/// Builds the root and makes it `/`. Returns what is to be written once no mount follows.
pub(super) fn build(world: &World, sources: Sources) -> Result<Zeros> {
    umask(Mode::from_bits_truncate(0o022));
    mount::mount_new("tmpfs", ASSEMBLY, MsFlags::MS_NODEV, ROOM)
        .at(Stage::Root, "mount a tmpfs")?;
    chdir(ASSEMBLY).at(Stage::Root, "enter the new root")?;
    let root = open(
        ".",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .at(Stage::Root, "open the new root")?;
    let Sources {
        system,
        devices,
        topology,
        mounts,
    } = sources;
    etc::write(&world.hostname, world.resolver)?;
    attach_system(&root, world, system)?;
    dev::build(&root, devices, world.shm_size)?;
    make_tmp(world)?;
    let zeros = proc::build(&root, topology, (&world.driver, world.resolver))?;
    attach_mounts(&root, mounts)?;
    drop(root);
    enter()?;
    Ok(zeros)
}

fn attach_system(root: &OwnedFd, world: &World, binds: Vec<(PathBuf, Detached)>) -> Result<()> {
    for (path, detached) in binds {
        detached
            .attach(root, &path)
            .at(Stage::System, path.display())?;
    }
    for entry in &world.system {
        if let WorldSystem::Link { path, target } = entry {
            let place = path.strip_prefix('/').unwrap_or(path);
            symlinkat(target.as_str(), root.as_fd(), place).at(Stage::System, path)?;
        }
    }
    Ok(())
}

fn make_tmp(world: &World) -> Result<()> {
    let make = |path: &str| match mkdir(path, Mode::from_bits_truncate(0o755)) {
        // Something of an image's is in it already.
        Err(Errno::EEXIST) if path == "var" => Ok(()),
        made => made.at(Stage::Root, path),
    };
    for path in ["tmp", "run", proc::EMPTY, "var", "home", "home/fumehood"] {
        make(path)?;
    }
    symlinkat("../tmp", nix::fcntl::AT_FDCWD, "var/tmp").at(Stage::Root, "var/tmp")?;
    let flags = match world.tmp_exec {
        true => MsFlags::MS_NODEV,
        false => MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    };
    // A size of 0 would mean "no limit".
    let options = format!(
        "size={},nr_inodes={},mode=1777",
        world.tmp_size.max(4096),
        world.tmp_inodes.max(2)
    );
    mount::mount_new("tmpfs", "tmp", flags, &options).at(Stage::Root, "mount /tmp")?;
    if world.secrets {
        make("run/secrets")?;
        let (size, inodes) = SECRETS_ROOM;
        let options = format!("size={size},nr_inodes={inodes},mode=0700");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount::mount_new("tmpfs", "run/secrets", flags, &options)
            .at(Stage::Root, "mount /run/secrets")?;
    }
    Ok(())
}

/// In order: what is inside another mount comes after it.
fn attach_mounts(root: &OwnedFd, mounts: Vec<(PathBuf, Detached)>) -> Result<()> {
    for (target, detached) in mounts {
        detached
            .attach(root, &target)
            .at(Stage::Mounts, target.display())?;
    }
    Ok(())
}

fn enter() -> Result<()> {
    pivot_root(".", ".").at(Stage::Pivot, "pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).at(Stage::Pivot, "leave the old root")?;
    chdir(Path::new("/")).at(Stage::Pivot, "enter /")?;
    mount::seal(c"/dev").at(Stage::Pivot, "seal /dev")?;
    mount::seal(c"/").at(Stage::Pivot, "seal /")
}
