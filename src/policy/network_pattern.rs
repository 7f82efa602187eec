//! The spelling of hosts: one for each, in a policy and from a client. Pure.

use super::network_address::{Reach, reach};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest name, and longest part of one.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Endings under which anybody may have a name of their own: a pattern over all of them names nobody.
const SHARED: [&str; 14] = [
    "ac.uk",
    "co.in",
    "co.jp",
    "co.kr",
    "co.nz",
    "co.uk",
    "com.au",
    "com.br",
    "com.cn",
    "github.io",
    "gitlab.io",
    "org.uk",
    "pages.dev",
    "vercel.app",
];

/// Names of this machine and its network.
const LOCAL: [&str; 6] = [
    "internal",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "home.arpa",
];

/// A host in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spelled {
    /// Lower case, without a dot at the end.
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// What a client wrote, in its one spelling; brackets around an IPv6 address are taken off.
pub(super) fn spell(host: &str) -> Result<Spelled, &'static str> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(bare) = bare {
        let address: Ipv6Addr = bare.parse().map_err(|_| "it is no address")?;
        return address_of(IpAddr::V6(address));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return address_of(address);
    }
    let lower = host.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if name.is_empty() || name.len() > MAX_NAME || !name.split('.').all(is_label) {
        return Err("it is no host name");
    }
    if is_number(name) {
        return Err("it is an address in another spelling");
    }
    Ok(Spelled::Name(name.to_owned()))
}

/// An IPv4 address inside an IPv6 one is that address to some and another to others.
fn address_of(address: IpAddr) -> Result<Spelled, &'static str> {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err("it is an address in another spelling")
        }
        address => Ok(Spelled::Address(address)),
    }
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

/// What resolvers take for an address: its last part is a number, in whatever base.
fn is_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why a host cannot stand in a policy. `host` is what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("{host:?} is no host: {why}")]
    Pattern {
        host: String,
        why: &'static str,
        fix: String,
    },
    #[error("{host:?} is {kind}")]
    Private {
        host: String,
        kind: &'static str,
        fix: &'static str,
    },
    #[error("{host:?} may look like another name: {why}")]
    Confusable { host: String, why: &'static str },
}

impl HostError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Pattern { fix, .. } => fix.clone(),
            Self::Private { fix, .. } => (*fix).to_owned(),
            Self::Confusable { .. } => {
                "write a name of ASCII letters, digits, hyphens and dots".to_owned()
            }
        }
    }
}

/// Judges `host` of an entry of `[network] allow`; `address` is the entry's own.
///
/// # Errors
/// What is wrong with it.
pub fn check_host(host: &str, address: Option<IpAddr>) -> Result<(), HostError> {
    let pattern = |why, fix: &str| HostError::Pattern {
        host: host.to_owned(),
        why,
        fix: fix.to_owned(),
    };
    if !host.is_ascii() {
        return Err(HostError::Confusable {
            host: host.to_owned(),
            why: "it holds letters that are not ASCII",
        });
    }
    if let Ok(found) = host.parse::<IpAddr>() {
        return match address {
            Some(_) => Err(pattern(
                "it is an address, and has another",
                "leave one out",
            )),
            None => check_address(host, found),
        };
    }
    let (star, name) = match host.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, host),
    };
    check_name(host, name)?;
    if star && (!name.contains('.') || SHARED.contains(&name)) {
        return Err(pattern(
            "everybody may have a name beneath it",
            "name the hosts, or a pattern such as \"*.example.org\"",
        ));
    }
    if is_local(name) && address.is_none() {
        return Err(HostError::Private {
            host: host.to_owned(),
            kind: "a name of this machine or its network",
            fix: "say which address is meant: address = \"10.0.0.5\"",
        });
    }
    match address {
        Some(_) if star => Err(pattern("a pattern has no address", "name the host")),
        Some(address) => check_address(host, address),
        None => Ok(()),
    }
}

/// The one spelling of a name, in letters that are what they look like.
fn check_name(host: &str, name: &str) -> Result<(), HostError> {
    let pattern = |why, fix: &str| HostError::Pattern {
        host: host.to_owned(),
        why,
        fix: fix.to_owned(),
    };
    let lower = name.to_ascii_lowercase();
    match spell(name) {
        Err(why) => {
            return Err(pattern(
                why,
                "write it like \"pypi.org\"; ports go into `ports`",
            ));
        }
        Ok(_) if lower != name => return Err(pattern("it has capital letters", &lower)),
        Ok(_) if name.ends_with('.') => {
            return Err(pattern("it ends with a dot", name.trim_end_matches('.')));
        }
        Ok(_) => {}
    }
    if name.split('.').any(|label| label.starts_with("xn--")) {
        return Err(HostError::Confusable {
            host: host.to_owned(),
            why: "it stands for letters that are not ASCII",
        });
    }
    Ok(())
}

fn is_local(name: &str) -> bool {
    let beneath = |end: &str| {
        name.strip_suffix(end)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    !name.contains('.') || LOCAL.iter().any(|end| beneath(end))
}

/// A private address may be named; some never.
fn check_address(host: &str, address: IpAddr) -> Result<(), HostError> {
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(HostError::Pattern {
            host: host.to_owned(),
            why: "it is an address in another spelling",
            fix: "write the IPv4 address".to_owned(),
        });
    }
    match reach(address) {
        Reach::Public | Reach::Private(_) => Ok(()),
        Reach::Never(kind) => Err(HostError::Private {
            host: host.to_owned(),
            kind,
            fix: "take it out: no policy can allow it",
        }),
    }
}

/// Judges a method: a token in capitals; `CONNECT` is no method of a host.
pub fn check_method(method: &str) -> bool {
    (1..=24).contains(&method.len())
        && method != "CONNECT"
        && method
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}
