//! Plain HTTP: one request, checked, written anew for its host; its answer; the end.
//!
//! A connection to a host carries one request, so that no byte of it can be read as another's. Clients
//! open the next by themselves.

use super::budget::Way;
use super::client::Client;
use super::error::{Broken, Refused, shown};
use super::head::{self, Authority, Body, Form, MAX_HEAD, Request};
use super::passage::{Meter, Passage};
use super::reply::Speech;
use super::{Egress, PATIENCE};
use crate::policy::network::{Allowed, Method, joined};
use std::future::pending;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The port of `http://`.
const HTTP: u16 = 80;

/// Informational answers before the answer.
const MAX_INTERIM: usize = 8;

/// Whom a request may be for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Whom its own target names.
    Proxy,
    /// The host that the connection is to.
    To(&'a str, u16),
}

/// A request that was read.
pub(super) async fn read<S>(client: &mut Client<S>) -> Result<Option<Request>, Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let end = match timeout(PATIENCE, whole_head(client)).await {
        Err(_) => return Err(Broken::Slow("the client")),
        Ok(Ok(Some(end))) => end,
        // Opened and left: nothing was wanted.
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(unclear(client.held(), "its head is too long").into());
        }
        Ok(Err(error)) => return Err(error.into()),
    };
    let bytes = client.consume(end);
    let request = head::request(&bytes).map_err(|why| unclear(&bytes, why))?;
    Ok(Some(request))
}

/// Where the head ends; `None` where the stream does before anything came.
async fn whole_head<S: AsyncRead + Unpin>(client: &mut Client<S>) -> io::Result<Option<usize>> {
    loop {
        if let Some(end) = head::end(client.held()).filter(|end| *end <= MAX_HEAD) {
            return Ok(Some(end));
        }
        if client.held().len() >= MAX_HEAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if !client.look().await? {
            return match client.held().is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

/// A request whose first line is all that can be said of it.
fn unclear(bytes: &[u8], why: &'static str) -> Refused {
    let line = bytes.split(|byte| b"\r\n".contains(byte)).next();
    Refused::Request {
        at: format!("{:?}", shown(line.unwrap_or_default())),
        why,
    }
}

/// One request and its answer.
pub(super) async fn serve<S>(
    egress: &Egress,
    client: &mut Client<S>,
    request: &Request,
    scope: Scope<'_>,
) -> Result<(), (Speech, Broken)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said_nothing = |broken: Broken| (Speech::Http, broken);
    let (allowed, port, path) =
        judge(egress, request, scope).map_err(|refused| said_nothing(refused.into()))?;
    let (passage, stream) = Passage::open(egress, &allowed, port, Some(&request.method))
        .await
        .map_err(said_nothing)?;
    let host = match port {
        HTTP => joined(&allowed.host, HTTP)
            .trim_end_matches(":80")
            .to_owned(),
        port => joined(&allowed.host, port),
    };
    let meter = passage.meter();
    let exchange = Exchange {
        request,
        at: joined(&allowed.host, port),
        head: request.written(&host, path),
        meter,
    };
    let mut speech = Speech::Http;
    let done = tokio::select! {
        done = exchange.run(client, stream, &mut speech) => done,
        idle = meter.idle() => Err(idle),
    };
    passage.end(&done);
    done.map_err(|broken| (speech, broken))
}

/// For whom it is, and whether that is allowed.
fn judge<'r>(
    egress: &Egress,
    request: &'r Request,
    scope: Scope<'_>,
) -> Result<(Allowed, u16, &'r str), Refused> {
    let (host, port) = match (&request.form, scope) {
        (Form::Absolute { of, .. }, Scope::Proxy) => (of.host.clone(), of.port.unwrap_or(HTTP)),
        (_, Scope::To(host, port)) => (host.to_owned(), port),
        (Form::Origin { path }, Scope::Proxy) => {
            return Err(Refused::Request {
                at: shown(path.as_bytes()),
                why: "a proxy is asked for http://HOST/PATH",
            });
        }
        (Form::Tunnel(of), Scope::Proxy) => return Err(nested(of)),
    };
    let path = match &request.form {
        Form::Absolute { of, path } => {
            same(of, &host, port)?;
            path
        }
        Form::Origin { path } => path,
        Form::Tunnel(of) => return Err(nested(of)),
    };
    let allowed = egress.decide(&host, port, Method::Named(&request.method))?;
    if !allowed.rule.methods.is_empty() && request.overrides_its_method() {
        return Err(Refused::Request {
            at: joined(&allowed.host, port),
            why: "its rule names methods, and a header of the request asks for another",
        });
    }
    if let Some(named) = &request.host {
        same(named, &host, port)?;
    }
    Ok((allowed, port, path))
}

fn nested(of: &Authority) -> Refused {
    Refused::Request {
        at: shown(of.host.as_bytes()),
        why: "a proxy is not asked for through itself",
    }
}

/// What a request names must be what the connection is to.
pub(super) fn same(named: &Authority, host: &str, port: u16) -> Result<(), Refused> {
    let plain = |host: &str| {
        let bare = host.trim_matches(['[', ']']).to_ascii_lowercase();
        bare.trim_end_matches('.').to_owned()
    };
    let other = plain(&named.host) != plain(host) || named.port.unwrap_or(HTTP) != port;
    match other {
        false => Ok(()),
        true => Err(Refused::OtherHost {
            host: plain(host),
            port,
            seen: joined(
                named.host.trim_matches(['[', ']']),
                named.port.unwrap_or(HTTP),
            ),
        }),
    }
}

struct Exchange<'a> {
    /// The host, for words.
    at: String,
    request: &'a Request,
    head: Vec<u8>,
    meter: &'a Meter<'a>,
}

impl Exchange<'_> {
    /// `speech` says whether the client can still be told something.
    async fn run<S>(
        &self,
        client: &mut Client<S>,
        stream: TcpStream,
        speech: &mut Speech,
    ) -> Result<(), Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (from_host, mut to_host) = stream.into_split();
        self.meter.write(Way::Up, &mut to_host, &self.head).await?;
        if self.request.waits && self.request.body != Body::Length(0) {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let upload = async {
            let body = self.request.body;
            let sent = self
                .meter
                .pass_body(Way::Up, body, &mut from_client, &mut to_host)
                .await;
            match sent {
                Err(refused @ Broken::Refused(_)) => refused,
                // A host may answer before it has read everything, and close.
                Ok(()) | Err(_) => pending().await,
            }
        };
        let download = self.answer(Client::new(from_host), &mut to_client, speech);
        let done = tokio::select! {
            done = download => done,
            broken = upload => Err(broken),
        };
        if done.is_ok() {
            to_client.shutdown().await?;
        }
        done
    }

    async fn answer(
        &self,
        mut host: Client<impl AsyncRead + Unpin>,
        client: &mut (impl AsyncWrite + Unpin),
        speech: &mut Speech,
    ) -> Result<(), Broken> {
        let nonsense = |why| Broken::Answer {
            at: self.at.clone(),
            why,
        };
        for _ in 0..MAX_INTERIM {
            let end = match whole_head(&mut host).await {
                Ok(Some(end)) => end,
                Ok(None) => return Err(nonsense("there is none")),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(nonsense("its head is too long"));
                }
                Err(error) => return Err(error.into()),
            };
            let head = host.consume(end);
            let answer = head::answer(&head, &self.request.method).map_err(nonsense)?;
            if answer.status < 200 {
                continue;
            }
            *speech = Speech::Nothing;
            self.meter.write(Way::Down, client, &answer.head).await?;
            return self
                .meter
                .pass_body(Way::Down, answer.body, &mut host, client)
                .await;
        }
        Err(nonsense("it goes on and on"))
    }
}
