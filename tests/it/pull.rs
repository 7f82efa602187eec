//! `fumehood images pull`: by digest, from a registry of this test's own on loopback.

use crate::docker;
use crate::env::TestEnv;
use fumehood::sandbox::init_binary;
use predicates::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A registry that has one image, and another under a digest that is not its own.
struct Registry {
    at: String,
    /// Of the manifest, and of the configuration: the id.
    digest: String,
    id: String,
}

/// What a registry answers, by path.
type Content = BTreeMap<String, (&'static str, Vec<u8>)>;

fn sha256(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    format!("sha256:{hex}")
}

/// One file, unlike that of any other test run: what the engine has of it is only of this one.
fn layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let text = format!("{} {:?}", std::process::id(), std::time::SystemTime::now());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "once", text.as_bytes())
        .unwrap();
    archive.into_inner().unwrap()
}

impl Registry {
    fn start() -> Self {
        let layer = layer();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.docker.{kind}"), "size": bytes.len(), "digest": sha256(bytes)});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let (id, digest) = (sha256(&config), sha256(&manifest));
        let mut content = Content::new();
        for (kind, bytes) in [
            ("application/octet-stream", layer),
            ("application/octet-stream", config),
        ] {
            content.insert(format!("blobs/{}", sha256(&bytes)), (kind, bytes));
        }
        content.insert(format!("manifests/{NONE}"), (MANIFEST, manifest.clone()));
        content.insert(format!("manifests/{digest}"), (MANIFEST, manifest));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &content);
            }
        });
        Self { at, digest, id }
    }

    fn reference(&self, digest: &str) -> String {
        format!("{}/tests/pulled@{digest}", self.at)
    }
}

fn answer(stream: TcpStream, content: &Content) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let found = match path {
        "/v2/" => Some(("application/json", &b"{}"[..])),
        path => path
            .strip_prefix("/v2/tests/pulled/")
            .and_then(|name| content.get(name))
            .map(|(kind, bytes)| (*kind, &bytes[..])),
    };
    let (status, (kind, body)) = match found {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", ("application/json", &b"{}"[..])),
    };
    let body = if request.starts_with("HEAD") {
        &b""[..]
    } else {
        body
    };
    let length = found.map_or(2, |(_, body)| body.len());
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Docker-Distribution-API-Version: registry/2.0\r\n\r\n"
    )?;
    stream.write_all(body)
}

const NONE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Runs where there is an engine.
fn with_engine(test: impl FnOnce()) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let init = init_binary::install(dir.path()).unwrap();
    if runtime.block_on(docker::backend(init)).is_some() {
        test();
    }
}

fn pull(env: &TestEnv, words: &[&str]) -> assert_cmd::assert::Assert {
    env.fumehood().args(["images", "pull"]).args(words).assert()
}

#[test]
fn an_image_comes_by_its_digest_and_goes_again() {
    with_engine(|| {
        let (env, registry) = (TestEnv::new(), Registry::start());
        let reference = registry.reference(&registry.digest);
        pull(&env, &["--set", "image.pull=ask", &reference])
            .success()
            .stdout(format!("{}\n", registry.id))
            .stderr(predicate::str::contains("--image pulled"));
        let shown = env
            .fumehood()
            .args(["images", "show", "pulled", "--json"])
            .output()
            .unwrap();
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["pulled"]["reference"], reference);
        assert_eq!(shown["in_engine"], true);
        // By its own name too, as a policy lists it; its program is missing, not the image.
        env.fumehood()
            .args(["exec", "--backend", "docker", "--image", &reference])
            .args([
                "--set",
                &format!("image.allow=[{reference:?}]"),
                "--",
                "true",
            ])
            .assert()
            .code(127);
        env.fumehood()
            .args(["images", "remove", "pulled"])
            .assert()
            .success();
        let docker = Command::new("docker")
            .args(["image", "inspect", &registry.id])
            .output()
            .unwrap();
        assert!(!docker.status.success(), "the engine has it still");
    });
}

#[test]
fn the_digest_that_let_it_be_pulled_lets_it_run() {
    with_engine(|| {
        let (env, registry) = (TestEnv::new(), Registry::start());
        let reference = registry.reference(&registry.digest);
        let allow = format!("image.allow=[{:?}]", registry.digest);
        pull(
            &env,
            &["--set", "image.pull=ask", "--set", &allow, &reference],
        )
        .success();
        for image in ["pulled", &reference] {
            env.fumehood()
                .args([
                    "exec",
                    "--backend",
                    "docker",
                    "--image",
                    image,
                    "--set",
                    &allow,
                ])
                .args(["--", "true"])
                .assert()
                .code(127);
        }
        env.fumehood()
            .args(["images", "remove", "pulled"])
            .assert()
            .success();
    });
}

#[test]
fn a_removal_takes_along_what_no_other_name_needs_and_what_was_not_there_before() {
    with_engine(|| {
        let (env, registry) = (TestEnv::new(), Registry::start());
        let reference = registry.reference(&registry.digest);
        let ask = ["--set", "image.pull=ask"];
        let known = || {
            let inspect = Command::new("docker")
                .args(["image", "inspect", &reference])
                .output();
            inspect.unwrap().status.success()
        };
        let remove = |name: &str| {
            env.fumehood()
                .args(["images", "remove", name])
                .assert()
                .success();
        };
        pull(&env, &[&ask[..], &[&reference]].concat()).success();
        pull(
            &env,
            &[&ask[..], &["--name", "second", &reference]].concat(),
        )
        .success();
        remove("pulled");
        assert!(known(), "the second needs it");
        remove("second");
        assert!(!known());
        // The user's own stays.
        let docker = |words: &[&str]| {
            let done = Command::new("docker").args(words).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        docker(&["pull", &reference]);
        pull(&env, &[&ask[..], &[&reference]].concat()).success();
        remove("pulled");
        assert!(known());
        docker(&["rmi", &reference]);
    });
}

#[test]
fn a_name_that_is_taken_is_not_given_to_a_stranger() {
    with_engine(|| {
        let (env, registry) = (TestEnv::new(), Registry::start());
        let folder = env.state().join("images/names");
        std::fs::create_dir_all(&folder).unwrap();
        let mine =
            json!({"name": "pulled", "id": NONE, "made": "2026-01-01T00:00:00Z", "from": "a test"});
        std::fs::write(folder.join("pulled.json"), mine.to_string()).unwrap();
        pull(
            &env,
            &[
                "--set",
                "image.pull=ask",
                &registry.reference(&registry.digest),
            ],
        )
        .code(2)
        .stderr(predicate::str::contains("another image").and(predicate::str::contains("--name")));
    });
}

#[test]
fn what_comes_must_have_the_digest_that_was_named() {
    with_engine(|| {
        let (env, registry) = (TestEnv::new(), Registry::start());
        pull(
            &env,
            &["--set", "image.pull=ask", &registry.reference(NONE)],
        )
        .code(8)
        .stderr(predicate::str::contains("pull image"));
        let listed = env
            .fumehood()
            .args(["images", "list", "--json"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "[]");
    });
}

#[test]
fn nothing_is_pulled_that_the_policy_does_not_let() {
    let (env, registry) = (TestEnv::new(), Registry::start());
    let reference = registry.reference(&registry.digest);
    pull(&env, &[&reference]).code(2).stderr(
        predicate::str::contains("lets no image be pulled")
            .and(predicate::str::contains("image.pull=ask")),
    );
    let other = format!("image.allow=[{NONE:?}]");
    pull(
        &env,
        &["--set", "image.pull=ask", "--set", &other, &reference],
    )
    .code(2)
    .stderr(predicate::str::contains("does not list image"));
    pull(
        &env,
        &[
            "--set",
            "image.pull=ask",
            "--policy",
            "locked-down",
            &reference,
        ],
    )
    .code(6)
    .stderr(predicate::str::contains("no terminal to ask at"));
    let tagged = format!("{}/tests/pulled:latest", registry.at);
    pull(&env, &["--set", "image.pull=ask", &tagged])
        .code(2)
        .stderr(predicate::str::contains("does not say by a digest"));
}
