//! From an allowed host to a connection: resolved once, each address judged, connected to that very
//! address.

use super::Egress;
use super::error::{Broken, Refused};
use super::outside::Upstream;
use crate::policy::network::{Allowed, decide_address, joined};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a name, and for one address.
const RESOLVING: Duration = Duration::from_secs(15);
const CONNECTING: Duration = Duration::from_secs(15);

/// Addresses of a name that are tried.
const TRIED: usize = 4;

/// Longest answer of a proxy to `CONNECT`.
const MAX_ANSWER: usize = 16 * 1024;

/// A connection to the outside.
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    /// `None` through a proxy: who resolves is the proxy.
    pub(super) address: Option<IpAddr>,
}

pub(super) async fn dial(egress: &Egress, allowed: &Allowed, port: u16) -> Result<Dialled, Broken> {
    let dialled = match egress.outside.upstream_for(&allowed.host) {
        // What the policy pins is not a proxy's to find.
        Some(upstream) if allowed.rule.address.is_none() => Dialled {
            stream: through(upstream, &allowed.host, port).await?,
            address: None,
        },
        _ => direct(egress, allowed, port).await?,
    };
    // Small messages are the rule at the beginning of a connection.
    let _ = dialled.stream.set_nodelay(true);
    Ok(dialled)
}

async fn direct(egress: &Egress, allowed: &Allowed, port: u16) -> Result<Dialled, Broken> {
    let rules = egress.rules();
    let mut refused = None;
    let mut failed = None;
    for address in addresses(egress, allowed, port).await? {
        if let Err(kind) = decide_address(&rules, allowed, (address, port)) {
            refused.get_or_insert(Refused::Address {
                host: allowed.host.clone(),
                port,
                address,
                kind,
            });
            continue;
        }
        match connect(SocketAddr::new(address, port)).await {
            Ok(stream) => {
                return Ok(Dialled {
                    stream,
                    address: Some(address),
                });
            }
            Err(why) => failed = Some(why),
        }
    }
    Err(match (failed, refused) {
        (Some(why), _) => Broken::Unreachable {
            at: joined(&allowed.host, port),
            why,
        },
        (None, Some(refused)) => refused.into(),
        (None, None) => Broken::NoAddress(allowed.host.clone()),
    })
}

/// The one the policy pins, the host itself, or what the name resolves to, asked once.
async fn addresses(egress: &Egress, allowed: &Allowed, port: u16) -> Result<Vec<IpAddr>, Broken> {
    let pinned = allowed.rule.address;
    if let Some(address) = pinned.or_else(|| allowed.host.parse().ok()) {
        return Ok(vec![address]);
    }
    let asking = (egress.outside.resolve)(allowed.host.clone(), port);
    let unreachable = |why: String| Broken::Unreachable {
        at: joined(&allowed.host, port),
        why,
    };
    let mut found = timeout(RESOLVING, asking)
        .await
        .map_err(|_| unreachable("its name took too long to resolve".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    found.truncate(TRIED);
    Ok(found)
}

async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    match timeout(CONNECTING, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CONNECTING.as_secs())),
    }
}

/// `CONNECT` at a proxy of this machine's.
async fn through(upstream: &Upstream, host: &str, port: u16) -> Result<TcpStream, Broken> {
    let at = joined(host, port);
    let unreachable = |why: String| Broken::Unreachable {
        at: at.clone(),
        why: format!("the proxy {upstream:?}: {why}"),
    };
    let connecting = TcpStream::connect((upstream.host.as_str(), upstream.port));
    let talk = async {
        let mut stream = connecting.await?;
        let credentials = upstream
            .credentials
            .as_ref()
            .map(|value| format!("Proxy-Authorization: {value}\r\n"))
            .unwrap_or_default();
        let request = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n{credentials}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // To the end of the head and no further: what follows is the host's.
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_ANSWER {
            answer.push(stream.read_u8().await?);
        }
        Ok::<_, std::io::Error>((stream, answer))
    };
    let (stream, answer) = timeout(CONNECTING, talk)
        .await
        .map_err(|_| unreachable("no answer".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let status = answer.split(|byte| *byte == b' ').nth(1);
    match status {
        Some(b"200") if answer.ends_with(b"\r\n\r\n") => Ok(stream),
        status => Err(unreachable(format!(
            "it answered {}",
            super::error::shown(status.unwrap_or_default())
        ))),
    }
}
