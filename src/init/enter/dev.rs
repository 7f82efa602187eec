//! `/dev`: six harmless nodes, terminals of its own, shared memory of a fixed size; nothing else.

use super::failure::{At, Result};
use super::mount::{self, Detached};
use crate::wire::Stage;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Nodes bound from the host; nobody can make any in a user namespace.
pub(super) const NODES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

const LINKS: [(&str, &str); 5] = [
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("dev/ptmx", "pts/ptmx"),
];

/// Files in `/dev/shm`: their inodes are memory too.
const SHM_INODES: u64 = 16 * 1024;

/// Builds it beneath the working directory, which is `root`. It is sealed after the pivot.
pub(super) fn build(root: &OwnedFd, nodes: Vec<(PathBuf, Detached)>, shm: u64) -> Result<()> {
    let make = |path: &str| mkdir(path, Mode::from_bits_truncate(0o755)).at(Stage::Dev, path);
    make("dev")?;
    mount::mount_new(
        "tmpfs",
        "dev",
        MsFlags::MS_NOEXEC,
        &format!("size=64k,nr_inodes={},mode=0755", 64 + 2 * nodes.len()),
    )
    .at(Stage::Dev, "mount /dev")?;
    for (path, node) in nodes {
        node.attach(root, &path).at(Stage::Dev, path.display())?;
    }
    make("dev/pts")?;
    mount::mount_new(
        "devpts",
        "dev/pts",
        MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,max=16",
    )
    .at(Stage::Dev, "mount /dev/pts")?;
    make("dev/shm")?;
    mount::mount_new(
        "tmpfs",
        "dev/shm",
        MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        &format!("size={},nr_inodes={SHM_INODES},mode=1777", shm.max(4096)),
    )
    .at(Stage::Dev, "mount /dev/shm")?;
    for (link, target) in LINKS {
        symlink(target, link).at(Stage::Dev, link)?;
    }
    Ok(())
}
