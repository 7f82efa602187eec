//! How the network is reached: certificate authorities, proxies, bounds in time. Values only; who
//! calls read them from the environment.

use super::error::RepoError;
use crate::policy::network::past_proxy;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// What a client of this room knows of the network.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// PEM file of authorities trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
    pub proxy: ProxyConfig,
    /// A clone may take this long.
    pub time: Duration,
    /// The other side may be silent this long.
    pub stall: Duration,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            ca_bundle: None,
            proxy: ProxyConfig::default(),
            time: Duration::from_secs(15 * 60),
            stall: Duration::from_secs(30),
        }
    }
}

/// Proxies, as the customary variables name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyConfig {
    pub https: Option<String>,
    pub http: Option<String>,
    /// Host names (with those beneath them) and addresses that are reached without a proxy; `*` is all.
    pub except: Vec<String>,
}

impl ProxyConfig {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; the lower-case spelling wins.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| {
            [name.to_ascii_lowercase(), name.to_owned()]
                .iter()
                .filter_map(|name| variables.get(name))
                .find(|value| !value.is_empty())
                .cloned()
        };
        let all = get("ALL_PROXY");
        Self {
            https: get("HTTPS_PROXY").or_else(|| all.clone()),
            http: get("HTTP_PROXY").or(all),
            except: get("NO_PROXY")
                .unwrap_or_default()
                .split(',')
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxy for a URL, if one is to be used. This machine itself is never reached through one.
    pub(super) fn for_url(&self, url: &url::Url) -> Option<&str> {
        let proxy = match url.scheme() {
            "https" => self.https.as_deref(),
            "http" => self.http.as_deref(),
            _ => None,
        }?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        let past = host == "localhost" || past_proxy(host, &self.except);
        (!past).then_some(proxy)
    }
}

/// When to give up: asked often, from every part of a clone.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    handle: Handle,
    pub(super) cancel: CancellationToken,
    pub(super) deadline: Instant,
    pub(super) time: Duration,
    pub(super) stall: Duration,
}

impl Watch {
    /// Starts counting. To be called on a runtime.
    pub(super) fn new(config: &NetConfig, cancel: CancellationToken) -> Self {
        Self {
            handle: Handle::current(),
            cancel,
            deadline: Instant::now() + config.time,
            time: config.time,
            stall: config.stall,
        }
    }

    pub(super) fn check(&self) -> Result<(), RepoError> {
        if self.cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(self.too_slow());
        }
        Ok(())
    }

    /// Waits, on a thread that may block, for a step of a conversation, but no longer than anybody
    /// wants to.
    pub(super) fn wait<T>(
        &self,
        host: &str,
        work: impl Future<Output = Result<T, RepoError>>,
    ) -> Result<T, RepoError> {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(RepoError::Cancelled),
                () = tokio::time::sleep_until(self.deadline.into()) => Err(self.too_slow()),
                done = work => done,
                () = tokio::time::sleep(self.stall) => Err(RepoError::Stalled {
                    host: host.to_owned(),
                    seconds: self.stall.as_secs(),
                }),
            }
        })
    }

    pub(super) fn too_slow(&self) -> RepoError {
        RepoError::TooSlow {
            seconds: self.time.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> ProxyConfig {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        ProxyConfig::from_variables(&variables.iter().map(owned).collect())
    }

    #[test]
    fn the_customary_variables_are_understood() {
        let config = proxies(&[
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:1"),
            ("ALL_PROXY", "http://all:1"),
            ("NO_PROXY", "corp.example, .inner.example,10.0.0.7"),
        ]);
        let through = |url: &str| config.for_url(&url.parse().unwrap()).map(ToOwned::to_owned);
        assert_eq!(
            through("https://github.com/a").as_deref(),
            Some("http://lower:1")
        );
        assert_eq!(
            through("http://github.com/a").as_deref(),
            Some("http://all:1")
        );
        for direct in [
            "https://corp.example/a",
            "https://git.corp.example/a",
            "https://git.inner.example/a",
            "http://10.0.0.7/a",
            "http://127.0.0.1:8000/a",
            "http://[::1]:8000/a",
            "http://localhost/a",
            "file:///srv/a",
        ] {
            assert_eq!(through(direct), None, "{direct}");
        }
        assert!(through("https://notcorp.example/a").is_some());
    }

    #[test]
    fn no_variables_mean_no_proxy() {
        assert_eq!(proxies(&[("HTTPS_PROXY", "")]), ProxyConfig::default());
    }
}
