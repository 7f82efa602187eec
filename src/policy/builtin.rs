//! The policies that come with the program.

use super::file::problem::PolicySource;
use super::file::{self, Loaded};
use super::model::Policy;
use super::origin::Level;

/// Names of the built-in policies, tightest first.
pub const NAMES: [&str; 9] = [
    "hostile",
    "inspect-repo",
    "locked-down",
    "offline-train",
    "dev-loop",
    "fetch-deps",
    "fetch-data",
    "gpu-train",
    "gpu-train-multi",
];

/// The one that is used where none is named.
pub const DEFAULT: &str = "offline-train";

/// The file of a built-in policy, as it is written.
pub fn source(name: &str) -> Option<PolicySource> {
    let text = match name {
        "locked-down" => include_str!("../../policies/locked-down.toml"),
        "offline-train" => include_str!("../../policies/offline-train.toml"),
        "dev-loop" => include_str!("../../policies/dev-loop.toml"),
        "fetch-deps" => include_str!("../../policies/fetch-deps.toml"),
        "fetch-data" => include_str!("../../policies/fetch-data.toml"),
        "hostile" => include_str!("../../policies/hostile.toml"),
        "inspect-repo" => include_str!("../../policies/inspect-repo.toml"),
        "gpu-train" => include_str!("../../policies/gpu-train.toml"),
        "gpu-train-multi" => include_str!("../../policies/gpu-train-multi.toml"),
        _ => return None,
    };
    Some(PolicySource::new(format!("builtin:{name}"), text).of(Level::BuiltIn))
}

/// A built-in policy with its origins.
pub fn load(name: &str) -> Option<Loaded> {
    let loaded = file::load_builtin(source(name)?);
    Some(loaded.expect("each built-in policy is loaded by a test of this room"))
}

/// A built-in policy.
pub fn policy(name: &str) -> Option<Policy> {
    load(name).map(|loaded| loaded.policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Contained, Decision};
    use crate::protocol::control::{Control, Strength};

    #[test]
    fn each_built_in_loads_without_a_warning_and_bears_its_name() {
        for name in NAMES {
            let loaded = load(name).unwrap();
            assert_eq!(loaded.policy.name, name);
            assert!(loaded.warnings.is_empty());
            assert!(!loaded.policy.description.is_empty());
        }
        assert!(NAMES.contains(&DEFAULT));
        assert_eq!(policy("lockdown"), None);
    }

    #[test]
    fn locked_down_requires_what_the_kernel_can_hold_and_the_others_accept_watched() {
        let require = |name| policy(name).unwrap().executor.require;
        assert_eq!(require("locked-down")[&Control::Memory], Strength::Enforced);
        for name in NAMES
            .into_iter()
            .filter(|name| !["locked-down", "hostile"].contains(name))
        {
            let require = require(name);
            assert_eq!(require[&Control::Memory], Strength::Watched, "{name}");
            assert_eq!(require[&Control::Cpu], Strength::Watched, "{name}");
            assert_eq!(require[&Control::Seccomp], Strength::Enforced, "{name}");
        }
    }

    #[test]
    fn only_the_one_that_says_so_has_a_gpu() {
        for name in NAMES {
            let gpu = policy(name).unwrap().gpu;
            let count = match name {
                "gpu-train" => 1,
                "gpu-train-multi" => 2,
                _ => 0,
            };
            assert_eq!((gpu.devices.count, gpu.exclusive), (count, true), "{name}");
        }
    }

    #[test]
    fn only_those_that_fetch_have_a_network_and_no_gpu_or_mount_with_it() {
        for name in NAMES {
            let policy = policy(name).unwrap();
            let reaches = crate::policy::network::is_on(&policy.network);
            assert_eq!(reaches, name.starts_with("fetch-"), "{name}");
            assert!(
                policy.network.allow.is_empty() && policy.mounts.is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn inspect_repo_runs_nothing_whoever_asks() {
        let loaded = load("inspect-repo").unwrap();
        for line in ["python train.py", "ls", "sh -c x", "git status"] {
            let argv: Vec<Vec<u8>> = line
                .split(' ')
                .map(|word| word.as_bytes().to_vec())
                .collect();
            let explained = crate::policy::explain::command(&loaded, &argv);
            assert!(
                explained
                    .cases
                    .iter()
                    .all(|case| case.decision == Decision::Deny),
                "{line}"
            );
        }
    }

    #[test]
    fn each_asks_as_its_comments_say() {
        let approval = |name| policy(name).unwrap().approval;
        assert_eq!(approval("locked-down").typed, Decision::Ask);
        assert_eq!(approval("offline-train").contained, Contained::Ask);
        assert_eq!(approval("dev-loop").contained, Contained::AfterFirstYes);
    }
}
