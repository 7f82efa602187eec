//! Secrets: each a file on a tmpfs that nobody but the sandbox's user may enter, written by init before
//! a step runs. They came through the pipe, and are on no disk and in no environment.

use crate::wire::{SECRETS, Secret};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes them. A name is that of a file: what is not is refused.
pub fn lay_down(secrets: &[Secret]) -> io::Result<()> {
    for secret in secrets {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if secret.name.is_empty() || !secret.name.bytes().all(plain) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // New: what a step laid there before is not written through.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(Path::new(SECRETS).join(&secret.name))?;
        file.write_all(&secret.value)?;
    }
    fs::set_permissions(SECRETS, Permissions::from_mode(0o500))
}
