//! Reading what other tools are configured by: files that may be missing, broken or endless.

use std::path::Path;

/// Longest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// A file that is there, is text and not endless.
pub(super) fn text(path: &Path) -> Option<String> {
    let size = std::fs::metadata(path).ok()?.len();
    (size <= MAX_FILE).then(|| std::fs::read_to_string(path).ok())?
}

/// Every value of a key in an INI file; further lines of a value are set in.
pub(super) fn ini(text: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        let value = match line.starts_with([' ', '\t']) {
            true if within => trimmed,
            true => continue,
            false => match trimmed.split_once(['=', ':']) {
                Some((name, value)) => {
                    within = name.trim().replace('_', "-") == key;
                    value.trim()
                }
                None => {
                    within = false;
                    continue;
                }
            },
        };
        if within {
            values.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    values
}

pub(super) fn one(table: &toml::Table, key: &str) -> Option<String> {
    table.get(key)?.as_str().map(str::to_owned)
}

pub(super) fn many(table: &toml::Table, key: &str) -> Vec<String> {
    let array = table.get(key).and_then(toml::Value::as_array);
    let texts = array.into_iter().flatten().filter_map(toml::Value::as_str);
    texts.map(str::to_owned).collect()
}
