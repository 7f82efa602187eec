//! Why a run did not come about, with what the user can do about it.

use crate::images::ImageError;
use crate::policy::file::problem::PolicyErrors;
use crate::record::RecordError;
use crate::repo::RepoError;
use crate::sandbox::backend::SandboxError;
use crate::sandbox::egress::UpstreamError;
use crate::sandbox::gpu::GpuError;
use crate::sandbox::{mount_source, plan, python};
use crate::workspace::WorkspaceError;
use std::path::PathBuf;
use std::time::Duration;

/// Why a run did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Mount(#[from] mount_source::MountError),
    #[error(transparent)]
    Python(#[from] python::PythonError),
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    #[error("failed to install init in {}", dir.display())]
    Init {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("policy {policy} does not list image {image:?} ({id})")]
    ImageNotAllowed {
        image: String,
        id: String,
        policy: String,
    },
    #[error("policy {policy} lets no image be pulled")]
    PullNotAllowed { policy: String },
    #[error("the docker backend needs an image")]
    NoImage,
    #[error("the policy hands over the secret {name}, and {why}")]
    Secret { name: String, why: &'static str },
    #[error("failed to read the secret {name} from {}", path.display())]
    SecretFile {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read {what}")]
    Machine {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    #[error("policy {}: {why}", path.display())]
    PolicyFile { path: PathBuf, why: String },
    /// What the user accepted is not there any more.
    #[error("the project's policy {} {what}", path.display())]
    ProjectChanged { path: PathBuf, what: &'static str },
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("network.ca = \"host\", and no bundle of certificate authorities was found")]
    NoAuthorities,
    #[error("failed to read certificate authorities from {}", bundle.display())]
    Authorities {
        bundle: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("limits.runs_per_hour = {most}: as many runs began within the last hour")]
    TooManyRuns { most: u64, wait: Duration },
    #[error(transparent)]
    Stop(#[from] crate::tools::ToolStop),
}

impl AppError {
    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Record(error) => error.remedy(),
            Self::Workspace(error) => error.remedy(),
            Self::Sandbox(error) => error.remedy().map(str::to_owned),
            Self::Gpu(error) => Some(error.remedy()),
            Self::Mount(error) => Some(error.remedy()),
            Self::Python(error) => Some(error.remedy()),
            Self::Plan(error) => Some(error.remedy()),
            Self::Init { .. } => {
                Some("free some space, or set FUMEHOOD_HOME to a folder you may write in".into())
            }
            Self::Image(error) => error.remedy(),
            Self::ImageNotAllowed { id, .. } => Some(format!(
                "where you trust it, add \"{id}\" to [image] allow; or name one that is listed"
            )),
            Self::PullNotAllowed { .. } => Some(
                "say --set image.pull=ask for this time, or have it in a policy of yours".into(),
            ),
            Self::NoImage => Some(
                "name one with --image REF (`docker images` and `fumehood images list` say what is there), or use --backend namespace"
                    .into(),
            ),
            Self::Repo(error) => error.remedy(),
            Self::Policy(errors) => Some(errors.remedy()),
            Self::PolicyFile { .. } => None,
            Self::ProjectChanged { .. } => Some(
                "a program that ran there may have changed it: look at it, then `fumehood policy trust` its folder again, or `policy distrust` it"
                    .into(),
            ),
            Self::TooManyRuns { most: 0, .. } => Some("the policy lets none begin".into()),
            Self::TooManyRuns { wait, .. } => Some(format!(
                "the next may begin in {} min; or raise the limit",
                wait.as_secs().div_ceil(60)
            )),
            Self::Upstream(error) => Some(error.remedy().into()),
            Self::NoAuthorities | Self::Authorities { .. } => {
                Some("set SSL_CERT_FILE to a file of certificates in PEM, or use network.ca = \"none\"".into())
            }
            Self::Secret { name, .. } => Some(format!(
                "set {name} in your environment, or name a file in its [[secrets]] entry: file = \"PATH\""
            )),
            Self::SecretFile { .. } => {
                Some("name a file of at most 16 KiB that you may read".into())
            }
            Self::Machine { .. } | Self::Stop(_) => None,
        }
    }
}
