//! What images are called here: `NAME`, or `NAME@sha256:…` for that one and no later one. Pure.

use super::error::ImageError;
use std::fmt;

/// A name of the local store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName(String);

/// A name, and the id it must stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: ImageName,
    pub id: Option<String>,
}

impl ImageName {
    pub fn parse(given: &str) -> Result<Self, ImageError> {
        let wrong = |why| ImageError::Name {
            name: given.to_owned(),
            why,
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        match given {
            "" => Err(wrong("it is empty")),
            long if long.len() > 63 => Err(wrong("it is longer than 63 characters")),
            odd if !odd.starts_with(plain) => Err(wrong("it does not begin with a-z or 0-9")),
            odd if !odd.chars().all(|c| plain(c) || "._-".contains(c)) => Err(wrong(
                "it has other characters than a-z, 0-9, `.`, `_` and `-`",
            )),
            good => Ok(Self(good.to_owned())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reference {
    /// `None` for what can only be a reference of an engine.
    pub fn parse(given: &str) -> Option<Self> {
        let (name, id) = match given.split_once('@') {
            Some((name, id)) => (name, Some(id.to_owned()).filter(|id| is_id(id))),
            None => (given, None),
        };
        let name = ImageName::parse(name).ok()?;
        // Something else behind an @ names nothing.
        let whole = id.is_some() || !given.contains('@');
        whole.then_some(Self { name, id })
    }
}

/// `sha256:` and 64 hex digits.
pub fn is_id(text: &str) -> bool {
    hex(text).is_some()
}

/// The digits of an id.
pub(super) fn hex(id: &str) -> Option<&str> {
    let digits = id.strip_prefix("sha256:")?;
    let good = digits.len() == 64
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_walk() {
        for good in ["base", "cpu-2.1", "0", "my_image"] {
            assert!(ImageName::parse(good).is_ok(), "{good}");
        }
        let long = "n".repeat(64);
        for bad in [
            "", "..", ".x", "a/b", "A", "ä", "a b", "-a", "a\0", "a:b", &long,
        ] {
            assert!(ImageName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_an_engines_is_none_of_ours() {
        let id = format!("sha256:{}", "0".repeat(64));
        let pinned = Reference::parse(&format!("base@{id}")).unwrap();
        assert_eq!(
            (pinned.name.as_str(), pinned.id),
            ("base", Some(id.clone()))
        );
        assert_eq!(Reference::parse("base").unwrap().id, None);
        for engines in ["python:3.12", "a/b", "base@sha256:00", "base@x", &id] {
            assert_eq!(Reference::parse(engines), None, "{engines}");
        }
    }
}
