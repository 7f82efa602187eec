//! The second wall of the namespace backend: a Landlock domain around each step.
//!
//! Inside it a step writes only beneath the writable mounts, `/tmp`, `/dev/shm`, its terminals, the
//! harmless nodes, and its own `/proc`; and it neither signals nor reaches over an abstract socket
//! what is outside it. Each step has a domain of its own, so steps cannot signal one another: PID 1
//! and the keepers, which are in none, do.
//!
//! In a world that an engine made, where files are the engine's matter, only the second half is put on a
//! step: [`Scoped`].

use crate::wire::World;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The highest level whose rules are used here, and what it is called in an answer.
const LEVEL: (ABI, u32) = (ABI::V6, 6);

/// Folders everybody may write beneath.
const WRITABLE: [&str; 3] = ["/tmp", "/dev/shm", "/dev/pts"];

/// Nodes that may be written to and asked.
const NODES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// What each step's process is put into just before it is executed.
pub trait Harden {
    /// # Errors
    /// When it cannot be entered; the step must not be run then.
    fn apply(&self) -> io::Result<()>;

    /// What must stay open for that in the process.
    fn descriptor(&self) -> Option<&OwnedFd>;
}

/// The rules, made once, ready to be entered by any number of steps: each that enters them gets a
/// domain of its own.
pub struct Confinement {
    level: u32,
    /// `None` where the kernel has none.
    rules: Option<OwnedFd>,
}

impl Confinement {
    /// The rules for this world, which stands, as far as the kernel knows them.
    ///
    /// # Errors
    /// When the kernel has rules and these cannot be made; no step must be run then.
    pub fn new(world: &World) -> io::Result<Self> {
        let level = kernel_level().min(LEVEL.1);
        let rules = match level {
            0 => None,
            _ => {
                let made: Option<OwnedFd> = rules(world).map_err(io::Error::other)?.into();
                Some(made.ok_or(io::ErrorKind::Unsupported)?)
            }
        };
        Ok(Self { level, rules })
    }

    /// The level of the rules; 0 where this kernel has none.
    pub fn level(&self) -> u32 {
        self.level
    }
}

impl Harden for Confinement {
    #[expect(unsafe_code, reason = "the crate's own call makes the rules anew each time")]
    fn apply(&self) -> io::Result<()> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        let flags: libc::c_uint = 0;
        // SAFETY: the call takes an open descriptor and reads no memory.
        let done =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), flags) };
        nix::errno::Errno::result(done)?;
        Ok(())
    }

    fn descriptor(&self) -> Option<&OwnedFd> {
        self.rules.as_ref()
    }
}

fn rules(world: &World) -> Result<RulesetCreated, Box<dyn std::error::Error + Send + Sync>> {
    let write = AccessFs::from_write(LEVEL.0);
    let file: BitFlags<AccessFs> = AccessFs::from_file(LEVEL.0) & write;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(write)?
        .scope(Scope::from_all(LEVEL.0))?
        .create()?;
    let mounts = world.mounts.iter().filter(|mount| mount.writable);
    let mounts = mounts.map(|mount| mount.target.as_str());
    for path in WRITABLE.into_iter().chain(mounts) {
        let allowed = match Path::new(path).is_dir() {
            true => write,
            false => file,
        };
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, allowed))?;
    }
    let devices = world.devices.iter().map(|device| device.target.as_str());
    for node in NODES.into_iter().chain(devices) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(node)?, file))?;
    }
    let own = AccessFs::WriteFile | AccessFs::Truncate;
    Ok(rules.add_rule(PathBeneath::new(PathFd::new("/proc")?, own))?)
}

/// A domain of its own for each step, without rules about files. Nothing happens where the kernel has
/// no such rules.
pub struct Scoped;

impl Harden for Scoped {
    fn apply(&self) -> io::Result<()> {
        let enter = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            Ok(Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .scope(Scope::from_all(LEVEL.0))?
                .create()?
                .restrict_self()?)
        };
        enter().map(drop).map_err(io::Error::other)
    }

    fn descriptor(&self) -> Option<&OwnedFd> {
        None
    }
}

/// What the kernel offers; 0 where Landlock is absent or switched off.
#[expect(unsafe_code, reason = "asking for the level has no wrapper")]
fn kernel_level() -> u32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call reads no memory.
    let level = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    u32::try_from(level).unwrap_or(0)
}
