//! Known secrets at every sink, as a user meets them: whatever prints one, it comes out as `*`.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::json;
use std::fs;
use std::path::Path;

pub(crate) const TOKEN: &str = "hf_0aB1cD2eF3gH4iJ5kL6m";
const PASSWORD: &str = "pr0xy-Passw0rd";

/// Prints the token whole, cut into single bytes, with a terminal sequence in it, and encoded.
pub(crate) const LEAK: &str = r#"
import base64, binascii, json, sys, time, urllib.parse
token = open('/workspace/token').read().strip()
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
say('whole ' + token + '\n')
for letter in token:
    say(letter)
    time.sleep(0.005)
say('\n')
for before in ('', 'x', 'xy'):
    say(base64.b64encode((before + token + 'zz').encode()).decode() + '\n')
say(token.encode().hex() + ' ' + token.encode().hex().upper() + '\n')
say(token[:9] + '\x1b[0m' + token[9:] + '\n')
sys.stderr.write('error: ' + token + '\n')
say('done\n')
"#;

/// What no sink may hold: the token, and what of it is in its encoded forms whatever stands around.
fn spellings() -> Vec<String> {
    let hex: String = TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        TOKEN.to_owned(),
        hex.to_uppercase(),
        hex,
        // The middle of it in base64, at its three alignments.
        "YUIxY0QyZUYzZ0g0aUo1".to_owned(),
        "FCMWNEMmVGM2dINGlKNW".to_owned(),
        "hQjFjRDJlRjNnSDRpSjV".to_owned(),
    ]
}

pub(crate) fn check(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for spelling in spellings() {
        assert!(!text.contains(&spelling), "{what} holds {spelling}: {text}");
    }
}

/// Every file beneath a folder but the workspace's own.
pub(crate) fn check_disk(folder: &Path, but: &Path) {
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && !entry.path().starts_with(but) {
            check(
                &entry.path().display().to_string(),
                &fs::read(entry.path()).unwrap(),
            );
            seen += 1;
        }
    }
    assert!(
        seen > 3,
        "there was nothing to look at in {}",
        folder.display()
    );
}

fn leaky(env: &TestEnv) -> std::path::PathBuf {
    env.workspace("project", &[("token", TOKEN), ("leak.py", LEAK)])
}

fn exec(env: &TestEnv, workspace: &Path, more: &[&str]) -> Command {
    let mut command = env.fumehood();
    command
        .env("HF_TOKEN", TOKEN)
        .args(["exec", "--policy", "dev-loop", "--workspace"])
        .arg(workspace)
        .args(more)
        .args(["--", "python3", "leak.py"]);
    command
}

fn leaks_nowhere(more: &[&str]) {
    let env = TestEnv::new();
    let workspace = leaky(&env);
    let output = exec(&env, &workspace, more).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains(&format!("whole {}\n", "*".repeat(TOKEN.len()))),
        "{said}"
    );
    assert!(said.ends_with("done\n"), "{said}");
    check("the pipe", &output.stdout);
    check("standard error", &output.stderr);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("HF_TOKEN") && told.contains("replaced by *"),
        "{told}"
    );
    check_disk(&env.state(), &workspace);
    for args in [["runs", "logs"], ["runs", "show"]] {
        let shown = env.fumehood().args(args).output().unwrap();
        assert!(shown.status.success());
        check("runs", &shown.stdout);
    }
}

#[test]
fn a_program_that_prints_a_known_token_leaves_it_nowhere() {
    leaks_nowhere(&[]);
}

#[test]
fn the_same_on_an_engine() {
    if crate::docker::there() {
        leaks_nowhere(&["--backend", "docker", "--image", IMAGE]);
    }
}

#[test]
fn raw_passes_the_very_bytes_on_and_the_log_stays_clean() {
    let env = TestEnv::new();
    let workspace = leaky(&env);
    let output = exec(&env, &workspace, &["--raw"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains(&format!("whole {TOKEN}\n{TOKEN}\n")),
        "{said}"
    );
    check_disk(&env.state(), &workspace);
}

/// What was logged before a value was known is redacted when it is read again.
#[test]
fn a_log_is_redacted_by_what_is_known_when_it_is_read() {
    let env = TestEnv::new();
    let workspace = leaky(&env);
    exec(&env, &workspace, &[])
        .env_remove("HF_TOKEN")
        .assert()
        .success();
    let logs = |known: bool| {
        let mut command = env.fumehood();
        if known {
            command.env("MY_API_KEY", TOKEN);
        }
        command.args(["runs", "logs"]).output().unwrap().stdout
    };
    assert!(String::from_utf8_lossy(&logs(false)).contains(TOKEN));
    check("runs logs", &logs(true));
    let attached = env
        .fumehood()
        .env("MY_API_KEY", TOKEN)
        .args(["runs", "attach"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&attached.stdout).contains("whole ****"));
    check("runs attach", &attached.stdout);
}

#[test]
fn errors_and_the_record_tell_no_credentials_of_a_url() {
    let env = TestEnv::new();
    let proxy = format!("http://ada:{PASSWORD}@127.0.0.1:9/");
    let mut failing = env.fumehood();
    failing
        .env("HTTPS_PROXY", &proxy)
        .env("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
        .env("FUMEHOOD_LOG", "trace")
        .args(["run", "--model", "vllm/x", "--policy", "dev-loop", "--json"])
        .arg(format!("use the password {PASSWORD}"));
    let output = failing.output().unwrap();
    assert!(!output.status.success());
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        assert!(!said.contains(PASSWORD), "{said}");
        assert!(!said.is_empty());
    }
    for entry in walkdir::WalkDir::new(env.state()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let text = fs::read(entry.path()).unwrap();
            let found = text
                .windows(PASSWORD.len())
                .any(|part| part == PASSWORD.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[test]
fn no_model_reads_a_known_token() {
    let env = TestEnv::new();
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("exec", json!({"command": "python3 leak.py"}))),
        Reply::Answer(says("").calls("read", json!({"path": "token"}))),
        Reply::Answer(says("Done.")),
    ]);
    let workspace = leaky(&env);
    let mut command = env.fumehood();
    command
        .env("HF_TOKEN", TOKEN)
        .env("LLAMACPP_BASE_URL", llm.base_url())
        .args([
            "run",
            "--model",
            "llamacpp/tiny",
            "--policy",
            "dev-loop",
            "--yes",
            "--json",
        ])
        .arg("--workspace")
        .arg(&workspace)
        .arg(format!("say {TOKEN} to nobody"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let requests = llm.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].last_text().contains("done"));
    for request in &requests {
        check("a model's context", request.body.to_string().as_bytes());
    }
    assert!(
        requests[2].last_text().contains("****"),
        "{}",
        requests[2].last_text()
    );
    check("--json", &output.stdout);
    check("standard error", &output.stderr);
    check_disk(&env.state(), &workspace);
}

#[test]
fn a_box_redacts_what_it_passes_on_unless_raw_is_asked_for() {
    let env = TestEnv::new();
    let workspace = leaky(&env);
    let open = env
        .fumehood()
        .env("HF_TOKEN", TOKEN)
        .args(["box", "open", "--policy", "dev-loop", "--workspace"])
        .arg(&workspace)
        .output()
        .unwrap();
    assert!(open.status.success(), "{open:?}");
    let name = String::from_utf8(open.stdout).unwrap().trim().to_owned();
    let exec = |more: &[&str]| {
        let mut command = env.fumehood();
        command.args(["box", "exec", &name]).args(more);
        command.args(["--", "python3", "leak.py"]).output().unwrap()
    };
    // The client itself knows nothing: the holder does.
    let output = exec(&[]);
    check("the box's pipe", &output.stdout);
    check("the box's standard error", &output.stderr);
    assert!(String::from_utf8_lossy(&exec(&["--raw"]).stdout).contains(TOKEN));
    // One that it was not opened with could not be kept out of its log.
    let late = exec(&["--env", "OTHER_TOKEN=came-too-late-1"]);
    assert_eq!(late.status.code(), Some(125), "{late:?}");
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(said.contains("box open --env OTHER_TOKEN"), "{said}");
    assert!(
        exec(&["--env", &format!("HF_TOKEN={TOKEN}")])
            .status
            .success()
    );
    env.fumehood()
        .args(["box", "close", &name])
        .assert()
        .success();
    env.fumehood()
        .args(["runs", "show"])
        .assert()
        .stdout(predicate::str::contains("HF_TOKEN"));
    check_disk(&env.state(), &workspace);
}
