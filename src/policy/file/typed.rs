//! `--set KEY=VALUE`: the user's own layer over an effective policy. It replaces, so it may loosen; it
//! is checked like a file.

use super::compose::moving_image;
use super::layer::nearest_key;
use super::problem::{Code, Place, PolicyErrors, PolicySource};
use super::reader::{At, Reader};
use super::scalar;
use super::{Loaded, is_named_elsewhere};
use crate::policy::origin::{Level, Mark, Origin};
use crate::policy::schema::{self, Key};
use crate::policy::value::{Form, Value};
use std::borrow::Cow;
use toml::de::DeValue;

/// Applies one `KEY=VALUE`. The value is TOML; a word that is no TOML is taken as a text, so that
/// `limits.memory=16GiB` needs no quotes.
///
/// # Errors
/// What is wrong with it, pointing into what was typed.
pub fn apply_set(loaded: &mut Loaded, typed: &str) -> Result<(), PolicyErrors> {
    apply_typed(loaded, "--set", typed)
}

/// The same for a flag of its own that stands for a key.
///
/// # Errors
/// As [`apply_set`].
pub fn apply_typed(loaded: &mut Loaded, flag: &str, typed: &str) -> Result<(), PolicyErrors> {
    let mut reader = Reader::new(0, typed);
    if let Some((key, value)) = read(&mut reader, typed) {
        let before = key.form.show(&(key.slot.get)(&loaded.policy));
        (key.slot.put)(&mut loaded.policy, value);
        let origin = Origin::Written(Mark {
            level: Level::Typed,
            label: flag.to_owned(),
            place: Place { line: 1, column: 1 },
            source: loaded.sources.len(),
            span: 0..typed.len(),
        });
        loaded.origins.set(key.path, origin, Some(before));
        if let Some(message) = moving_image(&loaded.policy) {
            reader.note(Code::ImageRef, &At::new(key.path, 0..typed.len()), message);
        }
    }
    let source = PolicySource::new(flag, typed).of(Level::Typed);
    if reader.problems.is_empty() {
        loaded.sources.push(source);
        return Ok(());
    }
    Err(PolicyErrors {
        problems: reader.problems,
        sources: vec![source],
    })
}

fn read(reader: &mut Reader<'_>, typed: &str) -> Option<(&'static Key, Value)> {
    let Some((path, value)) = typed.split_once('=') else {
        reader
            .note(
                Code::Toml,
                &At::new("", 0..typed.len()),
                "there is no `=` in it",
            )
            .fix("--set limits.memory=16GiB");
        return None;
    };
    let path_at = At::new(path.trim(), 0..path.len());
    let Some(key) = schema::key(&path_at.key) else {
        refuse(reader, &path_at);
        return None;
    };
    let at = At::new(key.path, path.len() + 1..typed.len());
    let parsed = DeValue::parse(value.trim());
    let word = DeValue::String(Cow::Borrowed(value.trim()));
    let value = match &parsed {
        Ok(parsed) => parsed.get_ref(),
        Err(_) => &word,
    };
    // One word stands for a list of one.
    if let (Form::List(_) | Form::Require | Form::Hosts | Form::Sources, DeValue::String(word)) =
        (&key.form, value)
    {
        let one = format!("[{}]", crate::policy::value::quote(word));
        let list = DeValue::parse(&one).ok()?;
        let read = read_value(reader, key, &at, list.get_ref());
        return read.map(|value| (key, value));
    }
    read_value(reader, key, &at, value).map(|value| (key, value))
}

/// Places inside a typed value are not told apart: it is short.
fn read_value(reader: &mut Reader<'_>, key: &Key, at: &At, value: &DeValue<'_>) -> Option<Value> {
    let read = scalar::read(reader, &key.form, at, value);
    for problem in &mut reader.problems {
        problem.span = at.span.clone();
    }
    read
}

fn refuse(reader: &mut Reader<'_>, at: &At) {
    if let Some(how) = is_named_elsewhere(&at.key) {
        reader
            .note(Code::UnknownKey, at, "it is not set like this")
            .fix(how);
    } else if schema::is_not_built(&at.key) {
        reader.not_built(at);
    } else {
        reader.unknown_key(at, nearest_key(&at.key));
    }
}
