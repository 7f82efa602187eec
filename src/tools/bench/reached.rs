//! Limits that leave no trace but in what a program prints, and those of its log. Pure.

use crate::context::listen::Complaint;
use crate::policy::unit;
use crate::protocol::limit::{Evidence, Limit, Reached};
use crate::protocol::outcome::Exit;
use crate::protocol::spec::SandboxSpec;
use std::collections::BTreeSet;

/// What the output of a step that failed names, where nothing better is known: a hint.
pub(super) fn said(
    complaints: &BTreeSet<Complaint>,
    exit: &Exit,
    spec: &SandboxSpec,
) -> Vec<Reached> {
    if exit.outcome.is_success() {
        return Vec::new();
    }
    let known = |limits: &[Limit]| exit.reached.iter().any(|one| limits.contains(&one.limit));
    let limits = &spec.limits;
    let one = |complaint: &Complaint| {
        let count = |key: &str, most: Option<u64>| most.map(|most| format!("{key} = {most}"));
        let (limit, which) = match complaint {
            Complaint::OpenFiles => (
                Limit::OpenFiles,
                count("limits.open_files", limits.open_files)?,
            ),
            Complaint::Pids => (Limit::Pids, count("limits.pids", limits.pids)?),
            Complaint::FileSize => {
                let most = unit::size(limits.file_size?);
                (Limit::FileSize, format!("limits.file_size = {most}"))
            }
            Complaint::Shm => {
                let most = unit::size(spec.shm);
                (Limit::Shm, format!("shm.size = {most}"))
            }
            Complaint::Space => {
                let (tmp, shm) = (unit::size(spec.tmp.size), unit::size(spec.shm));
                (
                    Limit::Space,
                    format!("tmp.size = {tmp} or shm.size = {shm}, or the disk"),
                )
            }
        };
        let better: &[Limit] = match limit {
            Limit::Space => &[
                Limit::Tmp,
                Limit::Shm,
                Limit::WorkspaceSize,
                Limit::WorkspaceInodes,
                Limit::FreeDisk,
            ],
            _ => std::slice::from_ref(&limit),
        };
        let text = format!("{which} may have been reached: its output says so");
        (!known(better)).then_some(Reached {
            limit,
            evidence: Evidence::Said,
            text,
        })
    };
    complaints.iter().filter_map(one).collect()
}

/// What of the output is not in the log. `failure` is why the disk took no more, where it did not.
pub(super) fn log(dropped: u64, failure: Option<&str>, most: Option<u64>) -> Option<Reached> {
    let most = most.map_or_else(|| "unlimited".to_owned(), unit::size);
    let text = match failure {
        Some(why) => format!("the log could not be written ({why}): {dropped} bytes are not in it"),
        None => format!(
            "limits.log_bytes = {most}: {dropped} bytes from the middle of the output are not in the log"
        ),
    };
    (dropped > 0).then_some(Reached {
        limit: Limit::LogBytes,
        evidence: Evidence::Seen,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::builtin;
    use crate::protocol::outcome::{Outcome, Usage};
    use crate::protocol::spec::{BackendKind, RootFs};
    use std::collections::BTreeMap;

    /// With the limits of a policy.
    fn spec() -> SandboxSpec {
        let policy = builtin::policy("offline-train").unwrap();
        SandboxSpec {
            backend: BackendKind::Namespace,
            root: RootFs::HostSystem,
            mounts: Vec::new(),
            tmp: policy.tmp,
            shm: policy.shm,
            uid: 1000,
            gid: 1000,
            hostname: "box".to_owned(),
            limits: policy.limits,
            env: BTreeMap::new(),
            network: None,
            secrets: Default::default(),
            stop_grace_ms: 1000,
            require: BTreeMap::new(),
            devices: Default::default(),
        }
    }

    fn exit(outcome: Outcome, reached: Vec<Reached>) -> Exit {
        Exit {
            outcome,
            usage: Usage::default(),
            reached,
            alarms: Vec::new(),
        }
    }

    fn texts(complaints: &[Complaint], exit: &Exit) -> Vec<String> {
        let complaints = complaints.iter().copied().collect();
        said(&complaints, exit, &spec())
            .into_iter()
            .map(|one| one.text)
            .collect()
    }

    #[test]
    fn a_failed_step_that_names_a_limit_gets_a_hint_with_the_policys_value() {
        let failed = exit(Outcome::Code(1), Vec::new());
        assert_eq!(
            texts(&[Complaint::OpenFiles], &failed),
            ["limits.open_files = 4096 may have been reached: its output says so"]
        );
        assert_eq!(
            texts(&[Complaint::Space], &failed),
            [
                "tmp.size = 1GiB or shm.size = 1GiB, or the disk may have been reached: its output says so"
            ]
        );
        let coped = exit(Outcome::Code(0), Vec::new());
        assert!(texts(&[Complaint::OpenFiles], &coped).is_empty());
    }

    #[test]
    fn what_is_known_better_is_not_guessed_at() {
        let known = |limit| {
            vec![Reached {
                limit,
                evidence: Evidence::Seen,
                text: String::new(),
            }]
        };
        let tmp = exit(Outcome::Code(1), known(Limit::Tmp));
        assert!(texts(&[Complaint::Space], &tmp).is_empty());
        let pids = exit(Outcome::Code(1), known(Limit::Pids));
        assert!(texts(&[Complaint::Pids], &pids).is_empty());
        assert_eq!(texts(&[Complaint::FileSize], &pids).len(), 1);
    }

    #[test]
    fn a_log_says_what_it_does_not_hold_and_why() {
        assert_eq!(log(0, None, Some(1 << 20)), None);
        let cut = log(7, None, Some(1 << 20)).unwrap();
        assert_eq!(
            cut.text,
            "limits.log_bytes = 1MiB: 7 bytes from the middle of the output are not in the log"
        );
        let full = log(7, Some("No space left on device"), None).unwrap();
        assert!(
            full.text
                .starts_with("the log could not be written (No space")
        );
    }
}
