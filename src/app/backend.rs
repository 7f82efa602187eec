//! Which backend, and what there is to say about each.

use super::{AppError, Chosen, SandboxRequest};
use crate::config::Config;
use crate::images::HeldRoot;
use crate::policy::model::{BackendChoice, Policy, RuntimeChoice};
use crate::protocol::control::Controls;
use crate::protocol::spec::{BackendKind, RootFs};
use crate::sandbox::backend::{Backend, SandboxError};
use crate::sandbox::docker::{DockerBackend, DockerReport};
use crate::sandbox::gpu::{self, GpuError, Inventory};
use crate::sandbox::init_binary;
use crate::sandbox::namespace::{ImageRoot, NamespaceBackend, NamespaceReport};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The installed init of this version.
pub fn install_init(config: &Config) -> Result<PathBuf, AppError> {
    let dir = config.state.join("init");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .and_then(|()| init_binary::install(&dir))
        .map_err(|source| AppError::Init { dir, source })
}

/// Chooses and reaches the backend: what was typed, else what the policy says, else the machine.
pub async fn choose_backend(config: &Config, request: &SandboxRequest) -> Result<Chosen, AppError> {
    let init = install_init(config)?;
    let typed = request
        .backend
        .filter(|choice| *choice != BackendChoice::Auto);
    let policy = &request.policy;
    let choice = typed.unwrap_or(policy.executor.backend);
    // The policy's image stands in where the user names none and one can be used.
    let image = match choice {
        // A list of images is no reason to take one where the host's own system was chosen.
        BackendChoice::Namespace => request.image.as_ref(),
        BackendChoice::Auto | BackendChoice::Docker => {
            let stand_in = || policy.image.allow.first();
            request.image.as_ref().or_else(stand_in)
        }
    };
    let ground = ground(config, policy, (choice, image.map(String::as_str)))?;
    let without_engine = !matches!(ground, Ground::Engine(..));
    refuse_runtime(policy, without_engine.then_some(BackendKind::Namespace))?;
    match ground {
        Ground::Host(why) => namespace(init, why.to_owned()).await,
        Ground::Unpacked(image, why, held) => rooted(init, (image, why), held).await,
        Ground::Engine(image, why) => {
            let engine = DockerBackend::connect(init, config.docker_host.as_deref()).await?;
            let engine = engine.with_runtime(policy.executor.runtime)?;
            docker((config, request), engine, (image, why)).await
        }
    }
}

/// What a sandbox stands on, and why.
enum Ground<'a> {
    Host(&'static str),
    Unpacked(&'a str, &'static str, HeldRoot),
    Engine(&'a str, &'static str),
}

fn ground<'a>(
    config: &Config,
    policy: &Policy,
    wanted: (BackendChoice, Option<&'a str>),
) -> Result<Ground<'a>, AppError> {
    let (choice, image) = match wanted {
        (BackendChoice::Docker, None) => return Err(AppError::NoImage),
        (BackendChoice::Namespace, None) => return Ok(Ground::Host("asked for")),
        (BackendChoice::Auto, None) => return Ok(Ground::Host("no image was named")),
        (choice, Some(image)) => (choice, image),
    };
    if choice == BackendChoice::Docker {
        return Ok(Ground::Engine(image, "asked for"));
    }
    let has_runtime = policy.executor.runtime != RuntimeChoice::Default;
    Ok(
        match (choice, super::images::unpacked(config, policy, image)?) {
            (BackendChoice::Namespace, Some(held)) => Ground::Unpacked(image, "asked for", held),
            (BackendChoice::Namespace, None) => {
                return Err(super::images::not_unpacked(config, image));
            }
            (_, Some(held)) if !has_runtime => {
                Ground::Unpacked(image, "an image was named that is unpacked here", held)
            }
            // Without an engine it cannot be had, and nothing else is what was meant.
            _ => Ground::Engine(image, "an image was named and an engine answers"),
        },
    )
}

/// A runtime that is asked for and cannot be had is no reason to take another.
fn refuse_runtime(policy: &Policy, backend: Option<BackendKind>) -> Result<(), AppError> {
    let runtime = policy.executor.runtime;
    let (why, remedy) = match (runtime, backend) {
        (RuntimeChoice::Default, _) => return Ok(()),
        (_, Some(backend)) => (
            format!("the {backend} backend has no runtimes"),
            "name an image with --image, for an engine that has it",
        ),
        (RuntimeChoice::Runsc | RuntimeChoice::Kata, None) if policy.gpu.devices.count > 0 => (
            "a GPU is not given through it in this version".to_owned(),
            "use gpu.devices = \"none\", or executor.runtime = \"default\"",
        ),
        (_, None) => return Ok(()),
    };
    Err(AppError::Sandbox(SandboxError::Refused {
        what: format!("executor.runtime = {:?}", runtime.name()),
        why,
        remedy: remedy.to_owned(),
    }))
}

async fn docker(
    (config, request): (&Config, &SandboxRequest),
    engine: DockerBackend,
    (image, why): (&str, &str),
) -> Result<Chosen, AppError> {
    let policy = &request.policy;
    let found = super::images::of_engine(config, policy, (&engine, image)).await?;
    engine.sweep().await?;
    Ok(Chosen {
        root: RootFs::Image {
            reference: found.reference,
            id: found.id.clone(),
        },
        reason: format!(
            "docker: {why}; {image} is {}{}",
            found.id,
            match policy.executor.runtime {
                RuntimeChoice::Default => String::new(),
                named => format!("; by {}", named.name()),
            }
        ),
        backend: Arc::new(engine),
    })
}

async fn namespace(init: PathBuf, why: String) -> Result<Chosen, AppError> {
    let backend = NamespaceBackend::new(init)?;
    backend.sweep().await?;
    Ok(Chosen {
        root: RootFs::HostSystem,
        reason: format!("namespace: {why}"),
        backend: Arc::new(backend),
    })
}

/// On an unpacked image instead of the host's own system.
async fn rooted(
    init: PathBuf,
    (reference, why): (&str, &str),
    image: HeldRoot,
) -> Result<Chosen, AppError> {
    let id = image.id.clone();
    let backend = NamespaceBackend::new(init)?.with_image(ImageRoot {
        id: id.clone(),
        path: image.path.clone(),
        hold: Box::new(image),
    });
    backend.sweep().await?;
    Ok(Chosen {
        reason: format!("namespace: {why}; {reference} is {id}"),
        root: RootFs::Image {
            reference: reference.to_owned(),
            id,
        },
        backend: Arc::new(backend),
    })
}

/// What `doctor` looks at.
pub struct Examined {
    pub namespace: NamespaceReport,
    pub docker: Result<(DockerReport, Controls), SandboxError>,
    /// And what would keep a sandbox from having them.
    pub gpus: Result<(Inventory, Option<GpuError>), GpuError>,
}

/// Looks at both backends by using them.
pub async fn examine(config: &Config) -> Result<Examined, AppError> {
    let init = install_init(config)?;
    let host = config.docker_host.as_deref();
    let docker = async {
        let engine = DockerBackend::connect(init.clone(), host).await?;
        Ok((engine.report(), engine.controls().await?))
    };
    let host = config.gpus.clone();
    let gpus = tokio::task::spawn_blocking(move || {
        let seen = gpu::look(&host)?;
        let obstacle = gpu::obstacle(&host, &seen);
        Ok((seen, obstacle))
    });
    Ok(Examined {
        gpus: gpus.await.unwrap_or_else(|error| {
            Err(GpuError::None {
                why: error.to_string(),
            })
        }),
        docker: docker.await,
        namespace: NamespaceBackend::new(init)?.report().await,
    })
}
