//! Why a connection is not made, or is cut: in words for the client, the record and the model.

use super::budget::Way;
use crate::context::sanitise::visible;
use crate::policy::network::{HostRefusal, joined};
use std::net::IpAddr;

/// Longest part of a client's own words that is repeated.
const MAX_SHOWN: usize = 200;

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{refusal}")]
    Policy {
        host: String,
        port: u16,
        refusal: HostRefusal,
    },
    /// It resolves to where no sandbox is let.
    #[error(
        "blocked: {}; it leads to {address}, {kind}: name that address in [network] allow if it is meant",
        joined(host, *port)
    )]
    Address {
        host: String,
        port: u16,
        address: IpAddr,
        kind: &'static str,
    },
    /// The TLS greeting is for another host, or hides for which.
    #[error("blocked: {}; {what}", joined(host, *port))]
    Sealed {
        host: String,
        port: u16,
        what: String,
    },
    /// A request is for another host than the connection.
    #[error("blocked: {}; the request is for another host: {seen}", joined(host, *port))]
    OtherHost {
        host: String,
        port: u16,
        seen: String,
    },
    /// Not a request that has one meaning.
    #[error("blocked: {at}; {why}")]
    Request { at: String, why: &'static str },
    #[error("blocked: {at}; the limit of {} is reached", way.key())]
    Bytes { at: String, way: Way },
    #[error("blocked: {at}; more than {limit} connections at one time")]
    Crowded { at: String, limit: usize },
    #[error("blocked: {at}; more than {limit} connections in the life of a run")]
    TooMany { at: String, limit: u64 },
    #[error("blocked: {at}; it could not be recorded")]
    Unrecorded { at: String },
}

impl Refused {
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Policy { host, .. }
            | Self::Address { host, .. }
            | Self::Sealed { host, .. }
            | Self::OtherHost { host, .. } => host,
            Self::Request { at, .. }
            | Self::Bytes { at, .. }
            | Self::Crowded { at, .. }
            | Self::TooMany { at, .. }
            | Self::Unrecorded { at } => at,
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Policy { port, .. }
            | Self::Address { port, .. }
            | Self::Sealed { port, .. }
            | Self::OtherHost { port, .. } => Some(*port),
            Self::Request { .. }
            | Self::Bytes { .. }
            | Self::Crowded { .. }
            | Self::TooMany { .. }
            | Self::Unrecorded { .. } => None,
        }
    }

    /// The status an HTTP client is told.
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::Request { .. } => "400 Bad Request",
            Self::Crowded { .. } => "503 Service Unavailable",
            Self::OtherHost { .. } => "421 Misdirected Request",
            Self::Policy { .. }
            | Self::Address { .. }
            | Self::Sealed { .. }
            | Self::Bytes { .. }
            | Self::TooMany { .. }
            | Self::Unrecorded { .. } => "403 Forbidden",
        }
    }
}

/// What a client wrote, printable and bounded.
pub(super) fn shown(text: &[u8]) -> String {
    let cut = &text[..text.len().min(MAX_SHOWN)];
    visible(&String::from_utf8_lossy(cut))
}

/// Why a connection that was allowed did not come about, or ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0} has no address")]
    NoAddress(String),
    #[error("failed to reach {at}: {why}")]
    Unreachable { at: String, why: String },
    #[error("nothing moved for {0} s")]
    Idle(u64),
    #[error("{0} took too long to say what it wants")]
    Slow(&'static str),
    #[error("the answer of {at} makes no sense: {why}")]
    Answer { at: String, why: &'static str },
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
}

impl Broken {
    pub(super) fn status(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.status(),
            Self::Slow(_) => "408 Request Timeout",
            Self::Idle(_) => "504 Gateway Timeout",
            Self::NoAddress(_) | Self::Unreachable { .. } | Self::Answer { .. } | Self::Io(_) => {
                "502 Bad Gateway"
            }
        }
    }
}
