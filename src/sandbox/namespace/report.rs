//! What `doctor` says about this backend: found by building a sandbox and looking at what held. Pure.

use super::cgroup::Controller;
use super::explain;
use super::host::HostFacts;
use super::{Probed, WHOLE_LANDLOCK};
use crate::protocol::control::Controls;
use crate::sandbox::backend::SandboxError;
use crate::sandbox::finding::Finding;
use serde::Serialize;

/// The first kernel that counts a user's processes for each user namespace apart.
const COUNTS_APART: (u32, u32) = (5, 14);

/// This machine, as the namespace backend finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamespaceReport {
    /// Whether a sandbox could be built and a program run in it.
    pub usable: bool,
    /// Why not.
    pub why: Option<String>,
    pub kernel: String,
    /// The container that Fumehood is in already.
    pub container: Option<String>,
    /// Level of the Landlock rules; 0 is none.
    pub landlock: Option<u32>,
    /// What limits are held by cgroups, and where.
    pub cgroups: String,
    /// A word for each control; empty where nothing can be built.
    pub controls: Controls,
    /// What to give AppArmor, where it is what stands in the way.
    pub apparmor_profile: Option<String>,
    /// Gaps, each with its remedy.
    pub findings: Vec<Finding>,
}

pub(super) fn unusable(facts: &HostFacts, error: &SandboxError) -> NamespaceReport {
    let restricted = facts.apparmor_restricts && facts.container.is_none() && !facts.is_root;
    let mut findings = vec![Finding::new(
        error.to_string(),
        error.remedy().unwrap_or("report this"),
    )];
    if let Some(container) = facts.container {
        findings.push(Finding::new(
            format!("this is inside {container} already, which keeps further sandboxes from being made; nothing weaker is started instead"),
            "see above, or rent a machine instead of a container",
        ));
    }
    NamespaceReport {
        usable: false,
        why: Some(error.to_string()),
        kernel: facts.kernel.clone(),
        container: facts.container.map(str::to_owned),
        landlock: None,
        cgroups: String::new(),
        controls: Controls::new(),
        apparmor_profile: restricted.then(|| facts.apparmor_profile()),
        findings,
    }
}

pub(super) fn usable(facts: &HostFacts, probed: &Probed) -> NamespaceReport {
    let mut findings = Vec::new();
    if facts.is_powerless_root {
        findings.push(Finding::new(
            "root may not mount here, so folders that are closed to others cannot be brought into a sandbox, a run's own among them",
            explain::POWERLESS,
        ));
    }
    findings.extend(memory_finding(facts, probed));
    findings.extend(cpu_finding(facts, probed));
    findings.extend(pids_finding(facts, probed));
    findings.extend(landlock_finding(facts, probed));
    NamespaceReport {
        usable: true,
        why: None,
        kernel: facts.kernel.clone(),
        container: facts.container.map(str::to_owned),
        landlock: Some(probed.landlock),
        cgroups: cgroups(probed),
        controls: probed.controls(),
        apparmor_profile: None,
        findings,
    }
}

fn cgroups(probed: &Probed) -> String {
    let held: Vec<String> = probed
        .cgroups
        .bases
        .iter()
        .map(|base| {
            let names: Vec<&str> = base.controllers.iter().map(|one| one.name()).collect();
            format!("{} in {}", names.join(", "), base.dir.display())
        })
        .collect();
    match (probed.cgroups.version, held.is_empty()) {
        (None, _) => "none".to_owned(),
        (Some(version), true) => format!("version {version}, none for this user"),
        (Some(version), false) => format!("version {version}: {}", held.join("; ")),
    }
}

fn memory_finding(facts: &HostFacts, probed: &Probed) -> Option<Finding> {
    if probed.cgroups.holds(Controller::Memory) {
        return None;
    }
    let what = match probed.can_be_watched {
        true => {
            "memory is watched, not enforced: a sandbox is killed up to a tenth of a second after it is over its limit"
        }
        false => {
            "memory is neither enforced nor watched: the kernel does not tell a process's children"
        }
    };
    Some(Finding::new(what, delegation(facts, probed)))
}

fn cpu_finding(facts: &HostFacts, probed: &Probed) -> Option<Finding> {
    (!probed.cgroups.holds(Controller::Cpu)).then(|| {
        Finding::new(
            "the processor is shared in whole cores: a limit of 1.5 is 2 cores",
            delegation(facts, probed),
        )
    })
}

/// How to get cgroups, by what is missing.
fn delegation(facts: &HostFacts, probed: &Probed) -> String {
    match (probed.cgroups.version, facts.is_root) {
        _ if facts.container.is_some() => {
            "start the container as root with a writable cgroup tree (docker 28: `--security-opt writable-cgroups=true`), or accept what is watched".to_owned()
        }
        (Some(2), false) if probed.not_joined || probed.cgroups.bases.is_empty() => {
            "run in a scope of your own systemd: `systemd-run --user --scope -p Delegate=yes fumehood …`".to_owned()
        }
        (Some(2), false) => {
            "let systemd delegate it: `Delegate=cpu cpuset io memory pids` in a drop-in for user@.service, then log in anew".to_owned()
        }
        (Some(_), false) => {
            "start as root, or boot with cgroup version 2 (`systemd.unified_cgroup_hierarchy=1`)".to_owned()
        }
        _ => "boot with the memory and cpu controllers on (`cgroup_enable=memory`) and mount the cgroup tree".to_owned(),
    }
}

fn pids_finding(facts: &HostFacts, probed: &Probed) -> Option<Finding> {
    let by_user = !probed.cgroups.holds(Controller::Pids)
        && facts
            .kernel_version()
            .is_some_and(|version| version < COUNTS_APART);
    by_user.then(|| {
        Finding::new(
            "processes are counted for the whole user, outside of the sandbox too",
            format!("use Linux {}.{} or newer", COUNTS_APART.0, COUNTS_APART.1),
        )
    })
}

fn landlock_finding(facts: &HostFacts, probed: &Probed) -> Option<Finding> {
    let what = match probed.landlock {
        WHOLE_LANDLOCK.. => return None,
        0 => "Landlock is not there: the second wall around the writable places is missing"
            .to_owned(),
        level => format!(
            "Landlock has level {level}: writes are confined a second time, signals are not"
        ),
    };
    let remedy = match facts.kernel_version() {
        Some(version) if version >= (6, 12) => "boot with `landlock` in `lsm=`",
        _ => "use Linux 6.12 or newer, with `landlock` in `lsm=`",
    };
    Some(Finding::new(what, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::{Base, Cgroups};
    use super::super::host::plain;
    use super::*;
    use crate::protocol::control::{Control, Strength};
    use crate::protocol::spec::BackendKind;
    use crate::sandbox::wire::CgroupJoin;

    fn probed(controllers: &[Controller], version: u8) -> Probed {
        let base = Base {
            dir: "/sys/fs/cgroup/app.slice".into(),
            join: CgroupJoin::Clone,
            controllers: controllers.to_vec(),
        };
        Probed {
            landlock: 6,
            cgroups: Cgroups {
                bases: match controllers {
                    [] => Vec::new(),
                    _ => vec![base],
                },
                version: Some(version),
            },
            not_joined: false,
            can_be_watched: true,
        }
    }

    #[test]
    fn a_machine_that_holds_everything_has_no_findings() {
        let all = probed(&[Controller::Memory, Controller::Pids, Controller::Cpu], 2);
        let report = usable(&plain(), &all);
        assert_eq!(report.findings, []);
        assert_eq!(report.controls[&Control::Memory], Strength::Enforced);
        assert_eq!(
            report.cgroups,
            "version 2: memory, pids, cpu in /sys/fs/cgroup/app.slice"
        );
    }

    #[test]
    fn an_ordinary_user_is_told_what_is_watched_and_how_to_get_more() {
        let report = usable(&plain(), &probed(&[], 2));
        assert_eq!(report.controls[&Control::Memory], Strength::Watched);
        assert!(
            report.findings[0]
                .remedy
                .contains("systemd-run --user --scope")
        );
        let partly = usable(
            &plain(),
            &probed(&[Controller::Memory, Controller::Pids], 2),
        );
        assert_eq!(partly.findings.len(), 1);
        assert!(partly.findings[0].remedy.contains("drop-in"));
        let old = usable(&plain(), &probed(&[], 1));
        assert!(old.findings[0].remedy.contains("start as root"));
    }

    #[test]
    fn a_landlock_without_scopes_is_not_the_control() {
        for (level, strength) in [
            (0, Strength::Absent),
            (5, Strength::Absent),
            (6, Strength::Enforced),
        ] {
            let probed = Probed {
                landlock: level,
                ..probed(&[], 2)
            };
            assert_eq!(probed.controls()[&Control::Landlock], strength, "{level}");
        }
    }

    #[test]
    fn what_cannot_be_built_is_said_with_its_remedy_and_nothing_is_promised() {
        let error = SandboxError::Unavailable {
            backend: BackendKind::Namespace,
            why: "making namespaces: clone: EPERM".into(),
            remedy: "do this".into(),
        };
        let facts = HostFacts {
            apparmor_restricts: true,
            ..plain()
        };
        let report = unusable(&facts, &error);
        assert!(!report.usable && report.controls.is_empty());
        assert_eq!(report.findings[0].remedy, "do this");
        assert!(report.apparmor_profile.unwrap().contains("userns,"));
        let rented = HostFacts {
            container: Some("docker"),
            ..plain()
        };
        assert!(
            unusable(&rented, &error).findings[1]
                .what
                .contains("inside docker")
        );
    }
}
