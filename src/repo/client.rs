//! The HTTP client of one clone: bound to judged addresses, to a proxy or to neither, and to the
//! authorities it trusts.

use super::address::resolve_public;
use super::error::{RepoError, brief};
use super::net::{NetConfig, Watch};
use crate::policy::git_url::{CheckedUrl, Listing};
use reqwest::{Client, redirect};
use std::path::Path;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Hosts serve git to what calls itself git.
const USER_AGENT: &str = concat!("git/2.0 (fumehood/", env!("CARGO_PKG_VERSION"), ")");

/// Resolves the name and judges its addresses; nothing is sent yet.
pub(super) fn build(
    checked: &CheckedUrl,
    config: &NetConfig,
    watch: &Watch,
) -> Result<Client, RepoError> {
    let host = checked.host().unwrap_or_default();
    // No proxy, no redirect, no compression but what is asked for here: each is counted or judged.
    let mut builder = Client::builder()
        .no_proxy()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .referer(false)
        .gzip(false)
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(bundle) = &config.ca_bundle {
        builder = builder.tls_certs_merge(authorities(bundle)?);
    }
    if let Some(proxy) = config.proxy.for_url(checked.url()) {
        // Behind a proxy names are the proxy's to resolve, and its network's to guard.
        let proxy = reqwest::Proxy::all(proxy).map_err(|error| RepoError::Proxy {
            proxy: brief(proxy),
            why: brief(&error.to_string()),
        })?;
        builder = builder.proxy(proxy);
    } else if !matches!(checked.listing(), Listing::Remote { .. }) {
        let addresses = watch.wait(host, resolve_public(host))?;
        builder = builder.resolve_to_addrs(host, &addresses);
    }
    builder.build().map_err(|error| match &config.ca_bundle {
        Some(path) => RepoError::CaBundle {
            path: path.clone(),
            why: brief(&causes(&error)),
        },
        None => RepoError::Tls {
            host: host.to_owned(),
            why: brief(&causes(&error)),
            ca_bundle: None,
        },
    })
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, RepoError> {
    let failed = |why: String| RepoError::CaBundle {
        path: path.to_owned(),
        why: brief(&why),
    };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found =
        reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
    if found.is_empty() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    Ok(found)
}

/// An error and its causes in one line, without the URL that reqwest repeats.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    if text.is_empty() {
        text = error.to_string();
    }
    text
}
