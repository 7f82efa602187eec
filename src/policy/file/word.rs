//! Reading what has a word of its own: choices, and keys with one value in this version.

use super::problem::Code;
use super::reader::{At, Reader, one_of};
use crate::policy::schema;
use crate::policy::value::Value;
use toml::de::DeValue;

pub(super) fn choice(
    reader: &mut Reader<'_>,
    at: &At,
    value: &DeValue<'_>,
    words: &[&str],
) -> Option<Value> {
    let later = value
        .as_str()
        .filter(|word| schema::WORDS_LATER.contains(&(at.key.as_str(), word)));
    if let Some(word) = later {
        reader
            .note(
                Code::NotBuilt,
                at,
                format!("{word:?} is not in this version"),
            )
            .allowed(one_of(words));
        return None;
    }
    reader.word(at, value, words).map(Value::Choice)
}

pub(super) fn only(
    reader: &mut Reader<'_>,
    at: &At,
    value: &DeValue<'_>,
    (word, later): (&str, &[&str]),
) -> Option<Value> {
    let text = reader.string(at, value, &format!("{word:?}"))?;
    if text == word {
        return Some(Value::Only);
    }
    match later.contains(&text.as_str()) {
        true => reader.note(
            Code::NotBuilt,
            at,
            format!("{text:?} is not in this version"),
        ),
        false => reader.note(Code::Enum, at, format!("{text:?} is not known here")),
    }
    .allowed(format!("{word:?}"));
    None
}

pub(super) fn always(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    if !reader.flag(at, value)? {
        reader
            .note(Code::Forbidden, at, "it cannot be turned off")
            .allowed("true");
        return None;
    }
    Some(Value::Only)
}
