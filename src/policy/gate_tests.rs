use super::super::fixture;
use super::super::model::Contained;
use super::*;

fn said<A>(verdict: Verdict<A>) -> String {
    match verdict {
        Verdict::Allowed(permit) => format!("allowed by {:?}", permit.approver()),
        Verdict::Ask(question) => match question.widens() {
            Some(line) => format!("{} asks; {line}", question.rule()),
            None => format!("{} asks", question.rule()),
        },
        Verdict::Denied(denial) => denial.to_string(),
    }
}

#[test]
fn a_permit_carries_the_digest_of_what_was_decided() {
    let mut policy = fixture::policy();
    policy.approval.contained = Contained::Allow;
    let act = fixture::exec(&policy, "python train.py");
    let digest = digest_of(&act);
    let Verdict::Allowed(permit) = decide_exec(&policy, &Standing::default(), act) else {
        panic!("not allowed");
    };
    assert_eq!(permit.digest(), &digest);
}

#[test]
fn a_remembered_digest_allows_the_same_bytes_only() {
    let policy = fixture::policy();
    let act = fixture::exec(&policy, "python train.py");
    let mut standing = Standing::default();
    standing.remembered.insert(digest_of(&act));
    let mut other = act.clone();
    other.code = Digest::new("changed");
    assert_eq!(
        said(decide_exec(&policy, &standing, act)),
        "allowed by Remembered"
    );
    assert_eq!(
        said(decide_exec(&policy, &standing, other)),
        "approval.contained asks"
    );
}

#[test]
fn a_policy_that_remembers_nothing_asks_again_and_offers_no_more() {
    let mut policy = fixture::policy();
    policy.approval.remember = Remember::Never;
    let act = fixture::exec(&policy, "python train.py");
    let mut standing = Standing::default();
    standing.remembered.insert(digest_of(&act));
    let Verdict::Ask(question) = decide_exec(&policy, &standing, act) else {
        panic!("it does not ask");
    };
    assert_eq!(question.reach(), Reach::Once);
}

#[test]
fn a_yes_for_the_run_is_offered_where_it_would_count() {
    let policy = fixture::policy();
    let reach = |change: &dyn Fn(&mut ExecAction)| {
        let mut act = fixture::exec(&policy, "python train.py");
        change(&mut act);
        match decide_exec(&policy, &Standing::default(), act) {
            Verdict::Ask(question) => question.reach(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reach(&|_| ()), Reach::Run);
    assert_eq!(reach(&|act| act.names_artifact = true), Reach::Once);
    assert_eq!(reach(&|act| act.wall_ms = Some(u64::MAX)), Reach::Once);
}

#[test]
fn what_the_user_typed_is_theirs() {
    let policy = fixture::policy();
    let mut act = fixture::exec(&policy, "python train.py");
    act.origin = Origin::Typed;
    assert_eq!(
        said(decide_exec(&policy, &Standing::default(), act)),
        "allowed by Typed"
    );
}

#[test]
fn no_policy_allows_what_stands_on_the_hard_list() {
    let mut policy = fixture::policy();
    policy.approval.contained = Contained::Allow;
    let act = || fixture::exec(&policy, "python train.py");
    let with = |change: &dyn Fn(&mut ExecAction)| {
        let mut act = act();
        change(&mut act);
        said(decide_exec(&policy, &Standing::default(), act))
    };
    let mount =
        |source: &str| fixture::mount(MountKind::Input, source, "/data/x", Access::ReadOnly);
    assert!(with(&|_| ()).starts_with("allowed"));
    for refused in [
        with(&|act| act.argv.clear()),
        with(&|act| act.argv = vec![Vec::new()]),
        with(&|act| act.argv.push(b"a\0b".to_vec())),
        with(&|act| act.sandbox.uid = 0),
        with(&|act| act.sandbox.gid = 0),
        with(&|act| act.cwd = "relative".into()),
        with(&|act| act.policy = Digest::new("other")),
        with(&|act| act.sandbox.mounts.push(mount("/"))),
        with(&|act| act.sandbox.mounts.push(mount("/run/docker.sock"))),
    ] {
        assert!(refused.starts_with("denied by always"), "{refused}");
    }
}

#[test]
fn clones_are_decided_by_where_they_come_from() {
    let mut policy = fixture::policy();
    policy.git.hosts = vec!["github.com".into()];
    let clone = |url: &str| said(decide_clone(&policy, fixture::clone(&policy, url)));
    assert_eq!(clone("https://github.com/a/b"), "approval.default asks");
    assert_eq!(
        clone("https://example.org/a"),
        r#"git asks; git.hosts = ["example.org"]"#
    );
    assert!(clone("git@github.com:a/b").starts_with("denied by git"));
    assert!(clone("git://github.com/a/b").contains("give its https URL"));
    assert!(clone("http://github.com/a/b").contains("git] remotes"));
}

#[test]
fn a_policy_that_asks_nobody_says_what_to_add() {
    let mut policy = fixture::policy();
    policy.approval.default = Decision::Deny;
    let act = fixture::clone(&policy, "https://example.org/a");
    let denial = said(decide_clone(&policy, act));
    assert!(
        denial.ends_with(r#"add to it: git.hosts = ["example.org"]"#),
        "{denial}"
    );
}

#[test]
fn a_clone_lands_beneath_the_workspace() {
    let mut policy = fixture::policy();
    policy.git.hosts = vec!["github.com".into()];
    for into in ["../x", "/x", "a/../../x", ".git", "a/.vscode/x"] {
        let mut act = fixture::clone(&policy, "https://github.com/a/b");
        act.into = into.into();
        let denial = said(decide_clone(&policy, act));
        assert!(
            denial.starts_with("denied by workspace"),
            "{into}: {denial}"
        );
    }
}

#[test]
fn files_beneath_the_workspace_are_ours_to_touch_and_protected_folders_are_not() {
    let policy = fixture::policy();
    let read = |path: &str| said(decide_file(&policy, FileAction::Read { path: path.into() }));
    for path in [
        "",
        ".",
        "train.py",
        "a/b.c",
        "./a",
        ".github/x",
        ".gitignore",
    ] {
        assert!(read(path).starts_with("allowed"), "{path}");
    }
    for path in [
        "/etc/passwd",
        "..",
        "a/../../b",
        ".git/config",
        "a/.GIT/hooks/x",
        ".envrc",
        ".claude",
    ] {
        assert!(read(path).starts_with("denied by workspace"), "{path}");
    }
}
