//! The host's end of what gets out of a sandbox: each stream is one connection that somebody inside
//! wants, and each is decided here.
//!
//! ```text
//!   stream ─ what is wanted ─┬─ proxy client: HTTP, CONNECT, SOCKS5 ─┐
//!                            ├─ a connection to a name ──────────────┼─▶ decide_host ─ no ─▶ recorded, closed
//!                            └─ a question for a name ─▶ its ports   │       │ yes, recorded
//!                                                                    │       ▼
//!                    resolve, once ─▶ judge the address ─▶ connect to that very address
//!                                                                    │
//!        first bytes ─┬─ TLS: the server name must be the host ─▶ bytes, counted ─▶ recorded
//!                     ├─ HTTP: one request, its Host must be the host, its method listed
//!                     └─ anything else: refused
//! ```
//!
//! What is inside TLS is not seen, and no certificate is made up: the client checks the host's own.
//! What comes from a sandbox is hostile: heads, bodies, connections and times are bounded. It decides
//! nothing itself: [`policy::network`](crate::policy::network) does, and nothing is resolved before.

mod budget;
mod chunks;
mod client;
mod dial;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod head;
mod hello;
mod http;
mod ledger;
mod outside;
mod passage;
mod reply;
mod socks;
mod tunnel;

use super::channel::Duplex;
use super::wire::{self, NamePorts, Outbound};
use crate::policy::network::{Allowed, HostRefusal, Method, Target, decide_host, ports_of};
use crate::protocol::net::{HostRule, Network};
use budget::Budget;
use client::Client;
use error::Refused;
use ledger::Ledger;
pub use ledger::{Report, Witness};
pub use outside::{Outside, Resolve, Upstream, UpstreamError};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections of one sandbox at one time.
pub const MAX_CONNECTIONS: usize = 128;

/// Largest first frame of a stream, in bytes: a name, and some.
const MAX_OUTBOUND: usize = 512;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long nothing may move on a connection.
const IDLE: Duration = Duration::from_secs(300);

/// Hosts a person approved for this run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Grants(Arc<RwLock<Vec<HostRule>>>);

impl Grants {
    pub fn add(&self, rule: HostRule) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(rule);
    }

    pub fn all(&self) -> Vec<HostRule> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What the sandboxes of one run may reach, and how: its bytes, connections and refusals are counted
/// over all of them, so that a sandbox that ends and is replaced begins nothing anew.
pub struct Egress {
    allow: Vec<HostRule>,
    grants: Grants,
    outside: Outside,
    budget: Arc<Budget>,
    ledger: Ledger,
}

impl Egress {
    pub fn new(
        network: &Network,
        grants: Grants,
        outside: Outside,
        witness: Arc<dyn Witness>,
    ) -> Self {
        Self {
            allow: network.allow.clone(),
            grants,
            outside,
            budget: Arc::new(Budget::new(network.upload_bytes, network.download_bytes)),
            ledger: Ledger::new(witness),
        }
    }

    /// Serves what init opens, until the sandbox is gone; then everything that is open is cut.
    pub(super) async fn serve(self: Arc<Self>, mut streams: mpsc::Receiver<Duplex>) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                stream = streams.recv() => {
                    let Some(stream) = stream else { return };
                    open.spawn(Arc::clone(&self).take(stream, open.len()));
                }
                Some(_) = open.join_next() => {}
            }
        }
    }

    /// One stream, from its head to its end.
    async fn take<S>(self: Arc<Self>, mut stream: S, others: usize)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let Ok(Ok(wanted)) = timeout(PATIENCE, read_head(&mut stream)).await else {
            return;
        };
        if let Outbound::Name { name } = &wanted {
            // Who asked may be gone.
            let _ = self.name(&mut stream, name).await;
            return;
        }
        let client = Client::new(stream);
        let crowded = others >= MAX_CONNECTIONS;
        match wanted {
            Outbound::Proxy => tunnel::proxy(&self, client, crowded).await,
            Outbound::Named { name, port } => {
                tunnel::named(&self, client, (&name, port), crowded).await;
            }
            Outbound::Name { .. } => {}
        }
    }

    async fn name<S: AsyncWrite + Unpin>(&self, stream: &mut S, name: &str) -> io::Result<()> {
        let ports = ports_of(&self.rules(), name);
        if ports.is_empty() {
            self.ledger.no_such_name(name);
        }
        let frame = wire::frame(&NamePorts(ports)).map_err(io::Error::other)?;
        stream.write_all(&frame).await?;
        stream.shutdown().await
    }

    fn rules(&self) -> Vec<HostRule> {
        let mut rules = self.allow.clone();
        rules.extend(self.grants.all());
        rules
    }

    /// Host and port, before anything else is known.
    fn decide(&self, host: &str, port: u16, method: Method<'_>) -> Result<Allowed, Refused> {
        let target = Target { host, port, method };
        decide_host(&self.rules(), &target).map_err(|refusal: HostRefusal| Refused::Policy {
            host: error::shown(host.as_bytes()),
            port,
            refusal,
        })
    }
}

/// The first frame: what is wanted.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Outbound> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let length = wire::body_length(prefix, MAX_OUTBOUND).ok_or(io::ErrorKind::InvalidData)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    wire::parse(&body).map_err(io::Error::other)
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
