//! A call of the model's in a few words.

use super::DIM;
use crate::context::sanitise::visible_lines;
use serde_json::Value;

/// Columns of an argument shown on the line of a call.
const COLUMNS: usize = 100;

/// A call in a few words; what is not understood is shown as it came.
pub(super) fn call(name: &str, arguments: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(arguments) else {
        return cut(arguments);
    };
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let lines = |key: &str| text(key).map_or(0, |text| text.lines().count());
    let said = match name {
        "exec" => text("command").or_else(|| value.get("argv").map(argv)),
        "write" => text("path").map(|path| format!("{path} ({} lines)", lines("content"))),
        "read" | "list" | "edit" => text("path"),
        "clone_repo" => text("url").map(|url| match text("rev") {
            Some(rev) => format!("{url} at {rev}"),
            None => url,
        }),
        _ => None,
    };
    // The arguments were sanitised as JSON; what their escapes stand for was not.
    cut(&visible_lines(
        &said.unwrap_or_else(|| arguments.to_owned()),
    ))
}

fn argv(value: &Value) -> String {
    let words = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
    words.join(" ")
}

/// One line; the count of what is not shown is.
pub(super) fn cut(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let shown: String = first.chars().take(COLUMNS).collect();
    match text.chars().count() - shown.chars().count() {
        0 => shown,
        more => format!("{shown} {DIM}(+{more} characters){DIM:#}"),
    }
}
