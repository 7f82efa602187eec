//! The secrets of a policy: read from the user's environment or a file, marked for the record, and
//! known to whatever redacts.

use super::AppError;
use crate::config::Config;
use crate::context::redact::{Known, MAX_VALUE, is_sought};
use crate::context::sanitise::visible;
use crate::policy::model::{Policy, PolicySecret, SecretFrom};
use crate::policy::permit::digest_of_bytes;
use crate::protocol::spec::GivenSecret;
use crate::sandbox::wire::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What a policy's secrets come to.
#[derive(Default)]
pub(super) struct Secrets {
    /// As they are shown, and bound to approvals.
    pub(super) given: Vec<GivenSecret>,
    pub(super) values: Vec<Secret>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// Reads them; what is not there is an error, and so is an empty one.
pub(super) fn read(
    config: &Config,
    policy: &Policy,
    (folder, known): (&Path, &mut Known),
) -> Result<Secrets, AppError> {
    let mut all = Secrets::default();
    if policy.secrets.is_empty() {
        return Ok(all);
    }
    // Of this process alone: who has the record cannot try values against it.
    let key = key()?;
    for secret in &policy.secrets {
        let (value, from) = value(config, secret, folder)?;
        if value.is_empty() {
            return Err(missing(secret, "it is empty"));
        }
        if !is_sought(&value) {
            all.notes.push(format!(
                "the secret {} is too short to be hidden in output",
                secret.name
            ));
        }
        known.add(&secret.name, &value);
        let bytes = [&key[..], secret.name.as_bytes(), b"=", &value].concat();
        all.given.push(GivenSecret {
            name: secret.name.clone(),
            from,
            mark: digest_of_bytes(&bytes),
        });
        all.values.push(Secret {
            name: secret.name.clone(),
            value,
        });
    }
    Ok(all)
}

fn value(
    config: &Config,
    secret: &PolicySecret,
    folder: &Path,
) -> Result<(Vec<u8>, String), AppError> {
    match &secret.from {
        SecretFrom::Environment => {
            let found = config.environment.get(&secret.name);
            let value = found.ok_or_else(|| missing(secret, "you have no such variable"))?;
            let from = "your environment".to_owned();
            Ok((value.clone().into_bytes(), from))
        }
        SecretFrom::File(path) => {
            let path = folder.join(path);
            let from = visible(&path.to_string_lossy());
            let value = file(&path).map_err(|source| AppError::SecretFile {
                name: secret.name.clone(),
                path,
                source,
            })?;
            Ok((value, from))
        }
    }
}

/// A regular file and not a large one.
fn file(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: a pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    let mut value = Vec::new();
    let most = u64::try_from(MAX_VALUE).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut value)?;
    match value.len() {
        0..=MAX_VALUE => Ok(value),
        _ => Err(io::Error::other(format!(
            "it has more than {MAX_VALUE} bytes"
        ))),
    }
}

fn missing(secret: &PolicySecret, why: &'static str) -> AppError {
    AppError::Secret {
        name: secret.name.clone(),
        why,
    }
}

fn key() -> Result<[u8; 32], AppError> {
    let mut key = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|source| AppError::Machine {
            what: "random bytes",
            source,
        })?;
    Ok(key)
}
