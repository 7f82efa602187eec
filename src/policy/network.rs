//! Which hosts a sandbox may reach: judged as text, before anything is resolved. Pure.
//!
//! ```text
//!   host, port, method ─ one spelling ─┬─ a rule has host, port and method ─▶ allowed, by that rule
//!                                      ├─ a rule has the host only ─────────▶ refused: which port, method
//!                                      └─ none ─────────────────────────────▶ refused: what to add
//!
//!   address ─ Reach ─┬─ public ──────▶ connected to
//!                    ├─ private ─────▶ only where a rule names this very address
//!                    └─ never ───────▶ link-local, metadata, multicast, unspecified: no rule can
//! ```
//!
//! Nothing here resolves a name, so nothing leaks through the question whether it may be.

use super::model::{NetworkMode, NetworkPolicy};
use super::text;
use crate::protocol::net::HostRule;
use std::fmt;
use std::net::IpAddr;

use super::network_address::is_loopback;
pub use super::network_address::{Reach, past_proxy, reach};
pub use super::network_pattern::{HostError, check_host, check_method};
use super::network_pattern::{Spelled, spell};

/// What a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// As the client wrote it.
    pub host: &'a str,
    pub port: u16,
    pub method: Method<'a>,
}

/// What is known of what is asked of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method<'a> {
    /// Plain HTTP.
    Named(&'a str),
    /// Inside TLS, where nobody looks.
    Sealed,
    /// Nothing yet: the question is about host and port.
    Unasked,
}

/// A target that may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// In its one spelling.
    pub host: String,
    pub rule: HostRule,
}

/// Why a target is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRefusal {
    /// Not one spelling of a name or an address.
    Spelling { host: String, why: &'static str },
    /// No rule names it.
    NotListed { host: String, port: u16 },
    /// A rule names it, on other ports.
    Port { host: String, port: u16 },
    /// A rule names it, with other methods.
    Method {
        host: String,
        port: u16,
        method: String,
    },
    /// A rule names methods, which cannot be seen.
    Sealed { host: String, port: u16 },
}

impl fmt::Display for HostRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADD: &str = "add it to [network] allow or approve it";
        match self {
            Self::Spelling { host, why } => write!(f, "blocked: {host}: {why}"),
            Self::NotListed { host, port } => write!(f, "blocked: {}; {ADD}", joined(host, *port)),
            Self::Port { host, port } => write!(
                f,
                "blocked: {}; the host is listed, this port is not: {ADD}",
                joined(host, *port)
            ),
            Self::Method { host, port, method } => write!(
                f,
                "blocked: {method} {}; the host is listed, this method is not: {ADD}",
                joined(host, *port)
            ),
            Self::Sealed { host, port } => write!(
                f,
                "blocked: {} over TLS; its rule names methods, which cannot be seen there",
                joined(host, *port)
            ),
        }
    }
}

impl HostRefusal {
    /// The line of a policy that would let it through, where one can.
    pub fn widens(&self) -> Option<String> {
        match self {
            Self::Spelling { .. } | Self::Sealed { .. } => None,
            Self::NotListed { host, port }
            | Self::Port { host, port }
            | Self::Method { host, port, .. } => Some(line(host, *port)),
        }
    }
}

/// `host:port`, an IPv6 address in brackets.
pub fn joined(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The line of a policy that lists it.
pub fn line(host: &str, port: u16) -> String {
    format!("[network] allow = [{{ host = \"{host}\", ports = [{port}] }}]")
}

/// Decides about one target.
///
/// # Errors
/// The refusal, in words for the step's log, the model and the person.
pub fn decide_host(allow: &[HostRule], target: &Target<'_>) -> Result<Allowed, HostRefusal> {
    let shown = || text::short(target.host.as_bytes());
    let spelled = spell(target.host).map_err(|why| HostRefusal::Spelling { host: shown(), why })?;
    let host = spelled.to_string();
    let port = target.port;
    let named: Vec<&HostRule> = allow
        .iter()
        .filter(|rule| names(&rule.host, &spelled))
        .collect();
    if named.is_empty() {
        return Err(HostRefusal::NotListed { host, port });
    }
    let on_port: Vec<&HostRule> = named
        .into_iter()
        .filter(|rule| rule.ports.contains(&port))
        .collect();
    if on_port.is_empty() {
        return Err(HostRefusal::Port { host, port });
    }
    let fits = |rule: &&HostRule| match target.method {
        Method::Unasked => true,
        Method::Sealed => rule.methods.is_empty(),
        Method::Named(method) => {
            rule.methods.is_empty() || rule.methods.iter().any(|one| one == method)
        }
    };
    // Of several, the one that says most about where it leads.
    let found = on_port
        .into_iter()
        .filter(fits)
        .max_by_key(|rule| (rule.address.is_some(), rule.private));
    match (found, target.method) {
        (Some(rule), _) => Ok(Allowed {
            host,
            rule: rule.clone(),
        }),
        (None, Method::Named(method)) => Err(HostRefusal::Method {
            host,
            port,
            method: text::short(method.as_bytes()),
        }),
        (None, Method::Sealed | Method::Unasked) => Err(HostRefusal::Sealed { host, port }),
    }
}

/// The ports on which a name may be reached, sorted; empty where none.
pub fn ports_of(allow: &[HostRule], host: &str) -> Vec<u16> {
    let Ok(spelled @ Spelled::Name(_)) = spell(host) else {
        return Vec::new();
    };
    let mut ports: Vec<u16> = allow
        .iter()
        .filter(|rule| names(&rule.host, &spelled))
        .flat_map(|rule| rule.ports.iter().copied())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Whether an address that a name resolved to may be connected to.
///
/// # Errors
/// What kind of address it is.
pub fn decide_address(
    allow: &[HostRule],
    allowed: &Allowed,
    (address, port): (IpAddr, u16),
) -> Result<(), &'static str> {
    // What is asked there by its own name is limited to its methods; so it is by another.
    let asks_no_more = |rule: &HostRule| {
        let methods = &allowed.rule.methods;
        rule.methods.is_empty()
            || !methods.is_empty() && methods.iter().all(|one| rule.methods.contains(one))
    };
    let named_itself = || {
        allow.iter().any(|rule| {
            rule.host == address.to_string() && rule.ports.contains(&port) && asks_no_more(rule)
        })
    };
    match reach(address) {
        Reach::Public => Ok(()),
        Reach::Never(kind) => Err(kind),
        Reach::Private(kind) => {
            // A source of packages is meant wherever it is: many networks have mirrors of their own.
            // What listens on the loopback trusts whoever is on this machine, and is no network.
            let source = allowed.rule.private && !is_loopback(address);
            let meant = allowed.rule.address == Some(address) || source;
            match meant || named_itself() {
                true => Ok(()),
                false => Err(kind),
            }
        }
    }
}

/// Whether a pattern of the policy names that host.
fn names(pattern: &str, host: &Spelled) -> bool {
    match (pattern.strip_prefix("*."), host) {
        (Some(parent), Spelled::Name(name)) => name
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        (Some(_), Spelled::Address(_)) => false,
        (None, host) => pattern == host.to_string(),
    }
}

/// The loosest list that is as tight as both: what both let through.
pub fn meet(a: &[HostRule], b: &[HostRule]) -> Vec<HostRule> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    normal(pairs.filter_map(|(a, b)| meet_rules(a, b)).collect())
}

/// Sorted, without what another rule covers.
pub fn normal(mut rules: Vec<HostRule>) -> Vec<HostRule> {
    rules.sort();
    rules.dedup();
    let all = rules.clone();
    rules.retain(|one| !all.iter().any(|other| other != one && covers(other, one)));
    rules
}

/// Whether one rule lets everything through that another does.
pub fn covers(wide: &HostRule, narrow: &HostRule) -> bool {
    meet_rules(wide, narrow).as_ref() == Some(narrow)
}

fn meet_rules(a: &HostRule, b: &HostRule) -> Option<HostRule> {
    let host = meet_hosts(&a.host, &b.host)?;
    // An address may be a private one, which a rule without it does not let through.
    if (a.address, a.source, a.private) != (b.address, b.source, b.private) {
        return None;
    }
    let ports: Vec<u16> = a
        .ports
        .iter()
        .copied()
        .filter(|port| b.ports.contains(port))
        .collect();
    let methods: Vec<String> = match (a.methods.is_empty(), b.methods.is_empty()) {
        (true, _) => b.methods.clone(),
        (_, true) => a.methods.clone(),
        (false, false) => {
            let both = a.methods.iter().filter(|one| b.methods.contains(one));
            let both: Vec<String> = both.cloned().collect();
            if both.is_empty() {
                return None;
            }
            both
        }
    };
    (!ports.is_empty()).then(|| HostRule {
        host: host.to_owned(),
        ports,
        methods,
        address: a.address,
        source: a.source,
        private: a.private,
    })
}

fn meet_hosts<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    let within = |pattern: &str, host: &str| {
        pattern == host || spell(host).is_ok_and(|host| names(pattern, &host))
    };
    match (within(a, b), within(b, a)) {
        (true, _) => Some(b),
        (_, true) => Some(a),
        (false, false) => None,
    }
}

/// Whether a policy lets anything out at all.
pub fn is_on(policy: &NetworkPolicy) -> bool {
    policy.mode == NetworkMode::Proxy
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
