//! The second wall of the namespace backend: a Landlock domain around each step.
//!
//! Inside it a step writes only beneath the writable mounts, `/tmp`, `/dev/shm`, its terminals, the
//! harmless nodes, and its own `/proc`; and it neither signals nor reaches over an abstract socket
//! what is outside it. Each step has a domain of its own, so steps cannot signal one another: PID 1
//! and the keepers, which are in none, do.
//!
//! In a world that an engine made, where files are the engine's matter, only the second half is put on a
//! step: [`scope`].

use crate::wire::World;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::io;
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

/// The rules, ready to be entered by any number of steps.
pub struct Confinement {
    level: u32,
    writable: Vec<String>,
}

impl Confinement {
    /// The rules for this world, as far as the kernel knows them.
    pub fn new(world: &World) -> Self {
        let mounts = world.mounts.iter().filter(|mount| mount.writable);
        Self {
            level: kernel_level().min(LEVEL.1),
            writable: WRITABLE
                .iter()
                .map(|path| (*path).to_owned())
                .chain(mounts.map(|mount| mount.target.clone()))
                .collect(),
        }
    }

    /// The level of the rules; 0 where this kernel has none.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Puts the calling process, which is about to become a step, into a domain of its own.
    ///
    /// # Errors
    /// When the rules cannot be made or entered; the step must not be run then.
    pub fn apply(&self) -> io::Result<()> {
        if self.level == 0 {
            return Ok(());
        }
        let status = self.rules().map_err(io::Error::other)?;
        match status {
            RulesetStatus::NotEnforced => Err(io::ErrorKind::Unsupported.into()),
            RulesetStatus::PartiallyEnforced if self.level == LEVEL.1 => {
                Err(io::ErrorKind::Unsupported.into())
            }
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        }
    }

    fn rules(&self) -> Result<RulesetStatus, Box<dyn std::error::Error + Send + Sync>> {
        let write = AccessFs::from_write(LEVEL.0);
        let file: BitFlags<AccessFs> = AccessFs::from_file(LEVEL.0) & write;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(write)?
            .scope(Scope::from_all(LEVEL.0))?
            .create()?;
        for path in &self.writable {
            let allowed = match Path::new(path).is_dir() {
                true => write,
                false => file,
            };
            rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, allowed))?;
        }
        for node in NODES {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(node)?, file))?;
        }
        let own = AccessFs::WriteFile | AccessFs::Truncate;
        rules = rules.add_rule(PathBeneath::new(PathFd::new("/proc")?, own))?;
        Ok(rules.restrict_self()?.ruleset)
    }
}

/// Puts the calling process, which is about to become a step, into a domain of its own, without rules
/// about files. Nothing happens where the kernel has no such rules.
///
/// # Errors
/// When the kernel has them and the domain cannot be entered; the step must not be run then.
pub fn scope() -> io::Result<()> {
    let enter = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .scope(Scope::from_all(LEVEL.0))?
            .create()?
            .restrict_self()?)
    };
    enter().map(drop).map_err(io::Error::other)
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
