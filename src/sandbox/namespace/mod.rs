//! The backend without an engine: `init enter` builds the world from namespaces and becomes PID 1 of it.
//!
//! ```text
//!   probe once ─ what cgroups can be made, how far the chain gets ─▶ a word for each control
//!   start      ─ cgroups made and limited ─ init enter ─ World ──▶ Entered ─▶ Started
//!                   └────── on any failure: nothing is left running, and the folders go ──────┘
//! ```
//!
//! Root and ordinary users alike. What root has more of are cgroups, and a choice of who runs: init
//! drops to the unprivileged uid of the specification before it makes a namespace.

mod cgroup;
mod explain;
mod host;
mod image;
mod launch;
mod lease;
mod report;
mod resident;
mod system;
mod world;

pub use image::ImageRoot;
pub use report::NamespaceReport;

use super::backend::{Backend, SandboxError, Started};
use super::owner::{self, Owner};
use super::plan::UNPRIVILEGED;
use super::wire::{EnterError, Stage, WorldSystem};
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::ids::RunId;
use crate::protocol::spec::{BackendKind, SandboxSpec};
use async_trait::async_trait;
use cgroup::{Cgroups, Controller, MadeGroups};
use host::HostFacts;
use launch::{Launched, NotLaunched};
use lease::{Memory, NamespaceLease};
use nix::unistd::{getegid, geteuid};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;

/// The level of Landlock that scopes signals and abstract sockets: less is not the whole control.
const WHOLE_LANDLOCK: u32 = 6;

/// Sandboxes from namespaces, and the init that becomes their PID 1.
pub struct NamespaceBackend {
    init: PathBuf,
    /// Effective uid and gid.
    caller: (u32, u32),
    owner: Owner,
    pid_namespace: u64,
    /// The host's own.
    system: Vec<WorldSystem>,
    image: Option<ImageRoot>,
    probed: OnceCell<Probed>,
}

/// What was found by building a sandbox.
#[derive(Debug, Clone)]
struct Probed {
    landlock: u32,
    cgroups: Cgroups,
    /// Joining a group of version 2 was refused, which making one was not.
    not_joined: bool,
    can_be_watched: bool,
}

/// Why none could be built.
enum Failure {
    Entered(EnterError),
    Other(SandboxError),
}

impl NamespaceBackend {
    /// `init` is the installed init binary. Cheap: nothing is tried yet.
    pub fn new(init: PathBuf) -> Result<Self, SandboxError> {
        let known = |context: &str, source| SandboxError::Io {
            context: context.to_owned(),
            source,
        };
        Ok(Self {
            init,
            caller: (geteuid().as_raw(), getegid().as_raw()),
            owner: Owner::this_process()
                .map_err(|error| known("failed to read this process's start time", error))?,
            pid_namespace: owner::pid_namespace()
                .map_err(|error| known("failed to read this process's pid namespace", error))?,
            system: system::of_host(),
            image: None,
            probed: OnceCell::new(),
        })
    }

    /// Sandboxes may have this image for their root.
    pub fn with_image(mut self, image: ImageRoot) -> Self {
        self.image = Some(image);
        self
    }

    /// Removes the cgroups of dead owners, killing what is still in them, and returns the names of
    /// their sandboxes.
    pub async fn sweep(&self) -> Result<Vec<String>, SandboxError> {
        Ok(cgroup::sweep(self.pid_namespace).await)
    }

    /// What `doctor` says.
    pub async fn report(&self) -> NamespaceReport {
        let facts = self.facts();
        match self.probe().await {
            Ok(probed) => report::usable(&facts, &probed),
            Err(failure) => report::unusable(&facts, &self.explained(failure)),
        }
    }

    fn is_root(&self) -> bool {
        self.caller.0 == 0
    }

    fn facts(&self) -> HostFacts {
        HostFacts::look(&self.init, self.is_root())
    }

    async fn probed(&self) -> Result<&Probed, SandboxError> {
        self.probed
            .get_or_try_init(|| async {
                self.probe()
                    .await
                    .map_err(|failure| self.explained(failure))
            })
            .await
    }

    /// The whole chain, once, with a program at its end.
    async fn probe(&self) -> Result<Probed, Failure> {
        let mut cgroups = Cgroups::find(&self.probe_folder(), self.is_root());
        let mut not_joined = false;
        let landlock = loop {
            match self.try_world(&cgroups).await {
                Ok(landlock) => break landlock,
                // Nobody but a probe finds out whether a folder may be joined.
                Err(Failure::Entered(error)) if error.stage == Stage::Cgroup && !not_joined => {
                    cgroups = cgroups.without_version_2();
                    not_joined = true;
                }
                Err(failure) => return Err(failure),
            }
        };
        Ok(Probed {
            landlock,
            cgroups,
            not_joined,
            can_be_watched: resident::can_be_watched(),
        })
    }

    async fn try_world(&self, cgroups: &Cgroups) -> Result<u32, Failure> {
        let groups =
            MadeGroups::make(&cgroups.bases, &self.probe_folder(), None).map_err(Failure::Other)?;
        let ids = match self.is_root() {
            true => (UNPRIVILEGED, UNPRIVILEGED),
            false => self.caller,
        };
        let world = world::probe(ids, &self.system, &groups);
        let mut launched = match launch::launch(&self.init, &world).await {
            Ok(launched) => launched,
            Err(NotLaunched::Entered(error)) => return Err(Failure::Entered(error)),
            Err(NotLaunched::Other(error)) => return Err(Failure::Other(error)),
        };
        // It has answered, and ends by itself: nobody waits for that.
        tokio::spawn(async move {
            let _ = launched.outer.wait().await;
            let _ = groups.remove().await;
        });
        Ok(launched.landlock)
    }

    /// A name nobody else uses.
    fn probe_folder(&self) -> String {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = owner::sandbox_name(self.owner, &RunId::new("probe"), n);
        cgroup::folder(&name, self.pid_namespace)
    }

    fn explained(&self, failure: Failure) -> SandboxError {
        match failure {
            Failure::Entered(error) => explain::explain(&error, &self.facts()),
            Failure::Other(error) => error,
        }
    }

    fn check_caller(&self, spec: &SandboxSpec) -> Result<(), SandboxError> {
        if self.is_root() || (spec.uid, spec.gid) == self.caller {
            return Ok(());
        }
        Err(SandboxError::Refused {
            what: "user".to_owned(),
            why: format!(
                "uid {}, gid {} cannot start a sandbox as {}:{}",
                self.caller.0, self.caller.1, spec.uid, spec.gid
            ),
            remedy: "leave `[process] user` out of the policy, or start as root".to_owned(),
        })
    }

    fn lease(
        &self,
        spec: &SandboxSpec,
        groups: MadeGroups,
        launched: Launched,
    ) -> Result<Started, SandboxError> {
        let enforced = groups.enforced();
        let gone = || io::Error::other("it is gone already");
        let init = Owner::of(launched.pid)
            .and_then(|init| init.ok_or_else(gone))
            .map_err(|source| SandboxError::Io {
                context: format!("failed to look at init (process {})", launched.pid),
                source,
            })?;
        Ok(Started {
            from_init: Box::new(launched.from_init),
            to_init: Box::new(launched.to_init),
            lease: Box::new(NamespaceLease {
                outer: launched.outer,
                init,
                words: launched.words,
                step_limits: world::step_limits(spec, enforced),
                memory: match enforced.memory {
                    true => Memory::Charged,
                    false => Memory::Watched {
                        limit: spec.limits.memory,
                    },
                },
                groups,
            }),
        })
    }
}

#[async_trait]
impl Backend for NamespaceBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Namespace
    }

    async fn controls(&self) -> Result<Controls, SandboxError> {
        self.probed().await.map(Probed::controls)
    }

    async fn start(&self, spec: &SandboxSpec, name: &str) -> Result<Started, SandboxError> {
        self.check_caller(spec)?;
        let system = image::system_of(spec, &self.system, self.image.as_ref())?;
        let probed = self.probed().await?;
        let folder = cgroup::folder(name, self.pid_namespace);
        let groups = MadeGroups::make(&probed.cgroups.bases, &folder, Some(&spec.limits))?;
        let world = world::world(spec, &system, &groups)?;
        match launch::launch(&self.init, &world).await {
            Ok(launched) => self.lease(spec, groups, launched),
            Err(NotLaunched::Entered(error)) => Err(explain::explain(&error, &self.facts())),
            Err(NotLaunched::Other(error)) => Err(error),
        }
    }
}

impl Probed {
    fn controls(&self) -> Controls {
        let word = |control| (control, self.strength(control));
        Control::ALL.iter().copied().map(word).collect()
    }

    fn strength(&self, control: Control) -> Strength {
        match control {
            Control::Memory if self.cgroups.holds(Controller::Memory) => Strength::Enforced,
            Control::Memory if self.can_be_watched => Strength::Watched,
            Control::Memory => Strength::Absent,
            Control::Landlock if self.landlock < WHOLE_LANDLOCK => Strength::Absent,
            Control::WallTime | Control::WorkspaceSize | Control::WorkspaceInodes => {
                Strength::Watched
            }
            // A cgroup, or RLIMIT_NPROC within the user namespace; a quota, or whole cores by affinity
            // with the call that changes it refused.
            Control::Pids | Control::Cpu => Strength::Enforced,
            // Each is a stage of the chain, and a chain that breaks starts nothing.
            Control::Landlock
            | Control::NetworkNone
            | Control::Filesystem
            | Control::User
            | Control::Capabilities
            | Control::NoNewPrivileges
            | Control::Seccomp
            | Control::TmpSize
            | Control::ShmSize
            | Control::FileSize
            | Control::OpenFiles
            | Control::KillAll => Strength::Enforced,
        }
    }
}
