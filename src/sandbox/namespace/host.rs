//! What this host says about itself where a sandbox could not be built: read only then, and for
//! `doctor`.

use crate::sandbox::owner;
use std::fs;
use std::path::{Path, PathBuf};

/// Facts that decide which remedy fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostFacts {
    pub(super) is_root: bool,
    /// Root without the capability to mount: what most containers have.
    pub(super) is_powerless_root: bool,
    /// `6.1.0-13-amd64`
    pub(super) kernel: String,
    /// The container this process is in already, by its kind.
    pub(super) container: Option<&'static str>,
    /// Debian's switch, where it exists.
    pub(super) userns_allowed: Option<bool>,
    pub(super) max_user_namespaces: Option<u64>,
    /// Ubuntu's: a program without a profile gets a user namespace in which it may do nothing.
    pub(super) apparmor_restricts: bool,
    pub(super) init: PathBuf,
}

impl HostFacts {
    pub(super) fn look(init: &Path, is_root: bool) -> Self {
        let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
        Self {
            is_root,
            is_powerless_root: is_root
                && !may_mount(&read("/proc/self/status").unwrap_or_default()),
            kernel: read("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            container: container(),
            userns_allowed: number("/proc/sys/kernel/unprivileged_userns_clone").map(|n| n != 0),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                == Some(1),
            init: init.to_owned(),
        }
    }

    /// Major and minor.
    pub(super) fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self
            .kernel
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    }

    /// A profile that lets init, and no other program, make user namespaces.
    pub(super) fn apparmor_profile(&self) -> String {
        let folder = self.init.parent().unwrap_or(Path::new("/")).display();
        format!(
            "# Save as /etc/apparmor.d/fumehood-init, then: sudo apparmor_parser -r /etc/apparmor.d/fumehood-init\n\
             abi <abi/4.0>,\n\
             include <tunables/global>\n\n\
             profile fumehood-init \"{folder}/init-*\" flags=(unconfined) {{\n  \
               userns,\n  \
               include if exists <local/fumehood-init>\n\
             }}\n"
        )
    }
}

/// CAP_SYS_ADMIN among the effective ones of a `status`.
fn may_mount(status: &str) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & SYS_ADMIN != 0)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Inode of the first pid namespace, the same on every machine: a file that an image left behind in
/// a virtual machine's root is no container.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

fn container() -> Option<&'static str> {
    if owner::pid_namespace().is_ok_and(|inode| inode == FIRST_PID_NAMESPACE) {
        return None;
    }
    let there = |path: &str| Path::new(path).exists();
    match () {
        () if there("/.dockerenv") => Some("docker"),
        () if there("/run/.containerenv") => Some("podman"),
        () if there("/var/run/secrets/kubernetes.io") => Some("kubernetes"),
        () => {
            let groups = read("/proc/1/cgroup").unwrap_or_default();
            let environment = fs::read("/proc/1/environ").unwrap_or_default();
            named_container(&groups, &environment)
        }
    }
}

/// By the groups of PID 1, and by what systemd's convention puts into its environment.
fn named_container(groups: &str, environment: &[u8]) -> Option<&'static str> {
    let by_group = [
        ("kubepods", "kubernetes"),
        ("/docker", "docker"),
        ("libpod", "podman"),
        ("/lxc", "lxc"),
    ];
    let found = by_group
        .iter()
        .find(|(sign, _)| groups.contains(sign))
        .map(|(_, name)| *name);
    let declared = environment
        .split(|&byte| byte == 0)
        .any(|variable| variable.starts_with(b"container="));
    found.or(declared.then_some("a container"))
}

#[cfg(test)]
pub(super) fn plain() -> HostFacts {
    HostFacts {
        is_root: false,
        is_powerless_root: false,
        kernel: "6.8.0-41-generic".into(),
        container: None,
        userns_allowed: None,
        max_user_namespaces: Some(60_000),
        apparmor_restricts: false,
        init: "/home/ada/.local/state/fumehood/bin/init-0011".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_known_by_their_groups_or_their_word() {
        assert_eq!(
            named_container("0::/kubepods/besteffort/x", b""),
            Some("kubernetes")
        );
        assert_eq!(named_container("4:memory:/docker/abc", b""), Some("docker"));
        assert_eq!(
            named_container("0::/", b"A=1\0container=lxc\0"),
            Some("a container")
        );
        assert_eq!(named_container("0::/init.scope", b"HOME=/\0"), None);
    }

    #[test]
    fn root_of_a_container_is_told_from_root() {
        assert!(may_mount("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_mount("CapEff:\t00000000a80425fb\n"));
    }

    #[test]
    fn kernel_versions_are_read_from_what_distributions_write() {
        for (text, version) in [
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.15.0-1044-azure", Some((5, 15))),
            ("5.10+", Some((5, 10))),
            ("", None),
        ] {
            let facts = HostFacts {
                kernel: text.into(),
                ..plain()
            };
            assert_eq!(facts.kernel_version(), version, "{text}");
        }
    }

    #[test]
    fn the_profile_names_init_and_nothing_else() {
        let profile = plain().apparmor_profile();
        assert!(profile.contains("\"/home/ada/.local/state/fumehood/bin/init-*\""));
        assert!(profile.contains("userns,"));
    }
}
