//! The system-call filter that a container gets: `seccomp.json`, embedded, passed inline.
//!
//! The file is a Docker profile with its reasons in it, and also works by hand:
//! `docker run --security-opt seccomp=seccomp.json`. Init puts a second, smaller filter on each step
//! (what is aimed at init itself); this one holds for init too.

/// The profile as the engine takes it.
pub(super) const PROFILE: &str = include_str!("seccomp.json");

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::LazyLock;

    fn rules() -> Vec<Value> {
        let profile: Value = serde_json::from_str(PROFILE).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        profile["syscalls"].as_array().unwrap().clone()
    }

    /// Whether some rule allows the call with these arguments (rules are alternatives).
    fn allows(name: &str, args: [u64; 6]) -> bool {
        static RULES: LazyLock<Vec<Value>> = LazyLock::new(rules);
        RULES.iter().any(|rule| {
            let named = rule["names"].as_array().unwrap().iter().any(|n| n == name);
            let empty = Vec::new();
            let conditions = rule["args"].as_array().unwrap_or(&empty);
            named
                && rule["action"] == "SCMP_ACT_ALLOW"
                && conditions.iter().all(|condition| {
                    let argument = args[condition["index"].as_u64().unwrap() as usize];
                    let value = condition["value"].as_u64().unwrap();
                    match condition["op"].as_str().unwrap() {
                        "SCMP_CMP_EQ" => argument == value,
                        "SCMP_CMP_MASKED_EQ" => {
                            argument & value == condition["valueTwo"].as_u64().unwrap()
                        }
                        other => panic!("unknown comparison {other}"),
                    }
                })
        })
    }

    #[test]
    fn a_call_is_either_allowed_or_refused_by_name() {
        let mut seen = std::collections::BTreeMap::new();
        for rule in rules() {
            for name in rule["names"].as_array().unwrap() {
                let action = rule["action"].as_str().unwrap().to_owned();
                let before = seen.insert(name.as_str().unwrap().to_owned(), action.clone());
                assert!(
                    before.is_none_or(|before| before == action),
                    "{name} is both"
                );
            }
        }
        assert!(seen.len() > 350);
    }

    #[test]
    fn typing_into_a_terminal_is_the_only_ioctl_refused() {
        for request in 0x5000..=0x5fff_u64 {
            let types = matches!(request, 0x5412 | 0x541c);
            assert_eq!(
                allows("ioctl", [0, request, 0, 0, 0, 0]),
                !types,
                "{request:#x}"
            );
        }
        // The kernel drops the high half: so does the filter.
        assert!(!allows("ioctl", [0, 0x7_0000_5412, 0, 0, 0, 0]));
        assert!(allows("ioctl", [0, 0x8004_5430, 0, 0, 0, 0]));
    }

    #[test]
    fn setuid_bits_cannot_be_made() {
        for (call, at) in [
            ("chmod", 1),
            ("fchmod", 1),
            ("creat", 1),
            ("fchmodat", 2),
            ("fchmodat2", 2),
        ] {
            for (mode, fine) in [
                (0o755, true),
                (0o1777, true),
                (0o4755, false),
                (0o2755, false),
            ] {
                let mut args = [0; 6];
                args[at] = mode;
                assert_eq!(allows(call, args), fine, "{call} {mode:o}");
            }
        }
        let (create, tmpfile) = (0o100, 0o20_200_000);
        for flags in [create, tmpfile] {
            assert!(!allows("openat", [0, 0, flags, 0o4755, 0, 0]));
            assert!(!allows("open", [0, flags, 0o2755, 0, 0, 0]));
            assert!(allows("openat", [0, 0, flags, 0o644, 0, 0]));
        }
        // Without a file being made the mode argument is garbage.
        assert!(allows("openat", [0, 0, 0, 0o6755, 0, 0]));
        assert!(!allows("openat2", [0; 6]));
    }

    #[test]
    fn no_new_namespace_by_any_call() {
        for flag in [
            0x2_0000,
            0x200_0000,
            0x400_0000,
            0x800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert!(!allows("clone", [flag | 17, 0, 0, 0, 0, 0]), "{flag:#x}");
        }
        assert!(allows("clone", [0x3d_0f00, 0, 0, 0, 0, 0]));
        for call in ["unshare", "setns", "clone3"] {
            assert!(!allows(call, [0; 6]));
        }
    }

    #[test]
    fn sockets_are_local_families_only() {
        for family in 0..=46 {
            let fine = matches!(family, 1 | 2 | 10 | 16);
            assert_eq!(
                allows("socket", [family, 1, 0, 0, 0, 0]),
                fine,
                "family {family}"
            );
        }
        assert!(!allows("socket", [16, 3, 12, 0, 0, 0]), "netlink netfilter");
    }

    #[test]
    fn sockets_of_ip_are_tcp_and_udp_only() {
        const CLOEXEC_NONBLOCK: u64 = 0x8_0800;
        for family in [2, 10] {
            for (kind, protocol) in (0..16).flat_map(|kind| (0..300).map(move |of| (kind, of))) {
                let fine = matches!((kind, protocol), (1, 0 | 6) | (2, 0 | 17));
                let args = [family, kind | CLOEXEC_NONBLOCK, protocol, 0, 0, 0];
                assert_eq!(allows("socket", args), fine, "{kind} {protocol}");
            }
        }
    }
}
