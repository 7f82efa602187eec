//! Wiring: from what was typed and what the machine has to a bench that is ready. The one place that
//! names the concrete adapters.
//!
//! ```text
//!   policy (+ --set) ─┐             layers: under the project's and the system's
//!   engine? image? ───┼─▶ backend ─┐
//!   --workspace ──────┤            ├─ plan ─▶ spec ─▶ Bench ─▶ tools ─▶ agent
//!   --venv, --mount ──┘            │
//!   record (locked) ───────────────┘
//! ```

mod agent;
mod artifacts;
mod backend;
mod close;
mod ending;
mod error;
mod gc;
mod gpus;
mod images;
mod known;
mod layers;
mod network;
mod open;
mod pace;
mod secrets;
pub mod selftest;
mod settings;
mod sources;
mod trust;
mod unpack;

pub use agent::{AgentRequest, ReadyAgent, lay_down_remote, ready_agent, verify};
pub use backend::{Examined, choose_backend, examine, install_init};
pub use close::RunEnd;
pub use ending::{exec_end, exits, said};
pub use error::AppError;
pub use gc::{Collected, Forgotten, Removal, collect};
pub use images::{
    ImageBuild, ListedImage, build_image, image_store, import_image, list_images, may_pull,
    pull_image, remove_image,
};
pub use known::{redactor, unknown};
pub use layers::{Layered, lay_over, read_policy, tighten_by_project};
pub use open::open_run;
pub use trust::{Accepted, all_accepted, distrust, project_source, trust};

use crate::policy::model::{BackendChoice, Policy};
use crate::protocol::spec::RootFs;
use crate::record::RunRecord;
use crate::sandbox::backend::Backend;
use crate::sandbox::gpu::Claim;
use crate::sandbox::mount_source::MountRequest;
use crate::tools::bench::Bench;
use crate::tools::desk::Desk;
use crate::workspace::Destination;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a sandbox is asked for with, as typed and parsed.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// Effective already: every layer together.
    pub policy: Policy,
    /// Which layers hold over the one that was chosen.
    pub policy_notes: Vec<String>,
    /// The folder that the policy's relative mounts start from.
    pub policy_folder: PathBuf,
    pub backend: Option<BackendChoice>,
    pub image: Option<String>,
    pub workspace: Option<PathBuf>,
    /// An archive to fill the run's own workspace from.
    pub unpack: Option<PathBuf>,
    pub venv: Option<PathBuf>,
    pub mounts: Vec<MountRequest>,
    pub env: BTreeMap<String, String>,
    /// Where results are copied at the end; absolute.
    pub artifacts: Option<PathBuf>,
}

/// Which backend, and why.
pub struct Chosen {
    pub backend: Arc<dyn Backend>,
    pub root: RootFs,
    /// One sentence for the person.
    pub reason: String,
}

/// What a run starts with.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// `run`, `exec`, `box` or `demo`.
    pub command: &'static str,
    pub task: String,
    pub model: Option<String>,
    /// Ends the waiting for what another run has.
    pub cancel: CancellationToken,
}

/// A run that is ready to act: its record is open and says so.
pub struct OpenedRun {
    pub bench: Arc<Bench>,
    pub desk: Desk,
    pub record: Arc<RunRecord>,
    /// What the user should know before it starts.
    pub notes: Vec<String>,
    /// This run's GPUs, nobody else's for as long as it lives.
    gpus: Option<Claim>,
    /// Where its results go.
    artifacts: Option<Destination>,
}
