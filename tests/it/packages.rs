//! Packages from the index that this very machine's pip uses, whatever index that is: installed in a
//! sandbox with `fetch-deps`, imported in one without a network.
//!
//! Only where that index cannot be reached at all (pip outside of a sandbox cannot either) is nothing
//! tried, and it is said.

use crate::egress::{Scene, bundled_pip, on_both};
use assert_cmd::Command;
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::Duration;

/// Large wheels over a slow line.
const PATIENCE: Duration = Duration::from_secs(900);

/// Networks fail for a moment.
const TRIES: usize = 3;

/// As this user has it: their home with their configuration, their variables.
fn as_this_user(scene: &Scene) -> Command {
    let mut command = scene.env.fumehood();
    let ours =
        |name: &str| name.starts_with("FUMEHOOD_") || name == "PATH" || name == "DOCKER_HOST";
    let theirs = std::env::vars_os().filter(|(name, _)| !name.to_str().is_none_or(ours));
    command.envs(theirs).timeout(PATIENCE);
    command
}

fn exec(scene: &Scene, policy: &str, argv: &[&str]) -> Output {
    as_this_user(scene)
        .args(["exec", "--policy", policy, "--set"])
        .arg("executor.require=[\"memory:watched\", \"cpu:watched\", \"pids:watched\"]")
        .args(scene.backend)
        .args(["--workspace", scene.workspace.to_str().unwrap(), "--"])
        .args(argv)
        .output()
        .unwrap()
}

/// Whether pip gets anything from its index where nothing confines it.
fn is_reachable(scene: &Scene, pip: &str) -> bool {
    let into = scene.env.path("outside");
    let pip = scene.workspace.join(pip).join("pip");
    let status = std::process::Command::new("/usr/bin/python3")
        .arg(pip)
        .args(["download", "-q", "--no-cache-dir", "--no-deps", "six", "-d"])
        .arg(into)
        .env_remove("PIP_FIND_LINKS")
        .stdin(Stdio::null())
        .status();
    status.unwrap().success()
}

/// `None` where this machine has no index; else the output of a command that succeeded with one.
fn with_index(scene: &Scene, pip: &str, script: &str) -> Option<Output> {
    let mut last = None;
    for _ in 0..TRIES {
        let output = exec(scene, "fetch-deps", &["/bin/sh", "-c", script]);
        if output.status.success() {
            return Some(output);
        }
        if !is_reachable(scene, pip) {
            eprintln!("SKIPPED, pip reaches no index on this machine");
            return None;
        }
        last = Some(output);
    }
    panic!("pip reaches its index outside of a sandbox and not in one: {last:#?}");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

on_both! {
    a_compiled_package_is_installed_through_the_proxy_and_imported_offline(backend) {
        let scene = Scene::new(backend, "");
        let pip = bundled_pip(&scene);
        // Two programs that want to go elsewhere, one by a name and one by an address.
        let script = format!(
            "set -e; /usr/bin/python3 {pip}/pip install --no-cache-dir --only-binary :all: --target vendor numpy
             /usr/bin/python3 -c 'from lib import *; done([get(\"https://evil.test/\"), get(\"http://198.51.100.7/\"), resolve(\"evil.test\")])'"
        );
        let Some(output) = with_index(&scene, pip, &script) else { return };
        let stdout = said(&output);
        let elsewhere: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert!(elsewhere[0].as_str().unwrap().contains("403 blocked: evil.test:443"), "{elsewhere}");
        assert!(elsewhere[1].as_str().unwrap().contains("403 blocked: 198.51.100.7:80"), "{elsewhere}");
        assert_eq!(elsewhere[2], "gaierror");
        let shown = scene.shown();
        let hosts = |kind: &str| -> Vec<String> {
            let of_kind = shown.iter().filter(|event| event["type"] == kind);
            of_kind.map(|event| event["host"].as_str().unwrap().to_owned()).collect()
        };
        let mut blocked = hosts("network-blocked");
        blocked.sort();
        blocked.dedup();
        assert_eq!(blocked, ["198.51.100.7", "evil.test"]);
        assert!(!hosts("network-opened").is_empty());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("blocked: evil.test:443; add it to [network] allow or approve it"), "{stderr}");
        // What was fetched is compiled code, and it runs where there is no network.
        let import = "import sys; sys.path.insert(0, 'vendor'); import numpy; from numpy.linalg import det; print(round(det(numpy.eye(3) * 2)))";
        let offline = exec(&scene, "offline-train", &["/usr/bin/python3", "-c", import]);
        assert_eq!(said(&offline), "8\n", "{offline:#?}");
        let shown = scene.shown();
        let network = |event: &&Value| event["type"].as_str().unwrap().starts_with("network-");
        assert_eq!(shown.iter().filter(network).count(), 0);
        let alone = exec(&scene, "offline-train", &["/usr/bin/python3", "-c", "from lib import *; done([resolve('evil.test'), reach(('127.0.0.1', 3128))])"]);
        assert_eq!(said(&alone).trim(), r#"["gaierror", "ConnectionRefusedError"]"#);
    }

    uv_and_httpx_reach_the_index_with_no_variable_set(backend) {
        let scene = Scene::new(backend, "");
        let pip = bundled_pip(&scene);
        // Whichever index it is: pip knows.
        std::fs::write(scene.workspace.join("index.py"), r#"
import os, sys
sys.path.insert(0, sys.argv[1])
from pip._internal.models.index import PyPI
print(os.environ.get("PIP_INDEX_URL", PyPI.simple_url))
"#).unwrap();
        std::fs::write(scene.workspace.join("ask.py"), r#"
import sys
sys.path.insert(0, "tools")
import httpx
answer = httpx.get(sys.argv[1].rstrip("/") + "/six/", follow_redirects=True, timeout=60)
print(answer.status_code, "six-1.16.0" in answer.text)
try: print(httpx.get("https://evil.test/"))
except httpx.ConnectError as e: print("refused")
"#).unwrap();
        let script = format!(
            "set -e; /usr/bin/python3 {pip}/pip install -q --no-cache-dir --only-binary :all: --target tools uv httpx
             index=$(/usr/bin/python3 index.py {pip})
             unset HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy NO_PROXY no_proxy
             tools/bin/uv pip install -q --no-config --index-url $index --python /usr/bin/python3 --target got six
             /usr/bin/python3 -c 'import sys; sys.path.insert(0, \"got\"); import six; print(six.__file__)'
             /usr/bin/python3 ask.py $index"
        );
        let Some(output) = with_index(&scene, pip, &script) else { return };
        assert_eq!(said(&output), "/workspace/got/six.py\n200 True\nrefused\n", "{output:#?}");
    }
}
