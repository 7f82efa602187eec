use super::super::fixture::{self, rule};
use super::super::model::*;
use super::*;
use crate::policy::network;
use crate::protocol::alarm::Reaction;
use crate::protocol::control::{Control, Strength};
use crate::protocol::net::HostRule;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn words(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    subsequence(all, 0..=all.len()).prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

fn amount() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(1..6_u64)
}

prop_compose! {
    fn a_rule()(
        decision in select(&[Decision::Allow, Decision::Ask, Decision::Deny][..]),
        length in 0..3_usize,
        wall in amount(),
        gpus in amount(),
        offline: bool,
    ) -> Rule {
        let prefix = &["python", "train.py"][..length];
        let mut made = rule("r", decision, prefix);
        let allows = decision == Decision::Allow;
        made.max_wall_ms = wall.filter(|_| allows);
        made.max_gpus = gpus.filter(|_| allows);
        made.offline = offline && allows;
        made
    }
}

prop_compose! {
    fn a_mount()(name in select(&["a", "b"][..]), writes: bool) -> PolicyMount {
        PolicyMount {
            source: name.to_owned(),
            target: format!("/data/{name}"),
            access: if writes { Access::ReadWrite } else { Access::ReadOnly },
        }
    }
}

prop_compose! {
    fn a_secret()(name in select(&["A", "B"][..]), asks: bool, file: bool) -> PolicySecret {
        PolicySecret {
            name: name.to_owned(),
            from: if file { SecretFrom::File("/k".to_owned()) } else { SecretFrom::Environment },
            grant: if asks { Decision::Ask } else { Decision::Allow },
        }
    }
}

fn reached_on_443(host: &str) -> HostRule {
    HostRule {
        host: host.to_owned(),
        ports: vec![443],
        methods: Vec::new(),
        address: None,
        source: None,
        private: false,
    }
}

prop_compose! {
    fn lists()(
        hosts in words(&["a.org", "b.org", "c.org"]),
        remotes in words(&["http://h/", "http://h/a", "http://h/a/b", "http://i/"]),
        pass in words(&["LANG", "SEED"]),
        include in words(&["outputs/**", "runs/**"]),
        mounts in proptest::collection::vec(a_mount(), 0..3),
        secrets in proptest::collection::vec(a_secret(), 0..3),
        rules in proptest::collection::vec(a_rule(), 0..4),
        seed in proptest::option::of(select(&["0", "1"][..])),
        reached in words(&["a.org", "*.a.org", "b.a.org"]),
        images in words(&["sha256:0", "sha256:1", "sha256:2"]),
    ) -> Policy {
        let mut policy = fixture::policy();
        policy.git.hosts = hosts;
        policy.image.allow = images;
        policy.git.remotes = remotes;
        policy.network.allow = network::normal(reached.iter().map(|host| reached_on_443(host)).collect());
        policy.env.pass = pass;
        policy.env.set.extend(seed.map(|seed| ("SEED".to_owned(), seed.to_owned())));
        policy.artifacts.include = include;
        policy.mounts = mounts;
        policy.secrets = secrets;
        policy.secrets.sort_by(|a, b| a.name.cmp(&b.name));
        policy.secrets.dedup_by(|a, b| a.name == b.name);
        policy.mounts.dedup_by(|a, b| a.target == b.target);
        policy.approval.rules = rules;
        policy
    }
}

prop_compose! {
    fn a_policy()(
        mut policy in lists(),
        memory in amount(),
        wall in amount(),
        cpus in proptest::option::of(1..4_u8),
        backend in select(&[BackendChoice::Auto, BackendChoice::Docker, BackendChoice::Namespace][..]),
        runtime in select(&[RuntimeChoice::Default, RuntimeChoice::Runsc, RuntimeChoice::Kata][..]),
        user in proptest::option::of(1000..1002_u32),
        contained in select(&[Contained::Allow, Contained::AfterFirstYes, Contained::Ask][..]),
        default in select(&[Decision::Ask, Decision::Deny][..]),
        flags: (bool, bool, bool, bool),
        gpus in (0..4_u32, proptest::option::of(words(&["0", "1", "2"]))),
        reactions in (select(&[Reaction::Off, Reaction::Tell, Reaction::Stop][..]), select(&[Reaction::Tell, Reaction::Stop][..])),
        word in select(&[Strength::Absent, Strength::Watched, Strength::Enforced][..]),
    ) -> Policy {
        policy.limits.memory = memory;
        policy.limits.wall_ms = wall;
        policy.watch.silence_ms = wall;
        policy.lifecycle.runs_per_hour = memory;
        (policy.watch.loss, policy.watch.on_silence) = reactions;
        policy.network.upload_bytes = memory;
        policy.network.mode = if flags.0 { NetworkMode::Proxy } else { NetworkMode::None };
        policy.limits.cpus = cpus.map(f64::from);
        policy.executor.backend = backend;
        policy.executor.runtime = runtime;
        policy.process.user = user;
        policy.approval.contained = contained;
        policy.approval.default = default;
        policy.approval.alone = flags.0;
        policy.tmp.exec = flags.1;
        policy.image.require_digest = flags.2;
        policy.gpu.exclusive = flags.3;
        policy.gpu.devices = GpuDevices {
            count: gpus.0,
            among: gpus.1.map(|names| names.into_iter().collect()),
        };
        policy.executor.require.insert(Control::Memory, word);
        // A meet with itself brings it into its own normal form.
        meet(&policy, &policy).expect("a policy does not exclude itself")
    }
}

/// Order says nothing in a list.
fn normal(mut policy: Policy) -> Policy {
    policy.git.hosts.sort();
    policy.image.allow.sort();
    policy.git.remotes.sort();
    policy.env.pass.sort();
    policy.artifacts.include.sort();
    policy.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    policy.secrets.sort_by(|a, b| a.name.cmp(&b.name));
    policy.approval.rules.sort_by(|a, b| {
        let key = |rule: &Rule| {
            (
                rule.decision,
                rule.command_prefix.clone(),
                (rule.max_wall_ms, rule.max_gpus, rule.offline),
            )
        };
        key(a).cmp(&key(b))
    });
    policy
}

/// The meet, or nothing where the two exclude each other; then nothing is as tight as both.
fn met(a: Option<Policy>, b: Option<Policy>) -> Option<Policy> {
    meet(&a?, &b?).ok().map(normal)
}

proptest! {
    #[test]
    fn the_order_of_two_says_nothing(a in a_policy(), b in a_policy()) {
        prop_assert_eq!(met(Some(a.clone()), Some(b.clone())), met(Some(b), Some(a)));
    }

    #[test]
    fn the_order_of_three_says_nothing(a in a_policy(), b in a_policy(), c in a_policy()) {
        let (a, b, c) = (Some(a), Some(b), Some(c));
        let left = met(met(a.clone(), b.clone()), c.clone());
        prop_assert_eq!(left, met(a, met(b, c)));
    }

    #[test]
    fn a_policy_with_itself_is_itself(a in a_policy()) {
        prop_assert_eq!(met(Some(a.clone()), Some(a.clone())), Some(normal(a)));
    }

    #[test]
    fn the_meet_is_as_tight_as_both(a in a_policy(), b in a_policy()) {
        if let Ok(both) = meet(&a, &b) {
            for side in [a, b] {
                prop_assert_eq!(met(Some(both.clone()), Some(side)), Some(normal(both.clone())));
            }
        }
    }

    #[test]
    fn the_meet_decides_no_looser_than_either(
        a in a_policy(),
        b in a_policy(),
        line in select(&["python", "python train.py", "python train.py x", "ls"][..]),
        wall in 1..6_u64,
        gpus in 0..6_u64,
        reaches: bool,
        yes_given: bool,
    ) {
        use crate::policy::action::Origin;
        use crate::policy::judge::{ExecFacts, exec};
        let argv = fixture::argv(line);
        let facts = ExecFacts {
            argv: &argv,
            origin: Origin::Model,
            wall_ms: Some(wall),
            wall_limit_ms: None,
            names_artifact: false,
            writes_outside: None,
            reaches: reaches.then(|| "a.org".to_owned()),
            gpus,
            secrets: None,
            yes_given,
            remembered: false,
        };
        if let Ok(both) = meet(&a, &b) {
            let decided = exec(&both, &facts).decision;
            for side in [&a, &b] {
                prop_assert!(decided >= exec(side, &facts).decision);
            }
        }
    }
}

#[test]
fn what_excludes_each_other_is_named() {
    let mut a = fixture::policy();
    let mut b = fixture::policy();
    a.executor.backend = BackendChoice::Docker;
    b.executor.backend = BackendChoice::Namespace;
    a.env.set.insert("SEED".into(), "0".into());
    b.env.set.insert("SEED".into(), "1".into());
    assert_eq!(
        meet(&a, &b),
        Err(Conflict(vec!["executor.backend", "env.set"]))
    );
}

#[test]
fn a_longer_beginning_of_urls_is_the_narrower() {
    let mut a = fixture::policy();
    let mut b = fixture::policy();
    a.git.remotes = vec!["http://h/".into(), "file:///srv/x".into()];
    b.git.remotes = vec!["http://h/team/".into(), "file:///srv/xy".into()];
    assert_eq!(meet(&a, &b).unwrap().git.remotes, ["http://h/team/"]);
}
