//! `/etc`: the few files programs look for, with nothing of the host's accounts or network in them.

use super::failure::{At, Result};
use super::identity::INSIDE;
use crate::wire::{Resolver, Stage};
use nix::sys::stat::Mode;
use nix::unistd::mkdir;
use std::fs;

/// The one user; the name is the library's `USER_NAME`.
const USER: &str = "fumehood";

/// Writes the files beneath the working directory.
pub(super) fn write(hostname: &str, resolver: Resolver) -> Result<()> {
    mkdir("etc", Mode::from_bits_truncate(0o755)).at(Stage::System, "/etc")?;
    for (name, text) in files(hostname, resolver) {
        fs::write(format!("etc/{name}"), text).at(Stage::System, format!("/etc/{name}"))?;
    }
    symlink_mtab()
}

fn symlink_mtab() -> Result<()> {
    std::os::unix::fs::symlink("../proc/self/mounts", "etc/mtab").at(Stage::System, "/etc/mtab")
}

fn files(hostname: &str, resolver: Resolver) -> [(&'static str, String); 9] {
    // Present and empty where nobody answers: absent, the resolver asks 127.0.0.1.
    let (servers, hosts) = match resolver {
        Resolver::Nobody => ("# There is no network here.\n", "files"),
        Resolver::Init => ("nameserver 127.0.0.1\n", "files dns"),
    };
    [
        (
            "passwd",
            format!(
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
                 {USER}:x:{INSIDE}:{INSIDE}:{USER}:/home/{USER}:/bin/sh\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        (
            "group",
            format!("root:x:0:\n{USER}:x:{INSIDE}:\nnogroup:x:65534:\n"),
        ),
        ("hostname", format!("{hostname}\n")),
        (
            "hosts",
            format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback\n"),
        ),
        (
            "nsswitch.conf",
            format!(
                "passwd: files\ngroup: files\nshadow: files\nhosts: {hosts}\n\
                 networks: files\nprotocols: files\nservices: files\n"
            ),
        ),
        ("resolv.conf", servers.into()),
        ("host.conf", "multi on\n".into()),
        // The same in every sandbox: it identifies no machine.
        ("machine-id", "f0000000000000000000000000000000\n".into()),
        ("shells", "/bin/sh\n".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_name_resolves_without_a_network() {
        let hosts = files("box", Resolver::Nobody).into_iter().find(|(name, _)| *name == "hosts");
        assert!(hosts.unwrap().1.contains("127.0.0.1 localhost box\n"));
    }
}
