//! The kinds of value a key can have: how each is written out, and how two of them meet. Pure.

use super::model::{BackendChoice, GpuDevices, Policy};
use super::network;
use super::unit;
use crate::protocol::control::{Control, Strength};
use crate::protocol::net::{HostRule, SourceAlias};
use std::collections::{BTreeMap, BTreeSet};

/// One value of one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `None` is unlimited.
    Limit(Option<u64>),
    Amount(u64),
    /// `None` is unlimited.
    Cores(Option<f64>),
    Flag(bool),
    /// Index into the form's words.
    Choice(usize),
    Backend(BackendChoice),
    /// `None` is `auto`.
    User(Option<u32>),
    Require(BTreeMap<Control, Strength>),
    Env(BTreeMap<String, String>),
    List(Vec<String>),
    Hosts(Vec<HostRule>),
    Sources(Vec<SourceAlias>),
    Gpus(GpuDevices),
    /// The one value there is in this version.
    Only,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Milliseconds,
    Count,
}

impl Unit {
    /// As a policy file says it.
    pub(super) fn show(self, amount: u64) -> String {
        match self {
            Self::Bytes => quote(&unit::size(amount)),
            Self::Milliseconds => quote(&unit::time(amount)),
            Self::Count => amount.to_string(),
        }
    }
}

/// What the words of a list are, and so how two lists meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Images,
    Variables,
    Hosts,
    /// Beginnings of URLs: a longer one is the narrower.
    Remotes,
    Globs,
    /// What of a GPU's driver.
    Capabilities,
}

/// What may be written for a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// A number or "unlimited".
    Limit {
        unit: Unit,
        range: (u64, u64),
    },
    Amount {
        unit: Unit,
        range: (u64, u64),
    },
    Cores,
    /// `strict` is the tighter of the two.
    Flag {
        strict: bool,
    },
    /// One of these words, loosest first.
    Choice(&'static [&'static str]),
    /// One of these words; the first leaves it open, two others exclude each other.
    Pick(&'static [&'static str]),
    Backend,
    User,
    Require,
    Env,
    List(Words),
    /// Entries of `[network] allow`.
    Hosts,
    /// Tools whose hosts of packages are let through.
    Sources,
    Gpus,
    /// A key with one value in this version, and words that later ones may have.
    Only {
        word: &'static str,
        later: &'static [&'static str],
    },
    /// As `Only`, for a flag that is always on.
    Always,
}

/// Two values that exclude each other: there is nothing that is as tight as both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clash;

impl Form {
    /// The value as a policy file says it.
    pub(super) fn show(&self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Limit(None) | Value::Cores(None)) => quote("unlimited"),
            (Self::Limit { unit, .. }, Value::Limit(Some(amount)))
            | (Self::Amount { unit, .. }, Value::Amount(amount)) => unit.show(*amount),
            (Self::Choice(words) | Self::Pick(words), Value::Choice(index)) => {
                quote(words.get(*index).copied().unwrap_or_default())
            }
            (Self::Only { word, .. }, _) => quote(word),
            (Self::Always, _) => "true".to_owned(),
            (_, Value::Cores(Some(cores))) => format!("{cores:?}"),
            (_, Value::Flag(flag)) => flag.to_string(),
            (_, Value::Backend(choice)) => quote(backend_word(*choice)),
            (_, Value::User(None)) => quote("auto"),
            (_, Value::User(Some(uid))) => uid.to_string(),
            (_, Value::Require(require)) => list(&exceptions(require)),
            (_, Value::Env(set)) => table(set),
            (_, Value::List(words)) => list(words),
            (_, Value::Hosts(rules)) => hosts(rules),
            (_, Value::Sources(sources)) => {
                list(&sources.iter().map(|one| one.name()).collect::<Vec<_>>())
            }
            (_, Value::Gpus(gpus)) => gpus_word(gpus),
            (_, Value::Limit(Some(amount)) | Value::Amount(amount)) => amount.to_string(),
            (_, Value::Choice(_) | Value::Only) => String::new(),
        }
    }

    /// The loosest value that is as tight as both.
    pub(super) fn meet(&self, a: Value, b: Value) -> Result<Value, Clash> {
        Ok(match (a, b) {
            (Value::Limit(a), Value::Limit(b)) => Value::Limit(tighter(a, b, u64::min)),
            (Value::Cores(a), Value::Cores(b)) => Value::Cores(tighter(a, b, f64::min)),
            (Value::Amount(a), Value::Amount(b)) => Value::Amount(a.min(b)),
            (Value::Choice(a), Value::Choice(b)) => match self {
                Self::Pick(_) if a != b && a.min(b) > 0 => return Err(Clash),
                _ => Value::Choice(a.max(b)),
            },
            (Value::Flag(a), Value::Flag(b)) => match self {
                Self::Flag { strict: true } => Value::Flag(a || b),
                _ => Value::Flag(a && b),
            },
            (Value::Backend(BackendChoice::Auto), Value::Backend(other))
            | (Value::Backend(other), Value::Backend(BackendChoice::Auto)) => Value::Backend(other),
            (Value::User(None), Value::User(other)) | (Value::User(other), Value::User(None)) => {
                Value::User(other)
            }
            (Value::Require(a), Value::Require(b)) => Value::Require(stronger(a, b)),
            (Value::Env(a), Value::Env(b)) => Value::Env(together(a, b)?),
            (Value::List(a), Value::List(b)) => Value::List(match self {
                Self::List(Words::Images) => images(a, b)?,
                Self::List(Words::Remotes) => narrower(&a, &b),
                _ => common(&a, &b),
            }),
            (Value::Hosts(a), Value::Hosts(b)) => Value::Hosts(network::meet(&a, &b)),
            (Value::Sources(a), Value::Sources(b)) => {
                Value::Sources(a.into_iter().filter(|one| b.contains(one)).collect())
            }
            (Value::Gpus(a), Value::Gpus(b)) => Value::Gpus(a.meet(&b)),
            (a, b) if a == b => a,
            _ => return Err(Clash),
        })
    }

    /// Whether what was written came through whole.
    pub(super) fn holds(&self, written: &Value, effective: &Value) -> bool {
        match (written, effective) {
            (Value::Require(written), Value::Require(effective)) => written
                .iter()
                .all(|(control, word)| effective.get(control) == Some(word)),
            (Value::Env(written), Value::Env(effective)) => written
                .iter()
                .all(|(name, value)| effective.get(name) == Some(value)),
            (Value::List(written), Value::List(effective)) => {
                let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<_>>();
                set(written) == set(effective)
            }
            (written, effective) => written == effective,
        }
    }
}

pub(super) fn backend_word(choice: BackendChoice) -> &'static str {
    match choice {
        BackendChoice::Auto => "auto",
        BackendChoice::Docker => "docker",
        BackendChoice::Namespace => "namespace",
    }
}

/// A word in quotes, with what TOML wants escaped.
pub(super) fn quote(word: &str) -> String {
    toml::Value::String(word.to_owned()).to_string()
}

/// An array of words.
pub(super) fn list<W: AsRef<str>>(words: &[W]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

/// An array of inline tables, one for each host.
fn hosts(rules: &[HostRule]) -> String {
    let one = |rule: &HostRule| {
        let mut text = format!("{{ host = {}, ports = {:?}", quote(&rule.host), rule.ports);
        if !rule.methods.is_empty() {
            text.push_str(&format!(", methods = {}", list(&rule.methods)));
        }
        if let Some(address) = rule.address {
            text.push_str(&format!(", address = {}", quote(&address.to_string())));
        }
        text + " }"
    };
    format!("[{}]", rules.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// `"none"`, `"any:1"`, `[0, "GPU-…"]`, or `"any:1 of 0, 2"`.
fn gpus_word(gpus: &GpuDevices) -> String {
    let count = gpus.count;
    let names = |show: fn(&String) -> String| {
        let names: Vec<String> = gpus.among.iter().flatten().map(show).collect();
        names.join(", ")
    };
    let bare = |name: &String| match name.bytes().all(|byte| byte.is_ascii_digit()) {
        true => name.clone(),
        false => quote(name),
    };
    match &gpus.among {
        _ if count == 0 => quote("none"),
        None => quote(&format!("any:{count}")),
        Some(among) if among.len() == usize::try_from(count).unwrap_or(usize::MAX) => {
            format!("[{}]", names(bare))
        }
        Some(_) => quote(&format!("any:{count} of {}", names(String::clone))),
    }
}

fn table(set: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = set
        .iter()
        .map(|(name, value)| format!("{name} = {}", quote(value)))
        .collect();
    match pairs.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{ {} }}", pairs.join(", ")),
    }
}

/// What was written; of an effective list, which names every control, what is not the default.
fn exceptions(require: &BTreeMap<Control, Strength>) -> Vec<String> {
    let usual = super::defaults::policy().executor.require;
    let whole = require.len() == usual.len();
    require
        .iter()
        .filter(|(control, word)| !whole || usual.get(control) != Some(word))
        .map(|(control, word)| require_word(*control, *word))
        .collect()
}

/// `memory` means enforced, `memory:watched` accepts less.
pub(super) fn require_word(control: Control, word: Strength) -> String {
    match word {
        Strength::Enforced => control.name().to_owned(),
        weaker => format!("{control}:{weaker}"),
    }
}

fn tighter<T>(a: Option<T>, b: Option<T>, min: fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(min(a, b)),
        (one, None) | (None, one) => one,
    }
}

fn stronger(
    mut a: BTreeMap<Control, Strength>,
    b: BTreeMap<Control, Strength>,
) -> BTreeMap<Control, Strength> {
    for (control, word) in b {
        let held = a.entry(control).or_insert(Strength::Absent);
        *held = (*held).max(word);
    }
    a
}

/// Variables add up: each says something to the program and lets nothing in. Two values exclude
/// each other.
fn together(
    mut a: BTreeMap<String, String>,
    b: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Clash> {
    for (name, value) in b {
        match a.get(&name) {
            Some(held) if *held != value => return Err(Clash),
            _ => a.insert(name, value),
        };
    }
    Ok(a)
}

/// No list lets every image in: the other counts. Two that share nothing exclude each other, as a list
/// of none would let in all.
fn images(a: Vec<String>, b: Vec<String>) -> Result<Vec<String>, Clash> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => Ok(b),
        (_, true) => Ok(a),
        _ => match common(&a, &b) {
            both if both.is_empty() => Err(Clash),
            both => Ok(both),
        },
    }
}

fn common(a: &[String], b: &[String]) -> Vec<String> {
    a.iter().filter(|word| b.contains(word)).cloned().collect()
}

/// Of each pair of beginnings where one lies beneath the other, the longer; and of those the ones
/// that no other covers.
fn narrower(a: &[String], b: &[String]) -> Vec<String> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let mut beneath: Vec<String> = pairs
        .filter_map(|(a, b)| match (covers(a, b), covers(b, a)) {
            (true, _) => Some(b.clone()),
            (_, true) => Some(a.clone()),
            _ => None,
        })
        .collect();
    beneath.sort_unstable();
    beneath.dedup();
    let all = beneath.clone();
    beneath.retain(|one| !all.iter().any(|other| other != one && covers(other, one)));
    beneath
}

/// Whether what begins with `long` always begins with `short` as well, at a path's boundary.
fn covers(short: &str, long: &str) -> bool {
    long.strip_prefix(short)
        .is_some_and(|rest| rest.is_empty() || short.ends_with('/') || rest.starts_with('/'))
}

/// Reads and writes one key of a policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) get: fn(&Policy) -> Value,
    pub(super) put: fn(&mut Policy, Value),
}
