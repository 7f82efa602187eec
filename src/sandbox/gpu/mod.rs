//! GPUs: which there are, who has them, and what a sandbox needs of the host to use some of them.
//!
//! ```text
//!   CDI files ─ or ─ the driver itself ─▶ Inventory ─▶ candidates (pure) ─▶ leases, waited for
//!                                                                                │
//!   SandboxSpec.devices, driver files ◀── nodes and files looked at ◀── Claim ◀──┘
//! ```
//!
//! A sandbox gets the device nodes of its GPUs and the driver's libraries, read-only, from here; no
//! program of a container toolkit runs for it, on any backend. It decides nothing: the policy says how
//! many and which. It isolates nothing between programs that share a GPU: that is the driver's.

mod cdi;
mod choose;
mod driver_text;
mod error;
mod files;
mod ld_cache;
mod lease;
mod look;
mod nvml;
mod yaml;

pub use error::{CdiError, GpuError};
pub use files::{DriverFile, FileKind};
pub use lease::{MACHINE, Sharing};
pub use look::{Card, Inventory, look};
pub use nvml::{Meter, Totals};

use crate::policy::model::GpuPolicy;
use crate::protocol::device::{DeviceNode, Devices};
use cdi::Parts;
use lease::{Lease, Leases};
use nix::sys::stat::{SFlag, major, minor, stat};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two tries to get a GPU that another run has.
const AGAIN: Duration = Duration::from_millis(500);

/// Where this machine keeps its driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuHost {
    /// `/`, or where a driver container put its system.
    pub root: PathBuf,
    /// Folders of CDI files, the later winning.
    pub cdi: Vec<PathBuf>,
    /// Folders for leases, the first that can be used.
    pub leases: Vec<PathBuf>,
}

impl GpuHost {
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// GPUs that are this run's, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    pub devices: Devices,
    pub files: Vec<DriverFile>,
    _leases: Vec<Lease>,
}

/// Looks, chooses, waits until they are free. `waiting` is told once why, whenever the reason
/// changes. `None` where the policy asks for no GPU.
pub async fn claim(
    host: &GpuHost,
    policy: &GpuPolicy,
    run: &str,
    (waiting, cancel): (&(dyn Fn(&str) + Sync), &CancellationToken),
) -> Result<Option<Claim>, GpuError> {
    if policy.devices.count == 0 {
        return Ok(None);
    }
    let seen = {
        let host = host.clone();
        let looking = tokio::task::spawn_blocking(move || look(&host));
        looking.await.unwrap_or_else(|error| {
            Err(GpuError::None {
                why: error.to_string(),
            })
        })?
    };
    let gpus = seen.gpus();
    let (candidates, count) = choose::candidates(&policy.devices, &gpus)?;
    // What is missing of the driver is said before anybody waits.
    let ready = |places: &[usize]| prepare(host, policy, &seen, places);
    ready(&candidates[..count])?;
    let leases = Leases::open(&host.leases, run)?;
    let sharing = match policy.exclusive {
        true => Sharing::Exclusive,
        false => Sharing::Shared,
    };
    let mut told = String::new();
    loop {
        let (mut had, mut places, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        for &place in &candidates {
            if had.len() == count {
                break;
            }
            match leases.take(&gpus[place], sharing)? {
                Ok(lease) => {
                    had.push(lease);
                    places.push(place);
                }
                Err(who) => busy.push(format!("{}: {who}", gpus[place])),
            }
        }
        if had.len() == count {
            let (devices, files) = ready(&places)?;
            return Ok(Some(Claim {
                devices,
                files,
                _leases: had,
            }));
        }
        // All or none: two runs that wait for one another's would wait for ever.
        drop(had);
        let why = busy.join("; ");
        if why != told {
            waiting(&format!("waiting for a GPU: {why}"));
            told = why;
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = cancel.cancelled() => return Err(GpuError::Cancelled { why: told }),
        }
    }
}

/// What would keep a sandbox of this user's from having these GPUs, if something would.
pub fn obstacle(host: &GpuHost, seen: &Inventory) -> Option<GpuError> {
    let policy = crate::policy::defaults::policy().gpu;
    let all: Vec<usize> = (0..seen.cards.len()).collect();
    prepare(host, &policy, seen, &all).err()
}

/// Nodes and files of these cards, as they are now.
fn prepare(
    host: &GpuHost,
    policy: &GpuPolicy,
    seen: &Inventory,
    places: &[usize],
) -> Result<(Devices, Vec<DriverFile>), GpuError> {
    let cards: Vec<&Card> = places.iter().map(|&place| &seen.cards[place]).collect();
    let mut parts = Parts::default();
    for card in &cards {
        parts.add(&card.parts);
    }
    let mut nodes: Vec<DeviceNode> = Vec::new();
    for (source, target) in &parts.nodes {
        nodes.push(node(host, source, target)?);
    }
    let where_on_bus: Vec<Option<String>> = cards.iter().map(|card| card.place.clone()).collect();
    let devices = Devices {
        gpus: cards.iter().map(|card| card.gpu.clone()).collect(),
        exclusive: policy.exclusive,
        nodes,
        proc: driver_text::shown(&seen.proc, &where_on_bus),
        origin: seen.origin.clone(),
    };
    let files = files::gather(host, &parts, &policy.capabilities)?;
    Ok((devices, files))
}

/// A character device that can be opened from where it is.
fn node(host: &GpuHost, source: &Path, target: &str) -> Result<DeviceNode, GpuError> {
    let shown = host.at(source);
    let wrong = |why: &str, remedy| GpuError::Node {
        node: shown.clone(),
        why: why.to_owned(),
        remedy,
    };
    let path = shown.canonicalize().map_err(|error| {
        wrong(
            &error.to_string(),
            "load the driver's modules and make its nodes: `nvidia-modprobe -u -c 0`",
        )
    })?;
    let unreadable = |errno: nix::errno::Errno| wrong(errno.desc(), "look at it, as root");
    let found = stat(&path).map_err(unreadable)?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFCHR {
        return Err(wrong(
            "it is no character device",
            "remove it, and make the driver's nodes anew",
        ));
    }
    if statvfs(&path)
        .map_err(unreadable)?
        .flags()
        .contains(FsFlags::ST_NODEV)
    {
        return Err(wrong(
            "it lies on a file system without devices",
            "name a root whose /dev has devices in FUMEHOOD_DRIVER_ROOT",
        ));
    }
    let group = match found.st_mode & 0o066 {
        mode if mode & 0o006 == 0o006 => None,
        mode if mode & 0o060 == 0o060 && found.st_gid != 0 => Some(found.st_gid),
        _ => {
            let remedy = "let a group other than root read and write it, or everybody (the driver's default: NVreg_DeviceFileMode=0666)";
            return Err(wrong("only its owner may use it", remedy));
        }
    };
    if access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return Err(wrong(
            "you may not use it",
            "join its group (`usermod -aG`), and log in again",
        ));
    }
    Ok(DeviceNode {
        source: path.to_string_lossy().into_owned(),
        target: target.to_owned(),
        major: major(found.st_rdev),
        minor: minor(found.st_rdev),
        group,
    })
}
