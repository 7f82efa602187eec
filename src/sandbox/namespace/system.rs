//! What of the host's own system a sandbox sees: `/usr` and what belongs to it, and the harmless part
//! of `/etc`. Nothing with accounts, hosts, keys or the configuration of services in it.

use crate::sandbox::wire::WorldSystem;
use std::fs;
use std::path::Path;

/// Programs and libraries. On most systems all but the first are links into it.
const TREES: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// Files and folders of `/etc` that programs and libraries look for, the same for every user.
const HARMLESS: [&str; 16] = [
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// Looks at this host.
pub(super) fn of_host() -> Vec<WorldSystem> {
    TREES
        .iter()
        .chain(&HARMLESS)
        .filter_map(|path| entry(Path::new(path)))
        .collect()
}

/// `None` where this host has no such thing, or only behind a link in the folder above.
fn entry(path: &Path) -> Option<WorldSystem> {
    let shown = path.to_str()?.to_owned();
    let above = path.parent()?;
    if fs::canonicalize(above).ok()? != above {
        return None;
    }
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_symlink() {
        let target = fs::read_link(path).ok()?.to_str()?.to_owned();
        return Some(WorldSystem::Link {
            path: shown,
            target,
        });
    }
    (found.is_dir() || found.is_file()).then_some(WorldSystem::Bind { path: shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usr_is_there_and_links_stay_links() {
        let system = of_host();
        assert_eq!(
            system[0],
            WorldSystem::Bind {
                path: "/usr".into()
            }
        );
        for entry in &system {
            if let WorldSystem::Link { path, target } = entry {
                assert_eq!(&fs::read_link(path).unwrap().display().to_string(), target);
            }
        }
    }

    #[test]
    fn accounts_and_keys_are_not() {
        for path in [
            "/etc/passwd",
            "/etc/shadow",
            "/etc/ssh",
            "/etc/ssl/private",
            "/etc",
        ] {
            let bound = WorldSystem::Bind { path: path.into() };
            assert!(!of_host().contains(&bound), "{path}");
        }
    }
}
