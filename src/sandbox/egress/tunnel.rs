//! A client, from its first byte to its end.
//!
//! ```text
//!   proxy ─┬─ SOCKS5 ──────────┐
//!          ├─ CONNECT ─────────┼─▶ decided ─ told "go" ─┬─ TLS greeting, its name checked ─▶ bytes
//!   named ─┼───────────────────┘                        └─ HTTP ─┐
//!          └─ GET http://… ──────────────────────────────────────┴─▶ one request
//! ```

use super::budget::Way;
use super::client::Client;
use super::error::{Broken, Refused, shown};
use super::head::{Authority, Form};
use super::hello::{self, Hello, MAX_HELLO};
use super::http::{self, Scope};
use super::passage::Passage;
use super::reply::{self, Speech};
use super::{Egress, MAX_CONNECTIONS, PATIENCE, socks};
use crate::policy::network::{Allowed, Method, joined};
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How it ended badly, and what the client can be told.
type Failed = (Speech, Broken);

/// A client of the proxy.
pub(super) async fn proxy<S>(egress: &Egress, mut client: Client<S>, crowded: bool)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let done = proxied(egress, &mut client, crowded).await;
    finish(egress, client, done).await;
}

/// A client that knows no proxy, connected to the address of a name.
pub(super) async fn named<S>(
    egress: &Egress,
    mut client: Client<S>,
    (name, port): (&str, u16),
    crowded: bool,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let done = async {
        let nothing = |refused: Refused| (Speech::Nothing, Broken::from(refused));
        let allowed = admit(egress, (name, port), crowded).map_err(nothing)?;
        carry(egress, &mut client, &allowed, port).await
    };
    let done = done.await;
    finish(egress, client, done).await;
}

async fn finish<S>(egress: &Egress, mut client: Client<S>, done: Result<(), Failed>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Err((speech, broken)) = done else { return };
    if let Broken::Refused(refused) = &broken {
        egress.ledger.refused(refused);
    }
    reply::tell(&mut client, speech, &broken).await;
}

async fn proxied<S>(egress: &Egress, client: &mut Client<S>, crowded: bool) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    match first(client).await? {
        None => Ok(()),
        Some(socks::VERSION) => by_socks(egress, client, crowded).await,
        Some(_) => by_http(egress, client, crowded).await,
    }
}

/// The first byte, not taken; `None` where none comes.
async fn first<S>(client: &mut Client<S>) -> Result<Option<u8>, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if client.held().is_empty() {
        match timeout(PATIENCE, client.look()).await {
            Err(_) => return Err((Speech::Nothing, Broken::Slow("the client"))),
            Ok(Err(error)) => return Err((Speech::Nothing, error.into())),
            Ok(Ok(_)) => {}
        }
    }
    Ok(client.held().first().copied())
}

async fn by_socks<S>(egress: &Egress, client: &mut Client<S>, crowded: bool) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let nothing = |broken: Broken| (Speech::Nothing, broken);
    let wanted = match timeout(PATIENCE, socks::negotiate(client)).await {
        Err(_) => return Err(nothing(Broken::Slow("the client"))),
        Ok(wanted) => wanted.map_err(|error| nothing(error.into()))?,
    };
    let Some((host, port)) = wanted else {
        return Ok(());
    };
    let allowed =
        admit(egress, (&host, port), crowded).map_err(|refused| (Speech::Socks, refused.into()))?;
    socks::reply(client, socks::Reply::Done)
        .await
        .map_err(|error| nothing(error.into()))?;
    carry(egress, client, &allowed, port).await
}

async fn by_http<S>(egress: &Egress, client: &mut Client<S>, crowded: bool) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let spoken = |broken: Broken| (Speech::Http, broken);
    let Some(request) = http::read(client).await.map_err(spoken)? else {
        return Ok(());
    };
    let Form::Tunnel(of) = &request.form else {
        if crowded {
            let host = request.host.as_ref().map_or("a host", |named| &named.host);
            return Err(spoken(crowd(host).into()));
        }
        return http::serve(egress, client, &request, Scope::Proxy).await;
    };
    let port = of.port.unwrap_or_default();
    if let Some(named) = &request.host {
        // Here a Host without a port is the same host.
        let port = named.port.or(of.port);
        let named = Authority {
            host: named.host.clone(),
            port,
        };
        http::same(&named, &of.host, of.port.unwrap_or_default())
            .map_err(|refused| spoken(refused.into()))?;
    }
    let allowed =
        admit(egress, (&of.host, port), crowded).map_err(|refused| spoken(refused.into()))?;
    client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .map_err(|error| (Speech::Nothing, error.into()))?;
    carry(egress, client, &allowed, port).await
}

/// Host and port, before the client has said anything to it.
fn admit(egress: &Egress, (host, port): (&str, u16), crowded: bool) -> Result<Allowed, Refused> {
    let allowed = egress.decide(host, port, Method::Unasked)?;
    let at = joined(&allowed.host, port);
    if let Some(way) = egress.budget.spent() {
        return Err(Refused::Bytes { at, way });
    }
    match crowded {
        true => Err(crowd(&at)),
        false => Ok(allowed),
    }
}

fn crowd(at: &str) -> Refused {
    Refused::Crowded {
        at: shown(at.as_bytes()),
        limit: MAX_CONNECTIONS,
    }
}

/// What the client says to a host that it may reach.
async fn carry<S>(
    egress: &Egress,
    client: &mut Client<S>,
    allowed: &Allowed,
    port: u16,
) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    match first(client).await? {
        // Somebody looked whether it is there.
        None => Ok(()),
        Some(hello::HANDSHAKE) => {
            let done = sealed(egress, client, allowed, port).await;
            done.map_err(|broken| match broken {
                refused @ Broken::Refused(_) => (Speech::Tls, refused),
                other => (Speech::Nothing, other),
            })
        }
        Some(byte) if byte.is_ascii_alphabetic() => {
            let spoken = |broken: Broken| (Speech::Http, broken);
            match http::read(client).await.map_err(spoken)? {
                None => Ok(()),
                Some(request) => {
                    let scope = Scope::To(&allowed.host, port);
                    http::serve(egress, client, &request, scope).await
                }
            }
        }
        Some(_) => {
            let what = "it speaks neither TLS nor HTTP".to_owned();
            Err((Speech::Nothing, not_for(allowed, port, what).into()))
        }
    }
}

fn not_for(allowed: &Allowed, port: u16, what: String) -> Refused {
    Refused::Sealed {
        host: allowed.host.clone(),
        port,
        what,
    }
}

/// TLS: the greeting says for whom it is, and that must be the host. Nothing else in it is looked at.
async fn sealed<S>(
    egress: &Egress,
    client: &mut Client<S>,
    allowed: &Allowed,
    port: u16,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let greeting = match timeout(PATIENCE, greeting(client)).await {
        Err(_) => return Err(Broken::Slow("the client")),
        Ok(greeting) => greeting?,
    };
    check_greeting(&greeting, allowed).map_err(|what| not_for(allowed, port, what))?;
    let allowed = egress.decide(&allowed.host, port, Method::Sealed)?;
    let (passage, stream) = Passage::open(egress, &allowed, port, None).await?;
    let (mut from_host, mut to_host) = stream.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let meter = passage.meter();
    let both = async {
        tokio::try_join!(
            meter.pass(Way::Up, &mut from_client, &mut to_host),
            meter.pass(Way::Down, &mut from_host, &mut to_client),
        )
        .map(drop)
    };
    let done = tokio::select! {
        done = both => done,
        idle = meter.idle() => Err(idle),
    };
    passage.end(&done);
    match done {
        // The greeting was passed on: an alert of ours would be none.
        Err(Broken::Refused(refused)) => {
            egress.ledger.refused(&refused);
            Ok(())
        }
        done => done,
    }
}

async fn greeting<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
) -> std::io::Result<Hello> {
    loop {
        match hello::read(client.held()) {
            Hello::More if client.held().len() > MAX_HELLO => return Ok(Hello::Nonsense),
            Hello::More => {
                if !client.look().await? {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            read => return Ok(read),
        }
    }
}

fn check_greeting(greeting: &Hello, allowed: &Allowed) -> Result<(), String> {
    // Addresses are not written into greetings.
    let is_address = allowed.host.parse::<IpAddr>().is_ok();
    match greeting {
        Hello::For(name) if *name == allowed.host => Ok(()),
        Hello::Nameless if is_address => Ok(()),
        Hello::For(name) => Err(format!(
            "its TLS greeting is for another host: {}",
            shown(name.as_bytes())
        )),
        Hello::Nameless => Err("its TLS greeting names no host".to_owned()),
        Hello::Encrypted => Err("its TLS greeting hides for whom it is".to_owned()),
        Hello::More | Hello::Nonsense => Err("its TLS greeting cannot be read".to_owned()),
    }
}
