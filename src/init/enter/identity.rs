//! Who the sandbox is: the drop from root, the namespaces, and the one mapped id.
//!
//! Root drops *before* the user namespace is made, so that the namespace's owner is the unprivileged
//! uid and nothing inside maps to root. Exactly one uid and gid are mapped; 0 is not, so no file of
//! root's can be owned, and no setuid file honoured, inside.

use super::failure::{At, Result, refused};
use crate::wire::{Stage, World};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};
use std::fs::{self, File};
use std::os::fd::AsRawFd;

/// Uid and gid inside. Not 65534: what is not mapped is shown as that, and the steps would see
/// themselves as the owners of the whole system.
pub(super) const INSIDE: u32 = 1000;

const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

pub(super) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether this process may copy mounts where it is. Root of a container usually may not.
pub(super) fn may_mount() -> Result<bool> {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").at(Stage::Read, "/proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .ok_or_else(|| refused(Stage::Read, "/proc/self/status has no capabilities"))?;
    Ok(effective & SYS_ADMIN != 0)
}

/// Refuses a world that would run as root, or as somebody else than the user who asks.
pub(super) fn check(world: &World) -> Result<()> {
    if world.host_uid == 0 || world.host_gid == 0 {
        return Err(refused(Stage::Read, "a sandbox never runs as root"));
    }
    let own = (Uid::effective().as_raw(), Gid::effective().as_raw());
    if !is_root() && own != (world.host_uid, world.host_gid) {
        return Err(refused(
            Stage::Read,
            format!(
                "uid {} cannot start a sandbox as {}:{}",
                own.0, world.host_uid, world.host_gid
            ),
        ));
    }
    Ok(())
}

/// From root to the sandbox's host uid, for good. Nothing to do for an ordinary user.
pub(super) fn drop_root(world: &World) -> Result<()> {
    if is_root() {
        let (uid, gid) = (Uid::from_raw(world.host_uid), Gid::from_raw(world.host_gid));
        let groups: Vec<Gid> = world.groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&groups).at(Stage::Drop, "setgroups")?;
        setresgid(gid, gid, gid).at(Stage::Drop, "setresgid")?;
        setresuid(uid, uid, uid).at(Stage::Drop, "setresuid")?;
        if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            return Err(refused(Stage::Drop, "root came back"));
        }
        // A change of uid takes these away, and the maps can only be written by a dumpable process.
        nix::sys::prctl::set_dumpable(true).at(Stage::Drop, "set dumpable")?;
    }
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).at(Stage::Drop, "set the death signal")?;
    nix::sys::prctl::set_no_new_privs().at(Stage::Drop, "set no_new_privs")
}

/// Forks, into a cgroup (version 2) where one is given. `None` in the child.
pub(super) fn fork_into(cgroup: Option<&File>) -> nix::Result<Option<Pid>> {
    match cgroup {
        None => clone(libc::SIGCHLD),
        Some(dir) => clone_into(dir),
    }
}

/// Clones PID 1 of the new namespaces, as a child of this process's parent. `None` in it.
pub(super) fn clone_namespaces() -> Result<Option<Pid>> {
    clone(NAMESPACES | libc::CLONE_PARENT).at(Stage::Namespaces, "clone with new namespaces")
}

#[expect(
    unsafe_code,
    reason = "clone has no safe wrapper without a second stack"
)]
fn clone(flags: libc::c_int) -> nix::Result<Option<Pid>> {
    // SAFETY: no memory is shared and no stack given, so this is a fork; init is single-threaded
    // here, so the child may do anything.
    child_or_parent(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

/// `libc` has it as a constant too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The arguments of `clone3`, version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[expect(unsafe_code, reason = "clone3 has no wrapper")]
fn clone_into(cgroup: &File) -> nix::Result<Option<Pid>> {
    let arguments = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: as in `clone`. `arguments` outlives the call, which only reads it.
    child_or_parent(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArgs>(),
        )
    })
}

fn child_or_parent(returned: libc::c_long) -> nix::Result<Option<Pid>> {
    match Errno::result(returned)? {
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(pid as i32))),
    }
}

/// Maps one uid and one gid, and gives up the right to change groups.
pub(super) fn write_maps(world: &World) -> Result<()> {
    let write = |file: &str, text: String| fs::write(file, text).at(Stage::Maps, file);
    write("/proc/self/setgroups", "deny".into())?;
    write(
        "/proc/self/uid_map",
        format!("{INSIDE} {} 1", world.host_uid),
    )?;
    write(
        "/proc/self/gid_map",
        format!("{INSIDE} {} 1", world.host_gid),
    )
}
