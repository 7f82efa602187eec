//! Which values are secret, as far as the user's environment tells: keys, tokens and passwords by the
//! names of their variables, and what stands before the `@` of a URL.
//!
//! A guess that errs on the side of hiding: what is found is only replaced where it would be shown.

use crate::config::Config;
use crate::context::redact::{Known, Redactor};
use std::collections::BTreeMap;
use std::path::Path;

/// How the name of a variable ends whose value nobody else is to read.
const ENDINGS: [&str; 13] = [
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "SECRET_KEY",
    "PRIVATE_KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SSHPASS",
    "_PWD",
    "CREDENTIALS",
];

/// What stands alone before the `@` of a URL is a token, and not somebody's name, if it is as long, or has
/// what names do not have.
const TOKEN: usize = 16;

/// Everything that the user's own environment says is secret.
pub fn redactor(config: &Config) -> Redactor {
    Redactor::new(&known(config, &BTreeMap::new()))
}

/// The same, with the variables that were typed for a sandbox.
pub(super) fn known(config: &Config, typed: &BTreeMap<String, String>) -> Known {
    let mut known = Known::default();
    for (name, value) in typed.iter().chain(&config.environment) {
        variable(name, value, &mut known);
    }
    known
}

/// The first of these variables that holds a secret which is not known yet.
pub fn unknown<'a>(
    redactor: &Redactor,
    variables: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let found = variables.iter().find(|(name, value)| {
        let mut known = Known::default();
        variable(name, value, &mut known);
        !Redactor::new(&known).is_idle() && !redactor.finds(value.as_bytes())
    });
    found.map(|(name, _)| name.as_str())
}

fn variable(name: &str, value: &str, known: &mut Known) {
    // A path to a secret is none.
    let is_path = value.starts_with('/') && Path::new(value).exists();
    if is_secret(name) && !is_path {
        known.add(name, value.as_bytes());
    }
    credentials(name, value, known);
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
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
            None if user.len() >= TOKEN
                || user.contains(|c: char| c.is_ascii_digit() || c == '_') =>
            {
                user
            }
            None => continue,
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
            "PGPASSWORD",
            "MYSQL_PWD",
            "OPENAI_APIKEY",
            "GITHUBTOKEN",
            "TOKEN",
        ] {
            assert!(
                hides(&[(name, "s3cr3t-value")], "x s3cr3t-value y"),
                "{name}"
            );
        }
        for name in [
            "TOKENIZERS_PARALLELISM",
            "MONKEY",
            "HF_TOKEN_PATH",
            "LANG",
            "PWD",
            "OLDPWD",
        ] {
            assert!(
                !hides(&[(name, "s3cr3t-value")], "x s3cr3t-value y"),
                "{name}"
            );
        }
        assert!(!hides(&[("X_TOKEN", "/usr/bin/env")], "/usr/bin/env"));
        // Base64 begins with any of its letters.
        assert!(hides(&[("X_TOKEN", "/Ab+s3cr3t==")], "/Ab+s3cr3t=="));
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
        let nobody = [("DATABASE_URL", "postgres://postgres@localhost/db")];
        assert!(!hides(&nobody, "postgres"));
        let github = [("X", "https://ghp_12345678:x-oauth-basic@github.com/a/b")];
        assert!(hides(&github, "ghp_12345678"));
    }

    #[test]
    fn a_secret_that_comes_later_is_told_from_one_that_is_known() {
        let config = Config::from([
            ("HOME".into(), "/home/ada".into()),
            ("HF_TOKEN".into(), "s3cr3t-value".into()),
        ])
        .unwrap();
        let redactor = redactor(&config);
        let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(unknown(&redactor, &one("HF_TOKEN", "s3cr3t-value")), None);
        assert_eq!(
            unknown(&redactor, &one("HF_TOKEN", "another-value")),
            Some("HF_TOKEN")
        );
        assert_eq!(unknown(&redactor, &one("SEED", "another-value")), None);
        assert_eq!(unknown(&redactor, &one("HF_TOKEN", "short")), None);
    }
}
