//! Which addresses a repository may be cloned from: judged as text, before anything is resolved. Pure.
//!
//! ```text
//!   text ─ plain ASCII ─ scheme ─ canonical? ─ path ─┬─ beneath a [git] remotes prefix ─▶ listed
//!                                                    ├─ https, port 443, in [git] hosts ▶ listed
//!                                                    ├─ https, port 443, a public name ─▶ not listed: ask
//!                                                    └─ anything else ──────────────────▶ refused
//! ```
//!
//! One rule catches most tricks: the URL must be written exactly as the parser would write it back.
//! Whether a name leads to a public address is known only after resolving it, and not judged here.

pub use super::git_spelling::file_url;
use super::git_spelling::{parse, shown, spelling};
use super::model::GitPolicy;
use serde::Serialize;
use url::{Host, Url};

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Https,
    /// Only beneath a prefix of `[git] remotes`.
    Http,
    /// Only beneath a prefix of `[git] remotes`.
    File,
}

/// What of the policy covers a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// Its host is in `[git] hosts`.
    Host,
    /// It is beneath this prefix of `[git] remotes`.
    Remote { prefix: String },
    /// Nothing: a person may let it through, and this line of the policy would.
    Unlisted { line: String },
}

/// A URL in the one spelling that is taken, and what covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedUrl {
    url: Url,
    text: String,
    scheme: Scheme,
    listing: Listing,
}

impl CheckedUrl {
    /// As given: printable ASCII, path and query included.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    pub fn url(&self) -> &Url {
        &self.url
    }
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
    /// `None` for `file:`.
    pub fn host(&self) -> Option<&str> {
        self.url.host_str()
    }
    pub fn listing(&self) -> &Listing {
        &self.listing
    }
    pub fn is_listed(&self) -> bool {
        !matches!(self.listing, Listing::Unlisted { .. })
    }
    /// The line of a policy that would list it, where none does.
    pub fn widens(&self) -> Option<&str> {
        match &self.listing {
            Listing::Unlisted { line } => Some(line),
            Listing::Host | Listing::Remote { .. } => None,
        }
    }
}

/// Why a URL is refused, whoever asks. `url` is escaped and cut for showing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("\"{url}\" is not a URL of a repository: {why}")]
    Spelling {
        url: String,
        why: &'static str,
        remedy: String,
    },
    #[error("\"{url}\" is reached by {what}, which is never used")]
    Scheme {
        url: String,
        what: &'static str,
        remedy: String,
    },
    #[error("{url} is not listed in the policy")]
    NotListed { url: String, line: String },
}

impl UrlError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Spelling { remedy, .. } | Self::Scheme { remedy, .. } => remedy.clone(),
            Self::NotListed { line, .. } => format!("add to the policy: {line}"),
        }
    }
}

/// Judges a URL that a person or a model wants cloned.
pub fn check_url(text: &str, policy: &GitPolicy) -> Result<CheckedUrl, UrlError> {
    let (url, scheme) = parse(text)?;
    let listing = match policy.remotes.iter().find(|prefix| covers(prefix, text)) {
        Some(prefix) => Listing::Remote {
            prefix: prefix.clone(),
        },
        None => by_host(text, &url, scheme, policy)?,
    };
    Ok(CheckedUrl {
        url,
        text: text.to_owned(),
        scheme,
        listing,
    })
}

/// Judges an entry of `[git] hosts`: an exact host name.
pub fn check_host(host: &str) -> Result<(), UrlError> {
    let (url, _) = parse(&format!("https://{host}/"))?;
    match public_name(&url) {
        Ok(name) if name == host => Ok(()),
        Ok(_) => Err(spelling(
            host,
            "only the name of a host belongs here",
            "write it like github.com; ports and paths go into [git] remotes".to_owned(),
        )),
        Err(why) => Err(spelling(
            host,
            why,
            "name a public host such as github.com; anything else goes into [git] remotes as a prefix of its URLs".to_owned(),
        )),
    }
}

/// Judges an entry of `[git] remotes`: the beginning of URLs, cut at a whole path segment.
pub fn check_remote(prefix: &str) -> Result<(), UrlError> {
    let (url, _) = parse(prefix)?;
    if url.query().is_some() {
        return Err(spelling(
            prefix,
            "a prefix has no query",
            "cut it at the `?`".to_owned(),
        ));
    }
    if url.scheme() == "file" && url.path() == "/" {
        return Err(spelling(
            prefix,
            "it covers the whole disk",
            "name the folder that holds the repositories".to_owned(),
        ));
    }
    Ok(())
}

/// True where `text` is the prefix, or continues it at a segment's border.
fn covers(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
        && check_remote(prefix).is_ok()
}

fn by_host(text: &str, url: &Url, scheme: Scheme, policy: &GitPolicy) -> Result<Listing, UrlError> {
    let as_remote = || UrlError::NotListed {
        url: shown(text),
        line: format!(
            "[git] remotes = [\"{}\"]",
            text.split('?').next().unwrap_or(text)
        ),
    };
    if scheme != Scheme::Https || url.port().is_some() {
        return Err(as_remote());
    }
    let host = public_name(url).map_err(|_| as_remote())?;
    if policy.hosts.iter().any(|listed| listed == host) {
        return Ok(Listing::Host);
    }
    Ok(Listing::Unlisted {
        line: format!("git.hosts = [\"{host}\"]"),
    })
}

/// The host, where it is a name of the public kind.
fn public_name(url: &Url) -> Result<&str, &'static str> {
    let Some(Host::Domain(host)) = url.host() else {
        return Err("a host is a name, not an address");
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err("its host is not a name of letters, digits and hyphens");
    }
    if !host.contains('.') {
        return Err("its host has no dot: a name of this machine or network");
    }
    Ok(host)
}

#[cfg(test)]
#[path = "git_url_tests.rs"]
mod tests;
