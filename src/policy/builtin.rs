//! The policies that come with the program.

use super::defaults;
use super::model::{Contained, Policy};
use crate::protocol::control::{Control, Strength};

/// Names of the built-in policies, tightest first.
pub const NAMES: [&str; 3] = ["locked-down", "offline-train", "dev-loop"];

/// The policy of that name.
pub fn policy(name: &str) -> Option<Policy> {
    let mut policy = defaults::policy();
    policy.name = NAMES.into_iter().find(|known| *known == name)?.to_owned();
    policy.artifacts.include = ["outputs/**", "runs/**", "checkpoints/**", "results/**"]
        .map(str::to_owned)
        .to_vec();
    if name == "locked-down" {
        policy.limits.wall_ms = Some(600_000);
        policy.limits.memory = Some(2 << 30);
        return Some(policy);
    }
    for control in [Control::Memory, Control::Cpu] {
        policy.executor.require.insert(control, Strength::Watched);
    }
    if name == "dev-loop" {
        policy.limits.wall_ms = Some(600_000);
        policy.approval.contained = Contained::AfterFirstYes;
    }
    Some(policy)
}
