use super::super::args::{Cli, Command};
use super::*;
use crate::policy::model::Decision;
use clap::Parser;
use std::ffi::OsString;

/// A user on a machine whose administrator wrote that.
fn request(system: &str, typed: &[&str]) -> Result<SandboxRequest, Failure> {
    let home = tempfile::tempdir().unwrap();
    let variables = [("HOME", home.path()), ("FUMEHOOD_HOME", home.path())];
    let variables = variables.map(|(name, path)| (OsString::from(name), path.into()));
    let mut config = Config::from(variables).unwrap();
    config.system_policy = home.path().join("system.toml");
    std::fs::write(&config.system_policy, format!("schema = 1\n{system}")).unwrap();
    let words = ["fumehood", "exec"]
        .iter()
        .chain(typed)
        .chain(&["--", "true"]);
    let Command::Exec(args) = Cli::try_parse_from(words).unwrap().command else {
        panic!("it is exec");
    };
    sandbox(&config, &args.sandbox)
}

#[test]
fn the_systems_policy_is_a_ceiling_over_what_is_chosen_and_typed() {
    let system = "limits.memory = \"1GiB\"\napproval.typed = \"ask\"";
    let request = request(
        system,
        &["--policy", "dev-loop", "--set", "limits.memory=64GiB"],
    )
    .unwrap();
    assert_eq!(request.policy.limits.memory, Some(1 << 30));
    assert_eq!(request.policy.approval.typed, Decision::Ask);
    assert_eq!(request.policy.name, "dev-loop");
    assert!(request.policy_notes[0].contains("is a ceiling over the policy"));
}

#[test]
fn with_strict_a_flag_above_the_ceiling_starts_nothing() {
    let typed = ["--strict", "--set", "limits.memory=64GiB"];
    let failure = request("limits.memory = \"1GiB\"", &typed).unwrap_err();
    assert!(failure.message.contains("--strict"), "{}", failure.message);
    request("limits.memory = \"1GiB\"", &["--strict"]).unwrap();
}

#[test]
fn flags_of_their_own_stay_beneath_the_ceiling_too() {
    let mounts = "[[mount]]\nsource = \"/srv/a\"\ntarget = \"/data/a\"";
    let mount = |spec| request(mounts, &["--mount", spec]);
    mount("src=/srv/a,dst=/data/a").unwrap();
    for refused in ["src=/srv/a,dst=/data/a,rw", "src=/srv/b,dst=/data/a"] {
        assert!(
            mount(refused)
                .unwrap_err()
                .message
                .contains("does not list"),
            "{refused}"
        );
    }
    let venv = request(mounts, &["--venv", "/srv/a/../b"]);
    assert!(venv.unwrap_err().message.starts_with("--venv"));
    let env = request("env.set = { SEED = \"0\" }", &["--env", "SEED=1"]);
    assert!(env.unwrap_err().message.contains("sets it"));
    request("env.set = { SEED = \"0\" }", &["--env", "SEED=0"]).unwrap();
    let backend = request("executor.backend = \"docker\"", &["--backend", "namespace"]);
    assert!(backend.unwrap_err().message.contains("executor.backend"));
}

#[test]
fn a_system_policy_that_cannot_be_used_is_not_passed_over() {
    let failure = request("limits.memroy = \"1GiB\"", &[]).unwrap_err();
    assert!(
        failure.message.contains("E_UNKNOWN_KEY"),
        "{}",
        failure.message
    );
    let home = tempfile::tempdir().unwrap();
    let mut config = Config::from([("HOME".into(), home.path().into())]).unwrap();
    config.system_policy = home.path().to_owned();
    let failure = sandbox(
        &config,
        &SandboxArgs {
            policy: "dev-loop".into(),
            ..SandboxArgs::default()
        },
    );
    assert!(failure.unwrap_err().message.contains("no regular file"));
    config.system_policy = home.path().join("none.toml");
    sandbox(
        &config,
        &SandboxArgs {
            policy: "dev-loop".into(),
            ..SandboxArgs::default()
        },
    )
    .unwrap();
}
