use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

fn rule(host: &str, ports: &[u16]) -> HostRule {
    HostRule {
        host: host.to_owned(),
        ports: ports.to_vec(),
        methods: Vec::new(),
        address: None,
        source: None,
        private: false,
    }
}

fn target(host: &str, port: u16) -> Target<'_> {
    Target {
        host,
        port,
        method: Method::Unasked,
    }
}

#[test]
fn a_listed_host_is_allowed_on_its_ports_in_any_case_and_with_a_dot_at_its_end() {
    let allow = [rule("pypi.org", &[443])];
    for host in ["pypi.org", "PyPI.org", "pypi.org."] {
        let allowed = decide_host(&allow, &target(host, 443)).unwrap();
        assert_eq!(allowed.host, "pypi.org");
    }
    let other = decide_host(&allow, &target("pypi.org", 80)).unwrap_err();
    assert!(matches!(other, HostRefusal::Port { port: 80, .. }));
}

#[test]
fn what_is_refused_says_what_to_add() {
    let refused = decide_host(&[], &target("evil.example", 443)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "blocked: evil.example:443; add it to [network] allow or approve it"
    );
    assert_eq!(
        refused.widens().unwrap(),
        "[network] allow = [{ host = \"evil.example\", ports = [443] }]"
    );
}

#[test]
fn a_pattern_stands_for_one_label() {
    let allow = [rule("*.example.org", &[443])];
    assert!(decide_host(&allow, &target("a.example.org", 443)).is_ok());
    for host in [
        "example.org",
        "a.b.example.org",
        "aexample.org",
        "a.example.org.evil.com",
    ] {
        assert!(decide_host(&allow, &target(host, 443)).is_err(), "{host}");
    }
}

#[test]
fn no_spelling_of_an_address_passes_for_a_name() {
    let allow = [rule("*.example.org", &[443]), rule("10.0.0.1", &[80])];
    for host in [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "010.0.0.1",
        "1.2.3.4.5",
        "[::ffff:10.0.0.1]",
        "::ffff:10.0.0.1",
        "10.0.0.1%eth0",
        "[10.0.0.1]",
        "a b",
        "",
        ".",
        "a..b",
        "-a.example.org",
        "a\0.example.org",
        "a/.example.org",
        "user@a.example.org",
        "a.example.org:443",
        "ä.example.org",
        "１２７.0.0.1",
    ] {
        let refused = decide_host(&allow, &target(host, 80)).unwrap_err();
        assert!(
            matches!(refused, HostRefusal::Spelling { .. }),
            "{host}: {refused}"
        );
    }
    // In its own spelling an address is like a name: listed or not.
    assert!(decide_host(&allow, &target("10.0.0.1", 80)).is_ok());
    assert!(matches!(
        decide_host(&allow, &target("[::1]", 80)),
        Err(HostRefusal::NotListed { .. })
    ));
}

#[test]
fn a_rule_with_methods_lets_those_through_and_nothing_sealed() {
    let mut get = rule("a.org", &[80]);
    get.methods = vec!["GET".to_owned(), "HEAD".to_owned()];
    let decide = |method| {
        decide_host(
            std::slice::from_ref(&get),
            &Target {
                host: "a.org",
                port: 80,
                method,
            },
        )
    };
    assert!(decide(Method::Named("GET")).is_ok());
    assert!(decide(Method::Unasked).is_ok());
    assert!(matches!(
        decide(Method::Named("POST")),
        Err(HostRefusal::Method { .. })
    ));
    assert!(matches!(
        decide(Method::Named("get")),
        Err(HostRefusal::Method { .. })
    ));
    assert!(matches!(
        decide(Method::Sealed),
        Err(HostRefusal::Sealed { .. })
    ));
}

#[test]
fn private_addresses_need_to_be_named_and_some_cannot_be() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    for private in [
        "127.0.0.1",
        "127.8.9.10",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "198.51.100.7",
        "::1",
        "fc00::1",
        "fd12::1",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
        "64:ff9b::808:808",
        "2001:db8::1",
        "2001::1",
    ] {
        assert!(matches!(reach(ip(private)), Reach::Private(_)), "{private}");
    }
    for never in [
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "100.100.100.200",
    ] {
        assert!(matches!(reach(ip(never)), Reach::Never(_)), "{never}");
    }
    for public in [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
    ] {
        assert_eq!(reach(ip(public)), Reach::Public, "{public}");
    }
}

#[test]
fn a_name_that_leads_to_a_private_address_is_refused_unless_that_is_named() {
    let by_name = rule("a.org", &[80]);
    let address = ("10.0.0.5".parse::<IpAddr>().unwrap(), 80);
    let allowed = |allow: &[HostRule]| {
        let allowed = decide_host(allow, &target("a.org", 80)).unwrap();
        decide_address(allow, &allowed, address)
    };
    assert_eq!(
        allowed(std::slice::from_ref(&by_name)),
        Err("a private address")
    );
    // Named as a host of its own, on that port.
    assert_eq!(allowed(&[by_name.clone(), rule("10.0.0.5", &[80])]), Ok(()));
    assert!(allowed(&[by_name.clone(), rule("10.0.0.5", &[81])]).is_err());
    assert!(allowed(&[by_name.clone(), rule("10.0.0.6", &[80])]).is_err());
    // Or as the address of the name.
    let pinned = HostRule {
        address: Some(address.0),
        ..by_name
    };
    assert_eq!(allowed(&[pinned]), Ok(()));
}

#[test]
fn of_two_rules_for_a_host_the_one_with_an_address_counts() {
    let pinned = HostRule {
        address: Some("10.0.0.5".parse().unwrap()),
        ..rule("a.org", &[80])
    };
    for allow in [
        [rule("a.org", &[80]), pinned.clone()],
        [pinned, rule("a.org", &[80])],
    ] {
        let allowed = decide_host(&allow, &target("a.org", 80)).unwrap();
        assert!(allowed.rule.address.is_some());
    }
}

#[test]
fn metadata_is_refused_even_to_a_source_of_packages() {
    let mirror = HostRule {
        source: Some(crate::protocol::net::SourceAlias::Pip),
        private: true,
        ..rule("mirror.corp", &[443])
    };
    let allow = [mirror];
    let allowed = decide_host(&allow, &target("mirror.corp", 443)).unwrap();
    let decide = |ip: &str| decide_address(&allow, &allowed, (ip.parse().unwrap(), 443));
    assert_eq!(decide("10.0.0.5"), Ok(()));
    assert!(decide("169.254.169.254").is_err());
}

#[test]
fn the_loopback_is_refused_even_to_a_source_of_packages() {
    let mirror = HostRule {
        source: Some(crate::protocol::net::SourceAlias::Pip),
        private: true,
        ..rule("mirror.corp", &[443])
    };
    let decide = |allow: &[HostRule], ip: &str| {
        let allowed = decide_host(allow, &target("mirror.corp", 443)).unwrap();
        decide_address(allow, &allowed, (ip.parse().unwrap(), 443))
    };
    for here in [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
    ] {
        let refused = Err("a loopback address of the host");
        assert_eq!(
            decide(std::slice::from_ref(&mirror), here),
            refused,
            "{here}"
        );
    }
    // Named, it is meant.
    let named = [mirror, rule("127.0.0.1", &[443])];
    assert_eq!(decide(&named, "127.0.0.1"), Ok(()));
}

#[test]
fn the_methods_of_an_address_hold_for_every_name_that_leads_to_it() {
    let with = |host: &str, methods: &[&str]| HostRule {
        methods: methods.iter().map(|one| (*one).to_owned()).collect(),
        ..rule(host, &[80])
    };
    let decide = |name: &[&str], address: &[&str]| {
        let allow = [with("a.org", name), with("10.0.0.5", address)];
        let target = Target {
            method: Method::Unasked,
            ..target("a.org", 80)
        };
        let allowed = decide_host(&allow, &target).unwrap();
        decide_address(&allow, &allowed, ("10.0.0.5".parse().unwrap(), 80))
    };
    assert!(decide(&[], &["GET"]).is_err());
    assert!(decide(&["GET", "POST"], &["GET"]).is_err());
    assert_eq!(decide(&["GET"], &["GET", "HEAD"]), Ok(()));
    assert_eq!(decide(&["POST"], &[]), Ok(()));
}

#[test]
fn patterns_that_name_nobody_this_machine_or_another_alphabet_are_refused() {
    let private = Some("10.0.0.5".parse().unwrap());
    for good in [
        "pypi.org",
        "*.example.org",
        "10.0.0.5",
        "127.0.0.1",
        "8.8.8.8",
        "a_b.example.org",
    ] {
        assert_eq!(check_host(good, None), Ok(()), "{good}");
    }
    for good in ["localhost", "mirror", "index.internal"] {
        assert_eq!(check_host(good, private), Ok(()), "{good}");
        assert!(
            matches!(check_host(good, None), Err(HostError::Private { .. })),
            "{good}"
        );
    }
    for bad in [
        "*",
        "*.org",
        "*.co.uk",
        "*.github.io",
        "a.*.org",
        "*a.org",
        "PyPI.org",
        "pypi.org.",
        "",
        "https://pypi.org",
        "pypi.org:443",
        "2130706433",
        "127.1",
        "10.0.0.0/8",
        "a b.org",
        "-a.org",
        "::ffff:10.0.0.1",
    ] {
        assert!(
            matches!(check_host(bad, None), Err(HostError::Pattern { .. })),
            "{bad}"
        );
    }
    for bad in ["169.254.169.254", "0.0.0.0", "fe80::1"] {
        assert!(
            matches!(check_host(bad, None), Err(HostError::Private { .. })),
            "{bad}"
        );
    }
    for bad in ["pуpi.org", "xn--pypi-4ve.org", "*.xn--a.org"] {
        assert!(
            matches!(check_host(bad, None), Err(HostError::Confusable { .. })),
            "{bad}"
        );
    }
    assert!(check_host("*.example.org", private).is_err());
    assert!(check_host("10.0.0.1", private).is_err());
}

#[test]
fn ports_of_a_name_are_those_of_all_its_rules() {
    let allow = [
        rule("*.example.org", &[443]),
        rule("a.example.org", &[80, 443]),
        rule("10.0.0.1", &[22]),
    ];
    assert_eq!(ports_of(&allow, "A.example.org."), [80, 443]);
    assert_eq!(ports_of(&allow, "b.example.org"), [443]);
    assert!(ports_of(&allow, "10.0.0.1").is_empty());
    assert!(ports_of(&allow, "example.org").is_empty());
}

prop_compose! {
    fn a_rule()(
        host in select(&["a.org", "b.a.org", "c.a.org", "*.a.org", "10.0.0.1"][..]),
        ports in subsequence(&[80_u16, 443, 8080][..], 1..=3),
        methods in subsequence(&["GET", "HEAD", "POST"][..], 0..=3),
        pinned: bool,
    ) -> HostRule {
        HostRule {
            methods: methods.into_iter().map(str::to_owned).collect(),
            address: (pinned && host == "a.org").then(|| "10.0.0.5".parse().unwrap()),
            ..rule(host, &ports)
        }
    }
}

fn a_list() -> impl Strategy<Value = Vec<HostRule>> {
    proptest::collection::vec(a_rule(), 0..4).prop_map(normal)
}

proptest! {
    #[test]
    fn the_meet_of_lists_has_no_order_and_nothing_is_gained_by_repeating(
        a in a_list(), b in a_list(), c in a_list()
    ) {
        prop_assert_eq!(meet(&a, &b), meet(&b, &a));
        prop_assert_eq!(meet(&meet(&a, &b), &c), meet(&a, &meet(&b, &c)));
        prop_assert_eq!(meet(&a, &a), a.clone());
    }

    #[test]
    fn the_meet_of_lists_lets_through_what_both_do(
        a in a_list(), b in a_list(),
        host in select(&["a.org", "b.a.org", "c.a.org", "d.a.org", "10.0.0.1", "z.org"][..]),
        port in select(&[80_u16, 443, 8080, 22][..]),
        method in select(&["GET", "POST", ""][..]),
    ) {
        let method = match method {
            "" => Method::Sealed,
            named => Method::Named(named),
        };
        // Which address a name has is not what a list says about a host alone.
        let plain = |rules: &[HostRule]| -> Vec<HostRule> {
            rules.iter().filter(|rule| rule.address.is_none()).cloned().collect()
        };
        let (a, b) = (plain(&a), plain(&b));
        let target = Target { host, port, method };
        let both = decide_host(&meet(&a, &b), &target).is_ok();
        prop_assert_eq!(both, decide_host(&a, &target).is_ok() && decide_host(&b, &target).is_ok());
    }

    #[test]
    fn no_text_makes_the_decision_panic(host in ".{0,80}", port: u16) {
        let allow = [rule("*.example.org", &[443])];
        let _ = decide_host(&allow, &target(&host, port));
        let _ = check_host(&host, None);
    }
}
