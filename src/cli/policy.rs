//! The policy a command runs under.

use super::failure::{self, Failure};
use crate::config::Config;
use crate::policy::builtin;
use crate::policy::model::Policy;
use std::path::PathBuf;
pub(super) struct Effective {
    pub(super) policy: Policy,
    pub(super) folder: PathBuf,
}
pub(super) fn effective(
    config: &Config,
    name: &str,
    _set: &[String],
) -> Result<Effective, Failure> {
    match builtin::policy(name) {
        Some(policy) => Ok(Effective {
            policy,
            folder: config.policies.clone(),
        }),
        None => Err(Failure::new(format!("no policy {name}"), failure::USAGE)),
    }
}
