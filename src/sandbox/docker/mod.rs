//! The backend on an engine (Docker; an API of 1.41 or newer on a local socket).
//!
//! ```text
//!   resolve image ─ check mounts ─ door ─ create ─ attach ─ check mounts ─ start ─ look inside ─ meet ─▶ Started
//!                                           └──────────── on any failure: removed by force ─────────┘
//! ```
//!
//! Attach comes before start, so nothing that init says is lost, and the pipe is there before
//! anything runs: the attached stdio, or where init comes to it the [`door`], a socket that the engine has
//! no part in. What the engine is told is decided in `body` (pure); what it is and can do in
//! `engine` (pure after two calls). Nothing else in the house names the engine's client.

mod attach;
mod body;
mod door;
mod engine;
mod image;
mod lease;
mod make;
mod masks;
mod mounts;
mod report;
mod seccomp;
mod sweep;

pub use engine::{Cgroups, EngineFacts, UserMapping};
pub use image::Image;
pub use make::{BuildRequest, Hears};
pub use report::DockerReport;

use super::backend::{Backend, SandboxError, Started};
use super::counts::CountedIn;
use super::owner::{self, Owner};
use crate::policy::model::RuntimeChoice;
use crate::protocol::control::Controls;
use crate::protocol::spec::{BackendKind, RootFs, SandboxSpec};
use async_trait::async_trait;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use door::Door;
use engine::Engine;
use lease::ContainerLease;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// An engine, and the init that its containers run.
pub struct DockerBackend {
    engine: Engine,
    init: PathBuf,
    owner: Owner,
    pid_namespace: u64,
    doors: bool,
}

impl DockerBackend {
    /// Reaches the engine at `host` (what `DOCKER_HOST` says: `unix://` or a path), or at the usual
    /// socket. Takes 30 s at most. `init` is the installed init binary, which the engine must see.
    pub async fn connect(init: PathBuf, host: Option<&str>) -> Result<Self, SandboxError> {
        let known = |context: &str, source| SandboxError::Io {
            context: context.to_owned(),
            source,
        };
        Ok(Self {
            engine: Engine::reach(host).await?,
            init,
            owner: Owner::this_process()
                .map_err(|error| known("failed to read this process's start time", error))?,
            pid_namespace: owner::pid_namespace()
                .map_err(|error| known("failed to read this process's pid namespace", error))?,
            doors: true,
        })
    }

    /// As where no socket reaches init: its pipe is the container's stdio.
    pub fn without_doors(mut self) -> Self {
        self.doors = false;
        self
    }

    /// Containers are built by that runtime, and by no other.
    ///
    /// # Errors
    /// Where the engine does not have it.
    pub fn with_runtime(mut self, wanted: RuntimeChoice) -> Result<Self, SandboxError> {
        if let Some(name) = engine::named_runtime(&self.engine.info, wanted)? {
            self.engine.facts.runtime = name;
        }
        Ok(self)
    }

    /// What the engine is and can do.
    pub fn facts(&self) -> &EngineFacts {
        &self.engine.facts
    }

    /// What `doctor` says about it.
    pub fn report(&self) -> DockerReport {
        report::report(&self.engine)
    }

    /// Resolves a reference to an image that the engine already has; never pulls.
    pub async fn resolve_image(&self, reference: &str) -> Result<Image, SandboxError> {
        image::resolve(&self.engine, reference).await
    }

    /// Removes containers that dead owners left behind, and returns their names; and their doors.
    pub async fn sweep(&self) -> Result<Vec<String>, SandboxError> {
        if let Err(error) = door::sweep(&self.init) {
            tracing::debug!(%error, "doors were not swept");
        }
        sweep::sweep(&self.engine, self.pid_namespace).await
    }

    async fn image_of(&self, spec: &SandboxSpec) -> Result<Image, SandboxError> {
        let RootFs::Image { reference, id } = &spec.root else {
            return Err(SandboxError::Refused {
                what: "root file system".to_owned(),
                why: "an engine starts images, and none is named".to_owned(),
                remedy: "name one with `--image REF`, or use `--backend namespace`".to_owned(),
            });
        };
        let mut image = self.resolve_image(id).await?;
        image.reference.clone_from(reference);
        if image.id != *id {
            return Err(SandboxError::Refused {
                what: format!("image {reference:?}"),
                why: format!("{id} names {} now", image.id),
                remedy: "start again: the image is resolved anew".to_owned(),
            });
        }
        Ok(image)
    }

    /// One that cannot be had is slower, and nothing else.
    fn door(&self) -> Option<Door> {
        let made = self.doors.then(|| Door::open(&self.init))?;
        made.inspect_err(|error| tracing::debug!(%error, "the pipe is stdio: no socket"))
            .ok()
    }

    fn body(
        &self,
        spec: &SandboxSpec,
        name: &str,
        (image, door): (&Image, Option<&Door>),
    ) -> Result<ContainerCreateBody, SandboxError> {
        body::create_body(&body::Plan {
            spec,
            name,
            image,
            engine: &self.engine.facts,
            init: &self.init,
            door: door.map(Door::folder),
            owner: self.owner,
            pid_namespace: self.pid_namespace,
        })
    }
}

#[async_trait]
impl Backend for DockerBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Docker
    }

    async fn controls(&self) -> Result<Controls, SandboxError> {
        Ok(self.engine.facts.controls())
    }

    async fn start(&self, spec: &SandboxSpec, name: &str) -> Result<Started, SandboxError> {
        check_init(&self.init)?;
        let image = self.image_of(spec).await?;
        let door = self.door();
        let body = self.body(spec, name, (&image, door.as_ref()))?;
        mounts::check_sources(&spec.mounts).await?;
        mounts::check_nodes(&spec.devices.nodes)?;
        let made = Made::create(&self.engine, name, body).await?;
        match made.run(spec, door).await {
            Ok(started) => Ok(started),
            Err(error) => {
                // The first error says more than a failure to clean up; the sweep tries again.
                let _ = made.discard().await;
                Err(error)
            }
        }
    }
}

/// A container that is made and not yet handed over. Dropped (the caller went away), it is removed:
/// the engine's own removal comes only after a start.
struct Made {
    engine: Engine,
    name: String,
    id: String,
    kept: AtomicBool,
}

impl Made {
    /// On a task of its own, which outlives a caller that goes away: the engine finishes what it was
    /// asked, and then there must be somebody to remove it.
    async fn create(
        engine: &Engine,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Self, SandboxError> {
        let (engine, name) = (engine.clone(), name.to_owned());
        let made = tokio::spawn(async move {
            let options = CreateContainerOptionsBuilder::default().name(&name).build();
            let created = engine
                .client
                .create_container(Some(options), body)
                .await
                .map_err(|error| engine::failed("create container", &error))?;
            let made = Self {
                engine,
                name,
                id: created.id,
                kept: AtomicBool::new(false),
            };
            Ok((made, created.warnings))
        });
        let (made, warnings) = made.await.map_err(|error| SandboxError::Io {
            context: "failed to create the container".to_owned(),
            source: std::io::Error::other(error),
        })??;
        match warnings.iter().find(|text| is_weaker(text)) {
            None => Ok(made),
            Some(warning) => Err(SandboxError::Refused {
                what: "container".to_owned(),
                why: format!("the engine would start it weaker than asked: {warning}"),
                remedy: "enable what the engine misses, or choose a policy without that limit"
                    .to_owned(),
            }),
        }
    }

    async fn run(&self, spec: &SandboxSpec, door: Option<Door>) -> Result<Started, SandboxError> {
        let attached = attach::attach(&self.engine, &self.name).await?;
        mounts::check_sources(&spec.mounts).await?;
        mounts::check_nodes(&spec.devices.nodes)?;
        self.engine
            .client
            .start_container(&self.name, None)
            .await
            .map_err(|error| engine::failed("start container", &error))?;
        let pid = self.pid().await?;
        mounts::check_inside(&spec.mounts, pid).await?;
        mounts::check_nodes_inside(&spec.devices.nodes, pid)?;
        let words = attached.words.clone();
        let ends = match door {
            Some(door) => door::meet(door, attached, pid).await?,
            None => door::without(attached),
        };
        self.keep();
        Ok(Started {
            from_init: ends.from_init,
            to_init: ends.to_init,
            lease: Box::new(ContainerLease {
                engine: self.engine.clone(),
                name: self.name.clone(),
                words,
                counted_in: CountedIn::of_container(pid, &self.id),
                step_limits: lease::step_limits(spec),
            }),
        })
    }

    async fn pid(&self) -> Result<i64, SandboxError> {
        let seen = self
            .engine
            .client
            .inspect_container(&self.name, None)
            .await
            .map_err(|error| engine::failed("inspect container", &error))?;
        Ok(seen.state.and_then(|state| state.pid).unwrap_or(0))
    }

    fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    async fn discard(&self) -> Result<(), SandboxError> {
        self.keep();
        lease::remove(&self.engine, &self.name).await
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (engine, name) = (self.engine.clone(), std::mem::take(&mut self.name));
            runtime.spawn(async move { lease::remove(&engine, &name).await });
        }
    }
}

/// Whether a warning at creation says that a limit was thrown away.
fn is_weaker(warning: &str) -> bool {
    ["discarded", "not support", "ignored"]
        .iter()
        .any(|sign| warning.contains(sign))
}

fn check_init(init: &Path) -> Result<(), SandboxError> {
    match std::fs::metadata(init) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(SandboxError::Io {
            context: format!("init at {} is not a file", init.display()),
            source: std::io::ErrorKind::InvalidInput.into(),
        }),
        Err(source) => Err(SandboxError::Io {
            context: format!("failed to find init at {}", init.display()),
            source,
        }),
    }
}
