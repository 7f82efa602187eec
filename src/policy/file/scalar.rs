//! From a TOML value to the value of a key, as the key's form says.

use super::network;
use super::problem::Code;
use super::reader::{At, Reader, nearest, one_of};
use super::word;
use crate::policy::git_url;
use crate::policy::model::BackendChoice;
use crate::policy::names::{self, EnvError};
use crate::policy::unit::{self, UnitError};
use crate::policy::value::{Form, Unit, Value, Words};
use crate::protocol::control::{Control, Strength};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// The word for "no limit".
const UNLIMITED: &str = "unlimited";

/// Names of files that are code: a pattern of results must match none of them, wherever they lie.
const CODE: [&str; 4] = ["probe.py", "probe.sh", "probe.so", "probe.pth"];

/// Reads what is written for a key of that form; `None` where it cannot be used.
pub(super) fn read(
    reader: &mut Reader<'_>,
    form: &Form,
    at: &At,
    value: &DeValue<'_>,
) -> Option<Value> {
    match form {
        Form::Limit { .. } | Form::Cores if value.as_str() == Some(UNLIMITED) => Some(match form {
            Form::Cores => Value::Cores(None),
            _ => Value::Limit(None),
        }),
        Form::Limit { unit, range } => {
            quantity(reader, at, value, (*unit, *range)).map(|amount| Value::Limit(Some(amount)))
        }
        Form::Amount { unit, range } => {
            quantity(reader, at, value, (*unit, *range)).map(Value::Amount)
        }
        Form::Cores => cores(reader, at, value),
        Form::Flag { .. } => reader.flag(at, value).map(Value::Flag),
        Form::Choice(words) | Form::Pick(words) => word::choice(reader, at, value, words),
        Form::Backend => backend(reader, at, value),
        Form::User => user(reader, at, value),
        Form::Require => require(reader, at, value),
        Form::Env => env(reader, at, value),
        Form::List(words) => list(reader, *words, at, value),
        Form::Hosts => network::hosts(reader, at, value).map(Value::Hosts),
        Form::Sources => network::sources(reader, at, value).map(Value::Sources),
        Form::Gpus => super::gpu::devices(reader, at, value),
        Form::Only { word, later } => word::only(reader, at, value, (word, later)),
        Form::Always => word::always(reader, at, value),
    }
}

fn quantity(
    reader: &mut Reader<'_>,
    at: &At,
    value: &DeValue<'_>,
    (unit, range): (Unit, (u64, u64)),
) -> Option<u64> {
    let example = match unit {
        Unit::Bytes => "a size with its unit, such as \"512MiB\" or \"4GiB\"",
        Unit::Milliseconds => "a time with its unit, such as \"90s\", \"30m\" or \"2h\"",
        Unit::Count => {
            let wanted = format!("a whole number, {} to {}", range.0, range.1);
            let count = reader.integer(at, value, &wanted)?;
            return within(reader, at, u64::try_from(count).ok(), (unit, range));
        }
    };
    if value.is_integer() || value.is_float() {
        let seen = reader.seen(at);
        let unit = if unit == Unit::Bytes { "GiB" } else { "m" };
        reader
            .note(Code::Unit, at, format!("{seen} has no unit"))
            .allowed(example)
            .fix(format!("\"{seen}{unit}\", if that is what you mean"));
        return None;
    }
    let text = reader.string(at, value, example)?;
    let parsed = match unit {
        Unit::Milliseconds => unit::parse_time(&text),
        Unit::Bytes | Unit::Count => unit::parse_size(&text),
    };
    match parsed {
        Ok(amount) => within(reader, at, Some(amount), (unit, range)),
        Err(UnitError::Range) => within(reader, at, None, (unit, range)),
        Err(UnitError::NoUnit) => {
            let unit = if unit == Unit::Bytes { "GiB" } else { "m" };
            reader
                .note(Code::Unit, at, format!("{text:?} has no unit"))
                .allowed(example)
                .fix(format!("\"{text}{unit}\", if that is what you mean"));
            None
        }
        Err(UnitError::Unknown) => {
            reader
                .note(Code::Unit, at, format!("{text:?} is no number with a unit"))
                .allowed(example);
            None
        }
    }
}

fn within(
    reader: &mut Reader<'_>,
    at: &At,
    amount: Option<u64>,
    (unit, (low, high)): (Unit, (u64, u64)),
) -> Option<u64> {
    let amount = amount.filter(|amount| (low..=high).contains(amount));
    if amount.is_none() {
        let seen = reader.seen(at);
        reader
            .note(Code::Range, at, format!("{seen} is out of range"))
            .allowed(format!("{} to {}", unit.show(low), unit.show(high)));
    }
    amount
}

fn cores(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    const WANTED: &str = "a number of cores, 0.01 to 4096, or \"unlimited\"";
    let number = value
        .as_float()
        .map(|float| float.as_str())
        .or_else(|| value.as_integer().map(|integer| integer.as_str()));
    let Some(number) = number else {
        reader.wrong_type(at, WANTED, value);
        return None;
    };
    let cores: f64 = number.parse().unwrap_or(f64::NAN);
    if !(0.01..=4096.0).contains(&cores) {
        let seen = reader.seen(at);
        reader
            .note(Code::Range, at, format!("{seen} is out of range"))
            .allowed(WANTED);
        return None;
    }
    Some(Value::Cores(Some(cores)))
}

fn backend(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    let choices = [
        BackendChoice::Auto,
        BackendChoice::Docker,
        BackendChoice::Namespace,
    ];
    let index = reader.word(at, value, &["auto", "docker", "namespace"])?;
    Some(Value::Backend(choices[index]))
}

fn user(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    const WANTED: &str = "\"auto\", or a uid of 1000 to 4294967294";
    if value.as_str() == Some("auto") {
        return Some(Value::User(None));
    }
    let uid = reader.integer(at, value, WANTED)?;
    let uid = u32::try_from(uid)
        .ok()
        .filter(|uid| (1000..u32::MAX).contains(uid));
    if uid.is_none() {
        let seen = reader.seen(at);
        reader
            .note(
                Code::Range,
                at,
                format!("{seen} is root or a system user, or no uid"),
            )
            .allowed(WANTED);
    }
    uid.map(|uid| Value::User(Some(uid)))
}

fn require(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    const WANTED: &str = "a list such as [\"memory:watched\"]";
    let words = [Strength::Enforced, Strength::Watched, Strength::Absent];
    let mut require = BTreeMap::new();
    for (at, text) in reader.strings(at, value, WANTED)? {
        let (name, word) = text.split_once(':').unwrap_or((&text, "enforced"));
        let Some(control) = Control::parse(name) else {
            let names = Control::ALL.iter().map(|control| control.name());
            let near = nearest(name, names.clone()).map(|near| format!("{near:?}"));
            let all: Vec<&str> = names.collect();
            reader
                .note(Code::Enum, &at, format!("{name:?} is no control"))
                .allowed(all.join(", "))
                .or_fix(near);
            continue;
        };
        let Some(word) = words.iter().find(|known| known.to_string() == word) else {
            reader
                .note(
                    Code::Enum,
                    &at,
                    format!("{word:?} is no word for how a control holds"),
                )
                .allowed(one_of(&["enforced", "watched", "absent"]));
            continue;
        };
        if require.insert(control, *word).is_some() {
            reader.note(Code::DuplicateId, &at, format!("{control} is named twice"));
        }
    }
    Some(Value::Require(require))
}

fn env(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    let Some(table) = value.as_table() else {
        reader.wrong_type(at, "a table such as { SEED = \"0\" }", value);
        return None;
    };
    let mut set = BTreeMap::new();
    for (name, value) in table {
        let named = At::new(format!("{}.{}", at.key, name.get_ref()), name.span());
        let at = At::new(named.key.clone(), value.span());
        let Some(text) = reader.string(&at, value.get_ref(), "a text in quotes") else {
            continue;
        };
        match names::check_env(name.get_ref(), &text) {
            Ok(()) => drop(set.insert(name.get_ref().clone().into_owned(), text)),
            Err(error) => variable(reader, &named, &error),
        }
    }
    Some(Value::Env(set))
}

fn variable(reader: &mut Reader<'_>, at: &At, error: &EnvError) {
    let code = match error {
        EnvError::Name { .. } => Code::EnvPattern,
        EnvError::Steering { .. } | EnvError::Own { .. } => Code::EnvForbidden,
        EnvError::Value { .. } => Code::Range,
    };
    reader.note(code, at, error.to_string()).fix(error.remedy());
}

fn list(reader: &mut Reader<'_>, words: Words, at: &At, value: &DeValue<'_>) -> Option<Value> {
    let wanted = match words {
        Words::Images => "a list such as [\"docker.io/library/python@sha256:…\"]",
        Words::Variables => "a list of names such as [\"LANG\"]",
        Words::Hosts => "a list of host names such as [\"github.com\"]",
        Words::Remotes => "a list of beginnings of URLs such as [\"file:///srv/repos/\"]",
        Words::Globs => "a list of patterns such as [\"outputs/**\"]",
        Words::Capabilities => "a list such as [\"compute\", \"utility\"]",
    };
    let mut list = Vec::new();
    for (at, text) in reader.strings(at, value, wanted)? {
        let good = match words {
            Words::Images => image(reader, &at, &text),
            Words::Variables => match names::check_env(&text, "") {
                Ok(()) => true,
                Err(error) => {
                    variable(reader, &at, &error);
                    false
                }
            },
            Words::Hosts => host(reader, &at, &text),
            Words::Remotes => url(reader, &at, Code::Remote, git_url::check_remote(&text)),
            Words::Globs => glob(reader, &at, &text),
            Words::Capabilities => super::gpu::capability(reader, &at, &text),
        };
        if good && list.contains(&text) {
            reader.note(Code::DuplicateId, &at, format!("{text:?} is listed twice"));
        } else if good {
            list.push(text);
        }
    }
    Some(Value::List(list))
}

fn host(reader: &mut Reader<'_>, at: &At, text: &str) -> bool {
    if text.contains([':', '/', '*']) {
        reader
            .note(
                Code::HostPattern,
                at,
                format!("{text:?} is not the name of one host"),
            )
            .fix("write it like \"github.com\"; beginnings of URLs go into git.remotes");
        return false;
    }
    url(reader, at, Code::HostPattern, git_url::check_host(text))
}

fn url(
    reader: &mut Reader<'_>,
    at: &At,
    code: Code,
    judged: Result<(), git_url::UrlError>,
) -> bool {
    if let Err(error) = &judged {
        reader.note(code, at, error.to_string()).fix(error.remedy());
    }
    judged.is_ok()
}

/// `name@sha256:…`, `sha256:…`, or `name:tag`; whether a tag may stand alone is judged with the rest.
fn image(reader: &mut Reader<'_>, at: &At, text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None if text.starts_with("sha256:") => ("", Some(text)),
        None => (text, None),
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    let bare = digest == Some(text);
    let good_name = bare
        || (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(letters));
    let good_digest = digest.is_none_or(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    if !good_name || !good_digest {
        reader
            .note(
                Code::ImageRef,
                at,
                format!("{text:?} is no reference to one image"),
            )
            .allowed("NAME@sha256:… with 64 lower-case hexadecimal digits, or sha256:…")
            .fix("`docker image inspect NAME --format '{{index .RepoDigests 0}}'` prints it");
    }
    good_name && good_digest
}

fn glob(reader: &mut Reader<'_>, at: &At, text: &str) -> bool {
    let outside = text.starts_with('/') || text.split('/').any(|part| part == "..");
    if outside {
        reader
            .note(
                Code::PathTraversal,
                at,
                format!("{text:?} leads out of the workspace"),
            )
            .fix("write it relative to the workspace, without `..`");
        return false;
    }
    let built = globset::GlobBuilder::new(text.strip_prefix("./").unwrap_or(text))
        .literal_separator(true)
        .build();
    let matcher = match built {
        Ok(glob) => glob.compile_matcher(),
        Err(error) => {
            reader.note(Code::Glob, at, format!("{text:?}: {}", error.kind()));
            return false;
        }
    };
    let places = ["", "some/", "some/folder/"];
    let code = places
        .iter()
        .flat_map(|place| CODE.map(|name| format!("{place}{name}")))
        .find(|path| matcher.is_match(path));
    if let Some(path) = code {
        reader
            .note(
                Code::Glob,
                at,
                format!("{text:?} matches code as well ({path}), which an approval then says nothing about"),
            )
            .fix("name a folder of results, such as \"outputs/**\", or an ending, such as \"**/*.pt\"");
    }
    true
}
