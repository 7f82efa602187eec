//! The one spelling in which the URL of a repository is taken, and words for every other. Pure.

use super::git_url::{Scheme, UrlError};
use std::path::Path;
use url::Url;

/// Longest URL taken.
const MAX_URL: usize = 2048;

/// Characters that a URL holds only behind a percent sign.
const NEVER_PLAIN: &[u8] = b" \"#$'<>?[]^`{|}";

/// The URL of a folder on this machine, in the spelling that is taken. Folders whose names hold control
/// characters, backslashes or percent signs have none.
pub fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            0x21..=0x7e if !NEVER_PLAIN.contains(&byte) => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// One spelling of each URL, and three schemes.
pub(super) fn parse(text: &str) -> Result<(Url, Scheme), UrlError> {
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
    Err(other_scheme(text))
}

/// Words for what is none of ours.
fn other_scheme(text: &str) -> UrlError {
    let never = |what, remedy: String| UrlError::Scheme {
        url: shown(text),
        what,
        remedy,
    };
    let https = |rest: &str| format!("give its https URL: {}", shown(&format!("https://{rest}")));
    let example = || "write it like https://github.com/owner/name".to_owned();
    let lower = text.to_ascii_lowercase();
    if lower.contains("::") && !lower.contains("://[") {
        return never("a transport program", example());
    }
    if let Some((scheme, rest)) = lower.split_once("://") {
        return match scheme {
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
            _ => never("a scheme other than https", example()),
        };
    }
    if let Some((host, path)) = text.split_once(':')
        && !host.contains('/')
    {
        let host = host.rsplit('@').next().unwrap_or(host);
        return never("ssh, with keys of yours", https(&format!("{host}/{path}")));
    }
    spelling(
        text,
        "it is a path, or lacks its scheme",
        "begin it with https://; a local repository is written like file:///srv/repos/name"
            .to_owned(),
    )
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
    if !text.split('%').skip(1).all(hides_nothing) || holds_controls(text) {
        return refuse(
            "it hides characters behind percent signs",
            "write letters, digits, dots and slashes plainly",
        );
    }
    Ok(())
}

/// What follows a percent sign: only what cannot be written plainly may be written so.
fn hides_nothing(after: &str) -> bool {
    code(after).is_some_and(|byte| byte >= 0x80 || NEVER_PLAIN.contains(&byte))
}

fn code(after: &str) -> Option<u8> {
    let digits = after
        .get(..2)
        .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Some control characters have more than one byte.
fn holds_controls(text: &str) -> bool {
    let bytes: Vec<u8> = text.split('%').skip(1).filter_map(code).collect();
    String::from_utf8_lossy(&bytes)
        .chars()
        .any(char::is_control)
}

fn authority(text: &str) -> &str {
    let after = text.split_once("://").map_or(text, |(_, rest)| rest);
    after.split(['/', '?', '#']).next().unwrap_or(after)
}

pub(super) fn spelling(text: &str, why: &'static str, remedy: String) -> UrlError {
    UrlError::Spelling {
        url: shown(text),
        why,
        remedy,
    }
}

/// For messages: escaped, and not endless.
pub(super) fn shown(text: &str) -> String {
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
