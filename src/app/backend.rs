//! Which backend, and what there is to say about each.

use super::{AppError, Chosen, SandboxRequest};
use crate::config::Config;
use crate::policy::model::{BackendChoice, Policy, RuntimeChoice};
use crate::protocol::control::Controls;
use crate::protocol::spec::{BackendKind, RootFs};
use crate::sandbox::backend::{Backend, SandboxError};
use crate::sandbox::docker::{DockerBackend, DockerReport};
use crate::sandbox::gpu::{self, GpuError, Inventory};
use crate::sandbox::init_binary;
use crate::sandbox::namespace::{NamespaceBackend, NamespaceReport};
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
    let host = config.docker_host.as_deref();
    let choice = typed.unwrap_or(request.policy.executor.backend);
    // The policy's image stands in where the user names none and one can be used.
    let image = match choice {
        BackendChoice::Namespace => request.image.as_ref(),
        BackendChoice::Auto | BackendChoice::Docker => {
            let stand_in = || request.policy.image.allow.first();
            request.image.as_ref().or_else(stand_in)
        }
    };
    let runtime = request.policy.executor.runtime;
    let without_engine = match (choice, image) {
        (BackendChoice::Namespace, _) | (BackendChoice::Auto, None) => true,
        (BackendChoice::Docker, _) | (BackendChoice::Auto, Some(_)) => false,
    };
    refuse_runtime(
        &request.policy,
        without_engine.then_some(BackendKind::Namespace),
    )?;
    match (choice, image) {
        (BackendChoice::Docker, Some(image)) => {
            let engine = DockerBackend::connect(init, host).await?;
            let engine = engine.with_runtime(runtime)?;
            docker((config, request), engine, (image, "asked for")).await
        }
        (BackendChoice::Docker, None) => Err(AppError::NoImage),
        (BackendChoice::Namespace, Some(_)) => Err(AppError::ImageWithoutEngine {
            backend: BackendKind::Namespace,
        }),
        (BackendChoice::Namespace, None) => namespace(init, "asked for".to_owned()).await,
        (BackendChoice::Auto, None) => namespace(init, "no image was named".to_owned()).await,
        // An image was named: without an engine it cannot be had, and nothing else is what was meant.
        (BackendChoice::Auto, Some(image)) => {
            let engine = DockerBackend::connect(init, host).await?;
            let engine = engine.with_runtime(runtime)?;
            docker(
                (config, request),
                engine,
                (image, "an image was named and an engine answers"),
            )
            .await
        }
    }
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
