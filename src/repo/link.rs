//! One clone's way to its server: two kinds of request, under bounds in bytes and time.
//!
//! ```text
//!   connect ── name resolved once, judged ──▶ Link ─┬─ GET  …/info/refs ── redirect? same origin only
//!                                                   └─ POST …/git-upload-pack
//! ```
//!
//! Runs on the blocking thread that git works on; every wait also waits for cancel, silence and the
//! deadline. The first failure is kept here: libgit2 carries only its shadow.

use super::address::resolve_public;
use super::error::{Limit, RepoError, brief};
use super::net::{NetConfig, Watch};
use crate::policy::git_url::{CheckedUrl, Listing, check_url};
use crate::policy::model::GitPolicy;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::redirect;
use reqwest::{Client, Response, StatusCode};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of the list of references: several hundred thousand of them.
const MAX_REFS: u64 = 64 << 20;
/// Hops within the same origin.
const MAX_REDIRECTS: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Hosts serve git to what calls itself git.
const USER_AGENT: &str = concat!("git/2.0 (fumehood/", env!("CARGO_PKG_VERSION"), ")");

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
}

impl Link {
    /// Resolves the name and judges its addresses; nothing is sent yet.
    pub(super) fn new(
        checked: &CheckedUrl,
        policy: &GitPolicy,
        config: &NetConfig,
        watch: &Watch,
    ) -> Result<Self, RepoError> {
        let host = checked.host().unwrap_or_default();
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
            builder =
                builder.proxy(
                    reqwest::Proxy::all(proxy).map_err(|error| RepoError::Proxy {
                        proxy: brief(proxy),
                        why: brief(&error.to_string()),
                    })?,
                );
        } else if !matches!(checked.listing(), Listing::Remote { .. }) {
            let addresses = watch.wait(host, resolve_public(host))?;
            builder = builder.resolve_to_addrs(host, &addresses);
        }
        let client = builder.build().map_err(|error| match &config.ca_bundle {
            Some(path) => RepoError::CaBundle {
                path: path.clone(),
                why: brief(&causes(&error)),
            },
            None => RepoError::Tls {
                host: host.to_owned(),
                why: brief(&causes(&error)),
                ca_bundle: None,
            },
        })?;
        Ok(Self {
            client,
            base: Mutex::new(checked.as_str().trim_end_matches('/').to_owned()),
            checked: checked.clone(),
            policy: policy.clone(),
            ca_bundle: config.ca_bundle.clone(),
            watch: watch.clone(),
            received: AtomicU64::new(0),
            failure: Mutex::new(None),
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
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    pub(super) fn take_failure(&self) -> Option<RepoError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
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
            return Ok(self.body(response, MAX_REFS, Limit::Refs(MAX_REFS)));
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
        let limit = self.policy.max_bytes;
        Ok(self.body(response, limit, Limit::Received(limit)))
    }

    fn body(self: &Arc<Self>, response: Response, left: u64, limit: Limit) -> Body {
        Body {
            link: Arc::clone(self),
            response,
            rest: Bytes::new(),
            left,
            limit,
        }
    }

    fn base(&self) -> String {
        self.base
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A redirect is a new URL under the same rules, at the same origin.
    fn follow(&self, response: &Response) -> Result<(), RepoError> {
        let to = location(response);
        let target = response
            .url()
            .join(to)
            .map_err(|_| self.redirected(to, "which is no URL"))?;
        let (path, _) = target
            .as_str()
            .split_once("/info/refs")
            .ok_or_else(|| self.redirected(to, "which is not the list of a repository"))?;
        let checked = check_url(path, &self.policy)
            .map_err(|_| self.redirected(to, "which the policy does not allow"))?;
        if checked.url().origin() != self.checked.url().origin() || checked.url().scheme() == "file"
        {
            return Err(self.redirected(to, "which is another host, port or scheme"));
        }
        if matches!(self.checked.listing(), Listing::Remote { .. })
            && checked.listing() != self.checked.listing()
        {
            return Err(self.redirected(to, "which is outside the listed prefix"));
        }
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = path.to_owned();
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
            return Err(RepoError::NotGit {
                url,
                why: format!("it sends \"{}\"", brief(&found)),
            });
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

/// What a server sends, counted as it comes.
pub(super) struct Body {
    link: Arc<Link>,
    response: Response,
    rest: Bytes,
    left: u64,
    limit: Limit,
}

impl Body {
    /// The next bytes, at most `buffer`; 0 at the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RepoError> {
        while self.rest.is_empty() {
            let link = Arc::clone(&self.link);
            let chunk = link.watch.wait(link.host(), async {
                let chunk = self.response.chunk().await;
                chunk.map_err(|error| link.failed(&error))
            })?;
            let Some(chunk) = chunk else { return Ok(0) };
            let length = chunk.len() as u64;
            link.received.fetch_add(length, Ordering::Relaxed);
            self.left = self
                .left
                .checked_sub(length)
                .ok_or(RepoError::TooBig { limit: self.limit })?;
            self.rest = chunk;
        }
        let taken = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

impl io::Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| {
            self.link.keep(error);
            io::Error::other("the transfer was given up")
        })
    }
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

fn authorities(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, RepoError> {
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
fn causes(error: &reqwest::Error) -> String {
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
