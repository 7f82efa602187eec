//! `fumehood policy` as a user types it, and what a policy file does to `exec`.

use crate::env::TestEnv;
use predicates::prelude::*;
use predicates::str::contains;
use std::path::PathBuf;

/// A policy of the user's, in the folder where theirs lie.
fn own(env: &TestEnv, name: &str, text: &str) -> PathBuf {
    let folder = env.path("home").join(".config/fumehood/policies");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

fn policy(env: &TestEnv, args: &[&str]) -> assert_cmd::assert::Assert {
    env.fumehood().arg("policy").args(args).assert()
}

#[test]
fn the_list_has_the_built_ins_and_the_users_own() {
    let env = TestEnv::new();
    own(&env, "mine", "schema = 1\ndescription = \"for the lab\"");
    own(&env, "broken", "schema = 1\nlimits.memory = 4");
    policy(&env, &["list"])
        .success()
        .stdout(contains("locked-down").and(contains("dev-loop")))
        .stdout(contains("for the lab"))
        .stdout(contains("does not load: 1 mistake"));
    let json = policy(&env, &["list", "--json"])
        .success()
        .get_output()
        .stdout
        .clone();
    let rows: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let usual = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["default"] == true);
    assert_eq!(usual.unwrap()["name"], "offline-train");
}

#[test]
fn show_prints_a_file_that_loads_again_under_another_name() {
    let env = TestEnv::new();
    let shown = policy(&env, &["show", "offline-train"])
        .success()
        .get_output()
        .stdout
        .clone();
    let text = String::from_utf8(shown).unwrap();
    own(
        &env,
        "mine",
        &text.replace("name = \"offline-train\"", "name = \"mine\""),
    );
    policy(&env, &["check", "mine"])
        .success()
        .stdout(contains("good"));
    policy(&env, &["show", "mine", "--json"])
        .success()
        .stdout(contains("\"digest\""));
}

#[test]
fn check_names_every_mistake_with_its_place_and_exits_with_2() {
    let env = TestEnv::new();
    let path = own(
        &env,
        "bad",
        "schema = 1\n[limits]\nmemroy = \"4GiB\"\nwall_time = \"30\"\n",
    );
    policy(&env, &["check", path.to_str().unwrap(), "locked-down"])
        .code(2)
        .stdout(contains("builtin:locked-down: good"))
        .stderr(contains("E_UNKNOWN_KEY").and(contains("did you mean `limits.memory`?")))
        .stderr(contains("bad.toml:4:13").and(contains("E_UNIT")))
        .stderr(contains("\u{1b}").not());
    let json = policy(&env, &["check", "bad", "--json"])
        .code(2)
        .get_output()
        .stdout
        .clone();
    let answers: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(answers[0]["problems"][1]["code"], "E_UNIT");
    assert_eq!(answers[0]["problems"][1]["line"], 4);
}

#[test]
fn a_looser_value_is_a_warning_and_with_strict_an_error() {
    let env = TestEnv::new();
    own(
        &env,
        "child",
        "schema = 1\nextends = \"parent.toml\"\nlimits.memory = \"8GiB\"",
    );
    own(
        &env,
        "parent",
        "schema = 1\nextends = \"builtin:locked-down\"\nlimits.pids = 64",
    );
    policy(&env, &["check", "child"])
        .success()
        .stderr(contains("W_LOOSER_IGNORED"));
    policy(&env, &["check", "child", "--strict"]).code(2);
    policy(&env, &["explain", "child"])
        .success()
        .stdout(contains("parent.toml:3").and(contains("builtin:locked-down:")));
}

#[test]
fn explain_names_the_rule_and_what_would_change_it() {
    let env = TestEnv::new();
    policy(&env, &["explain", "dev-loop", "--", "python", "train.py"])
        .success()
        .stdout(contains("approval.contained").and(contains("to change it")));
    let json = policy(&env, &["explain", "--json", "--", "sh", "-c", "x"])
        .success()
        .get_output()
        .stdout
        .clone();
    let explained: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(explained["cases"][0]["decision"], "ask");
}

#[test]
fn a_policy_that_is_not_there_is_said_with_the_nearest_name() {
    let env = TestEnv::new();
    policy(&env, &["show", "offline-trian"])
        .code(2)
        .stderr(contains("did you mean offline-train?"));
    policy(&env, &["check", "./none.toml"])
        .code(2)
        .stderr(contains("there is no such file"));
}

#[test]
fn a_file_that_merely_lies_in_the_folder_is_no_policy() {
    let env = TestEnv::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "schema = 1").unwrap();
    env.fumehood()
        .current_dir(folder.path())
        .args(["policy", "show", "mine"])
        .assert()
        .code(2);
}

#[test]
fn exec_says_what_is_wrong_with_its_policy_and_with_what_was_typed() {
    let env = TestEnv::new();
    own(&env, "bad", "schema = 1\nlimits.memory = 4");
    env.fumehood()
        .args(["exec", "--policy", "bad", "--", "true"])
        .assert()
        .code(125)
        .stderr(contains("E_UNIT"));
    env.fumehood()
        .args(["exec", "--set", "limits.memroy=1GiB", "--", "true"])
        .assert()
        .code(125)
        .stderr(contains("did you mean `limits.memory`?"));
}

#[test]
fn a_deny_rule_holds_for_what_is_typed_too() {
    let env = TestEnv::new();
    own(
        &env,
        "mine",
        "schema = 1\nexecutor.require = [\"memory:watched\", \"cpu:watched\"]\n[[approval.rule]]\nid = \"no-rm\"\naction = \"exec\"\ndecision = \"deny\"\ncommand_prefix = [\"rm\"]\nreason = \"delete by hand\"",
    );
    env.fumehood()
        .args(["exec", "--policy", "mine", "--", "rm", "-rf", "x"])
        .assert()
        .code(126)
        .stderr(contains("rule no-rm").and(contains("delete by hand")));
}

/// Types ahead, waits, and then answers.
#[test]
fn the_question_at_a_terminal_takes_no_answer_that_was_typed_before_it_stood_there() {
    let env = TestEnv::new();
    own(
        &env,
        "asking",
        "schema = 1\nexecutor.require = [\"memory:watched\", \"cpu:watched\"]\napproval.typed = \"ask\"",
    );
    let program = env!("CARGO_BIN_EXE_fumehood");
    let command = format!("{program} exec --policy asking -- echo it ran");
    let mut child = std::process::Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", env.path("home"))
        .env("FUMEHOOD_HOME", env.state())
        .current_dir(env.path("work"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let press = |keyboard: &mut std::process::ChildStdin, keys: &[u8]| {
        use std::io::Write;
        for key in keys {
            keyboard.write_all(&[*key]).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(80));
        }
    };
    press(&mut keyboard, b"y\r");
    std::thread::sleep(std::time::Duration::from_secs(3));
    press(&mut keyboard, b"q\r");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("May this run in the sandbox?"), "{text}");
    assert!(text.contains("$ echo it ran"), "{text}");
    assert!(!text.lines().any(|line| line.trim() == "it ran"), "{text}");
    assert_eq!(output.status.code(), Some(126), "{text}");
}

/// A folder that is worked on, with a policy of its own.
fn project(env: &TestEnv, text: &str) -> PathBuf {
    let folder = env.workspace("project", &[("a.txt", "x")]);
    std::fs::create_dir(folder.join(".fumehood")).unwrap();
    std::fs::write(folder.join(".fumehood/policy.toml"), text).unwrap();
    if nix::unistd::geteuid().is_root() {
        crate::env::give(&folder, 4242);
    }
    folder
}

fn in_project(
    env: &TestEnv,
    folder: &std::path::Path,
    command: &[&str],
) -> assert_cmd::assert::Assert {
    env.fumehood()
        .args([
            "exec",
            "--backend",
            "namespace",
            "--set",
            "executor.require=[\"memory:watched\", \"cpu:watched\"]",
        ])
        .arg("--workspace")
        .arg(folder)
        .arg("--")
        .args(command)
        .assert()
}

const NO_RM: &str = "schema = 1\nlimits.memory = \"64GiB\"\n[[approval.rule]]\nid = \"no-rm\"\naction = \"exec\"\ndecision = \"deny\"\ncommand_prefix = [\"rm\"]\nreason = \"the data took a week\"";

#[test]
fn a_projects_policy_counts_once_it_is_accepted_and_only_those_very_bytes() {
    let env = TestEnv::new();
    let folder = project(&env, NO_RM);
    let dir = folder.to_str().unwrap();
    // Not accepted: told, and passed over.
    in_project(&env, &folder, &["rm", "--version"])
        .success()
        .stderr(contains(".fumehood/policy.toml does not count"));
    policy(&env, &["trust", dir])
        .success()
        .stdout(contains("the data took a week").and(contains("counts from now on")));
    policy(&env, &["trust"]).success().stdout(contains(dir));
    in_project(&env, &folder, &["rm", "--version"])
        .code(126)
        .stderr(contains("rule project/no-rm").and(contains("the data took a week")))
        .stderr(contains("W_LOOSER_IGNORED").and(contains("limits.memory")));
    policy(&env, &["explain", "--workspace", dir, "--", "rm", "x"])
        .success()
        .stdout(contains("project/no-rm").and(contains("only in the project's policy")));
    // Another program changes it, or takes it away: nothing starts.
    let file = folder.join(".fumehood/policy.toml");
    std::fs::write(&file, "schema = 1").unwrap();
    in_project(&env, &folder, &["true"])
        .code(125)
        .stderr(contains("is no longer what you accepted"));
    std::fs::remove_file(&file).unwrap();
    in_project(&env, &folder, &["true"])
        .code(125)
        .stderr(contains("is gone"));
    policy(&env, &["distrust", dir]).success();
    in_project(&env, &folder, &["rm", "--version"]).success();
}

#[test]
fn a_program_in_the_sandbox_cannot_change_or_leave_a_projects_policy() {
    let env = TestEnv::new();
    let folder = project(&env, NO_RM);
    in_project(
        &env,
        &folder,
        &[
            "sh",
            "-c",
            "echo schema = 1 > .fumehood/policy.toml; rm -r .fumehood; mv .fumehood x",
        ],
    );
    let text = std::fs::read_to_string(folder.join(".fumehood/policy.toml")).unwrap();
    assert_eq!(text, NO_RM);
    std::fs::remove_dir_all(folder.join(".fumehood")).unwrap();
    in_project(
        &env,
        &folder,
        &[
            "sh",
            "-c",
            "mkdir .fumehood && echo schema = 1 > .fumehood/policy.toml",
        ],
    )
    .success();
    assert!(!folder.join(".fumehood").exists());
}

#[test]
fn a_link_in_place_of_a_projects_policy_is_not_followed() {
    let env = TestEnv::new();
    let folder = project(&env, NO_RM);
    let file = folder.join(".fumehood/policy.toml");
    let elsewhere = own(&env, "elsewhere", "schema = 1");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(elsewhere, &file).unwrap();
    policy(&env, &["trust", folder.to_str().unwrap()])
        .code(2)
        .stderr(contains("a link"));
}

#[test]
fn a_project_with_a_mistake_is_not_accepted() {
    let env = TestEnv::new();
    let folder = project(&env, "schema = 1\nlimits.memroy = \"1GiB\"");
    policy(&env, &["trust", folder.to_str().unwrap()])
        .code(2)
        .stderr(contains("did you mean `limits.memory`?"));
    policy(&env, &["trust", "--json"])
        .success()
        .stdout(contains("[]"));
}

#[test]
fn with_strict_nothing_starts_where_something_is_ignored() {
    let env = TestEnv::new();
    own(
        &env,
        "child",
        "schema = 1\nextends = \"builtin:offline-train\"\nlimits.memory = \"64GiB\"",
    );
    env.fumehood()
        .args(["exec", "--strict", "--policy", "child", "--", "true"])
        .assert()
        .code(125)
        .stderr(contains("W_LOOSER_IGNORED").and(contains("--strict")));
}

#[test]
fn a_clone_is_explained_too() {
    let env = TestEnv::new();
    let clone = |url| policy(&env, &["explain", "--action", "clone", "--", url]).success();
    clone("https://github.com/a/b").stdout(contains("ask").and(contains("approval.rule")));
    clone("https://example.com/a/b").stdout(contains("git.hosts"));
    clone("http://10.0.0.1/x").stdout(contains("deny").and(contains("no policy allows it")));
    policy(&env, &["explain", "--action", "clone", "--", "a", "b"])
        .code(2)
        .stderr(contains("takes one URL"));
}

#[test]
fn a_diff_says_what_is_looser_and_what_is_tighter() {
    let env = TestEnv::new();
    own(
        &env,
        "mine",
        "schema = 1\nextends = \"builtin:offline-train\"\nlimits.pids = 64",
    );
    policy(&env, &["diff", "offline-train", "mine"])
        .code(1)
        .stdout(contains("- tighter  limits.pids  512 -> 64"))
        .stdout(contains("mine: 0 looser, 1 tighter, 0 other"));
    policy(&env, &["diff", "mine", "offline-train"])
        .code(1)
        .stdout(contains("+ looser   limits.pids"));
    policy(&env, &["diff", "mine", "mine"]).success();
    let json = policy(&env, &["diff", "mine", "locked-down", "--json"]).code(1);
    let all: serde_json::Value = serde_json::from_slice(&json.get_output().stdout).unwrap();
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .any(|one| one["key"] == "approval.typed" && one["mark"] == "tighter")
    );
}

#[test]
fn the_examples_of_rules_are_tried_and_each_is_printed() {
    let env = TestEnv::new();
    let rule = |examples: &str| {
        format!(
            "schema = 1\n[[approval.rule]]\nid = \"t\"\naction = \"exec\"\ndecision = \"deny\"\ncommand_prefix = [\"rm\"]\n{examples}"
        )
    };
    own(
        &env,
        "good",
        &rule("match = [[\"rm\", \"x\"]]\nnot_match = [[\"ls\"]]"),
    );
    own(&env, "wrong", &rule("match = [[\"rm\"], [\"mv\"]]"));
    own(&env, "bare", &rule(""));
    policy(&env, &["test", "good", "inspect-repo"])
        .success()
        .stdout(contains("ok   t  rm x  matches"))
        .stdout(contains("ok   t  ls  does not match: it wants rm"))
        .stdout(contains("ok   no-exec  python train.py"));
    policy(&env, &["test", "wrong"])
        .code(2)
        .stdout(contains("ok   t  rm").and(contains("FAIL t  mv")));
    policy(&env, &["test", "bare"])
        .success()
        .stdout(contains("has no examples"));
    own(&env, "broken", "schema = 1\nlimits.memory = 4");
    policy(&env, &["test", "broken"])
        .code(2)
        .stderr(contains("E_UNIT"));
}

#[test]
fn the_schema_is_printed_for_editors() {
    let env = TestEnv::new();
    let printed = policy(&env, &["schema"]).success();
    let schema: serde_json::Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let memory = &schema["properties"]["limits"]["properties"]["memory"];
    assert_eq!(memory["default"], "4GiB");
}

#[test]
fn a_runtime_that_is_absent_is_refused_and_no_other_is_taken() {
    let env = TestEnv::new();
    let exec = |args: &[&str]| {
        env.fumehood()
            .arg("exec")
            .args(args)
            .args(["--", "true"])
            .assert()
    };
    exec(&["--backend", "namespace", "--set", "executor.runtime=runc"])
        .code(125)
        .stderr(contains("the namespace backend has no runtimes"));
    // Without an engine the rest cannot be tried.
    if std::env::var_os("DOCKER_HOST").is_none() {
        return;
    }
    let image = ["--backend", "docker", "--image", "fumehood-test:base"];
    exec(&[&image[..], &["--set", "executor.runtime=kata"]].concat())
        .code(125)
        .stderr(contains("executor.runtime = \"kata\"").and(contains("the engine has only")));
    exec(&[&image[..], &["--set", "executor.runtime=runc"]].concat())
        .success()
        .stderr(contains("; by runc"));
    exec(
        &[
            &image[..],
            &[
                "--set",
                "executor.runtime=runsc",
                "--set",
                "gpu.devices=any:1",
            ],
        ]
        .concat(),
    )
    .code(125)
    .stderr(contains("a GPU is not given through it"));
}
