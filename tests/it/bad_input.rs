//! What goes wrong for a user, and what they are told: an error that names the cause, and a remedy.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use crate::fake_llm::{FakeLlm, Reply, says};
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use serde_json::json;
use std::fs;

fn run(env: &TestEnv, base_url: &str, more: &[&str]) -> Assert {
    env.fumehood()
        .env("LLAMACPP_BASE_URL", base_url)
        .args([
            "run",
            "--model",
            "llamacpp/tiny",
            "--policy",
            "dev-loop",
            "--yes",
        ])
        .args(more)
        .arg("a task")
        .assert()
}

fn helps(assert: Assert, code: i32, words: &[&str]) {
    let assert = assert.code(code).stderr(predicate::str::contains("help: "));
    let shown = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    for word in words {
        assert!(shown.contains(word), "{word:?} in: {shown}");
    }
}

#[test]
fn a_control_that_is_too_weak_is_said_before_any_question_with_a_line_that_helps() {
    let env = TestEnv::new();
    let exec = |set: &str| {
        let mut command = env.fumehood();
        command.args(["exec", "--policy", "locked-down", "--backend", "namespace"]);
        command.args(["--yes", "--set", set, "--", "true"]);
        command
    };
    let output = exec("executor.require=workspace-size").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.contains("workspace-size is watched here, the policy requires enforced"),
        "{said}"
    );
    let line = said
        .split("--set '")
        .nth(1)
        .and_then(|rest| rest.split('\'').next());
    exec(line.unwrap()).assert().success();
}

#[test]
fn an_unreachable_model_says_where_it_was_sought_and_how_to_start_it() {
    let env = TestEnv::new();
    // Bound and dropped: nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    helps(run(&env, &url, &[]), 7, &[&url, "llama-server"]);
}

#[test]
fn a_wrong_key_names_the_variable_and_never_the_key() {
    let env = TestEnv::new();
    let llm = FakeLlm::start([Reply::Status(
        401,
        "",
        r#"{"error":"bad key sk-sesame"}"#.into(),
    )]);
    let assert = env
        .fumehood()
        .env("LLAMACPP_BASE_URL", llm.base_url())
        .env("LLAMACPP_API_KEY", "sk-sesame")
        .args([
            "run",
            "--model",
            "llamacpp/tiny",
            "--policy",
            "dev-loop",
            "a task",
        ])
        .assert()
        .stderr(predicate::str::contains("sk-sesame").not());
    helps(assert, 7, &["LLAMACPP_API_KEY"]);
}

#[test]
fn a_model_name_without_a_known_provider_is_usage() {
    let env = TestEnv::new();
    let assert = env
        .fumehood()
        .args(["run", "--model", "olama/x", "a task"])
        .assert();
    helps(assert, 2, &["ollama"]);
}

#[test]
fn a_truncated_stream_is_asked_again_and_then_said() {
    let env = TestEnv::new();
    let cut = || Reply::ClosedAfter(1, says("half an answer"));
    let llm = FakeLlm::start([cut(), cut(), cut(), cut(), cut(), cut(), cut(), cut()]);
    helps(run(&env, &llm.base_url(), &[]), 7, &["cut off"]);
    assert!(llm.requests().len() > 1);
    let whole = FakeLlm::start([cut(), Reply::Answer(says("done"))]);
    run(&TestEnv::new(), &whole.base_url(), &[])
        .success()
        .stdout("done\n");
}

#[test]
fn unparsable_arguments_and_unknown_tools_are_told_to_the_model() {
    let env = TestEnv::new();
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("exec", "{\"command\": \"ls")),
        Reply::Answer(says("").calls("shell", json!({"command": "ls"}))),
        Reply::Answer(says("I see.")),
    ]);
    run(&env, &llm.base_url(), &[]).success().stdout("I see.\n");
    let requests = llm.requests();
    assert!(
        requests[1].last_text().contains("schema"),
        "{}",
        requests[1].last_text()
    );
    assert!(
        requests[2].last_text().contains("clone_repo"),
        "{}",
        requests[2].last_text()
    );
}

fn exec(env: &TestEnv, args: &[&str]) -> Assert {
    env.fumehood()
        .arg("exec")
        .args(args)
        .args(["--", "true"])
        .assert()
}

#[test]
fn a_missing_image_is_said_with_the_way_to_get_it() {
    if crate::docker::there() {
        let args = ["--backend", "docker", "--image", "no-such-image:ever"];
        helps(exec(&TestEnv::new(), &args), 125, &["no-such-image:ever"]);
    }
}

#[test]
fn an_engine_that_is_down_is_said_with_the_way_around() {
    let env = TestEnv::new();
    let assert = env
        .fumehood()
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .args([
            "exec",
            "--backend",
            "docker",
            "--image",
            IMAGE,
            "--",
            "true",
        ])
        .assert();
    helps(assert, 125, &["/nonexistent/docker.sock"]);
}

#[test]
fn a_typo_in_a_policy_is_shown_with_line_and_nearest_name() {
    let env = TestEnv::new();
    let file = env.path("work").join("mine.toml");
    fs::write(
        &file,
        "schema = 1\nname = \"mine\"\n[limits]\nmemroy = \"4GiB\"\ncpus = \"two\"\n",
    )
    .unwrap();
    let assert = env
        .fumehood()
        .args([
            "run",
            "--model",
            "llamacpp/x",
            "--policy",
            "mine.toml",
            "a task",
        ])
        .assert()
        .code(2);
    let shown = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    for word in ["mine.toml:4", "memroy", "memory", "E_UNKNOWN_KEY", "cpus"] {
        assert!(shown.contains(word), "{word:?} in: {shown}");
    }
}

#[test]
fn an_unclonable_repository_is_told_to_the_model_and_nothing_is_left() {
    let env = TestEnv::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/x.git");
    let llm = FakeLlm::start([
        Reply::Answer(says("").calls("clone_repo", json!({"url": url}))),
        Reply::Answer(says("").calls("list", json!({"path": "."}))),
        Reply::Answer(says("It is not there.")),
    ]);
    let remotes = format!("git.remotes=[\"http://127.0.0.1:{port}/\"]");
    run(&env, &llm.base_url(), &["--set", &remotes]).success();
    let told = llm.requests()[1].last_text().to_owned();
    assert!(told.contains("Not cloned"), "{told}");
    let listed = llm.requests()[2].last_text().to_owned();
    assert!(!listed.contains('x'), "{listed}");
}

#[test]
fn a_workspace_that_is_a_link_is_refused() {
    let env = TestEnv::new();
    let real = env.workspace("real", &[]);
    let link = env.path("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    helps(
        exec(&env, &["--workspace", link.to_str().unwrap()]),
        125,
        &["link"],
    );
}

#[test]
fn two_runs_on_one_workspace_are_refused_and_the_other_is_named() {
    let env = TestEnv::new();
    let folder = env.workspace("shared", &[]);
    let mut first = std::process::Command::new(env!("CARGO_BIN_EXE_fumehood"))
        .args([
            "exec",
            "--workspace",
            folder.to_str().unwrap(),
            "--",
            "sh",
            "-c",
            "touch up; sleep 60",
        ])
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .current_dir(env.path("work"))
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let up = folder.join("up");
    for _ in 0..300 {
        if up.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let id = fs::read_dir(env.state().join("runs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let id = id.file_name().into_string().unwrap();
    helps(
        exec(&env, &["--workspace", folder.to_str().unwrap()]),
        125,
        &[&id],
    );
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_full_disk_stops_before_the_act() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let env = TestEnv::new();
    // A state folder of 256 KiB: the record does not fit for long.
    let mounted = std::process::Command::new("/usr/bin/mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "fumehood-test"])
        .arg(env.state())
        .status()
        .unwrap();
    assert!(mounted.success());
    let assert = exec(&env, &[]);
    let unmounted = std::process::Command::new("/usr/bin/umount")
        .arg(env.state())
        .status()
        .unwrap();
    assert!(unmounted.success());
    helps(assert, 125, &["space"]);
}

#[test]
fn a_run_that_never_began_for_want_of_space_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let env = TestEnv::new();
    let mounted = std::process::Command::new("/usr/bin/mount")
        .args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "fumehood-test"])
        .arg(env.state())
        .status()
        .unwrap();
    assert!(mounted.success());
    let before = exec(&env, &[]);
    let ballast = env.state().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    drop(file);
    let full = exec(&env, &[]);
    let demo = env.fumehood().args(["demo", "--yes"]).assert();
    fs::remove_file(&ballast).unwrap();
    let list = env.fumehood().args(["runs", "list", "--json"]).assert();
    let last = env.fumehood().args(["runs", "show", "last"]).assert();
    let unmounted = std::process::Command::new("/usr/bin/umount")
        .arg(env.state())
        .status()
        .unwrap();
    assert!(unmounted.success());
    before.code(0);
    helps(full, 125, &["space"]);
    helps(demo, 8, &["space"]);
    let runs: serde_json::Value =
        serde_json::from_slice(&list.code(0).get_output().stdout).unwrap();
    assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    last.code(0);
}

#[test]
fn what_goes_beyond_the_policy_is_not_said_to_be_answered_by_yes() {
    let env = TestEnv::new();
    let assert = env
        .fumehood()
        .args(["exec", "--timeout", "9h", "--", "true"])
        .assert();
    let shown = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    helps(
        assert,
        126,
        &["beyond the policy", "limits.wall_time = \"9h\""],
    );
    assert!(!shown.contains("--yes"), "{shown}");
}

#[test]
fn a_task_without_words_and_a_run_without_turns_are_usage() {
    let env = TestEnv::new();
    for more in [&[" "][..], &["--max-turns", "0", "a task"]] {
        env.fumehood()
            .args(["run", "--model", "ollama/none"])
            .args(more)
            .assert()
            .code(2);
    }
    assert!(!env.state().join("runs").exists());
}

#[test]
fn output_that_finds_no_room_is_an_error_and_a_reader_that_is_gone_is_none() {
    let env = TestEnv::new();
    let run = |to: &str| {
        let command = format!("{} exec -- echo said {to}", env!("CARGO_BIN_EXE_fumehood"));
        let done = std::process::Command::new("/bin/bash")
            .args(["-c", &command])
            .env("FUMEHOOD_HOME", env.state())
            .current_dir(env.path("work"))
            .output()
            .unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    };
    let (code, said) = run("> /dev/full");
    assert_eq!(code, Some(125), "{said}");
    assert!(
        said.contains("help: ") && said.contains("runs logs"),
        "{said}"
    );
    let (code, said) = run("| true");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_program_that_is_not_there_or_a_folder_says_what_to_do() {
    let env = TestEnv::new();
    for (command, code, words) in [
        (&["no-such-program"][..], 127, "--venv"),
        (&["/usr/share"], 126, "python3 FILE"),
        (&["./it", "--cwd"], 125, "/workspace"),
    ] {
        let mut fumehood = env.fumehood();
        fumehood.arg("exec");
        if command.len() == 2 {
            fumehood.args(["--cwd", "/no/such/folder"]);
        }
        helps(fumehood.arg("--").args(command).assert(), code, &[words]);
    }
}

#[test]
fn a_workspace_that_cannot_be_looked_at_names_the_place_and_what_to_do() {
    let env = TestEnv::new();
    let folder = env.workspace("deep", &[]);
    crate::workspace::nest(&folder.join("top"), 2000);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(folder.join("top"), Some(4242), Some(4242)).unwrap();
    }
    helps(
        exec(&env, &["--workspace", folder.to_str().unwrap()]),
        125,
        &["nested too deep", "help: remove ", "top"],
    );
}

#[test]
fn a_program_typed_without_the_dashes_is_told_where_it_goes() {
    let env = TestEnv::new();
    let assert = env.fumehood().args(["exec", "python3", "x.py"]).assert();
    helps(assert, 125, &["come after --"]);
}
