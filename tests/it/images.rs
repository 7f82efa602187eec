//! `fumehood images`, and what `--image` means: names of the store, digests, the policy's list.

use crate::docker::{self, IMAGE};
use crate::env::TestEnv;
use fumehood::sandbox::docker::{BuildRequest, DockerBackend};
use fumehood::sandbox::init_binary;
use predicates::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Runs against the engine, where there is one.
fn with_engine(test: impl AsyncFnOnce(DockerBackend)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let init = init_binary::install(dir.path()).unwrap();
        if let Some(engine) = docker::backend(init).await {
            test(engine).await;
        }
    });
}

/// A name in this user's store, as `images build` would have left it.
fn known(env: &TestEnv, name: &str, id: &str) {
    let folder = env.state().join("images/names");
    fs::create_dir_all(&folder).unwrap();
    let made = serde_json::json!({
        "name": name, "id": id, "made": "2026-01-01T00:00:00Z", "from": "a test",
    });
    fs::write(folder.join(format!("{name}.json")), made.to_string()).unwrap();
}

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

const NONE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn an_image_is_held_against_the_policys_list() {
    with_engine(async |engine| {
        let env = TestEnv::new();
        let id = engine.resolve_image(IMAGE).await.unwrap().id;
        let exec = |allow: &str| {
            let mut command = env.fumehood();
            let allow = format!("image.allow=[{allow}]");
            command.args(["exec", "--backend", "docker", "--set", &allow]);
            command
        };
        exec(&format!("{NONE:?}"))
            .args(["--image", IMAGE, "--", "true"])
            .assert()
            .code(125)
            .stderr(
                predicate::str::contains("does not list image").and(predicate::str::contains(&id)),
            );
        exec(&format!("{NONE:?}, {id:?}"))
            .args(["--image", IMAGE, "--", "true"])
            .assert()
            .success();
        // Who names none gets the first.
        exec(&format!("{id:?}"))
            .args(["--", "true"])
            .assert()
            .success();
    });
}

#[test]
fn a_name_of_the_store_is_an_image_and_a_digest_holds_it() {
    with_engine(async |engine| {
        let env = TestEnv::new();
        let id = engine.resolve_image(IMAGE).await.unwrap().id;
        known(&env, "mine", &id);
        let exec = |image: &str| {
            let mut command = env.fumehood();
            command.args([
                "exec",
                "--backend",
                "docker",
                "--image",
                image,
                "--",
                "true",
            ]);
            command
        };
        exec("mine").assert().success();
        exec(&format!("mine@{id}")).assert().success();
        exec(&format!("mine@{NONE}"))
            .assert()
            .code(125)
            .stderr(predicate::str::contains("was asked for"));
        let listed = env
            .fumehood()
            .args(["images", "list", "--json"])
            .output()
            .unwrap();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed[0]["name"], "mine");
        assert_eq!(listed[0]["in_engine"], true);
    });
}

#[test]
fn a_recipe_is_built_on_an_image_that_is_there_and_its_words_are_heard() {
    with_engine(async |engine| {
        let base = engine.resolve_image(IMAGE).await.unwrap().id;
        let context = archive(&[
            (
                "Dockerfile",
                "ARG BASE\nFROM ${BASE}\nCOPY authorities.pem /tmp/a\nRUN echo heard; cat /tmp/a; echo made >/made\n",
            ),
            ("authorities.pem", "handed in\n"),
        ]);
        let request = BuildRequest {
            context,
            arguments: HashMap::from([("BASE".to_owned(), base.clone())]),
            network: Some("none"),
        };
        let mut heard = Vec::new();
        let mut hears = |line: &str| heard.push(line.to_owned());
        let image = engine.build_image(request, &mut hears).await.unwrap();
        assert_ne!(image.id, base);
        for line in ["heard", "handed in"] {
            assert!(heard.iter().any(|said| said == line), "{heard:?}");
        }
        engine.forget_image(&image.id).await.unwrap();
        assert!(engine.resolve_image(&image.id).await.is_err());
    });
}

#[test]
fn a_build_that_fails_says_why() {
    with_engine(async |engine| {
        let base = engine.resolve_image(IMAGE).await.unwrap().id;
        let request = BuildRequest {
            context: archive(&[("Dockerfile", "ARG BASE\nFROM ${BASE}\nRUN exit 7\n")]),
            arguments: HashMap::from([("BASE".to_owned(), base)]),
            network: Some("none"),
        };
        let error = engine.build_image(request, &mut |_| {}).await.unwrap_err();
        assert!(error.to_string().contains('7'), "{error}");
    });
}

#[test]
fn nothing_is_pulled_for_a_build() {
    if !docker::there() {
        return;
    }
    let env = TestEnv::new();
    let build = |args: &[&str]| {
        let mut command = env.fumehood();
        command.args(["images", "build"]).args(args);
        command
    };
    let digest = format!("docker.io/library/nothing@{NONE}");
    for base in ["no-such-image:here", &digest] {
        build(&["base", "--base", base])
            .assert()
            .code(8)
            .stderr(predicate::str::contains("the engine has no such image"));
    }
    build(&["cpu"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("images build base"));
    build(&["windows"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("base, cpu, cuda"));
}

/// In the place of `mmdebstrap`: an archive that depends on nothing of the day.
const PACKAGES: &str = r#"#!/bin/sh
for last; do out=$last; done
set -eu
echo "I: fake packages"
root=$(mktemp -d)
mkdir -p "$root/usr/bin" "$root/etc"
echo "${WORD:-one}" >"$root/etc/word"
tar c --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -C "$root" . >"$out"
rm -r "$root"
"#;

#[test]
fn a_root_file_system_from_the_same_packages_is_the_same_image() {
    if !docker::there() {
        return;
    }
    let env = TestEnv::new();
    let fake = env.path("work").join("bin");
    fs::create_dir(&fake).unwrap();
    fs::write(fake.join("mmdebstrap"), PACKAGES).unwrap();
    fs::set_permissions(fake.join("mmdebstrap"), fs::Permissions::from_mode(0o755)).unwrap();
    let build = |word: &str| {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", fake.display());
        let done = env
            .fumehood()
            .env("PATH", path)
            // No package of an index is asked for.
            .env("UV", "")
            .env("WORD", word)
            .args(["images", "build", "base"])
            .output()
            .unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{said}");
        assert!(said.contains("I: fake packages"), "{said}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let remove = || {
        env.fumehood()
            .args(["images", "remove", "base"])
            .assert()
            .success()
    };
    let first = build("one");
    env.fumehood()
        .args(["images", "show", "base"])
        .assert()
        .success()
        .stdout(
            predicate::str::contains(format!("base@{first}"))
                .and(predicate::str::contains("engine")),
        );
    assert_eq!(build("one"), first);
    remove();
    assert_ne!(build("two"), first);
    remove();
    env.fumehood()
        .args(["images", "show", "base"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("images build base"));
}
