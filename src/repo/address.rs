//! Which addresses a public host may have, and resolving a name once.

use super::error::RepoError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// True for addresses of the public internet. Pure.
///
/// Private, loopback, link-local (cloud metadata among them), shared, documentation, benchmark,
/// multicast and reserved ranges are not; IPv6 spellings of IPv4 addresses are judged by what they hold.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // "this network"
        || a == 0
        // shared by carriers (RFC 6598); also cloud metadata
        || (a == 100 && (64..=127).contains(&b))
        // protocol assignments (RFC 6890) and the old 6to4 relay
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        // benchmarks (RFC 2544)
        || (a == 198 && (18..=19).contains(&b))
        // reserved, and broadcast
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4_at = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        // NAT64 (RFC 6052) and 6to4 hold an IPv4 address
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4_at(high, low)),
        [0x2002, high, low, ..] => is_public_v4(v4_at(high, low)),
        // Teredo and ORCHID
        [0x2001, 0..=0x1ff, ..] => false,
        // documentation
        [0x2001, 0xdb8, ..] => false,
        [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast; everything else is mapped, local, multicast or reserved.
        _ => s[0] & 0xe000 == 0x2000,
    }
}

/// Resolves a name once. All its addresses must be public: a name with a private one among them is a
/// trap, or not ours to use.
pub(super) async fn resolve_public(host: &str) -> Result<Vec<SocketAddr>, RepoError> {
    let unreachable = |why: String| RepoError::Unreachable {
        host: host.to_owned(),
        why,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 443))
        .await
        .map_err(|_| unreachable("its name does not resolve".to_owned()))?
        .collect();
    if found.is_empty() {
        return Err(unreachable("its name has no address".to_owned()));
    }
    match found.iter().find(|found| !is_public(found.ip())) {
        Some(private) => Err(RepoError::PrivateAddress {
            host: host.to_owned(),
            address: private.ip(),
        }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_private_or_special_address_is_public() {
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn addresses_of_public_hosts_are_public() {
        for good in [
            "140.82.121.3",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "2606:50c0:8000::153",
            "2a04:4e42::223",
            "2001:4860:4860::8888",
            "64:ff9b::8c52:7903",
        ] {
            assert!(is_public(good.parse().unwrap()), "{good}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused_after_resolving() {
        let error = resolve_public("localhost").await.unwrap_err();
        assert!(
            matches!(error, RepoError::PrivateAddress { .. }),
            "{error:?}"
        );
        assert!(error.remedy().unwrap().contains("remotes"));
    }
}
