//! One clone's way to its server: two kinds of request, under bounds in bytes and time.
//!
//! ```text
//!   connect ── name resolved once, judged ──▶ Link ─┬─ GET  …/info/refs ── redirect? same origin only
//!                                                   └─ POST …/git-upload-pack
//! ```
//!
//! Runs on the blocking thread that git works on; every wait also waits for cancel, silence and the
//! deadline. The first failure is kept here: libgit2 carries only its shadow.

use super::body::Body;
use super::client::{self, causes};
use super::error::{RepoError, brief};
use super::net::{NetConfig, Watch};
use super::objects::MAX_FILE;
use super::pack::PackBounds;
use super::pkt::Advert;
use crate::policy::git_url::{CheckedUrl, check_url};
use crate::policy::model::GitPolicy;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use url::Url;

/// Hops within the same origin.
const MAX_REDIRECTS: usize = 3;
/// Objects of a whole history.
const MAX_HISTORY: u64 = 1_000_000;

/// How much of a repository is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    OneCommit,
    WholeHistory,
}

impl Extent {
    fn bounds(self, policy: &GitPolicy) -> PackBounds {
        match self {
            // Each file and folder once, and the commit.
            Self::OneCommit => PackBounds {
                objects: policy.max_files.saturating_mul(2).saturating_add(64),
                object: MAX_FILE,
                total: policy.max_bytes.saturating_mul(2).saturating_add(64 << 20),
            },
            Self::WholeHistory => PackBounds {
                objects: MAX_HISTORY,
                object: MAX_FILE,
                total: policy.max_bytes.saturating_mul(16).saturating_add(1 << 30),
            },
        }
    }
}

pub(super) struct Link {
    client: Client,
    /// The URL that requests are made below; a redirect may change it once.
    base: Mutex<String>,
    checked: CheckedUrl,
    policy: GitPolicy,
    ca_bundle: Option<std::path::PathBuf>,
    watch: Watch,
    received: AtomicU64,
    failure: Mutex<Option<RepoError>>,
    advert: Mutex<Advert>,
    extent: Mutex<Extent>,
}

impl Link {
    /// Resolves the name and judges its addresses; nothing is sent yet.
    pub(super) fn new(
        checked: &CheckedUrl,
        policy: &GitPolicy,
        config: &NetConfig,
        watch: &Watch,
    ) -> Result<Self, RepoError> {
        let client = client::build(checked, config, watch)?;
        Ok(Self {
            client,
            base: Mutex::new(checked.as_str().trim_end_matches('/').to_owned()),
            checked: checked.clone(),
            policy: policy.clone(),
            ca_bundle: config.ca_bundle.clone(),
            watch: watch.clone(),
            received: AtomicU64::new(0),
            failure: Mutex::new(None),
            advert: Mutex::default(),
            extent: Mutex::new(Extent::OneCommit),
        })
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Keeps the first failure, for whoever asks libgit2 what happened.
    pub(super) fn keep(&self, error: RepoError) {
        locked(&self.failure).get_or_insert(error);
    }

    pub(super) fn take_failure(&self) -> Option<RepoError> {
        locked(&self.failure).take()
    }

    /// The list of references.
    pub(super) fn get_refs(self: &Arc<Self>) -> Result<Body, RepoError> {
        for _ in 0..=MAX_REDIRECTS {
            let url = join(&self.base(), "info/refs", Some("service=git-upload-pack"));
            let request = self.client.get(&url).header(ACCEPT, "*/*").send();
            let response = self.watch.wait(self.host(), self.sent(request))?;
            if response.status().is_redirection() {
                self.follow(&response)?;
                continue;
            }
            self.expect(&response, "application/x-git-upload-pack-advertisement")?;
            // A list that is asked for again is the whole list again.
            *locked(&self.advert) = Advert::default();
            return Ok(Body::refs(Arc::clone(self), response));
        }
        Err(self.redirected("", "it does not end"))
    }

    /// One round of the negotiation, or the pack.
    pub(super) fn post(self: &Arc<Self>, body: Vec<u8>) -> Result<Body, RepoError> {
        let url = join(&self.base(), "git-upload-pack", None);
        let request = self
            .client
            .post(&url)
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result")
            .body(body)
            .send();
        let response = self.watch.wait(self.host(), self.sent(request))?;
        if response.status().is_redirection() {
            return Err(self.redirected(location(&response), "in the middle of the conversation"));
        }
        self.expect(&response, "application/x-git-upload-pack-result")?;
        let bounds = locked(&self.extent).bounds(&self.policy);
        let max_bytes = self.policy.max_bytes;
        Ok(Body::round(Arc::clone(self), response, max_bytes, bounds))
    }

    /// The next piece of an answer; `None` at its end.
    pub(super) fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, RepoError> {
        let chunk = self.watch.wait(self.host(), async {
            let chunk = response.chunk().await;
            chunk.map_err(|error| self.failed(&error))
        })?;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.received.fetch_add(length as u64, Ordering::Relaxed);
        Ok(chunk)
    }

    /// A line of the list of references.
    pub(super) fn learn(&self, line: &[u8]) -> Result<(), &'static str> {
        locked(&self.advert).line(line)
    }

    /// What the server said it has, so far.
    pub(super) fn advert(&self) -> Advert {
        locked(&self.advert).clone()
    }

    pub(super) fn ask_for(&self, extent: Extent) {
        *locked(&self.extent) = extent;
    }

    /// Where the repository really is, if a redirect said so.
    pub(super) fn moved_to(&self) -> Option<String> {
        let base = self.base();
        (base != self.checked.as_str().trim_end_matches('/')).then(|| brief(&base))
    }

    pub(super) fn not_git(&self, why: &str) -> RepoError {
        RepoError::NotGit {
            url: self.shown(),
            why: why.to_owned(),
        }
    }

    fn base(&self) -> String {
        locked(&self.base).clone()
    }

    fn follow(&self, response: &Response) -> Result<(), RepoError> {
        let to = location(response);
        let base = redirect(&self.checked, &self.policy, response.url(), to)
            .map_err(|why| self.redirected(to, why))?;
        *locked(&self.base) = base;
        Ok(())
    }

    fn redirected(&self, to: &str, why: &'static str) -> RepoError {
        RepoError::Redirect {
            url: self.shown(),
            to: brief(to),
            why,
        }
    }

    fn expect(&self, response: &Response, content: &str) -> Result<(), RepoError> {
        let url = self.shown();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(RepoError::NotFound { url }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(RepoError::LoginWanted {
                    url,
                    status: status.as_u16(),
                });
            }
            status => {
                return Err(RepoError::Status {
                    url,
                    status: status.as_u16(),
                });
            }
        }
        let found = response
            .headers()
            .get(CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .unwrap_or_default();
        if found.split(';').next().map(str::trim) != Some(content) {
            return Err(self.not_git(&format!("it sends \"{}\"", brief(&found))));
        }
        Ok(())
    }

    fn shown(&self) -> String {
        self.checked.as_str().to_owned()
    }

    fn host(&self) -> &str {
        self.checked.host().unwrap_or_default()
    }

    async fn sent(
        &self,
        request: impl Future<Output = Result<Response, reqwest::Error>>,
    ) -> Result<Response, RepoError> {
        request.await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &reqwest::Error) -> RepoError {
        let why = causes(error);
        let host = self.host().to_owned();
        if why.contains("certificate") || why.contains("TLS") || why.contains("tls") {
            return RepoError::Tls {
                host,
                why: brief(&why),
                ca_bundle: self.ca_bundle.clone(),
            };
        }
        RepoError::Unreachable {
            host,
            why: brief(&why),
        }
    }
}

/// Nothing is left half done under these locks: a panic elsewhere does not spoil them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A redirect is a new URL under the same rules, at the same origin: the repository it leads to. Pure.
fn redirect(
    checked: &CheckedUrl,
    policy: &GitPolicy,
    from: &Url,
    to: &str,
) -> Result<String, &'static str> {
    let target = from.join(to).map_err(|_| "which is no URL")?;
    let (base, _) = target
        .as_str()
        .split_once("/info/refs")
        .ok_or("which is not the list of a repository")?;
    let found = check_url(base, policy).map_err(|_| "which the policy does not allow")?;
    if found.scheme() != checked.scheme() || found.url().origin() != checked.url().origin() {
        return Err("which is another host, port or scheme");
    }
    if found.listing() != checked.listing() {
        return Err("which is outside the listed prefix");
    }
    Ok(base.to_owned())
}

/// As git does: the service's path comes after the whole URL, query included.
fn join(base: &str, path: &str, query: Option<&str>) -> String {
    let mut url = format!("{base}/{path}");
    if let Some(query) = query {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(query);
    }
    url
}

fn location(response: &Response) -> &str {
    response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads(url: &str, to: &str) -> Result<String, &'static str> {
        let policy = GitPolicy {
            hosts: vec!["github.com".into(), "gitlab.com".into()],
            remotes: vec![
                "http://127.0.0.1:8000/public/".into(),
                "file:///srv/".into(),
            ],
            max_bytes: 1,
            max_files: 1,
        };
        let checked = check_url(url, &policy).unwrap();
        let from = join(url, "info/refs", Some("service=git-upload-pack"));
        redirect(&checked, &policy, &from.parse().unwrap(), to)
    }

    #[test]
    fn a_redirect_leads_to_the_same_origin_only_whatever_else_is_listed() {
        let rest = "/info/refs?service=git-upload-pack";
        let github = "https://github.com/old/name";
        for (to, base) in [
            ("/new/name", "https://github.com/new/name"),
            (
                "https://github.com/new/name.git",
                "https://github.com/new/name.git",
            ),
        ] {
            assert_eq!(leads(github, &format!("{to}{rest}")), Ok(base.into()));
        }
        for to in [
            "https://gitlab.com/old/name",
            "https://example.org/old/name",
            "https://github.com:8443/old/name",
            "http://github.com/old/name",
            "http://127.0.0.1:8000/public/x",
            "file:///srv/x",
            "//gitlab.com/x",
            "https://user@github.com/x",
        ] {
            assert!(leads(github, &format!("{to}{rest}")).is_err(), "{to}");
        }
        let local = "http://127.0.0.1:8000/public/x";
        assert!(leads(local, &format!("/public/y{rest}")).is_ok());
        assert!(leads(local, &format!("/private/y{rest}")).is_err());
        // A host that a person allowed once stays the same host.
        let unlisted = "https://example.org/x";
        assert!(leads(unlisted, &format!("/y{rest}")).is_ok());
        assert!(leads(unlisted, &format!("https://example.com/y{rest}")).is_err());
    }

    #[test]
    fn the_service_comes_after_the_whole_url() {
        assert_eq!(
            join("https://h/r", "a/b", Some("c=d")),
            "https://h/r/a/b?c=d"
        );
        assert_eq!(
            join("https://h/r?x=y", "a/b", Some("c=d")),
            "https://h/r?x=y/a/b&c=d"
        );
    }
}
