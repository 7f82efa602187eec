//! `/proc` of the new pid namespace, with what speaks of the host covered, and the two folders of
//! `/sys` from which programs count processors.

use super::failure::{At, Result, refused};
use super::mount::{self, Detached, Use};
use crate::wire::{Resolver, Stage};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// All there is of `/sys`.
pub(super) const TOPOLOGY: [&str; 2] = ["/sys/devices/system/cpu", "/sys/devices/system/node"];

/// Folders that stay readable and are not writable for anybody.
const READ_ONLY: [&str; 4] = ["proc/sys", "proc/bus", "proc/fs", "proc/irq"];

/// An empty folder, shown in the place of others: nothing is ever made or mounted in it.
pub(super) const EMPTY: &str = "run/empty";

/// Folders that are shown empty.
const EMPTY_DIRS: [&str; 5] = [
    "proc/acpi",
    "proc/asound",
    "proc/pressure",
    "proc/scsi",
    "proc/tty",
];

/// What drivers say. Empty too, but for the words of one whose devices are in the sandbox.
const DRIVER: &str = "proc/driver";

/// Files that are shown empty: the host's memory, keys, modules, boot line, and switches.
const EMPTY_FILES: [&str; 28] = [
    "proc/buddyinfo",
    "proc/cmdline",
    "proc/config.gz",
    "proc/diskstats",
    "proc/interrupts",
    "proc/iomem",
    "proc/ioports",
    "proc/kallsyms",
    "proc/kcore",
    "proc/key-users",
    "proc/keys",
    "proc/kmsg",
    "proc/kpagecgroup",
    "proc/kpagecount",
    "proc/kpageflags",
    "proc/latency_stats",
    "proc/modules",
    "proc/mtrr",
    "proc/pagetypeinfo",
    "proc/partitions",
    "proc/sched_debug",
    "proc/schedstat",
    "proc/slabinfo",
    "proc/sysrq-trigger",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/vmallocinfo",
    "proc/zoneinfo",
];

/// How many namespaces of each kind may be made beneath this one. `time` came with 5.6.
const COUNTS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// From which port on anybody may listen.
const LOW_PORTS: &str = "net/ipv4/ip_unprivileged_port_start";

/// Open files that take a zero once the last mount is done: a detached mount counts as a namespace.
pub(super) struct Zeros(Vec<(String, File)>);

impl Zeros {
    /// From here on no process of the world can make a namespace, filter or not; and where names are
    /// asked of init, ports have no owner.
    pub(super) fn write(self) -> Result<()> {
        for (name, mut file) in self.0 {
            file.write_all(b"0").at(Stage::Proc, name)?;
        }
        Ok(())
    }
}

/// Builds it beneath the working directory, which is `root`, while the old `/proc` is still there.
pub(super) fn build(
    root: &OwnedFd,
    topology: Vec<(PathBuf, Detached)>,
    (driver, resolver): (&[(String, String)], Resolver),
) -> Result<Zeros> {
    mkdir("proc", Mode::from_bits_truncate(0o555)).at(Stage::Proc, "/proc")?;
    mount::mount_new(
        "proc",
        "proc",
        MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        "hidepid=2",
    )
    .at(Stage::Proc, "mount /proc")?;
    let zeros = open_zeros(resolver)?;
    for path in READ_ONLY {
        cover(root, path, path, Use::ReadOnly)?;
    }
    for path in EMPTY_FILES {
        cover(root, "dev/null", path, Use::Device)?;
    }
    for path in EMPTY_DIRS {
        cover(root, EMPTY, path, Use::ReadOnly)?;
    }
    match driver {
        [] => cover(root, EMPTY, DRIVER, Use::ReadOnly)?,
        texts => say(texts)?,
    }
    for (path, detached) in topology {
        detached
            .attach(root, &path)
            .at(Stage::Proc, path.display())?;
    }
    Ok(zeros)
}

/// Shows these texts, and nothing else that any driver says.
fn say(texts: &[(String, String)]) -> Result<()> {
    let options = "size=1m,nr_inodes=1024,mode=0755";
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount::mount_new("tmpfs", DRIVER, flags, options) {
        // No driver says anything here.
        Err(Errno::ENOENT) => return Ok(()),
        mounted => mounted.at(Stage::Proc, DRIVER)?,
    }
    for (path, text) in texts {
        let plain = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain {
            return Err(refused(Stage::Proc, format!("{path:?} is no plain path")));
        }
        let file = Path::new(DRIVER).join(path);
        let folder = file.parent().unwrap_or(Path::new(DRIVER));
        std::fs::create_dir_all(folder).at(Stage::Proc, path)?;
        std::fs::write(&file, text).at(Stage::Proc, path)?;
    }
    mount::seal(c"proc/driver").at(Stage::Proc, DRIVER)
}

/// Attaches a copy of `source` over `target`, where this kernel has such a thing.
fn cover(root: &OwnedFd, source: &str, target: &str, allowed: Use) -> Result<()> {
    match mount::open_beneath(root, Path::new(target)) {
        Err(Errno::ENOENT) => return Ok(()),
        found => found.at(Stage::Proc, target)?,
    };
    let source = mount::open_beneath(root, Path::new(source)).at(Stage::Proc, source)?;
    mount::detach(&File::from(source), allowed)
        .and_then(|detached| detached.cover(root, Path::new(target)))
        .at(Stage::Proc, target)
}

fn open_zeros(resolver: Resolver) -> Result<Zeros> {
    let counts = COUNTS.map(|kind| format!("user/max_{kind}_namespaces"));
    let ports = (resolver == Resolver::Init).then(|| LOW_PORTS.to_owned());
    let mut files = Vec::new();
    for name in counts.into_iter().chain(ports) {
        let path = format!("proc/sys/{name}");
        match File::options().write(true).open(&path) {
            Ok(file) => files.push((name, file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).at(Stage::Proc, path),
        }
    }
    Ok(Zeros(files))
}
