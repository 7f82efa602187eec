//! What `doctor` says about an engine: what it is, and what about it is known to be dangerous.
//!
//! Versions are compared with the fixes known when this was written; a distribution may have put a
//! fix into an older version, so a finding is a warning with the place to look, not a refusal.

use super::engine::{Cgroups, Engine, EngineFacts, UserMapping, has_option};
use crate::sandbox::finding::Finding;
use bollard::models::{SystemInfo, SystemVersion};
use serde::Serialize;

/// An engine as `doctor` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DockerReport {
    pub version: String,
    /// `1.41`
    pub api: String,
    /// The operating system the engine runs on, as it says.
    pub system: String,
    /// The OCI runtime that containers are started with.
    pub runtime: String,
    pub runtimes: Vec<String>,
    /// Empty where the engine does not say.
    pub runc_version: String,
    pub storage_driver: String,
    /// `1`, `2` or `unknown`.
    pub cgroups: String,
    pub rootless: bool,
    pub userns_remap: bool,
    pub apparmor: bool,
    pub selinux: bool,
    pub nvidia_runtime: bool,
    /// CDI device names the engine has found.
    pub cdi_devices: Vec<String>,
    pub warnings: Vec<Finding>,
}

pub(super) fn report(engine: &Engine) -> DockerReport {
    judge(&engine.facts, &engine.version, &engine.info)
}

/// Pure: the report on two answers of an engine.
fn judge(facts: &EngineFacts, version: &SystemVersion, info: &SystemInfo) -> DockerReport {
    let mut runtimes: Vec<String> = info
        .runtimes
        .iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    runtimes.sort();
    let runc = component(version, "runc");
    let platform = version.platform.as_ref().map_or("", |p| p.name.as_str());
    let system = info.operating_system.clone().unwrap_or_default();
    let mut warnings = Vec::new();
    warnings.extend(runc_findings(&runc));
    warnings.extend(engine_findings(&facts.version));
    warnings.extend(desktop_findings(platform, &system));
    warnings.extend(limit_findings(facts));
    DockerReport {
        version: facts.version.clone(),
        api: format!("{}.{}", facts.api.0, facts.api.1),
        system,
        runtime: facts.runtime.clone(),
        nvidia_runtime: runtimes.iter().any(|name| name == "nvidia"),
        runtimes,
        runc_version: runc,
        storage_driver: info.driver.clone().unwrap_or_default(),
        cgroups: match facts.cgroups {
            Cgroups::V1 => "1",
            Cgroups::V2 => "2",
            Cgroups::Unknown => "unknown",
        }
        .to_owned(),
        rootless: matches!(facts.users, UserMapping::Rootless { .. }),
        userns_remap: facts.users == UserMapping::Remapped,
        apparmor: has_option(info, "apparmor"),
        selinux: has_option(info, "selinux"),
        cdi_devices: info
            .discovered_devices
            .iter()
            .flatten()
            .filter_map(|device| device.id.clone())
            .collect(),
        warnings,
    }
}

fn component(version: &SystemVersion, name: &str) -> String {
    let found = version
        .components
        .iter()
        .flatten()
        .find(|one| one.name == name);
    found.map(|one| one.version.clone()).unwrap_or_default()
}

/// Escapes through runc, by the version that fixed them in each line.
fn runc_findings(version: &str) -> Option<Finding> {
    let number = Number::parse(version)?;
    let remedy = if is_distribution(version) {
        "update runc; a distribution may have put the fixes into this version already: its changelog says (`apt changelog runc`)"
    } else {
        "update runc (or containerd.io, which brings it) to 1.2.8, 1.3.3 or newer"
    };
    if number < Number(1, 1, 12) {
        let what = format!(
            "runc {version} may have CVE-2024-21626 and CVE-2025-31133, -52565, -52881 (container escapes)"
        );
        return Some(Finding::new(what, remedy));
    }
    let fixed = match number {
        Number(1, 0..=2, _) => Number(1, 2, 8),
        Number(1, 3, _) => Number(1, 3, 3),
        _ => return None,
    };
    (number < fixed).then(|| {
        let what = format!(
            "runc {version} may have CVE-2025-31133, -52565 and -52881 (container escapes)"
        );
        Finding::new(what, remedy)
    })
}

/// An engine too old to tell a libc that `clone3` is not there makes its threads fail.
fn engine_findings(version: &str) -> Option<Finding> {
    let number = Number::parse(version)?;
    (number < Number(20, 10, 10)).then(|| {
        Finding::new(
            format!("engine {version} cannot answer \"not implemented\" to a system call: programs with glibc 2.34 or newer fail to start threads"),
            "update the engine to 20.10.10 or newer",
        )
    })
}

/// Docker Desktop's containers could reach the engine itself.
fn desktop_findings(platform: &str, system: &str) -> Option<Finding> {
    if !platform.contains("Docker Desktop") && !system.contains("Docker Desktop") {
        return None;
    }
    let version = platform.split_ascii_whitespace().find_map(Number::parse);
    match version {
        Some(version) if version >= Number(4, 44, 3) => None,
        _ => Some(Finding::new(
            "Docker Desktop below 4.44.3 lets containers reach the engine without a password (CVE-2025-9074)",
            "update Docker Desktop to 4.44.3 or newer",
        )),
    }
}

/// Controls that this engine cannot hold.
fn limit_findings(facts: &EngineFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let missing: Vec<&str> = [
        (facts.memory_limit, "memory"),
        (facts.pids_limit, "processes"),
        (facts.cpu_quota, "CPU"),
    ]
    .into_iter()
    .filter_map(|(there, what)| (!there).then_some(what))
    .collect();
    if !missing.is_empty() {
        let remedy = match facts.users {
            UserMapping::Rootless { .. } => {
                "delegate the controllers to the user's systemd (`Delegate=cpu cpuset io memory pids` for user@.service) and restart the engine"
            }
            _ => "boot with the memory and cpu controllers on (cgroup_enable=memory)",
        };
        findings.push(Finding::new(
            format!("the engine cannot limit {}", missing.join(", ")),
            remedy,
        ));
    }
    if facts.memory_limit && !facts.swap_limit {
        findings.push(Finding::new(
            "the kernel does not count swap: swapping is switched off for sandboxes instead of being limited",
            "boot with `swapaccount=1` if sandboxes should be able to swap",
        ));
    }
    if !facts.seccomp {
        findings.push(Finding::new(
            "the engine has no seccomp, so no system call is refused",
            "use an engine and a kernel with seccomp",
        ));
    }
    findings
}

/// Debian and Ubuntu mark their builds.
fn is_distribution(version: &str) -> bool {
    ["+ds", "dfsg", "deb", "ubuntu", "~"]
        .iter()
        .any(|sign| version.contains(sign))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Number(u32, u32, u32);

impl Number {
    /// The leading `a.b.c` or `a.b`, with or without a `v`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches('v');
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let mut parts = text[..end].split('.').map(str::parse);
        let major = parts.next()?.ok()?;
        let minor = parts.next()?.ok()?;
        Some(Self(
            major,
            minor,
            parts.next().and_then(Result::ok).unwrap_or(0),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runc_versions_are_judged_by_their_line() {
        for (version, warned) in [
            ("1.1.5+ds1", true),
            ("1.1.12", true),
            ("1.2.7", true),
            ("1.2.8", false),
            ("1.3.2", true),
            ("1.3.3", false),
            ("1.4.0", false),
            ("", false),
        ] {
            assert_eq!(runc_findings(version).is_some(), warned, "{version}");
        }
        assert!(
            runc_findings("1.1.5+ds1")
                .unwrap()
                .remedy
                .contains("changelog")
        );
        assert!(runc_findings("1.1.5").unwrap().what.contains("21626"));
    }

    #[test]
    fn docker_desktop_is_judged_by_its_own_version() {
        for (platform, warned) in [
            ("Docker Desktop 4.43.0 (198134)", true),
            ("Docker Desktop 4.44.3 (202357)", false),
            ("Docker Desktop", true),
            ("Docker Engine - Community", false),
        ] {
            assert_eq!(
                desktop_findings(platform, "").is_some(),
                warned,
                "{platform}"
            );
        }
    }

    #[test]
    fn what_an_engine_cannot_limit_is_named_with_a_remedy() {
        let facts = EngineFacts {
            users: UserMapping::Rootless { owner: 1000 },
            memory_limit: false,
            ..EngineFacts::for_tests()
        };
        let findings = limit_findings(&facts);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.ends_with("limit memory"));
        assert!(findings[0].remedy.contains("Delegate"));
        assert!(limit_findings(&EngineFacts::for_tests()).is_empty());
    }

    #[test]
    fn the_report_on_an_engine_of_2020() {
        let version = serde_json::from_str(include_str!("testdata/version-20.10.json")).unwrap();
        let info = serde_json::from_str(include_str!("testdata/info-20.10.json")).unwrap();
        let facts = EngineFacts::from_answers(&version, &info, 0).unwrap();
        insta::assert_json_snapshot!(judge(&facts, &version, &info));
    }
}
