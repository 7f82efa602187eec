//! One source as it is written: every key with its place, nothing composed yet.

use super::entry;
use super::problem::{Code, PolicySource, Problem};
use super::reader::{At, Example, Reader, nearest};
use super::rule;
use super::scalar;
use super::secret;
use crate::policy::builtin;
use crate::policy::model::{PolicyMount, PolicySecret, Rule, SecretFrom};
use crate::policy::schema::{self, Key};
use crate::policy::value::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest name of a policy.
const MAX_NAME: usize = 40;

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 200;

/// What one source says.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) source: usize,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) extends: Option<(At, String)>,
    pub(super) written: Vec<Written>,
    pub(super) mounts: Option<Vec<(At, PolicyMount)>>,
    pub(super) secrets: Option<Vec<(At, PolicySecret)>>,
    pub(super) rules: Vec<(At, Rule)>,
    /// Those of the rules, tried.
    pub(super) examples: Vec<Example>,
}

/// A key that is written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) key: &'static Key,
    pub(super) value: Value,
    pub(super) at: At,
}

/// Whether a source may bear the name of a built-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Own,
    Reserved,
}

/// Reads one source, of that place among all; what could not be read is among the problems.
pub(super) fn read(index: usize, source: &PolicySource, names: Names) -> (Layer, Vec<Problem>) {
    let text = source.text.as_str();
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(index, text);
    let mut layer = Layer {
        source: index,
        ..Layer::default()
    };
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let message = error
            .message()
            .split(", expected")
            .next()
            .unwrap_or_default();
        let word = text.get(span.start..).and_then(|rest| {
            rest.split(|c: char| c.is_whitespace() || ",]}#".contains(c))
                .next()
        });
        let quoted = word
            .filter(|word| message.contains("must be quoted") && !word.is_empty())
            .map(|word| format!("{word:?}"));
        reader
            .note(Code::Toml, &At::new("", span), message)
            .or_fix(quoted);
    }
    // What is left of a broken text says little: its own mistakes first.
    if errors.is_empty() {
        let mut walk = Walk {
            reader: &mut reader,
            layer: &mut layer,
            names,
        };
        walk.head(document.get_ref());
        walk.table("", document.get_ref());
    }
    if let Some(folder) = &source.folder {
        for (_, mount) in layer.mounts.iter_mut().flatten() {
            // A whole path stays as it is. What is no text is resolved where it is mounted.
            if let Some(whole) = folder.join(&mount.source).to_str() {
                mount.source = whole.to_owned();
            }
        }
        for (_, secret) in layer.secrets.iter_mut().flatten() {
            if let SecretFrom::File(path) = &mut secret.from
                && let Some(whole) = folder.join(&*path).to_str()
            {
                *path = whole.to_owned();
            }
        }
    }
    layer.examples = reader.examples;
    (layer, reader.problems)
}

struct Walk<'r, 'a> {
    reader: &'r mut Reader<'a>,
    layer: &'r mut Layer,
    names: Names,
}

impl Walk<'_, '_> {
    /// Which schema it follows.
    fn head(&mut self, document: &DeTable<'_>) {
        let fix = format!("schema = {}", schema::VERSION);
        let Some((_, value)) = document.iter().find(|(key, _)| key.get_ref() == "schema") else {
            self.reader
                .note(
                    Code::Schema,
                    &At::new("schema", 0..0),
                    "the version of the schema is missing",
                )
                .fix(format!("begin the file with `{fix}`"));
            return;
        };
        let at = At::new("schema", value.span());
        let version = self.reader.integer(&at, value.get_ref(), &fix);
        if version.is_some_and(|version| version != schema::VERSION) {
            let seen = self.reader.seen(&at);
            self.reader
                .note(
                    Code::Schema,
                    &at,
                    format!("schema {seen} is not known to this version"),
                )
                .allowed(schema::VERSION.to_string());
        }
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = match prefix {
                "" => key.get_ref().clone().into_owned(),
                prefix => format!("{prefix}.{}", key.get_ref()),
            };
            self.entry(path, key, value);
        }
    }

    fn entry(
        &mut self,
        path: String,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = At::new(path.clone(), value.span());
        match path.as_str() {
            "schema" => {}
            "name" => self.layer.name = self.name(&at, value.get_ref()),
            "description" => self.layer.description = self.description(&at, value.get_ref()),
            "extends" => {
                let parent =
                    self.reader
                        .string(&at, value.get_ref(), "\"builtin:NAME\", or a file's name");
                self.layer.extends = parent.map(|parent| (at, parent));
            }
            "mount" => self.layer.mounts = Some(entry::mounts(self.reader, value)),
            "secrets" => self.layer.secrets = Some(secret::secrets(self.reader, value)),
            "approval.rule" => self.layer.rules = rule::rules(self.reader, value),
            path => match schema::key(path) {
                Some(found) => self.value(found, at, value.get_ref()),
                None if schema::is_table(path) => {
                    if let Some(table) = self.reader.table(&at, value) {
                        self.table(path, table);
                    }
                }
                None => self.stranger(&At::new(path, key.span())),
            },
        }
    }

    fn value(&mut self, key: &'static Key, at: At, value: &DeValue<'_>) {
        if let Some(value) = scalar::read(self.reader, &key.form, &at, value) {
            self.layer.written.push(Written { key, value, at });
        }
    }

    fn stranger(&mut self, at: &At) {
        match schema::is_not_built(&at.key) {
            true => self.reader.not_built(at),
            false => self.reader.unknown_key(at, nearest_key(&at.key)),
        }
    }

    fn name(&mut self, at: &At, value: &DeValue<'_>) -> Option<String> {
        let name = self.reader.string(at, value, "a name in quotes")?;
        if !is_name(&name) {
            self.reader
                .note(Code::Name, at, format!("{name:?} is no name for a policy"))
                .allowed(format!("1 to {MAX_NAME} of a-z, 0-9 and -"));
            return None;
        }
        if self.names == Names::Own && builtin::NAMES.contains(&name.as_str()) {
            self.reader
                .note(
                    Code::NameReserved,
                    at,
                    format!("{name:?} is the name of a built-in policy"),
                )
                .fix(format!("name = \"my-{name}\""));
            return None;
        }
        Some(name)
    }

    fn description(&mut self, at: &At, value: &DeValue<'_>) -> Option<String> {
        let text = self.reader.string(at, value, "a text in quotes")?;
        if text.chars().count() > MAX_DESCRIPTION {
            let message = format!("it is longer than {MAX_DESCRIPTION} characters");
            self.reader.note(Code::Range, at, message);
            return None;
        }
        Some(text)
    }
}

/// Whether a policy may be called that.
pub(super) fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(letter)
}

/// A key like it in the same table; else one anywhere with that last part.
pub(in crate::policy) fn nearest_key(path: &str) -> Option<String> {
    let paths = || {
        schema::KEYS
            .iter()
            .map(|key| key.path)
            .chain(schema::HEAD)
            .chain(["mount", "secrets", "approval.rule"])
    };
    let (table, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    let siblings =
        paths().filter(|other| other.rsplit_once('.').map_or("", |(table, _)| table) == table);
    let beside = nearest(
        leaf,
        siblings.map(|other| other.rsplit('.').next().unwrap_or(other)),
    );
    if let Some(near) = beside {
        return Some(match table {
            "" => near.to_owned(),
            table => format!("{table}.{near}"),
        });
    }
    let same_leaf = paths().find(|other| other.rsplit('.').next() == Some(leaf));
    same_leaf
        .or_else(|| nearest(path, paths()))
        .map(str::to_owned)
}
