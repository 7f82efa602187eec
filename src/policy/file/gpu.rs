//! `[gpu]`: how many GPUs, and which.

use super::problem::Code;
use super::reader::{At, Reader, one_of};
use crate::policy::model::GpuDevices;
use crate::policy::value::Value;
use std::collections::BTreeSet;
use toml::de::DeValue;

const WANTED: &str =
    "\"none\", \"any:1\", a list such as [0, 1] or [\"GPU-…\"], or \"any:1 of 0, 1\"";

/// More than any machine has.
const MOST: u32 = 1024;

/// What there is of a driver; the rest of it is for drawing.
const CAPABILITIES: [&str; 2] = ["compute", "utility"];

pub(super) fn devices(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Value> {
    let gpus = match value.as_array() {
        Some(array) => {
            let names = array.iter().map(|entry| match entry.get_ref() {
                DeValue::Integer(number) if number.radix() == 10 => name(number.as_str()),
                DeValue::String(text) => name(text),
                _ => None,
            });
            listed(names.collect::<Option<Vec<_>>>(), array.len())
        }
        None => match value.as_str() {
            Some(text) => counted(text),
            None => {
                reader.wrong_type(at, WANTED, value);
                return None;
            }
        },
    };
    if gpus.is_none() {
        let seen = reader.seen(at);
        reader
            .note(Code::Gpu, at, format!("{seen} names no GPUs"))
            .allowed(WANTED)
            .fix("`fumehood doctor` lists the GPUs of this machine with index and UUID");
    }
    gpus.map(Value::Gpus)
}

fn listed(names: Option<Vec<String>>, length: usize) -> Option<GpuDevices> {
    let among: BTreeSet<String> = names?.into_iter().collect();
    let count = u32::try_from(among.len()).ok()?;
    (count > 0 && among.len() == length).then_some(GpuDevices {
        count,
        among: Some(among),
    })
}

/// `none`, `any:N`, `any:N of A, B`.
fn counted(text: &str) -> Option<GpuDevices> {
    if text == "none" {
        return Some(GpuDevices::default());
    }
    let (count, among) = match text.strip_prefix("any:")?.split_once(" of ") {
        None => (text.strip_prefix("any:")?, None),
        Some((count, names)) => {
            let length = names.split(',').count();
            let names = names.split(',').map(|one| name(one.trim())).collect();
            (count, Some(listed(names, length)?.among?))
        }
    };
    let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let count = plain.then(|| count.parse().ok())??;
    let enough = among
        .as_ref()
        .is_none_or(|among| u32::try_from(among.len()).is_ok_and(|length| count <= length));
    ((1..=MOST).contains(&count) && enough).then_some(GpuDevices { count, among })
}

/// An index, or a UUID in the one way it is written.
fn name(text: &str) -> Option<String> {
    let is_index = !text.is_empty()
        && text.len() <= 4
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if is_index {
        return Some(text.to_owned());
    }
    let rest = text.strip_prefix("GPU-")?;
    let hex = rest
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (hex && (8..=64).contains(&rest.len())).then(|| format!("GPU-{}", rest.to_ascii_lowercase()))
}

pub(super) fn capability(reader: &mut Reader<'_>, at: &At, text: &str) -> bool {
    let known = CAPABILITIES.contains(&text);
    if !known {
        let message = format!("{text:?} is nothing a sandbox gets of a GPU's driver");
        reader
            .note(Code::Gpu, at, message)
            .allowed(one_of(&CAPABILITIES));
    }
    known
}
