use super::super::fixture::{self, argv, rule};
use super::*;

fn facts(argv: &[Vec<u8>]) -> ExecFacts<'_> {
    ExecFacts {
        argv,
        origin: Origin::Model,
        wall_ms: Some(1_800_000),
        wall_limit_ms: Some(1_800_000),
        names_artifact: false,
        writes_outside: None,
        reaches: None,
        gpus: 0,
        secrets: None,
        yes_given: false,
        remembered: false,
    }
}

fn with(rules: Vec<Rule>) -> Policy {
    let mut policy = fixture::policy();
    policy.approval.rules = rules;
    policy
}

fn decided(policy: &Policy, line: &str) -> (Decision, String) {
    let argv = argv(line);
    let judgement = exec(policy, &facts(&argv));
    (judgement.decision, judgement.rule)
}

#[test]
fn the_strictest_matching_rule_wins_whatever_its_place() {
    let policy = with(vec![
        rule("allow", Decision::Allow, &["python", "train.py"]),
        rule("deny", Decision::Deny, &["python", "train.py", "--rm"]),
        rule("ask", Decision::Ask, &["python", "train.py", "--big"]),
    ]);
    let said = |line| decided(&policy, line);
    assert_eq!(
        said("python train.py"),
        (Decision::Allow, "rule allow".into())
    );
    assert_eq!(
        said("python train.py --big"),
        (Decision::Ask, "rule ask".into())
    );
    assert_eq!(
        said("python train.py --rm"),
        (Decision::Deny, "rule deny".into())
    );
    assert_eq!(
        said("python train.pyc"),
        (Decision::Ask, by::CONTAINED.into())
    );
}

#[test]
fn prefixes_are_compared_argument_by_argument() {
    let policy = with(vec![rule("one", Decision::Allow, &["python", "train.py"])]);
    for line in [
        "python  train.py",
        "python",
        "/usr/bin/python train.py",
        "python ./train.py",
    ] {
        assert_eq!(decided(&policy, line).0, Decision::Ask, "{line}");
    }
    let one_word = [b"python train.py".to_vec()];
    assert_eq!(exec(&policy, &facts(&one_word)).decision, Decision::Ask);
}

#[test]
fn no_allow_rule_covers_code_in_arguments_but_a_deny_rule_does() {
    let allow = with(vec![rule("all", Decision::Allow, &["python"])]);
    assert_eq!(decided(&allow, "python train.py").0, Decision::Allow);
    assert_eq!(decided(&allow, "python -c x").0, Decision::Ask);
    let deny = with(vec![rule("all", Decision::Deny, &["python"])]);
    assert_eq!(decided(&deny, "python -c x").0, Decision::Deny);
}

#[test]
fn a_rule_with_a_time_covers_only_what_asks_for_no_more() {
    let mut short = rule("short", Decision::Allow, &["python", "train.py"]);
    short.max_wall_ms = Some(600_000);
    let policy = with(vec![short]);
    let argv = argv("python train.py");
    let asked = |wall_ms| {
        let facts = ExecFacts {
            wall_ms,
            wall_limit_ms: None,
            ..facts(&argv)
        };
        exec(&policy, &facts).decision
    };
    assert_eq!(asked(Some(600_000)), Decision::Allow);
    assert_eq!(asked(Some(600_001)), Decision::Ask);
    assert_eq!(asked(None), Decision::Ask);
}

#[test]
fn a_rule_without_a_network_or_with_few_gpus_covers_no_sandbox_that_has_more() {
    let mut narrow = rule("narrow", Decision::Allow, &["python", "train.py"]);
    (narrow.max_gpus, narrow.offline) = (Some(1), true);
    let policy = with(vec![narrow]);
    let argv = argv("python train.py");
    let in_one = |gpus, reaches: Option<&str>| {
        let facts = ExecFacts {
            gpus,
            reaches: reaches.map(str::to_owned),
            ..facts(&argv)
        };
        let judgement = exec(&policy, &facts);
        let miss = judgement.considered[0].miss.as_ref().map(Miss::to_string);
        (judgement.decision, miss)
    };
    assert_eq!(in_one(1, None), (Decision::Allow, None));
    let gpus = "it allows 1 GPUs, the sandbox has 2".to_owned();
    assert_eq!(in_one(2, None), (Decision::Ask, Some(gpus)));
    let network = "it allows no network, the sandbox reaches a.org".to_owned();
    assert_eq!(in_one(1, Some("a.org")), (Decision::Ask, Some(network)));
}

#[test]
fn what_goes_beyond_the_time_limit_asks_with_the_line_that_raises_it() {
    let mut policy = with(vec![rule("all", Decision::Allow, &["ls"])]);
    policy.approval.contained = Contained::Allow;
    let argv = argv("ls");
    let facts = ExecFacts {
        wall_ms: Some(7_200_000),
        ..facts(&argv)
    };
    let judgement = exec(&policy, &facts);
    assert_eq!(judgement.decision, Decision::Ask);
    assert_eq!(
        judgement.widens.as_deref(),
        Some("limits.wall_time = \"2h\"")
    );
}

#[test]
fn contained_is_decided_as_the_policy_says() {
    let mut policy = fixture::policy();
    let argv = argv("python train.py");
    let mut said = |contained, yes_given| {
        policy.approval.contained = contained;
        exec(
            &policy,
            &ExecFacts {
                yes_given,
                ..facts(&argv)
            },
        )
        .decision
    };
    assert_eq!(said(Contained::Ask, true), Decision::Ask);
    assert_eq!(said(Contained::AfterFirstYes, false), Decision::Ask);
    assert_eq!(said(Contained::AfterFirstYes, true), Decision::Allow);
    assert_eq!(said(Contained::Allow, false), Decision::Allow);
}

#[test]
fn what_can_write_beyond_the_workspace_is_not_contained() {
    let mut policy = fixture::policy();
    policy.approval.contained = Contained::Allow;
    let argv = argv("python train.py");
    let facts = ExecFacts {
        writes_outside: Some("/data/x".into()),
        ..facts(&argv)
    };
    let judgement = exec(&policy, &facts);
    assert_eq!(
        (judgement.decision, judgement.rule.as_str()),
        (Decision::Ask, by::DEFAULT)
    );
}

#[test]
fn naming_an_artifact_always_asks() {
    let mut policy = with(vec![rule("eval", Decision::Allow, &["python", "eval.py"])]);
    policy.approval.contained = Contained::Allow;
    let argv = argv("python eval.py outputs/model.pt");
    let facts = ExecFacts {
        names_artifact: true,
        remembered: true,
        yes_given: true,
        ..facts(&argv)
    };
    let judgement = exec(&policy, &facts);
    assert_eq!(
        (judgement.decision, judgement.rule.as_str()),
        (Decision::Ask, by::ARTIFACTS)
    );
    policy.approval.rules = vec![rule("no", Decision::Deny, &["python"])];
    assert_eq!(exec(&policy, &facts).decision, Decision::Deny);
}

#[test]
fn what_was_typed_is_decided_by_typed_after_the_deny_rules() {
    let mut policy = with(vec![
        rule("ask", Decision::Ask, &["python"]),
        rule("deny", Decision::Deny, &["rm"]),
    ]);
    let python = argv("python train.py");
    fn typed(argv: &[Vec<u8>]) -> ExecFacts<'_> {
        ExecFacts {
            origin: Origin::Typed,
            ..facts(argv)
        }
    }
    assert_eq!(exec(&policy, &typed(&python)).decision, Decision::Allow);
    assert_eq!(
        exec(&policy, &typed(&argv("rm x"))).decision,
        Decision::Deny
    );
    policy.approval.typed = Decision::Ask;
    let judgement = exec(&policy, &typed(&python));
    assert_eq!(
        (judgement.decision, judgement.rule.as_str()),
        (Decision::Ask, by::TYPED)
    );
}

#[test]
fn a_policy_that_says_no_by_default_asks_nobody() {
    let mut policy = fixture::policy();
    policy.approval.default = Decision::Deny;
    assert_eq!(decided(&policy, "ls"), (Decision::Deny, by::DEFAULT.into()));
    policy.approval.rules = vec![rule("ask", Decision::Ask, &["ls"])];
    assert_eq!(decided(&policy, "ls").0, Decision::Deny);
    policy.approval.contained = Contained::Allow;
    assert_eq!(decided(&policy, "ls").0, Decision::Ask);
}

#[test]
fn each_rule_says_why_it_did_not_match() {
    let mut clone_rule = rule("clones", Decision::Allow, &[]);
    clone_rule.action = ActionKind::Clone;
    let policy = with(vec![
        clone_rule,
        rule("train", Decision::Allow, &["python", "train.py", "--lr"]),
        rule("python", Decision::Allow, &["python"]),
    ]);
    let argv = argv("python train.py");
    let misses: Vec<String> = exec(&policy, &facts(&argv))
        .considered
        .iter()
        .map(|one| one.miss.as_ref().map_or("matched".into(), Miss::to_string))
        .collect();
    assert_eq!(
        misses,
        [
            "it is about clone",
            "it wants --lr, the command ends before",
            "matched"
        ]
    );
}
