//! Reading single values: each mistake is noted with its place, and reading goes on.

use super::problem::{Code, Problem};
use serde::Serialize;
use std::ops::Range;
use strsim::jaro_winkler;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest text of any kind in a policy, in characters.
pub(super) const MAX_TEXT: usize = 4096;

/// How alike two names must be for one to be offered for the other.
const ALIKE: f64 = 0.8;

/// Collects problems while one source is read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) source: usize,
    pub(super) text: &'a str,
    /// Added to every span: a value that was typed starts within a longer text.
    pub(super) offset: usize,
    pub(super) problems: Vec<Problem>,
    /// Examples of rules, each as it came out.
    pub(super) examples: Vec<Example>,
}

/// One example of a rule, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub rule: String,
    /// One printable line.
    pub command: String,
    /// Whether it stands in `match`, or in `not_match`.
    pub wanted: Wanted,
    /// Why the rule does not match it, where it does not.
    pub miss: Option<String>,
}

impl Example {
    /// Whether the rule does what its author wanted.
    pub fn holds(&self) -> bool {
        (self.wanted == Wanted::Match) == self.miss.is_none()
    }
}

/// What an example is an example of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    Match,
    NotMatch,
}

/// What a problem is about: a key, and where its value stands.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) key: String,
    pub(super) span: Range<usize>,
}

impl At {
    pub(super) fn new(key: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            key: key.into(),
            span,
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: usize, text: &'a str) -> Self {
        Self {
            source,
            text,
            offset: 0,
            problems: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// Notes a problem; the returned reference takes what may be there and what to write.
    pub(super) fn note(&mut self, code: Code, at: &At, message: impl Into<String>) -> &mut Problem {
        let index = self.problems.len();
        self.problems.push(Problem {
            code,
            key: at.key.clone(),
            source: self.source,
            span: at.span.start + self.offset..at.span.end + self.offset,
            message: message.into(),
            allowed: None,
            fix: None,
        });
        &mut self.problems[index]
    }

    /// A value as it is written, on one line and not endless.
    pub(super) fn seen(&self, at: &At) -> String {
        let span = at.span.start + self.offset..at.span.end + self.offset;
        let text = self.text.get(span).unwrap_or_default();
        let mut line: String = text.chars().map(plain).take(60).collect();
        if text.chars().nth(60).is_some() {
            line.push('…');
        }
        line
    }

    pub(super) fn wrong_type(&mut self, at: &At, wanted: &str, found: &DeValue<'_>) {
        let seen = self.seen(at);
        let found = found.type_str();
        self.note(Code::Type, at, format!("{seen} is of type {found}"))
            .allowed(wanted);
    }

    /// A text without characters that are not shown.
    pub(super) fn string(&mut self, at: &At, value: &DeValue<'_>, wanted: &str) -> Option<String> {
        let Some(text) = value.as_str() else {
            self.wrong_type(at, wanted, value);
            return None;
        };
        if let Some(bad) = text.chars().find(|c| is_hidden(*c)) {
            self.note(
                Code::TextControl,
                at,
                format!(
                    "the text holds U+{:04X}, which is not shown",
                    u32::from(bad)
                ),
            )
            .fix("take it out");
            return None;
        }
        if text.chars().count() > MAX_TEXT {
            self.note(
                Code::Range,
                at,
                format!("the text is longer than {MAX_TEXT} characters"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn flag(&mut self, at: &At, value: &DeValue<'_>) -> Option<bool> {
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong_type(at, "true or false, without quotes", value);
        }
        flag
    }

    /// A whole number.
    pub(super) fn integer(&mut self, at: &At, value: &DeValue<'_>, wanted: &str) -> Option<i64> {
        let Some(integer) = value.as_integer() else {
            self.wrong_type(at, wanted, value);
            return None;
        };
        let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
        if parsed.is_err() {
            let seen = self.seen(at);
            self.note(Code::Range, at, format!("{seen} does not fit"))
                .allowed(wanted);
        }
        parsed.ok()
    }

    /// Each entry of a list of texts, with its place.
    pub(super) fn strings(
        &mut self,
        at: &At,
        value: &DeValue<'_>,
        wanted: &str,
    ) -> Option<Vec<(At, String)>> {
        let Some(array) = value.as_array() else {
            self.wrong_type(at, wanted, value);
            return None;
        };
        let mut whole = true;
        let mut strings = Vec::new();
        for entry in array.iter() {
            let at = At::new(at.key.clone(), entry.span());
            match self.string(&at, entry.get_ref(), "a text in quotes") {
                Some(text) => strings.push((at, text)),
                None => whole = false,
            }
        }
        whole.then_some(strings)
    }

    pub(super) fn table<'v>(
        &mut self,
        at: &At,
        value: &'v Spanned<DeValue<'v>>,
    ) -> Option<&'v DeTable<'v>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(at, "a table", value.get_ref());
        }
        table
    }

    /// One of some words; its index among them.
    pub(super) fn word(&mut self, at: &At, value: &DeValue<'_>, words: &[&str]) -> Option<usize> {
        let wanted = one_of(words);
        let text = self.string(at, value, &wanted)?;
        let index = words.iter().position(|word| *word == text);
        if index.is_none() {
            let near = nearest(&text, words.iter().copied()).map(|word| format!("{word:?}"));
            self.note(Code::Enum, at, format!("{text:?} is not known here"))
                .allowed(wanted)
                .or_fix(near);
        }
        index
    }

    pub(super) fn unknown_key(&mut self, at: &At, near: Option<String>) {
        self.note(Code::UnknownKey, at, "there is no such key")
            .or_fix(near.map(|near| format!("did you mean `{near}`?")));
    }

    pub(super) fn not_built(&mut self, at: &At) {
        self.note(Code::NotBuilt, at, "not in this version")
            .fix("take it out; what it would allow is not allowed");
    }
}

impl Problem {
    pub(super) fn allowed(&mut self, allowed: impl Into<String>) -> &mut Self {
        self.allowed = Some(allowed.into());
        self
    }

    pub(super) fn fix(&mut self, fix: impl Into<String>) -> &mut Self {
        self.fix = Some(fix.into());
        self
    }

    pub(super) fn or_fix(&mut self, fix: Option<String>) -> &mut Self {
        self.fix = fix;
        self
    }
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

/// The name most like this one, if one is.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let like = |other: &str| jaro_winkler(&name.to_ascii_lowercase(), &other.to_ascii_lowercase());
    names
        .map(|other| (like(other), other))
        .filter(|(like, _)| *like >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

fn plain(c: char) -> char {
    match c {
        c if is_hidden(c) => ' ',
        c => c,
    }
}

/// Controls, and characters that reorder or hide the text around them.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
