//! Secrets that a policy hands to a sandbox: where they can be read, and where nobody finds them.

use crate::boxes::{background, ended, eventually};
use crate::docker::IMAGE;
use crate::env::TestEnv;
use assert_cmd::Command;
use predicates::prelude::*;
use std::fs;
use std::path::Path;

pub(crate) const VALUE: &str = "s3cr3t-0aB1cD2eF3gH4iJ5";

/// A policy beside the workspace, with this in it.
fn policy(env: &TestEnv, more: &str) -> String {
    let path = env.path("own.toml");
    let text = format!("schema = 1\n[approval]\ncontained = \"allow\"\n{more}");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

const ALLOWED: &str = "[[secrets]]\nname = \"DEPLOY_KEY\"\nas = \"file\"\ngrant = \"allow\"\n";
const ASKED: &str = "[[secrets]]\nname = \"DEPLOY_KEY\"\nas = \"file\"\n";

fn fumehood(env: &TestEnv) -> Command {
    let mut command = env.fumehood();
    command.env("DEPLOY_KEY", VALUE);
    command
}

/// Looks for the value as root does: in every file beneath a folder.
pub(crate) fn nowhere_beneath(folder: &Path) {
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes
                .windows(VALUE.len())
                .any(|part| part == VALUE.as_bytes());
            assert!(!found, "it is in {}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 0, "there was nothing to look at");
}

/// What a program inside finds out about it.
const LOOK: &str = r#"
import glob, os, stat, hashlib
path = os.environ['DEPLOY_KEY_FILE']
here = os.stat(path)
print('mode', oct(stat.S_IMODE(here.st_mode)), 'mine', here.st_uid == os.getuid())
print('folder', oct(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode)))
kinds = [line.split() for line in open('/proc/self/mounts')]
print('on', [(place, kind) for _, place, kind, *_ in kinds if 'secrets' in place])
value = open(path).read()
print('sha', hashlib.sha256(value.encode()).hexdigest())
places = []
for name in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    try:
        if value in open(name, errors='replace').read():
            places.append(name)
    except OSError:
        pass
print('in environments', places, value in str(os.environ))
try:
    open(path, 'w')
    print('writable')
except OSError:
    print('not writable')
"#;

pub(crate) fn sha() -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(VALUE.as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_a_file_of_its_own(more: &[&str]) {
    let env = TestEnv::new();
    let workspace = env.workspace("project", &[("look.py", LOOK)]);
    let policy = policy(&env, ALLOWED);
    let output = fumehood(&env)
        .args(["exec", "--policy", &policy, "--workspace"])
        .arg(&workspace)
        .args(more)
        .args(["--", "python3", "look.py"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("mode 0o400 mine True"), "{said}");
    assert!(said.contains("folder 0o500"), "{said}");
    assert!(said.contains("on [('/run/secrets', 'tmpfs')]"), "{said}");
    assert!(said.contains(&format!("sha {}", sha())), "{said}");
    assert!(said.contains("in environments [] False"), "{said}");
    assert!(said.contains("not writable"), "{said}");
    nowhere_beneath(&env.state());
    nowhere_beneath(&workspace);
    env.fumehood()
        .args(["runs", "show"])
        .assert()
        .stdout(predicate::str::contains("secrets").and(predicate::str::contains("DEPLOY_KEY")));
}

#[test]
fn a_secret_is_a_file_on_a_tmpfs_and_in_no_environment_record_or_disk() {
    is_a_file_of_its_own(&[]);
}

#[test]
fn the_same_on_an_engine() {
    if crate::docker::there() {
        is_a_file_of_its_own(&["--backend", "docker", "--image", IMAGE]);
    }
}

/// While it can be read inside, the engine tells nobody.
#[test]
fn an_engine_is_told_no_secret() {
    if !crate::docker::there() {
        return;
    }
    let env = TestEnv::new();
    let policy = policy(&env, ALLOWED);
    let workspace = env.workspace("project", &[]);
    let mut child = background(&env, &["exec", "--backend", "docker", "--image", IMAGE]);
    child.env("DEPLOY_KEY", VALUE);
    child
        .args(["--policy", &policy, "--workspace"])
        .arg(&workspace)
        .args([
            "--",
            "sh",
            "-c",
            "cat /run/secrets/DEPLOY_KEY > /dev/null && touch ready && read line",
        ]);
    child.stdin(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    eventually("it has read it", || workspace.join("ready").exists());
    let docker = |args: &[&str]| {
        let output = std::process::Command::new("docker")
            .args(args)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let ids = docker(&["ps", "-q", "--no-trunc", "--filter", "label=fumehood.name"]);
    let mut told = String::new();
    for id in ids.lines() {
        told.push_str(&docker(&["inspect", id]));
    }
    assert!(told.contains("/run/secrets"), "{told}");
    assert!(!told.contains(VALUE));
    drop(child.stdin.take());
    ended(child);
    nowhere_beneath(&env.state());
}

#[test]
fn without_the_policys_word_a_person_is_asked_and_yes_is_not_a_person() {
    let env = TestEnv::new();
    let policy = policy(&env, ASKED);
    for more in [&[][..], &["--yes"]] {
        fumehood(&env)
            .args(["exec", "--policy", &policy])
            .args(more)
            .args(["--", "cat", "/run/secrets/DEPLOY_KEY"])
            .assert()
            .code(126)
            .stdout("")
            .stderr(
                predicate::str::contains("grant = \"allow\"")
                    .and(predicate::str::contains("DEPLOY_KEY")),
            );
    }
    nowhere_beneath(&env.state());
}

/// A sandbox whose policy gives nothing has nothing, also beside one that has.
#[test]
fn another_sandbox_of_the_same_user_is_given_nothing() {
    let env = TestEnv::new();
    let policy = policy(&env, ALLOWED);
    let name = fumehood(&env)
        .args(["box", "open", "--policy", &policy])
        .output()
        .unwrap();
    assert!(name.status.success(), "{name:?}");
    let name = String::from_utf8(name.stdout).unwrap().trim().to_owned();
    let inside = |args: &[&str]| {
        let mut command = env.fumehood();
        command.args(["box", "exec", &name, "--"]).args(args);
        command
    };
    inside(&["sh", "-c", "test -s /run/secrets/DEPLOY_KEY"])
        .assert()
        .success();
    // A second step of the same sandbox may read it too: the policy grants it to the sandbox.
    inside(&[
        "sh",
        "-c",
        "test -s $DEPLOY_KEY_FILE && ! env | grep s3cr3t",
    ])
    .assert()
    .success();
    fumehood(&env)
        .args(["exec", "--policy", "dev-loop", "--", "sh", "-c"])
        .arg("ls /run/secrets; env | grep DEPLOY; cat /proc/*/environ | grep -a s3cr3t; true")
        .assert()
        .success()
        .stdout("");
    env.fumehood()
        .args(["box", "close", &name])
        .assert()
        .success();
    nowhere_beneath(&env.state());
}

#[test]
fn a_secret_comes_from_a_file_beside_the_policy_and_what_is_not_there_is_an_error() {
    let env = TestEnv::new();
    fs::write(env.path("key.txt"), VALUE).unwrap();
    let from_file =
        "[[secrets]]\nname = \"KEY\"\nas = \"file\"\nfile = \"key.txt\"\ngrant = \"allow\"\n";
    let policy = policy(&env, from_file);
    env.fumehood()
        .args([
            "exec",
            "--raw",
            "--policy",
            &policy,
            "--",
            "cat",
            "/run/secrets/KEY",
        ])
        .assert()
        .success()
        .stdout(VALUE);
    fs::remove_file(env.path("key.txt")).unwrap();
    env.fumehood()
        .args(["exec", "--policy", &policy, "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("key.txt"));
    let policy = self::policy(&env, ALLOWED);
    env.fumehood()
        .args(["exec", "--policy", &policy, "--", "true"])
        .assert()
        .code(125)
        .stderr(predicate::str::contains("you have no such variable"));
}

/// What the record says of a value changes with each run: nobody can try values against it.
#[test]
fn the_record_holds_no_mark_that_a_short_secret_could_be_guessed_by() {
    let env = TestEnv::new();
    let policy = policy(&env, ASKED);
    let marks: Vec<String> = (0..2)
        .map(|_| {
            fumehood(&env)
                .args(["exec", "--policy", &policy, "--", "true"])
                .assert()
                .code(126);
            let shown = env
                .fumehood()
                .args(["runs", "show", "--json"])
                .output()
                .unwrap();
            let text = String::from_utf8(shown.stdout).unwrap();
            let at = text.find("\"mark\":\"").unwrap() + 8;
            text[at..at + 64].to_owned()
        })
        .collect();
    assert_ne!(marks[0], marks[1]);
    assert!(!marks.contains(&sha()));
}
