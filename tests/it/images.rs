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
fn an_image_with_a_closed_tmp_leaves_a_step_its_own() {
    with_engine(async |engine| {
        let base = engine.resolve_image(IMAGE).await.unwrap().id;
        let request = BuildRequest {
            context: archive(&[(
                "Dockerfile",
                "ARG BASE\nFROM ${BASE}\nRUN chmod 0755 /tmp\n",
            )]),
            arguments: HashMap::from([("BASE".to_owned(), base)]),
            network: Some("none"),
        };
        let image = engine.build_image(request, &mut |_| {}).await.unwrap();
        let env = TestEnv::new();
        env.fumehood()
            .args(["exec", "--backend", "docker", "--image", &image.id, "--"])
            .args(["/bin/sh", "-c", "echo written >/tmp/x; cat /tmp/x"])
            .assert()
            .success()
            .stdout("written\n");
        engine.forget_image(&image.id).await.unwrap();
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

/// The smallest system that runs a shell: this machine's own, its libraries, and what a test adds. The
/// shell has a set-user-id bit that must not come through.
pub(crate) fn tiny(more: &[(&str, &str)]) -> Vec<u8> {
    let ldd = std::process::Command::new("ldd")
        .arg("/bin/sh")
        .output()
        .unwrap();
    let ldd = String::from_utf8(ldd.stdout).unwrap();
    let libraries = ldd.split_whitespace().filter(|word| word.starts_with('/'));
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, body: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(mode);
        archive
            .append_data(&mut header, path.trim_start_matches('/'), body)
            .unwrap();
    };
    add("usr/bin/sh", 0o4755, &fs::read("/bin/sh").unwrap());
    for library in libraries {
        let place = match library.strip_prefix("/usr/") {
            Some(_) => library.to_owned(),
            None => format!("/usr{library}"),
        };
        add(&place, 0o755, &fs::read(library).unwrap());
    }
    for (path, text) in more {
        add(path, 0o644, text.as_bytes());
    }
    for name in ["bin", "lib", "lib64"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, name, format!("usr/{name}"))
            .unwrap();
    }
    archive.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn config(layers: &[Vec<u8>]) -> String {
    config_saying(layers, serde_json::json!({}))
}

/// With what an image says about how it is to be run.
pub(crate) fn config_saying(layers: &[Vec<u8>], says: Value) -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        _ => "arm64",
    };
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", digest(layer)))
        .collect();
    serde_json::json!({
        "os": "linux", "architecture": arch, "config": says,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
}

/// As `docker save` writes it.
pub(crate) fn saved(config: &str, layers: &[Vec<u8>], tag: &str) -> Vec<u8> {
    let names: Vec<_> = (0..layers.len())
        .map(|n| format!("{n}/layer.tar"))
        .collect();
    let manifest = serde_json::json!([{ "Config": "c.json", "RepoTags": [tag], "Layers": names }]);
    let mut entries: Vec<(String, Vec<u8>)> =
        names.into_iter().zip(layers.iter().cloned()).collect();
    entries.push(("c.json".into(), config.into()));
    entries.push(("manifest.json".into(), manifest.to_string().into()));
    packed(&entries)
}

/// As an OCI layout, its layers packed by gzip.
fn oci(config: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    use std::io::Write;
    let mut entries = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = digest(&bytes);
        entries.push((format!("blobs/sha256/{digest}"), bytes));
        serde_json::json!({ "digest": format!("sha256:{digest}"), "mediaType": "x", "size": 1 })
    };
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(layer).unwrap();
            blob(packer.finish().unwrap())
        })
        .collect();
    let config = blob(config.as_bytes().to_vec());
    let manifest = serde_json::json!({ "config": config, "layers": layers });
    let manifest = blob(manifest.to_string().into_bytes());
    let index = serde_json::json!({ "manifests": [manifest] });
    entries.push(("index.json".into(), index.to_string().into_bytes()));
    entries.push(("oci-layout".into(), b"{}".to_vec()));
    packed(&entries)
}

fn packed(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn import(env: &TestEnv, archive: &[u8], name: &str) -> assert_cmd::assert::Assert {
    let path = env.path("work").join("image.tar");
    fs::write(&path, archive).unwrap();
    env.fumehood()
        .args(["images", "import", "image.tar", name])
        .assert()
}

fn id(assert: assert_cmd::assert::Assert) -> String {
    let out = assert.success().get_output().stdout.clone();
    String::from_utf8(out).unwrap().trim().to_owned()
}

/// Nothing half-made, nothing of what was refused.
fn nothing_is_left(env: &TestEnv) {
    for folder in ["images", "images/roots", "images/names"] {
        let Ok(entries) = env.state().join(folder).read_dir() else {
            continue;
        };
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(["roots", "names"].contains(&name.as_str()), "{name}");
        }
    }
}

#[test]
fn an_unpacked_root_is_the_root_of_a_sandbox() {
    let env = TestEnv::new();
    let root = tiny(&[
        ("etc/word", "of the image"),
        ("etc/passwd", "evil:x:0:0::/:/bin/sh"),
    ]);
    let id = id(import(&env, &root, "tiny"));
    let script = "read word </etc/word; echo $word; echo /usr/bin/*; [ -u /usr/bin/sh ] && echo setuid; \
                  while read line; do case $line in evil*) echo $line;; esac; done </etc/passwd; \
                  { echo x >/usr/new; } 2>/dev/null || echo read-only; echo $PWD >made; echo *";
    env.fumehood()
        .args([
            "exec", "--policy", "dev-loop", "--image", "tiny", "--", "/bin/sh", "-c", script,
        ])
        .assert()
        .success()
        .stdout("of the image\n/usr/bin/sh\nread-only\nmade\n")
        .stderr(predicate::str::contains("unpacked here"));
    env.fumehood()
        .args(["runs", "show", "last"])
        .assert()
        .success()
        .stdout(predicate::str::contains(&id));
    // The same bytes, the same id; the name that is forgotten leaves nothing.
    assert_eq!(self::id(import(&env, &root, "tiny")), id);
    let mut remove = env.fumehood();
    remove.args(["images", "remove", "tiny"]).assert().success();
    nothing_is_left(&env);
}

#[test]
fn layers_lie_over_one_another_whatever_wrote_them() {
    let env = TestEnv::new();
    let layers = [
        tiny(&[
            ("etc/a", "lower"),
            ("etc/b", "lower"),
            ("opt/x/old", "lower"),
        ]),
        archive(&[
            ("etc/a", "upper"),
            ("etc/.wh.b", ""),
            ("opt/x/.wh..wh..opq", ""),
            ("opt/x/new", ""),
        ]),
    ];
    let config = config(&layers);
    let from_docker = id(import(&env, &saved(&config, &layers, "x:y"), "docker"));
    assert_eq!(from_docker, format!("sha256:{}", digest(config.as_bytes())));
    let script = "read a </etc/a; echo $a /etc/b* /opt/x/*";
    env.fumehood()
        .args([
            "exec", "--policy", "dev-loop", "--image", "docker", "--", "/bin/sh", "-c", script,
        ])
        .assert()
        .success()
        .stdout("upper /etc/b* /opt/x/new\n");
    let other = TestEnv::new();
    assert_eq!(
        id(import(&other, &oci(&config, &layers), "oci")),
        from_docker
    );
}

#[test]
fn a_layer_that_is_not_the_one_that_is_named_is_refused() {
    let env = TestEnv::new();
    let named = [tiny(&[("etc/word", "good")])];
    let there = [tiny(&[("etc/word", "evil")])];
    let config = config(&named);
    import(&env, &saved(&config, &there, "x:y"), "x")
        .code(8)
        .stderr(predicate::str::contains("not the one"));
    import(&env, &oci(&config, &there), "x")
        .code(8)
        .stderr(predicate::str::contains("not the one"));
    nothing_is_left(&env);
}

#[test]
fn an_image_that_leads_out_is_refused_and_leaves_nothing() {
    let env = TestEnv::new();
    let mut header = tar::Header::new_gnu();
    let name = b"../../../../../escaped";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut evil = tar::Builder::new(Vec::new());
    evil.append(&header, &[][..]).unwrap();
    let evil = evil.into_inner().unwrap();
    let layers = [tiny(&[]), evil];
    import(&env, &saved(&config(&layers), &layers, "x:y"), "x")
        .code(8)
        .stderr(predicate::str::contains("leads upward"));
    nothing_is_left(&env);
    assert!(!env.path("escaped").exists());
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let env = TestEnv::new();
    import(&env, &archive(&[("a", "x")]), "x")
        .code(8)
        .stderr(predicate::str::contains("no root file system"));
    import(&env, &saved("{}", &[tiny(&[])], "x:y"), "x")
        .code(8)
        .stderr(predicate::str::contains("configuration"));
    let foreign = config(&[tiny(&[])]).replace("\"linux\"", "\"plan9\"");
    import(&env, &saved(&foreign, &[tiny(&[])], "x:y"), "x")
        .code(8)
        .stderr(predicate::str::contains("plan9"));
    import(&env, &tiny(&[]), "../x").code(2);
    nothing_is_left(&env);
}

#[test]
fn an_image_that_is_not_unpacked_is_named_with_what_to_do() {
    let env = TestEnv::new();
    known(&env, "elsewhere", NONE);
    let exec = |image: &str| {
        let mut command = env.fumehood();
        command.args([
            "exec",
            "--backend",
            "namespace",
            "--image",
            image,
            "--",
            "true",
        ]);
        command.assert().code(125)
    };
    exec("elsewhere").stderr(predicate::str::contains(
        "images import engine:elsewhere elsewhere",
    ));
    exec("nowhere").stderr(predicate::str::contains("there is elsewhere"));
}

#[test]
fn an_unpacked_image_is_held_against_the_policys_list() {
    let env = TestEnv::new();
    let id = id(import(&env, &tiny(&[]), "tiny"));
    let exec = |allow: &str| {
        let allow = format!("image.allow=[{allow:?}]");
        let mut command = env.fumehood();
        command.args([
            "exec", "--set", &allow, "--image", "tiny", "--", "/bin/sh", "-c", ":",
        ]);
        command.assert()
    };
    exec(NONE)
        .code(125)
        .stderr(predicate::str::contains("does not list image"));
    exec(&id).success();
    exec(&format!("tiny@{id}")).success();
}

#[test]
fn an_image_in_use_is_not_taken_away() {
    let env = TestEnv::new();
    import(&env, &tiny(&[]), "tiny").success();
    let fumehood = |args: &[&str]| env.fumehood().args(args).assert();
    fumehood(&["box", "open", "--name", "one", "--image", "tiny"]).success();
    let remove = || env.fumehood().args(["images", "remove", "tiny"]).assert();
    remove()
        .code(8)
        .stderr(predicate::str::contains("uses image"));
    fumehood(&[
        "box",
        "exec",
        "one",
        "--",
        "/bin/sh",
        "-c",
        "echo still here",
    ])
    .success()
    .stdout("still here\n");
    fumehood(&["box", "close", "one"]).success();
    // Its process ends after it has said so.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < patience {
        let done = env
            .fumehood()
            .args(["images", "remove", "tiny"])
            .output()
            .unwrap();
        if done.status.success() {
            return nothing_is_left(&env);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    remove().success();
}

#[test]
fn what_a_name_stood_for_before_goes_with_it() {
    let env = TestEnv::new();
    let first = id(import(&env, &tiny(&[("etc/word", "one")]), "tiny"));
    let second = id(import(&env, &tiny(&[("etc/word", "two")]), "tiny"));
    assert_ne!(first, second);
    let roots = env.state().join("images/roots").read_dir().unwrap();
    let left: Vec<_> = roots.map(|root| root.unwrap().file_name()).collect();
    assert_eq!(left, [second.trim_start_matches("sha256:")]);
}
