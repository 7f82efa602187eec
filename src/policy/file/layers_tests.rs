use super::*;
use crate::policy::builtin;
use crate::policy::meet::meet;
use crate::policy::model::Decision;
use crate::policy::origin::Level;

fn nobody(_: &str) -> Result<PolicySource, String> {
    Err("there is no such file".to_owned())
}

fn mine(text: &str) -> Loaded {
    let source = PolicySource::new("mine.toml", format!("schema = 1\n{text}"));
    load(source, &mut nobody).unwrap_or_else(|errors| panic!("{errors}"))
}

fn source(level: Level, text: &str) -> PolicySource {
    PolicySource::new(
        format!("{}.toml", level.name()),
        format!("schema = 1\n{text}"),
    )
    .of(level)
}

fn under(loaded: Loaded, level: Level, text: &str) -> Loaded {
    tighten(loaded, source(level, text), &mut nobody).unwrap_or_else(|errors| panic!("{errors}"))
}

fn warned(loaded: &Loaded) -> Vec<(Code, &str, &str)> {
    let label = |one: &Problem| loaded.sources[one.source].label.as_str();
    let warnings = loaded.warnings.iter();
    warnings
        .map(|one| (one.code, label(one), one.key.as_str()))
        .collect()
}

#[test]
fn a_layer_says_only_what_it_says() {
    let before = builtin::load(builtin::DEFAULT).unwrap();
    for level in [Level::Project, Level::System] {
        let after = under(before.clone(), level, "");
        assert_eq!(after.policy, before.policy);
        assert!(after.warnings.is_empty());
    }
}

#[test]
fn a_ceiling_holds_over_a_file_a_flag_and_a_built_in() {
    let ceiling = "[limits]\nmemory = \"1GiB\"\npids = 100\n[approval]\ntyped = \"ask\"";
    let mut loaded = mine("limits.memory = \"8GiB\"");
    apply_set(&mut loaded, "limits.pids=4000").unwrap();
    let loaded = under(loaded, Level::System, ceiling);
    assert_eq!(loaded.policy.limits.memory, Some(1 << 30));
    assert_eq!(loaded.policy.limits.pids, Some(100));
    assert_eq!(loaded.policy.approval.typed, Decision::Ask);
    // Said where the user wrote it; the default of `approval.typed` nobody wrote.
    assert_eq!(
        warned(&loaded),
        [
            (Code::LooserIgnored, "mine.toml", "limits.memory"),
            (Code::LooserIgnored, "--set", "limits.pids"),
        ]
    );
    let memory = loaded.origins.get("limits.memory").unwrap();
    assert_eq!(memory.origin.to_string(), "system.toml:3");
    assert_eq!(memory.origin.level(), Some(Level::System));
    assert_eq!(memory.lost[0].value, "\"8GiB\"");
    assert_eq!(memory.lost[0].origin.to_string(), "mine.toml:2");

    let usual = under(
        builtin::load(builtin::DEFAULT).unwrap(),
        Level::System,
        ceiling,
    );
    assert_eq!(usual.policy.limits.memory, Some(1 << 30));
    assert!(usual.warnings.is_empty(), "a built-in is nobody's mistake");
}

#[test]
fn a_ceiling_above_what_is_there_changes_nothing_and_is_no_mistake() {
    let loaded = under(
        mine("limits.memory = \"1GiB\""),
        Level::System,
        "limits.memory = \"64GiB\"",
    );
    assert_eq!(loaded.policy.limits.memory, Some(1 << 30));
    assert!(loaded.warnings.is_empty());
    let memory = loaded.origins.get("limits.memory").unwrap();
    assert_eq!(memory.origin.to_string(), "mine.toml:2");
    assert_eq!(memory.lost[0].origin.to_string(), "system.toml:2");
}

#[test]
fn a_project_cannot_loosen_and_is_told_so() {
    let loaded = under(
        mine("limits.memory = \"1GiB\""),
        Level::Project,
        "approval.contained = \"allow\"\n[limits]\nmemory = \"2GiB\"\npids = 20\n[[approval.rule]]\nid = \"all\"\naction = \"clone\"\ndecision = \"allow\"",
    );
    assert_eq!(loaded.policy.limits.memory, Some(1 << 30));
    assert_eq!(loaded.policy.limits.pids, Some(20));
    assert_eq!(
        loaded.policy.approval.contained,
        crate::policy::model::Contained::Ask
    );
    assert!(loaded.policy.approval.rules.is_empty());
    let keys: Vec<&str> = warned(&loaded).iter().map(|one| one.2).collect();
    assert_eq!(
        keys,
        ["approval.contained", "limits.memory", "approval.rule.id"]
    );
    assert!(warned(&loaded).iter().all(|one| one.1 == "project.toml"));
}

#[test]
fn a_rule_of_another_layer_adds_up_and_bears_its_name() {
    let rule = "[[approval.rule]]\nid = \"no-rm\"\naction = \"exec\"\ndecision = \"deny\"\ncommand_prefix = [\"rm\"]";
    let loaded = under(under(mine(rule), Level::Project, rule), Level::System, rule);
    let ids: Vec<&str> = loaded
        .policy
        .approval
        .rules
        .iter()
        .map(|rule| rule.id.as_str())
        .collect();
    assert_eq!(ids, ["no-rm", "project/no-rm", "system/no-rm"]);
    let origin = &loaded.origins.get("rule system/no-rm").unwrap().origin;
    assert_eq!(origin.level(), Some(Level::System));
}

#[test]
fn secrets_are_what_every_layer_lists_and_asked_about_where_one_asks() {
    let secret = |name: &str, grant: &str| {
        format!("[[secrets]]\nname = \"{name}\"\nas = \"file\"\ngrant = \"{grant}\"\n")
    };
    let user = mine(&format!(
        "{}{}{}",
        secret("A", "allow"),
        secret("B", "allow"),
        secret("C", "ask")
    ));
    let project = format!(
        "{}{}{}",
        secret("A", "ask"),
        secret("B", "allow"),
        secret("D", "allow")
    );
    let loaded = under(user, Level::Project, &project);
    let given: Vec<_> = loaded
        .policy
        .secrets
        .iter()
        .map(|one| (one.name.as_str(), one.grant))
        .collect();
    assert_eq!(given, [("A", Decision::Ask), ("B", Decision::Allow)]);
    assert!(
        warned(&loaded)
            .iter()
            .any(|one| one.0 == Code::LooserIgnored && one.1 == "project.toml")
    );
    let none = under(loaded, Level::System, "secrets = []");
    assert!(none.policy.secrets.is_empty());
    assert!(warned(&none).iter().any(|one| one.2 == "secret B"));
}

#[test]
fn mounts_are_what_every_layer_lists_and_a_typed_one_must_be_among_them() {
    let mount = |source: &str, mode: &str| {
        format!(
            "[[mount]]\nsource = \"/srv/{source}\"\ntarget = \"/data/{source}\"\nmode = \"{mode}\"\n"
        )
    };
    let user = mine(&format!(
        "{}{}{}",
        mount("a", "rw"),
        mount("b", "ro"),
        mount("c", "ro")
    ));
    let ceiling = format!("{}{}", mount("a", "ro"), mount("b", "ro"));
    let loaded = under(user, Level::System, &ceiling);
    let mounted: Vec<_> = loaded
        .policy
        .mounts
        .iter()
        .map(|one| (one.source.as_str(), one.access))
        .collect();
    assert_eq!(
        mounted,
        [("/srv/a", Access::ReadOnly), ("/srv/b", Access::ReadOnly)]
    );
    assert_eq!(
        warned(&loaded),
        [
            (Code::LooserIgnored, "mine.toml", "mount /data/a"),
            (Code::LooserIgnored, "mine.toml", "mount /data/c"),
        ]
    );
    let refuses = |source, target, access| {
        let place = Some((Path::new(target), access));
        loaded.refuses_mount(Path::new(source), place).is_some()
    };
    assert!(!refuses("/srv/a", "/data/a", Access::ReadOnly));
    assert!(refuses("/srv/a", "/data/a", Access::ReadWrite));
    assert!(refuses("/srv/a", "/data/x", Access::ReadOnly));
    assert!(refuses("/srv/c", "/data/c", Access::ReadOnly));
    assert_eq!(loaded.refuses_mount(Path::new("/srv/a/venv"), None), None);
    assert!(loaded.refuses_mount(Path::new("/srv/ab"), None).is_some());
    let none = under(mine(""), Level::Project, "mount = []");
    assert!(none.refuses_mount(Path::new("/srv/a"), None).is_some());
    assert_eq!(mine("").refuses_mount(Path::new("/srv/a"), None), None);
}

#[test]
fn what_excludes_each_other_is_an_error_at_the_later_layer() {
    let mut loaded = mine("");
    apply_typed(&mut loaded, "--backend", "executor.backend=namespace").unwrap();
    let ceiling = source(Level::System, "executor.backend = \"docker\"");
    let errors = tighten(loaded, ceiling, &mut nobody).unwrap_err();
    assert_eq!(errors.problems[0].code, Code::Conflict);
    assert_eq!(
        errors.sources[errors.problems[0].source].label,
        "system.toml"
    );
}

#[test]
fn a_mistake_in_a_layer_ends_it_and_points_into_it() {
    let errors = tighten(
        mine("limits.memory = \"1GiB\""),
        source(Level::Project, "limits.memroy = \"1GiB\""),
        &mut nobody,
    )
    .unwrap_err();
    let problem = &errors.problems[0];
    assert_eq!(problem.code, Code::UnknownKey);
    assert_eq!(errors.sources[problem.source].label, "project.toml");
}

#[test]
fn what_a_layer_extends_is_its_own_word() {
    let loaded = under(mine(""), Level::System, "extends = \"builtin:locked-down\"");
    let strict = builtin::policy("locked-down").unwrap();
    assert_eq!(
        loaded.policy.limits,
        crate::protocol::spec::Limits { ..strict.limits }
    );
    assert_eq!(loaded.policy.approval.typed, Decision::Ask);
    let origin = &loaded.origins.get("approval.typed").unwrap().origin;
    assert_eq!(origin.level(), Some(Level::System));
}

#[test]
fn a_tag_that_moves_is_refused_under_a_ceiling_that_wants_digests() {
    let errors = tighten(
        mine("[image]\nallow = [\"python:3\"]\nrequire_digest = false"),
        source(Level::System, "image.require_digest = true"),
        &mut nobody,
    )
    .unwrap_err();
    assert_eq!(errors.problems[0].code, Code::ImageRef);
}

mod never_looser {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    const LINES: &[&str] = &[
        "limits.memory = \"1GiB\"",
        "limits.memory = \"64GiB\"",
        "limits.cpus = 1",
        "limits.wall_time = \"unlimited\"",
        "approval.contained = \"allow\"",
        "approval.default = \"deny\"",
        "approval.alone = true",
        "tmp.exec = true",
        "git.hosts = [\"github.com\"]",
        "git.hosts = [\"github.com\", \"a.org\"]",
        "network.mode = \"proxy\"",
        "network.allow = [\"a.org\"]",
        "env.pass = [\"LANG\"]",
        "executor.require = [\"memory:absent\"]",
        "executor.require = [\"memory\"]",
        "process.user = 1000",
        "mount = []",
        "approval.rule = [{ id = \"a\", action = \"exec\", decision = \"allow\", command_prefix = [\"ls\"] }]",
        "approval.rule = [{ id = \"b\", action = \"exec\", decision = \"deny\", command_prefix = [\"ls\"] }]",
    ];

    prop_compose! {
        /// Lines about different keys.
        fn a_text()(lines in proptest::collection::vec(select(LINES), 0..6)) -> String {
            let mut seen = std::collections::BTreeSet::new();
            let lines = lines.into_iter().filter(|line| seen.insert(line.split(' ').next()));
            lines.collect::<Vec<_>>().join("\n")
        }
    }

    proptest! {
        /// Whatever layers say: what comes out is as tight as what went in, in each key and rule.
        #[test]
        fn a_layer_never_loosens(user in a_text(), project in a_text(), system in a_text()) {
            let before = mine(&user);
            let Ok(between) = tighten(before.clone(), source(Level::Project, &project), &mut nobody) else {
                return Ok(());
            };
            let Ok(after) = tighten(between.clone(), source(Level::System, &system), &mut nobody) else {
                return Ok(());
            };
            for (loose, tight) in [(&before, &between), (&between, &after), (&before, &after)] {
                let again = meet(&loose.policy, &tight.policy).expect("it is beneath it");
                prop_assert_eq!(&again, &tight.policy);
            }
        }

        /// The system's is met whatever the user and the project say: laid over once more it changes
        /// nothing.
        #[test]
        fn a_ceiling_is_met(user in a_text(), system in a_text()) {
            let Ok(once) = tighten(mine(&user), source(Level::System, &system), &mut nobody) else {
                return Ok(());
            };
            let keys = |text: &str| text.replace("approval.rule", "#");
            let twice = tighten(once.clone(), source(Level::System, &keys(&system)), &mut nobody).unwrap();
            prop_assert_eq!(twice.policy, once.policy);
        }
    }
}
