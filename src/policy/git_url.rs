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

use super::model::GitPolicy;
use serde::Serialize;
use url::{Host, Url};

/// Longest URL taken.
const MAX_URL: usize = 2048;

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

/// One spelling of each URL, and three schemes.
fn parse(text: &str) -> Result<(Url, Scheme), UrlError> {
    check_characters(text)?;
    let scheme = check_scheme(text)?;
    let url = Url::parse(text).map_err(|_| {
        spelling(
            text,
            "it does not parse",
            "write it like https://github.com/owner/name".to_owned(),
        )
    })?;
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Err(spelling(
            text,
            "it holds a user name or password",
            "take out everything before the `@`; private repositories are not supported in this version".to_owned(),
        ));
    }
    if text.contains('#') {
        return Err(spelling(
            text,
            "it has a fragment",
            "cut it at the `#`; a branch, tag or commit is given apart".to_owned(),
        ));
    }
    // "https://host" is written back with a slash; everything else must come back as it was.
    if url.as_str() != text && url.as_str().strip_suffix('/') != Some(text) {
        return Err(spelling(
            text,
            "it is not in its plain spelling",
            format!("write it as {}", shown(url.as_str())),
        ));
    }
    check_path(text, url.path())?;
    Ok((url, scheme))
}

fn check_characters(text: &str) -> Result<(), UrlError> {
    let refuse = |why, remedy: &str| Err(spelling(text, why, remedy.to_owned()));
    if text.is_empty() {
        return refuse("it is empty", "write it like https://github.com/owner/name");
    }
    if text.len() > MAX_URL {
        return refuse(
            "it is longer than 2048 characters",
            "give the repository's own URL",
        );
    }
    if text.starts_with('-') {
        return refuse(
            "it begins with `-`, like an option",
            "write it like https://github.com/owner/name",
        );
    }
    if !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return refuse(
            "it holds spaces, control or non-ASCII characters",
            "write it in plain ASCII; a name in another script has an ASCII form that begins with xn--",
        );
    }
    if text.contains(['\\', '"', '\'', '`', '<', '>', '{', '}', '|', '^', '$']) {
        return refuse(
            "it holds characters that have no place in a URL",
            "take out quotes, braces and backslashes",
        );
    }
    Ok(())
}

fn check_scheme(text: &str) -> Result<Scheme, UrlError> {
    for (start, scheme) in [
        ("https://", Scheme::Https),
        ("http://", Scheme::Http),
        ("file:///", Scheme::File),
    ] {
        if text.starts_with(start) {
            return Ok(scheme);
        }
    }
    let never = |what, remedy: String| UrlError::Scheme {
        url: shown(text),
        what,
        remedy,
    };
    let https = |rest: &str| format!("give its https URL: {}", shown(&format!("https://{rest}")));
    let lower = text.to_ascii_lowercase();
    if lower.contains("::") && !lower.contains("://[") {
        return Err(never(
            "a transport program",
            "write it like https://github.com/owner/name".to_owned(),
        ));
    }
    if let Some((scheme, rest)) = lower.split_once("://") {
        return Err(match scheme {
            "https" | "http" => spelling(
                text,
                "its scheme is not in lower case",
                format!("begin it with {scheme}://"),
            ),
            "file" => spelling(
                text,
                "a local repository is named by an absolute path",
                "write it like file:///srv/repos/name".to_owned(),
            ),
            "git" => never("the git protocol, which proves nothing", https(rest)),
            "ssh" | "git+ssh" | "ssh+git" => never(
                "ssh, with keys of yours",
                https(rest.rsplit('@').next().unwrap_or(rest)),
            ),
            _ => never(
                "a scheme other than https",
                "write it like https://github.com/owner/name".to_owned(),
            ),
        });
    }
    if let Some((host, path)) = text.split_once(':')
        && !host.contains('/')
    {
        let host = host.rsplit('@').next().unwrap_or(host);
        return Err(never(
            "ssh, with keys of yours",
            https(&format!("{host}/{path}")),
        ));
    }
    Err(spelling(
        text,
        "it is a path, or lacks its scheme",
        format!(
            "begin it with https://; a local repository is written like file:///srv/repos/name{}",
            if text.contains('@') {
                ", without a user name"
            } else {
                ""
            }
        ),
    ))
}

/// Segments as they are: none empty, none relative, nothing hidden behind a percent sign.
fn check_path(text: &str, path: &str) -> Result<(), UrlError> {
    let refuse = |why, remedy: &str| Err(spelling(text, why, remedy.to_owned()));
    if authority(text).contains('%') {
        return refuse(
            "its host holds a percent sign",
            "write the host's plain name",
        );
    }
    let inner = path.strip_suffix('/').unwrap_or(path);
    for segment in inner.split('/').skip(1) {
        if segment.is_empty() || segment == "." || segment == ".." {
            return refuse(
                "its path has an empty or relative segment",
                "write the path without `//`, `.` and `..`",
            );
        }
        if segment.starts_with('-') {
            return refuse(
                "a segment of its path begins with `-`, like an option",
                "give the repository's own URL",
            );
        }
    }
    // The parser writes `/a/../b` back as `/b`, so what is left here was in the text itself.
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let code = after
            .get(..2)
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        // Only what cannot be written plainly may be written with a percent sign.
        match code {
            Some(b' ' | b'[' | b']' | b'{' | b'}' | b'^' | b'|' | 0x80..) => rest = &after[2..],
            _ => {
                return refuse(
                    "it hides characters behind percent signs",
                    "write letters, digits, dots and slashes plainly",
                );
            }
        }
    }
    Ok(())
}

fn authority(text: &str) -> &str {
    let after = text.split_once("://").map_or(text, |(_, rest)| rest);
    after.split(['/', '?', '#']).next().unwrap_or(after)
}

fn spelling(text: &str, why: &'static str, remedy: String) -> UrlError {
    UrlError::Spelling {
        url: shown(text),
        why,
        remedy,
    }
}

/// For messages: escaped, and not endless.
fn shown(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(200).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
#[path = "git_url_tests.rs"]
mod tests;
