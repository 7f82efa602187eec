//! The end of a connection: it has one reason, the first.

use crate::sandbox::backend::SandboxError;
use std::sync::Arc;
use tokio::sync::watch;

/// Why nothing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    /// Init spoke nonsense.
    Protocol(String),
    /// Init ended, fell silent, or was let go.
    Ended(String),
}

impl Over {
    pub(crate) fn into_error(self) -> SandboxError {
        match self {
            Self::Protocol(what) => SandboxError::Protocol(what),
            Self::Ended(why) => SandboxError::Ended(why),
        }
    }
}

/// Where the reason is left and waited for.
#[derive(Clone)]
pub(crate) struct Ending(Arc<watch::Sender<Option<Over>>>);

impl Default for Ending {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Ending {
    /// The first reason stays.
    pub(crate) fn set(&self, over: Over) {
        self.0.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(over);
            }
            first
        });
    }

    /// The reason, once there is one.
    pub(crate) async fn reached(&self) -> Over {
        let mut reason = self.0.subscribe();
        match reason.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(over)) => over.clone(),
            // The sender is `self`.
            Ok(None) | Err(_) => Over::Ended("its channel is gone".to_owned()),
        }
    }
}
