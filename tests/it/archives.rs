//! `--unpack`, as a user types it: an archive fills the workspace of a run.

use crate::env::TestEnv;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use predicates::prelude::*;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// Small files, until nobody reads on: an archive that no machine is quick enough to unpack.
fn endless(pipe: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(fs::OpenOptions::new().write(true).open(pipe)?);
    for number in 0u64.. {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(1);
        archive.append_data(&mut header, format!("small/{number}"), &b"x"[..])?;
    }
    archive.into_inner()?.flush()
}

fn unpacked_so_far(env: &TestEnv) -> usize {
    walkdir::WalkDir::new(env.state().join("runs"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .path()
                .parent()
                .is_some_and(|at| at.ends_with("small"))
        })
        .count()
}

fn until(what: &str, child: &mut Child, mut holds: impl FnMut(&mut Child) -> bool) {
    let start = Instant::now();
    while !holds(child) {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("never: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// As it ends after the signal, which it gets in the middle of an archive.
fn interrupted_while_unpacking(env: &TestEnv, signal: Signal) -> Output {
    let pipe = env.path("work").join("endless.tar");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let typed = env.fumehood();
    let mut command = Command::new(typed.get_program());
    command.env_clear();
    for (name, value) in typed.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command
        .args(["exec", "--unpack", "endless.tar", "--", "echo", "ran"])
        .current_dir(env.path("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let writing = std::thread::spawn({
        let pipe = pipe.clone();
        move || endless(&pipe)
    });
    until("files of it", &mut child, |child| {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        unpacked_so_far(env) > 0
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, signal).unwrap();
    until("its end", &mut child, |child| {
        child.try_wait().unwrap().is_some()
    });
    let written = writing.join().unwrap().unwrap_err();
    assert_eq!(written.kind(), io::ErrorKind::BrokenPipe, "{written}");
    fs::remove_file(pipe).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn one_signal_ends_an_unpacking_and_leaves_nothing_of_it() {
    let env = TestEnv::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let ended = interrupted_while_unpacking(&env, signal);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{signal}: {said}");
        assert_eq!(said, "error: interrupted\n", "{signal}");
        assert!(ended.stdout.is_empty(), "{signal}");
        assert_eq!((unpacked_so_far(&env), runs(&env)), (0, 0), "{signal}");
    }
}
