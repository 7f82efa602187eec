use super::render::Look;
use super::*;
use crate::policy::fixture;
use crate::policy::schema;
use crate::protocol::control::{Control, Strength};

fn nobody(_: &str) -> Result<PolicySource, String> {
    Err("there is no such file".to_owned())
}

fn loaded(text: &str) -> Result<Loaded, PolicyErrors> {
    load(PolicySource::new("mine.toml", text), &mut nobody)
}

fn good(text: &str) -> Loaded {
    loaded(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn codes(text: &str) -> Vec<(&'static str, String)> {
    let problems = loaded(text).expect_err("it should not load").problems;
    problems
        .into_iter()
        .map(|one| (one.code.name(), one.key))
        .collect()
}

/// The one mistake of a file that begins with a schema.
fn code(rest: &str) -> &'static str {
    let codes = codes(&format!("schema = 1\n{rest}"));
    assert_eq!(codes.len(), 1, "{rest}: {codes:?}");
    codes[0].0
}

#[test]
fn an_empty_policy_has_the_values_of_the_schema() {
    let mut expected = fixture::policy();
    expected.name = "mine".into();
    assert_eq!(good("schema = 1").policy, expected);
}

#[test]
fn every_key_reads_back_what_it_shows() {
    let names =
        [crate::policy::builtin::NAMES.map(|name| crate::policy::builtin::policy(name).unwrap())];
    for policy in names.into_iter().flatten().chain([fixture::policy()]) {
        let lines: Vec<String> = crate::policy::schema::values(&policy)
            .map(|(key, value)| format!("{} = {value}", key.path))
            .collect();
        let mut again = good(&format!("schema = 1\n{}", lines.join("\n"))).policy;
        again.name = policy.name.clone();
        again.description = policy.description.clone();
        again.approval.rules = policy.approval.rules.clone();
        assert_eq!(again, policy);
    }
}

/// The reference in the README is read as a policy: it names every key, and the defaults it shows are
/// those there are.
#[test]
fn the_readme_shows_every_key_with_its_default() {
    let readme = include_str!("../../../README.md");
    let block = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let shown = good(block);
    assert!(shown.warnings.is_empty());
    let examples = [
        "executor.require",
        "env.set",
        "env.pass",
        "git.hosts",
        "network.allow",
        "network.sources",
        "git.remotes",
    ];
    let defaults = fixture::policy();
    for key in crate::policy::schema::KEYS {
        assert!(
            shown.origins.get(key.path).is_some(),
            "{} is missing",
            key.path
        );
        if !examples.contains(&key.path) {
            let value = |policy| key.form.show(&(key.slot.get)(policy));
            assert_eq!(value(&shown.policy), value(&defaults), "{}", key.path);
        }
    }
    assert_eq!(
        (shown.policy.mounts.len(), shown.policy.approval.rules.len()),
        (1, 1)
    );
}

const EVERY_MISTAKE: &str = r#"schema = 1
name = "Offline Train"
description = "shows \u001b[2J"
extend = "builtin:locked-down"
memory = "4GiB"

[executor]
backend = "podman"
require = ["memory:measured", "secomp"]

[limits]
wall_time = 30
memory = "4"
cpus = 0
pids = 2
cost_usd = 5.0
wal_time = "1h"

[network]
mode = "open"
allow = ["*", { host = "10.0.0.0/8" }, { host = "localhost" }, { host = "pуpi.org" }, { host = "a.org", methods = ["get"] }]
sources = ["pypi"]

[gpu]
devices = "all"
capabilities = ["compute", "graphics"]

[env]
set = { LD_PRELOAD = "x.so", SEED = 0 }
pass = ["AWS_*"]

[git]
hosts = ["https://github.com", "github.com", "github.com"]
remotes = ["git://x.org/"]

[artifacts]
include = ["**", "../out/**"]

[audit]
fail_closed = false

[[mount]]
source = "~/data"
target = "/etc/x"

[[mount]]
source = "/etc"
target = "/data/etc"
mod = "ro"

[[approval.rule]]
id = "shell"
action = "exec"
decision = "allow"
command_prefix = ["sh", "-c"]

[[approval.rule]]
id = "train"
action = "exec"
decision = "allow"
command_prefix = ["python", "train.py"]
match = [["python", "eval.py"]]
not_match = [["python", "train.py", "--lr"]]

[[approval.rule]]
id = "train"
action = "build"
decision = "maybe"
"#;

#[test]
fn all_mistakes_come_at_once() {
    let errors = loaded(EVERY_MISTAKE).unwrap_err();
    insta::assert_snapshot!("plain", errors.render(Look::Plain));
}

#[test]
fn a_terminal_gets_pictures_of_the_lines() {
    let text = "schema = 1\n[limits]\nmemory = \"4\"\nwal_time = \"1h\"\n";
    let errors = loaded(text).unwrap_err();
    insta::assert_snapshot!("drawn", errors.render(Look::Drawn { columns: 80 }));
    assert!(
        !errors
            .render(Look::Drawn { columns: 80 })
            .contains('\u{1b}')
    );
    assert!(
        errors
            .render(Look::Coloured { columns: 80 })
            .contains('\u{1b}')
    );
}

#[test]
fn broken_toml_is_said_with_its_place() {
    let text =
        "schema = 1\n[limits\nmemory = 4GiB\n[limits]\nmemory = \"1GiB\"\nmemory = \"2GiB\"\n";
    insta::assert_snapshot!("toml", loaded(text).unwrap_err().render(Look::Plain));
}

#[test]
fn the_schema_is_named_and_known() {
    assert_eq!(codes("name = \"x\""), [("E_SCHEMA", "schema".into())]);
    assert_eq!(codes("schema = 2"), [("E_SCHEMA", "schema".into())]);
    assert_eq!(codes("schema = \"1\""), [("E_TYPE", "schema".into())]);
    insta::assert_snapshot!(
        "unquoted",
        loaded("schema = 1\nlimits.memory = 4GiB\nlimits.wall_time = 30m\nname = x\nname = 'y'")
            .unwrap_err()
            .render(Look::Plain)
    );
}

#[test]
fn each_mistake_has_its_code() {
    for (text, expected) in [
        ("limits.memory = 4", "E_UNIT"),
        ("limits.memory = \"4 gigs\"", "E_UNIT"),
        ("limits.memory = \"0B\"", "E_RANGE"),
        ("limits.memory = true", "E_TYPE"),
        ("limits.cpus = nan", "E_RANGE"),
        ("limits.cpus = -1", "E_RANGE"),
        ("limits.pids = 99999999999999999999", "E_RANGE"),
        ("limits = 3", "E_TYPE"),
        ("tmp.exec = \"yes\"", "E_TYPE"),
        ("process.user = 0", "E_RANGE"),
        ("process.user = \"root\"", "E_TYPE"),
        ("process.seccomp = \"default\"", "E_NOT_BUILT"),
        ("network.mode = \"host\"", "E_ENUM"),
        ("network.mode = \"open\"", "E_NOT_BUILT"),
        ("gpu.mode = \"hook\"", "E_NOT_BUILT"),
        ("workspace.exec = true", "E_NOT_BUILT"),
        ("workspace.keep = 7", "E_UNIT"),
        ("limits.cost_usd = 5.0", "E_NOT_BUILT"),
        ("artifacts.types = [\"regular\"]", "E_NOT_BUILT"),
        ("approval.contained = \"never\"", "E_ENUM"),
        ("approval.default = \"allow\"", "E_ENUM"),
        ("audit.fail_closed = false", "E_FORBIDDEN"),
        ("image.allow = [\"python:3\"]", "E_IMAGE_REF"),
        ("image.allow = [\"--privileged\"]", "E_IMAGE_REF"),
        ("image.allow = [\"python@sha256:abc\"]", "E_IMAGE_REF"),
        ("env.set = { HOME = \"/root\" }", "E_ENV_FORBIDDEN"),
        ("env.set = { \"A B\" = \"x\" }", "E_ENV_PATTERN"),
        ("env.set = { A = \"\\u0007\" }", "E_TEXT_CONTROL"),
        ("env.pass = [\"AWS_*\"]", "E_ENV_PATTERN"),
        ("env.pass = [\"LD_PRELOAD\"]", "E_ENV_FORBIDDEN"),
        ("git.hosts = [\"10.0.0.1\"]", "E_HOST_PATTERN"),
        ("git.hosts = [\"*.github.com\"]", "E_HOST_PATTERN"),
        ("git.remotes = [\"ssh://x/\"]", "E_REMOTE"),
        ("git.hosts = [\"a.org\", \"a.org\"]", "E_DUPLICATE_ID"),
        ("git.lfs = \"allow\"", "E_NOT_BUILT"),
        ("artifacts.include = [\"*.py\"]", "E_GLOB"),
        ("artifacts.include = [\"a[\"]", "E_GLOB"),
        ("artifacts.include = [\"/out/**\"]", "E_PATH_TRAVERSAL"),
        (
            "executor.require = [\"memory\", \"memory:watched\"]",
            "E_DUPLICATE_ID",
        ),
        ("executor.require = \"memory\"", "E_TYPE"),
        ("name = \"dev-loop\"", "E_NAME_RESERVED"),
        ("name = \"My Policy\"", "E_NAME"),
        ("description = \"\\u202e\"", "E_TEXT_CONTROL"),
        ("extends = \"builtin:offline-trian\"", "E_EXTENDS_PATH"),
        ("extends = \"../x.toml\"", "E_EXTENDS_PATH"),
        ("extends = \"absent.toml\"", "E_EXTENDS_PATH"),
        ("mount = \"x\"", "E_TYPE"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn each_mistake_about_a_host_has_its_code() {
    for (text, expected) in [
        ("network.allow = \"pypi.org\"", "E_TYPE"),
        ("network.allow = [443]", "E_TYPE"),
        ("network.allow = [{ ports = [443] }]", "E_MISSING"),
        (
            "network.allow = [{ host = \"a.org\", port = 443 }]",
            "E_UNKNOWN_KEY",
        ),
        (
            "network.allow = [{ host = \"a.org\", ports = [] }]",
            "E_RANGE",
        ),
        (
            "network.allow = [{ host = \"a.org\", ports = [0] }]",
            "E_RANGE",
        ),
        ("network.allow = [\"a.org\", \"a.org\"]", "E_DUPLICATE_ID"),
        ("network.allow = [\"*.org\"]", "E_HOST_PATTERN"),
        ("network.allow = [\"https://a.org\"]", "E_HOST_PATTERN"),
        ("network.allow = [\"2130706433\"]", "E_HOST_PATTERN"),
        ("network.allow = [\"localhost:80\"]", "E_HOST_PRIVATE"),
        ("network.allow = [\"169.254.169.254:80\"]", "E_HOST_PRIVATE"),
        (
            "network.allow = [\"xn--pypi-4ve.org\"]",
            "E_HOST_CONFUSABLE",
        ),
        (
            "network.allow = [{ host = \"a.org\", ports = [80, 443], methods = [\"GET\"] }]",
            "E_CONFLICT",
        ),
        ("network.sources = [\"npm\"]", "E_ENUM"),
        ("network.ca = \"system\"", "E_ENUM"),
        ("network.upload_bytes = 5", "E_UNIT"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn mounts_are_judged_as_far_as_words_go() {
    let mount = |source: &str, target: &str| {
        code(&format!(
            "[[mount]]\nsource = \"{source}\"\ntarget = \"{target}\""
        ))
    };
    assert_eq!(mount("../x", "/data/x"), "E_PATH_TRAVERSAL");
    assert_eq!(mount("~/x", "/data/x"), "E_PATH_CHARS");
    assert_eq!(mount("/", "/data/x"), "E_MOUNT_FORBIDDEN");
    assert_eq!(
        mount("/var/run/docker.sock", "/data/x"),
        "E_MOUNT_FORBIDDEN"
    );
    assert_eq!(mount("volume:x", "/data/x"), "E_NOT_BUILT");
    assert_eq!(mount("x", "/home/x"), "E_MOUNT_TARGET");
    assert_eq!(mount("x", "data/x"), "E_PATH_CHARS");
    let twice = "[[mount]]\nsource = \"a\"\ntarget = \"/data/a\"\n[[mount]]\nsource = \"b\"\ntarget = \"/data/a/b\"";
    assert_eq!(code(twice), "E_MOUNT_OVERLAP");
    assert_eq!(code("[[mount]]\nsource = \"a\""), "E_MISSING");
}

#[test]
fn a_secret_is_a_file_by_its_name_and_nothing_that_is_not_built() {
    let secret = |more: &str| code(&format!("[[secrets]]\n{more}"));
    let key = "name = \"KEY\"\nas = \"file\"";
    assert_eq!(secret("name = \"KEY\""), "E_MISSING");
    assert_eq!(secret("as = \"file\""), "E_MISSING");
    assert_eq!(secret("name = \"a/b\"\nas = \"file\""), "E_ENV_PATTERN");
    assert_eq!(
        secret("name = \"LD_PRELOAD\"\nas = \"file\""),
        "E_ENV_PATTERN"
    );
    assert_eq!(secret("name = \"KEY\"\nas = \"env\""), "E_ENUM");
    assert_eq!(
        secret("name = \"KEY\"\nas = \"proxy-header\""),
        "E_NOT_BUILT"
    );
    assert_eq!(secret(&format!("{key}\nhost = \"a.org\"")), "E_NOT_BUILT");
    assert_eq!(secret(&format!("{key}\nfile = \"~/key\"")), "E_PATH_CHARS");
    assert_eq!(secret(&format!("{key}\ngrant = \"deny\"")), "E_ENUM");
    assert_eq!(
        secret(&format!("{key}\nvalue = \"hunter2\"")),
        "E_UNKNOWN_KEY"
    );
    assert_eq!(
        secret(&format!("{key}\n[[secrets]]\n{key}")),
        "E_DUPLICATE_ID"
    );
}

#[test]
fn rules_that_are_too_broad_or_contradict_their_examples_are_refused() {
    let rule = |rest: &str| {
        code(&format!(
            "[[approval.rule]]\nid = \"r\"\naction = \"exec\"\n{rest}"
        ))
    };
    for prefix in [
        r#"[]"#,
        r#"["sh", "-c"]"#,
        r#"["bash"]"#,
        r#"["python"]"#,
        r#"["python3", "-c"]"#,
        r#"["python", "-m"]"#,
        r#"["env"]"#,
        r#"["xargs"]"#,
        r#"["sudo", "ls"]"#,
        r#"["uv", "run"]"#,
    ] {
        let allow = format!("decision = \"allow\"\ncommand_prefix = {prefix}");
        assert_eq!(rule(&allow), "E_RULE_TOO_BROAD", "{prefix}");
        let deny = format!("decision = \"deny\"\ncommand_prefix = {prefix}");
        assert!(
            loaded(&format!(
                "schema = 1\n[[approval.rule]]\nid = \"r\"\naction = \"exec\"\n{deny}"
            ))
            .is_ok()
        );
    }
    let allow = "decision = \"allow\"\ncommand_prefix = [\"python\", \"train.py\"]\n";
    assert_eq!(
        rule(&format!("{allow}match = [[\"python\"]]")),
        "E_RULE_EXAMPLE"
    );
    assert_eq!(
        rule(&format!("{allow}not_match = [[\"python\", \"train.py\"]]")),
        "E_RULE_EXAMPLE"
    );
    assert_eq!(rule(&format!("{allow}code = \"x\"")), "E_NOT_BUILT");
    assert_eq!(rule(&format!("{allow}network = \"proxy\"")), "E_ENUM");
    for narrows in ["max_gpus = 0", "network = \"none\""] {
        assert_eq!(
            rule(&format!("decision = \"deny\"\n{narrows}")),
            "E_CONFLICT"
        );
    }
    assert_eq!(
        rule("decision = \"deny\"\nmax_wall_time = \"1h\""),
        "E_CONFLICT"
    );
    assert_eq!(
        rule("decision = \"ask\"\nreason = \"\\u001b\""),
        "E_TEXT_CONTROL"
    );
}

#[test]
fn a_rule_about_clones_has_no_command() {
    let clone = "[[approval.rule]]\nid = \"c\"\naction = \"clone\"\ndecision = \"allow\"\n";
    assert!(loaded(&format!("schema = 1\n{clone}")).is_ok());
    assert_eq!(
        code(&format!("{clone}command_prefix = [\"git\"]")),
        "E_CONFLICT"
    );
}

#[test]
fn a_child_counts_where_it_is_tighter_and_says_where_it_is_not() {
    let child = r#"schema = 1
extends = "builtin:offline-train"
[limits]
memory = "1GiB"
wall_time = "2h"
[git]
hosts = ["github.com", "example.org"]
[executor]
require = ["memory", "seccomp:absent"]
[approval]
contained = "allow"
[[approval.rule]]
id = "no-rm"
action = "exec"
decision = "deny"
command_prefix = ["rm"]
[[approval.rule]]
id = "train"
action = "exec"
decision = "allow"
command_prefix = ["python", "train.py"]
[[mount]]
source = "data"
target = "/data/x"
"#;
    let loaded = good(child);
    let policy = &loaded.policy;
    assert_eq!(policy.limits.memory, Some(1 << 30));
    assert_eq!(policy.limits.wall_ms, Some(1_800_000));
    assert_eq!(policy.git.hosts, ["github.com"]);
    assert_eq!(
        policy.executor.require[&Control::Memory],
        Strength::Enforced
    );
    assert_eq!(
        policy.executor.require[&Control::Seccomp],
        Strength::Enforced
    );
    assert_eq!(policy.executor.require[&Control::Cpu], Strength::Watched);
    assert_eq!(
        policy.approval.contained,
        crate::policy::model::Contained::Ask
    );
    let rules: Vec<&str> = policy
        .approval
        .rules
        .iter()
        .map(|rule| rule.id.as_str())
        .collect();
    assert_eq!(rules, ["no-rm"]);
    assert!(policy.mounts.is_empty());
    insta::assert_snapshot!(
        "looser",
        render::render(&loaded.warnings, &loaded.sources, Look::Plain)
    );
}

#[test]
fn two_fixed_backends_exclude_each_other() {
    let mut resolve = |name: &str| match name {
        "base.toml" => Ok(PolicySource::new(
            name,
            "schema = 1\nexecutor.backend = \"docker\"",
        )),
        _ => Err("there is no such file".to_owned()),
    };
    let text = "schema = 1\nextends = \"base.toml\"\nexecutor.backend = \"namespace\"";
    let errors = load(PolicySource::new("mine.toml", text), &mut resolve).unwrap_err();
    assert_eq!(errors.problems[0].code, Code::Conflict);
}

#[test]
fn policies_cannot_extend_themselves_or_too_many() {
    let mut itself = |name: &str| Ok(PolicySource::new(name, "schema = 1\nextends = \"a.toml\""));
    let source = PolicySource::new("a.toml", "schema = 1\nextends = \"a.toml\"");
    let errors = load(source, &mut itself).unwrap_err();
    assert_eq!(errors.problems[0].code, Code::ExtendsCycle);
    let mut deeper = |name: &str| {
        Ok(PolicySource::new(
            name,
            format!("schema = 1\nextends = \"x{name}\""),
        ))
    };
    let source = PolicySource::new("a.toml", "schema = 1\nextends = \"b.toml\"");
    let errors = load(source, &mut deeper).unwrap_err();
    assert_eq!(errors.problems[0].code, Code::ExtendsCycle);
}

#[test]
fn mistakes_of_a_parent_are_said_in_the_parent() {
    let mut resolve = |name: &str| Ok(PolicySource::new(name, "schema = 1\nlimits.memory = 4"));
    let source = PolicySource::new("mine.toml", "schema = 1\nextends = \"base.toml\"\nnmae = 1");
    let text = load(source, &mut resolve).unwrap_err().render(Look::Plain);
    assert!(text.contains("at mine.toml:3:1"), "{text}");
    assert!(text.contains("at base.toml:2:17"), "{text}");
}

#[test]
fn origins_say_who_won_and_who_lost() {
    let loaded = good(
        "schema = 1\nextends = \"builtin:offline-train\"\nlimits.memory = \"1GiB\"\nlimits.pids = 4096",
    );
    let memory = loaded.origins.get("limits.memory").unwrap();
    assert_eq!(memory.origin.to_string(), "mine.toml:3");
    assert_eq!(memory.lost[0].value, "\"4GiB\"");
    assert!(
        memory.lost[0]
            .origin
            .to_string()
            .starts_with("builtin:offline-train:")
    );
    let pids = loaded.origins.get("limits.pids").unwrap();
    assert!(
        pids.origin
            .to_string()
            .starts_with("builtin:offline-train:")
    );
    assert_eq!(pids.lost[0].value, "4096");
    assert_eq!(pids.lost[0].origin.to_string(), "mine.toml:4");
}

fn set(typed: &str) -> Result<Loaded, PolicyErrors> {
    let mut loaded = good("schema = 1");
    apply_set(&mut loaded, typed).map(|()| loaded)
}

#[test]
fn what_is_typed_replaces_and_needs_no_quotes() {
    let memory = set("limits.memory=16GiB").unwrap();
    assert_eq!(memory.policy.limits.memory, Some(16 << 30));
    assert_eq!(
        memory
            .origins
            .get("limits.memory")
            .unwrap()
            .origin
            .to_string(),
        "--set"
    );
    assert_eq!(
        set("limits.memory = unlimited")
            .unwrap()
            .policy
            .limits
            .memory,
        None
    );
    assert_eq!(
        set("limits.memory=\"1GiB\"").unwrap().policy.limits.memory,
        Some(1 << 30)
    );
    assert_eq!(set("limits.cpus=8").unwrap().policy.limits.cpus, Some(8.0));
    assert_eq!(
        set("git.hosts=[\"a.org\", \"b.org\"]")
            .unwrap()
            .policy
            .git
            .hosts
            .len(),
        2
    );
    assert_eq!(set("git.hosts=a.org").unwrap().policy.git.hosts, ["a.org"]);
    let require = set("executor.require=memory:watched")
        .unwrap()
        .policy
        .executor
        .require;
    assert_eq!(require[&Control::Memory], Strength::Watched);
    assert_eq!(require[&Control::Pids], Strength::Enforced);
    assert_eq!(
        set("env.set={ SEED = \"1\" }").unwrap().policy.env.set["SEED"],
        "1"
    );
}

#[test]
fn what_is_typed_is_checked_like_a_file() {
    for (typed, code) in [
        ("limits.memory=16", Code::Unit),
        ("limits.memory=lots", Code::Unit),
        ("limits.memroy=16GiB", Code::UnknownKey),
        ("limits.memory", Code::Toml),
        ("approval.contained=never", Code::Enum),
        ("network.mode=open", Code::NotBuilt),
        ("gpu.devices=any:0", Code::Gpu),
        ("audit.fail_closed=false", Code::Forbidden),
        ("name=x", Code::UnknownKey),
        ("mount=x", Code::UnknownKey),
        ("git.hosts=[\"10.0.0.1\"]", Code::HostPattern),
        ("image.allow=python:3", Code::ImageRef),
    ] {
        let errors = set(typed).expect_err(typed);
        assert_eq!(errors.problems[0].code, code, "{typed}");
        assert_eq!(errors.problems[0].source, 0);
        assert!(errors.problems[0].span.end <= typed.len(), "{typed}");
    }
    let text = set("limits.memroy=16GiB").unwrap_err().render(Look::Plain);
    assert!(text.contains("did you mean `limits.memory`?"), "{text}");
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_panics_and_every_problem_has_a_place(text in "(?s)\\PC{0,60}|(schema|limits|memory|=|\\[|\\]|\"|\n|1|4GiB|#|\\.|\\{|,|é| ){0,40}") {
            if let Err(errors) = loaded(&text) {
                for problem in &errors.problems {
                    prop_assert!(problem.span.end <= text.len());
                }
                errors.render(Look::Plain);
                errors.render(Look::Drawn { columns: 80 });
            }
        }

        #[test]
        fn nothing_typed_panics(typed in "[a-z.]{0,20}=?\\PC{0,20}") {
            if let Err(errors) = set(&typed) {
                errors.render(Look::Plain);
            }
        }
    }
}

#[test]
fn hosts_are_read_in_each_way_they_may_be_written() {
    let loaded = good(
        "schema = 1\n[network]\nmode = \"proxy\"\nallow = [\"pypi.org\", \"a.org:8080\", \
         { host = \"mirror\", ports = [80, 81], address = \"10.0.0.5\", methods = [\"HEAD\", \"GET\"] }]\n\
         sources = [\"uv\", \"pip\"]",
    );
    let network = &loaded.policy.network;
    let shown: Vec<String> = network.allow.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "a.org:8080",
            "mirror:80,81 GET/HEAD at 10.0.0.5",
            "pypi.org:443"
        ]
    );
    // As it is shown it reads as the same.
    let value = schema::values(&loaded.policy).find(|(key, _)| key.path == "network.allow");
    let again = format!("schema = 1\nnetwork.allow = {}", value.unwrap().1);
    assert_eq!(good(&again).policy.network.allow, network.allow);
}

#[test]
fn a_child_keeps_of_its_parents_hosts_what_both_list() {
    let mut parent = |_: &str| {
        Ok(PolicySource::new(
            "parent.toml",
            "schema = 1\nnetwork.mode = \"proxy\"\nnetwork.allow = [\"*.a.org\", \"b.org\"]",
        ))
    };
    let child = "schema = 1\nextends = \"parent.toml\"\nnetwork.allow = [\"x.a.org\", \"c.org\"]";
    let loaded = load(PolicySource::new("mine.toml", child), &mut parent).unwrap();
    let hosts: Vec<_> = loaded
        .policy
        .network
        .allow
        .iter()
        .map(|rule| rule.host.as_str())
        .collect();
    assert_eq!(hosts, ["x.a.org"]);
    assert_eq!(loaded.warnings[0].code, Code::LooserIgnored);
}

#[test]
fn gpus_are_counted_or_named_and_shown_as_they_are_written() {
    let devices = |written: &str| {
        let policy = good(&format!("schema = 1\ngpu.devices = {written}")).policy;
        let shown = crate::policy::schema::values(&policy)
            .find(|(key, _)| key.path == "gpu.devices")
            .unwrap()
            .1;
        (policy.gpu.devices.count, shown)
    };
    for (written, count, shown) in [
        ("\"none\"", 0, "\"none\""),
        ("\"any:2\"", 2, "\"any:2\""),
        ("[2, 0]", 2, "[0, 2]"),
        ("[\"GPU-00AA11bb\"]", 1, "[\"GPU-00aa11bb\"]"),
        ("\"any:1 of 0,1\"", 1, "\"any:1 of 0, 1\""),
        ("\"any:2 of 0, 1\"", 2, "[0, 1]"),
    ] {
        assert_eq!(devices(written), (count, shown.to_owned()), "{written}");
    }
    for wrong in [
        "\"all\"",
        "\"any\"",
        "\"any:0\"",
        "\"any:-1\"",
        "\"any:+1\"",
        "\"any:9999\"",
        "[]",
        "[0, 0]",
        "[-1]",
        "[\"x\"]",
        "[\"MIG-00aa11bb\"]",
        "[1.0]",
        "\"any:3 of 0, 1\"",
        "\"any:1 of \"",
        "[\"00\"]",
    ] {
        assert_eq!(code(&format!("gpu.devices = {wrong}")), "E_GPU", "{wrong}");
    }
    assert_eq!(code("gpu.devices = 1"), "E_TYPE");
    assert_eq!(code("gpu.capabilities = [\"graphics\"]"), "E_GPU");
}

#[test]
fn a_child_gets_no_gpu_that_its_parent_has_not() {
    let parent = "schema = 1\ngpu.devices = \"any:1 of 0, 1\"\ngpu.exclusive = true";
    let mut parents = |name: &str| match name {
        "parent.toml" => Ok(PolicySource::new(name, parent)),
        _ => Err("there is no such file".to_owned()),
    };
    let child =
        "schema = 1\nextends = \"parent.toml\"\ngpu.devices = [1, 2]\ngpu.exclusive = false";
    let loaded = load(PolicySource::new("mine.toml", child), &mut parents).unwrap();
    let gpu = &loaded.policy.gpu;
    assert_eq!((gpu.devices.count, gpu.exclusive), (1, true));
    assert_eq!(gpu.devices.among, Some(["1".to_owned()].into()));
}
