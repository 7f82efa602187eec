//! What every backend gives: a word for each control, and a started init.

use super::counts::Counts;
use super::wire;
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::spec::{BackendKind, SandboxSpec};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Builds sandboxes from specifications. Two real ones (docker, namespace), one that replays.
#[async_trait]
pub trait Backend: Send + Sync {
    fn kind(&self) -> BackendKind;

    /// A word for each control as this machine holds it, found by doing. Cheap after the first call.
    async fn controls(&self) -> Result<Controls, SandboxError>;

    /// Starts init in the world that `spec` describes. `name` is unique on this machine
    /// (`fumehood-<pid>-<start time>-<run>-<n>`) and names container, cgroups and labels.
    ///
    /// A backend refuses what it cannot honour; it never starts something weaker.
    async fn start(&self, spec: &SandboxSpec, name: &str) -> Result<Started, SandboxError>;
}

/// A started init: the two ends of its pipe, and what holds it.
pub struct Started {
    /// Bytes from init: its standard output, or a socket in its place.
    pub from_init: Box<dyn AsyncRead + Send + Unpin>,
    /// Bytes to init: its standard input, or that socket. Closing both ends the sandbox.
    pub to_init: Box<dyn AsyncWrite + Send + Unpin>,
    pub lease: Box<dyn Lease>,
}

/// What a backend holds for one sandbox. Dropping it leaves the sandbox to the closed pipe: init
/// kills everything and ends by itself.
#[async_trait]
pub trait Lease: Send + Sync {
    /// What the kernel counts for it.
    async fn counts(&self) -> Counts;
    /// Resident bytes of all processes, where memory is *watched* (no controller); else `None`.
    async fn resident(&self) -> Option<u64>;
    /// The last words of init or of the engine, for an error message; empty when there are none.
    async fn last_words(&self) -> String;
    /// Ends it: waits until processes, container, mounts and cgroups are gone; kills what resists.
    async fn end(self: Box<Self>) -> Result<(), SandboxError>;
    /// How each process limit reaches a step: what the kernel does not hold through the backend is
    /// set on the step itself.
    fn step_limits(&self) -> wire::StepLimits;
}

/// "We failed to run it."
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The backend is not usable here: no engine, no user namespaces.
    #[error("{backend} backend is not usable: {why}")]
    Unavailable {
        backend: BackendKind,
        why: String,
        remedy: String,
    },
    /// The machine holds a control more weakly than the policy accepts.
    #[error("{control} is {have} here, the policy requires {want}")]
    TooWeak {
        control: Control,
        have: Strength,
        want: Strength,
        remedy: String,
    },
    /// The specification cannot be honoured (a mount that changed, an image that is not there).
    #[error("{what}: {why}")]
    Refused {
        what: String,
        why: String,
        remedy: String,
    },
    /// The program was not executed.
    #[error("failed to start the program: {0:?}")]
    NotStarted(wire::StartError),
    /// Init spoke nonsense: it is treated as hostile and the sandbox is over.
    #[error("protocol error from the sandbox: {0}")]
    Protocol(String),
    /// The sandbox ended under the step.
    #[error("the sandbox ended: {0}")]
    Ended(String),
    #[error("{context}")]
    Io {
        context: String,
        #[source]
        source: std::io::Error,
    },
    /// The engine's API failed.
    #[error("{call}: {message}")]
    Engine {
        call: String,
        message: String,
        remedy: String,
    },
}

impl SandboxError {
    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Unavailable { remedy, .. }
            | Self::TooWeak { remedy, .. }
            | Self::Refused { remedy, .. }
            | Self::Engine { remedy, .. } => Some(remedy.as_str()),
            Self::NotStarted(_) | Self::Protocol(_) | Self::Ended(_) | Self::Io { .. } => None,
        }
    }
}
