//! The words about secrets, which go through the pipe and lie on a tmpfs of the sandbox.

use serde::{Deserialize, Serialize};

/// Where secrets lie: a tmpfs, where the world has some.
pub const SECRETS: &str = "/run/secrets";

/// Bytes and files of that tmpfs.
pub const SECRETS_ROOM: (u64, u64) = (4 << 20, 256);

/// One secret. Its value is in no text that is made of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Of its file.
    pub name: String,
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}
