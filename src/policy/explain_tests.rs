use super::super::file::{self, problem::PolicySource};
use super::super::fixture::argv;
use super::*;

const MINE: &str = r#"schema = 1
extends = "builtin:offline-train"

[limits]
memory = "1GiB"
pids = 4096

[[approval.rule]]
id = "no-rm"
action = "exec"
decision = "deny"
command_prefix = ["rm"]
reason = "delete by hand"

[[approval.rule]]
id = "push"
action = "clone"
decision = "deny"
"#;

fn loaded(text: &str) -> Loaded {
    let mut nobody = |_: &str| Err("there is no such file".to_owned());
    file::load(PolicySource::new("mine.toml", text), &mut nobody).unwrap()
}

#[test]
fn each_value_has_its_origin_and_what_lost_against_it() {
    let loaded = loaded(MINE);
    let shown: Vec<String> = values(&loaded)
        .iter()
        .map(|one| {
            let lost: Vec<String> = one
                .lost
                .iter()
                .map(|lost| format!("{} of {}", lost.value, lost.origin))
                .collect();
            format!(
                "{} = {}  # {}; lost: {}",
                one.key,
                one.value,
                one.origin,
                lost.join(", ")
            )
        })
        .collect();
    insta::assert_snapshot!("values", shown.join("\n"));
}

#[test]
fn a_decision_is_explained_with_every_rule_that_was_looked_at() {
    let loaded = loaded(MINE);
    insta::assert_json_snapshot!(
        "asked",
        command(
            &loaded,
            &argv("python train.py outputs/a.pt --out=./runs/1")
        )
    );
    insta::assert_json_snapshot!("denied", command(&loaded, &argv("rm -rf x")));
}

fn first(text: &str, line: &str) -> Case {
    command(&loaded(text), &argv(line)).cases.remove(0)
}

/// What the change proposes must do what it says.
#[test]
fn the_proposed_change_turns_the_decision() {
    let asked = first("schema = 1", "python -u train.py --lr 0.1");
    assert_eq!(asked.decision, Decision::Ask);
    assert!(
        asked
            .change
            .contains(r#"command_prefix = ["python", "-u", "train.py"]"#),
        "{}",
        asked.change
    );
    let allowed = first(
        "schema = 1\n[[approval.rule]]\nid = \"t\"\naction = \"exec\"\ndecision = \"allow\"\ncommand_prefix = [\"python\", \"-u\", \"train.py\"]",
        "python -u train.py --lr 0.1",
    );
    assert_eq!(
        (allowed.decision, allowed.by.as_str()),
        (Decision::Allow, "rule t")
    );

    let inline = first("schema = 1", "sh -c x");
    assert!(
        inline.change.contains("after-first-yes"),
        "{}",
        inline.change
    );
    let once = command(
        &loaded("schema = 1\napproval.contained = \"after-first-yes\""),
        &argv("sh -c x"),
    );
    assert_eq!(once.cases.len(), 3);
    assert_eq!(once.cases[1].decision, Decision::Allow);

    let denied = first("schema = 1\napproval.default = \"deny\"", "ls");
    assert_eq!(denied.decision, Decision::Deny);
    assert!(denied.change.starts_with("approval.default = \"ask\" asks"));
}

#[test]
fn what_is_typed_is_a_case_of_its_own() {
    let explained = command(&loaded("schema = 1"), &argv("ls"));
    let typed = explained.cases.last().unwrap();
    assert_eq!(
        (typed.decision, typed.by.as_str()),
        (Decision::Allow, by::TYPED)
    );
    assert_eq!(typed.origin, "default");
}
