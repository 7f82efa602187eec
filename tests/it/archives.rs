//! `--unpack`, as a user types it: an archive fills the workspace of a run.

use crate::env::TestEnv;
use predicates::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// An archive with these files, packed by gzip.
pub(crate) fn packed(
    env: &TestEnv,
    name: &str,
    entries: &[(&str, tar::EntryType, &str)],
) -> PathBuf {
    let path = env.path("work").join(name);
    let packer = flate2::write::GzEncoder::new(
        fs::File::create(&path).unwrap(),
        flate2::Compression::fast(),
    );
    let mut archive = tar::Builder::new(packer);
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        let body = match kind {
            tar::EntryType::Symlink | tar::EntryType::Link => {
                header.set_link_name(text).unwrap();
                ""
            }
            _ => text,
        };
        header.set_size(body.len() as u64);
        header.set_cksum();
        archive.append(&header, body.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    path
}

fn runs(env: &TestEnv) -> usize {
    let folder = env.state().join("runs");
    folder.read_dir().map_or(0, |runs| runs.count())
}

#[test]
fn a_command_finds_what_was_unpacked_and_may_change_it() {
    use tar::EntryType as T;
    let env = TestEnv::new();
    let entries = [
        ("src/", T::Directory, ""),
        ("src/hello.sh", T::Regular, "echo hello from $0"),
        ("passwd", T::Symlink, "/etc/passwd"),
    ];
    packed(&env, "code.tar.gz", &entries);
    let script = "sh src/hello.sh; stat -c %a src/hello.sh; ls; echo more >> src/hello.sh";
    env.fumehood()
        .args([
            "exec",
            "--policy",
            "dev-loop",
            "--unpack",
            "code.tar.gz",
            "--",
            "sh",
            "-c",
            script,
        ])
        .assert()
        .success()
        .stdout("hello from src/hello.sh\n755\nsrc\n")
        .stderr(predicate::str::contains("left out: passwd (a link)"));
    env.fumehood()
        .args(["runs", "show", "last"])
        .assert()
        .success()
        .stdout(predicate::str::contains("code.tar.gz is unpacked"));
}

#[test]
fn an_archive_that_leads_out_starts_nothing() {
    use tar::EntryType as T;
    let env = TestEnv::new();
    let entries = [
        ("ok", T::Regular, "x"),
        ("../../../../escaped", T::Regular, "x"),
    ];
    packed(&env, "bad.tar.gz", &entries);
    env.fumehood()
        .args(["exec", "--unpack", "bad.tar.gz", "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("leads upward"));
    assert_eq!(runs(&env), 0);
    for folder in env.state().ancestors() {
        assert!(!folder.join("escaped").exists(), "{}", folder.display());
    }
}

#[test]
fn an_archive_larger_than_the_workspace_may_be_starts_nothing() {
    let env = TestEnv::new();
    let text = "x".repeat(2_000_000);
    packed(&env, "big.tar.gz", &[("a", tar::EntryType::Regular, &text)]);
    env.fumehood()
        .args([
            "exec",
            "--set",
            "workspace.size=1MiB",
            "--unpack",
            "big.tar.gz",
            "--",
            "true",
        ])
        .assert()
        .code(125)
        .stderr(
            predicate::str::contains("over 1MiB").and(predicate::str::contains("workspace.size")),
        );
    assert_eq!(runs(&env), 0);
    assert!(!Path::new("a").exists());
}

#[test]
fn an_archive_goes_into_no_folder_of_the_users() {
    let env = TestEnv::new();
    packed(&env, "code.tar.gz", &[("a", tar::EntryType::Regular, "x")]);
    env.fumehood()
        .args([
            "exec",
            "--workspace",
            ".",
            "--unpack",
            "code.tar.gz",
            "--",
            "true",
        ])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("--workspace"));
}
