//! Which values are secret, as far as the user's environment tells: keys, tokens and passwords by the
//! names of their variables, and what stands before the `@` of a URL.
//!
//! A guess that errs on the side of hiding: what is found is only replaced where it would be shown.

use crate::config::Config;
use crate::context::redact::{Known, Redactor};
use std::collections::BTreeMap;

/// How the name of a variable ends whose value nobody else is to read.
const ENDINGS: [&str; 9] = [
    "API_KEY",
    "ACCESS_KEY",
    "SECRET_KEY",
    "PRIVATE_KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "CREDENTIALS",
];

/// Everything that the user's own environment says is secret.
pub fn redactor(config: &Config) -> Redactor {
    Redactor::new(&known(config, &BTreeMap::new()))
}

/// The same, with the variables that were typed for a sandbox.
pub(super) fn known(config: &Config, typed: &BTreeMap<String, String>) -> Known {
    let mut known = Known::default();
    for (name, value) in typed.iter().chain(&config.environment) {
        // A path to a secret is none.
        if is_secret(name) && !value.starts_with('/') {
            known.add(name, value.as_bytes());
        }
        credentials(name, value, &mut known);
    }
    known
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ENDINGS.iter().any(|ending| {
        let before = name.strip_suffix(ending);
        before.is_some_and(|before| before.is_empty() || before.ends_with('_'))
    })
}

/// What stands before the `@` of every URL in a text, as it stands there and without its percents.
pub(super) fn credentials(name: &str, text: &str, known: &mut Known) {
    for (at, _) in text.match_indices("://") {
        let rest = &text[at + 3..];
        let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let Some((user, _)) = authority.rsplit_once('@') else {
            continue;
        };
        let secret = match user.split_once(':') {
            // The user's name is where tokens stand whose password is a word that says so.
            Some((token, "" | "x-oauth-basic")) => token,
            Some((_, password)) => password,
            None => user,
        };
        let name = format!("the URL in {name}");
        known.add(&name, secret.as_bytes());
        known.add(&name, &plain(secret));
    }
}

fn plain(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let code = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(variables: &[(&str, &str)], text: &str) -> bool {
        let home = [("HOME", "/home/ada")];
        let all = variables.iter().chain(&home);
        let config = Config::from(all.map(|(n, v)| (n.into(), v.into()))).unwrap();
        redactor(&config).finds(text.as_bytes())
    }

    #[test]
    fn keys_tokens_and_passwords_are_known_by_their_names() {
        for name in [
            "OPENAI_API_KEY",
            "HF_TOKEN",
            "aws_secret_access_key",
            "DB_PASSWORD",
            "TOKEN",
        ] {
            assert!(
                hides(&[(name, "s3cr3t-value")], "x s3cr3t-value y"),
                "{name}"
            );
        }
        for name in ["TOKENIZERS_PARALLELISM", "MONKEY", "HF_TOKEN_PATH", "LANG"] {
            assert!(
                !hides(&[(name, "s3cr3t-value")], "x s3cr3t-value y"),
                "{name}"
            );
        }
        assert!(!hides(&[("X_TOKEN", "/run/token-file")], "/run/token-file"));
    }

    #[test]
    fn the_credentials_of_a_url_are_known_and_its_user_and_host_are_not() {
        let proxy = [(
            "HTTPS_PROXY",
            "http://adalovelace:p%40ssw0rd!@proxy.example:3128/",
        )];
        assert!(hides(&proxy, "p%40ssw0rd!"));
        assert!(hides(&proxy, "the word is p@ssw0rd!"));
        assert!(!hides(&proxy, "adalovelace and proxy.example:3128"));
        let token = [("PIP_INDEX_URL", "https://tok_12345678@index.example/simple")];
        assert!(hides(&token, "tok_12345678"));
        let github = [("X", "https://ghp_12345678:x-oauth-basic@github.com/a/b")];
        assert!(hides(&github, "ghp_12345678"));
    }
}
