//! The attempts where nothing confines them: they must succeed there, or they could not tell a hole.

use super::host;
use super::probe::{self, PYTHON};
use super::{PROBES, USER};
use fumehood::app::selftest::attempts::{Report, program};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What a machine may lack: a kernel with modules, one that can be replaced, CAP_SYS_RESOURCE; a group that
/// is not the root, which is all that a cgroup namespace of one's own shows, as in an engine's container.
const MAYBE: &[&str] = &[
    "modules",
    "another_kernel",
    "the_memory_killers_choice",
    "groups_of_the_host",
];

/// As root in namespaces of its own, so that what it mounts goes with it.
fn as_root() -> Command {
    let mut command = Command::new("/usr/bin/unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--ipc",
        "--uts",
        "--kill-child",
    ]);
    // A descriptor to be found.
    command.args(["/bin/sh", "-c", "exec \"$@\" 9</etc/passwd", "sh"]);
    command
}

/// In nothing: setuid programs count for it.
fn as_user() -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.uid(USER).gid(USER);
    command
}

/// What they make goes with the folder, a program that is somebody's else too.
fn reports(mut command: Command) -> BTreeMap<String, Report> {
    let made = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(made.path(), open).unwrap();
    command
        .args([PYTHON, "-c", &program()])
        .args(PROBES)
        .env("ATTACK", host::decoys().told_free().to_string())
        .env("TMPDIR", made.path())
        .current_dir("/");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    made.close().unwrap();
    probe::reports(&output.stdout)
}

#[test]
fn every_attempt_succeeds_where_nothing_confines_it() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can do what the sandbox has to refuse");
        return;
    }
    let all = [reports(as_root()), reports(as_user())];
    let blind: Vec<_> = PROBES
        .iter()
        .filter(|name| {
            !MAYBE.contains(name) && all.iter().all(|reports| reports[**name].done.is_empty())
        })
        .copied()
        .collect();
    let why: Vec<_> = blind
        .iter()
        .map(|name| (name, &all[0][*name].refused))
        .collect();
    assert!(blind.is_empty(), "cannot tell: {why:#?}");
}
