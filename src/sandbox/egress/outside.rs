//! How this machine reaches the outside: directly, or through a proxy of its own.

use crate::policy::network::past_proxy;
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Addresses of a name.
pub type Resolve =
    Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Where connections go out.
#[derive(Clone)]
pub struct Outside {
    pub(super) resolve: Resolve,
    pub(super) upstream: Option<Upstream>,
    /// Names (with those beneath them) and addresses that are reached without the proxy; `*` is all.
    pub(super) except: Vec<String>,
}

/// A proxy that this machine has to use.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    pub(super) host: String,
    pub(super) port: u16,
    /// Of `Proxy-Authorization`.
    pub(super) credentials: Option<String>,
}

/// A proxy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{proxy:?} is no proxy that can be used here")]
pub struct UpstreamError {
    proxy: String,
}

impl UpstreamError {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        "set HTTPS_PROXY to http://HOST:PORT, or to nothing"
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Upstream {
    /// `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// Another scheme, or no URL.
    pub fn parse(text: &str) -> Result<Self, UpstreamError> {
        // The credentials are nobody's to read in a message.
        let wrong = || UpstreamError {
            proxy: text.rsplit('@').next().unwrap_or_default().to_owned(),
        };
        let full = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let url = url::Url::parse(&full).map_err(|_| wrong())?;
        let host = url.host_str().filter(|_| url.scheme() == "http");
        let credentials = (!url.username().is_empty()).then(|| {
            let user = percent_decoded(url.username());
            let password = percent_decoded(url.password().unwrap_or_default());
            format!("Basic {}", base64(&[user, vec![b':'], password].concat()))
        });
        Ok(Self {
            host: host.ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().ok_or_else(wrong)?,
            credentials,
        })
    }
}

impl Outside {
    /// Asks the system's resolver.
    pub fn new(upstream: Option<Upstream>, except: Vec<String>) -> Self {
        let resolve: Resolve = Arc::new(|host, port| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host.as_str(), port)).await?;
                Ok(found.map(|address: SocketAddr| address.ip()).collect())
            })
        });
        Self {
            resolve,
            upstream,
            except,
        }
    }

    /// Asks somebody else for addresses.
    #[must_use]
    pub fn resolving(self, resolve: Resolve) -> Self {
        Self { resolve, ..self }
    }

    /// The proxy for a host, if one is to be used. This machine itself is never reached through one.
    pub(super) fn upstream_for(&self, host: &str) -> Option<&Upstream> {
        self.upstream
            .as_ref()
            .filter(|_| !past_proxy(host, &self.except))
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// [RFC 4648](https://www.rfc-editor.org/rfc/rfc4648#section-4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let padded = [
            group[0],
            group.get(1).copied().unwrap_or(0),
            group.get(2).copied().unwrap_or(0),
        ];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index)) as usize & 63];
            out.push(match index > group.len() {
                true => '=',
                false => char::from(letter),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_with_its_credentials_and_shown_without() {
        let proxy = Upstream::parse("http://ada:p%40ss@proxy.corp:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 3128));
        assert_eq!(proxy.credentials.as_deref(), Some("Basic YWRhOnBAc3M="));
        assert_eq!(format!("{proxy:?}"), "proxy.corp:3128");
        assert_eq!(Upstream::parse("proxy:81").unwrap().port, 81);
        for bad in ["socks5://x:1", "https://x:1", "http://", "://"] {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
        let error = Upstream::parse("socks5://ada:secret@x:1").unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn what_is_excepted_and_this_machine_go_without_a_proxy() {
        let outside = Outside::new(
            Some(Upstream::parse("proxy:81").unwrap()),
            vec![".corp".to_owned(), "a.org".to_owned()],
        );
        for direct in ["x.corp", "a.org", "b.a.org", "127.0.0.1", "::1"] {
            assert_eq!(outside.upstream_for(direct), None, "{direct}");
        }
        for through in ["pypi.org", "xcorp", "aa.org"] {
            assert!(outside.upstream_for(through).is_some(), "{through}");
        }
    }
}
