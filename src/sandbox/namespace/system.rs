//! What of a system a sandbox sees. Of the host's own: `/usr` and what belongs to it, and the harmless
//! part of `/etc`; nothing with accounts, hosts, keys or the configuration of services in it. Of an
//! unpacked image: everything but what each sandbox has of its own.
//!
//! An image is hostile: its links are texts that mean something inside only, and nothing here follows
//! one. Init opens each source over no link.

use crate::sandbox::wire::WorldSystem;
use std::collections::BTreeSet;
use std::fs;
use std::io;
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

/// At the top of an image: what every sandbox has of its own, places where it is mounted, and what no
/// program looks for. An image's `/root` is closed to whoever is not root.
const OWN: [&str; 21] = [
    "boot",
    "cache",
    "data",
    "dev",
    "etc",
    "home",
    "lost+found",
    "media",
    "mnt",
    "models",
    "opt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var",
    "workspace",
    ".dockerenv",
    ".fumehood-authorities.pem",
    ".fumehood",
];

/// In the `/etc` of an image: what is made for each sandbox, and accounts.
const OWN_ETC: [&str; 19] = [
    "passwd",
    "passwd-",
    "group",
    "group-",
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "subuid",
    "subgid",
    "hostname",
    "hosts",
    "nsswitch.conf",
    "resolv.conf",
    "host.conf",
    "machine-id",
    "shells",
    "mtab",
    "sudoers",
];

/// In the `/var` of an image: what programs read, and none writes.
const VAR: [&str; 3] = ["cache", "lib", "opt"];

/// Entries of one image at most: each is a mount.
const MAX_SHOWN: usize = 512;

/// Looks at an unpacked image; `root` has no link in it.
pub(super) fn of_image(root: &Path) -> io::Result<Vec<WorldSystem>> {
    let mut system = Vec::new();
    for name in names(root)? {
        if !OWN.contains(&name.as_str()) {
            system.extend(shown(root, &name));
        }
    }
    if is_folder(&root.join("etc")) {
        for name in names(&root.join("etc"))? {
            if !OWN_ETC.contains(&name.as_str()) {
                system.extend(shown(root, &format!("etc/{name}")));
            }
        }
    }
    // One by one: drivers have a folder of their own there.
    if is_folder(&root.join("opt")) {
        for name in names(&root.join("opt"))? {
            let there = is_folder(&root.join("opt").join(&name)) && name != "fumehood";
            system.extend(there.then(|| shown(root, &format!("opt/{name}"))).flatten());
        }
    }
    if is_folder(&root.join("var")) {
        let there = VAR
            .iter()
            .filter(|name| is_folder(&root.join("var").join(name)));
        system.extend(there.filter_map(|name| shown(root, &format!("var/{name}"))));
    }
    match system.len() > MAX_SHOWN {
        true => Err(io::Error::other(format!(
            "it has over {MAX_SHOWN} files and folders at its top and in /etc"
        ))),
        false => Ok(system),
    }
}

/// In one order. Names that are no text are not shown.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn shown(root: &Path, name: &str) -> Option<WorldSystem> {
    let source = root.join(name);
    let path = format!("/{name}");
    let found = fs::symlink_metadata(&source).ok()?;
    if found.is_symlink() {
        let target = fs::read_link(&source).ok()?.to_str()?.to_owned();
        return Some(WorldSystem::Link { path, target });
    }
    let source = source.to_str()?.to_owned();
    (found.is_dir() || found.is_file()).then_some(WorldSystem::Bind { source, path })
}

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
    let source = shown.clone();
    (found.is_dir() || found.is_file()).then_some(WorldSystem::Bind {
        source,
        path: shown,
    })
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
                source: "/usr".into(),
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
            let bound = WorldSystem::Bind {
                source: path.into(),
                path: path.into(),
            };
            assert!(!of_host().contains(&bound), "{path}");
        }
    }

    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in [
            "usr/bin",
            "opt/conda",
            "opt/fumehood",
            "etc/ssl",
            "proc",
            "home/x",
            "var/lib",
            "var/log",
            "root",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["etc/passwd", "etc/shadow", "etc/os-release", "entry.sh"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        dir
    }

    #[test]
    fn of_an_image_everything_is_shown_but_what_a_sandbox_has_of_its_own() {
        let dir = image();
        let paths: Vec<_> = of_image(dir.path())
            .unwrap()
            .into_iter()
            .map(|entry| match entry {
                WorldSystem::Bind { source, path } => {
                    assert_eq!(source, format!("{}{path}", dir.path().display()));
                    path
                }
                WorldSystem::Link { path, target } => format!("{path} -> {target}"),
            })
            .collect();
        let wanted = [
            "/bin -> usr/bin",
            "/entry.sh",
            "/usr",
            "/etc/os-release",
            "/etc/ssl",
            "/opt/conda",
            "/var/lib",
        ];
        assert_eq!(paths, wanted);
    }

    #[test]
    fn no_link_of_an_image_is_followed() {
        let dir = image();
        for name in ["etc", "var"] {
            fs::remove_dir_all(dir.path().join(name)).unwrap();
            std::os::unix::fs::symlink("/etc", dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/etc/ssh", dir.path().join("keys")).unwrap();
        for entry in of_image(dir.path()).unwrap() {
            match entry {
                WorldSystem::Bind { source, .. } => {
                    assert!(Path::new(&source).starts_with(dir.path()), "{source}");
                    assert!(!source.contains("/etc/"), "{source}");
                }
                WorldSystem::Link { path, .. } => assert!(path == "/bin" || path == "/keys"),
            }
        }
    }

    #[test]
    fn an_image_of_countless_entries_is_refused() {
        let dir = image();
        for n in 0..600 {
            fs::write(dir.path().join(format!("etc/f{n}")), "").unwrap();
        }
        assert!(of_image(dir.path()).is_err());
    }
}
