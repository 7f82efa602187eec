//! What kind of address a name leads to. Pure.
//!
//! [IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry/) and
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry/) special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// Of this machine or its network: only where a rule names this very address.
    Private(&'static str),
    /// Nothing a sandbox has business with.
    Never(&'static str),
}

const LOOPBACK: &str = "a loopback address of the host";

/// Whether it leads to this very machine, in whatever wrapping.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    reach(address) == Reach::Private(LOOPBACK)
}

/// Judges an address.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// Whether a host is reached without the user's proxy: this very machine, and what an entry of
/// `NO_PROXY` names (`*`, `example.org`, `.example.org`; with all names below it).
pub fn past_proxy(host: &str, except: &[String]) -> bool {
    let here = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    let excepted = except.iter().any(|entry| {
        let name = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*"
            || host == name
            || host
                .strip_suffix(name)
                .is_some_and(|above| above.ends_with('.'))
    });
    here || excepted
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        // Services that hand out a cloud machine's credentials.
        (169, 254, ..) => Reach::Never("a link-local address, where cloud metadata lies"),
        (100, 100, 100, 200) | (192, 0, 0, 192) => Reach::Never("a cloud's metadata service"),
        (0, ..) => Reach::Never("an address of this network, which names no host"),
        (224..=239, ..) => Reach::Never("a multicast address"),
        (240..=255, ..) => Reach::Never("a reserved or broadcast address"),
        (127, ..) => Reach::Private(LOOPBACK),
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => Reach::Private("a private address"),
        (100, 64..=127, ..) => Reach::Private("an address shared behind a carrier's NAT"),
        (192, 0, 0, _) => Reach::Private("an address reserved for protocols"),
        (198, 18..=19, ..) => Reach::Private("an address reserved for benchmarks"),
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => {
            Reach::Private("an address reserved for documentation")
        }
        (192, 88, 99, _) => Reach::Private("a relay address"),
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    // What carries an IPv4 address ends up there.
    if let Some(inner) = inner_v4(&segments) {
        return match reach_v4(inner) {
            Reach::Public => Reach::Private("an IPv4 address inside an IPv6 one"),
            other => other,
        };
    }
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private(LOOPBACK),
        [0xfd00, 0xec2, ..] => Reach::Never("a cloud's metadata service"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Reach::Never("a link-local address"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Reach::Private("a site-local address"),
        [first, ..] if first & 0xff00 == 0xff00 => Reach::Never("a multicast address"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Reach::Private("a private address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Reach::Private("an address reserved for documentation")
        }
        // Teredo, ORCHID and the rest of the block for protocols.
        [0x2001, second, ..] if second < 0x200 => {
            Reach::Private("an address reserved for protocols")
        }
        [0x100, 0, 0, ..] => Reach::Never("an address that discards everything"),
        [first, ..] if first & 0xe000 == 0x2000 => Reach::Public,
        _ => Reach::Private("an address outside of the public range"),
    }
}

/// IPv4 mapped, compatible, 6to4 and NAT64.
fn inner_v4(segments: &[u16; 8]) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match *segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(v4(high, low))
        }
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, .., high, low] => {
            Some(v4(high, low))
        }
        _ => None,
    }
}
