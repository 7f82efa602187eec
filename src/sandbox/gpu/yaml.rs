//! YAML as CDI files use it, to JSON: mappings, sequences and scalars. No anchors, aliases or tags,
//! one document, bounded depth: a file cannot make more of itself than its bytes. Pure.

use super::error::CdiError;
use serde_json::{Map, Value};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// A CDI file needs six.
const DEPTH: usize = 24;

/// A collection that is open.
enum Open {
    List(Vec<Value>),
    /// And the key that waits for its value.
    Table(Map<String, Value>, Option<String>),
}

/// The one document of this text.
pub(super) fn parse(text: &str) -> Result<Value, CdiError> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    loop {
        let (event, mark) = parser.next_token().map_err(|error| CdiError::Yaml {
            line: error.marker().line(),
            why: error.info().to_owned(),
        })?;
        let wrong = |why: &str| CdiError::Yaml {
            line: mark.line(),
            why: why.to_owned(),
        };
        let done = match event {
            Event::StreamEnd => return whole.ok_or_else(|| wrong("it is empty")),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => return Err(wrong("aliases are not read here")),
            Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => return Err(wrong("anchors are not read here")),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return Err(wrong("tags are not read here")),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEPTH => {
                return Err(wrong("it is nested too deep"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Table(Map::new(), None));
                continue;
            }
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Table(table, _)) => Value::Object(table),
                None => return Err(wrong("it ends before it begins")),
            },
        };
        match open.last_mut() {
            None if whole.is_some() => return Err(wrong("it holds a second document")),
            None => whole = Some(done),
            Some(Open::List(list)) => list.push(done),
            Some(Open::Table(table, key)) => enter(table, key, done).map_err(|why| wrong(&why))?,
        }
    }
}

/// A key, or the value for the key before it.
fn enter(
    table: &mut Map<String, Value>,
    key: &mut Option<String>,
    done: Value,
) -> Result<(), String> {
    match (key.take(), done) {
        (None, Value::String(name)) => *key = Some(name),
        (None, Value::Number(number)) => *key = Some(number.to_string()),
        (None, _) => return Err("a key is no text".to_owned()),
        (Some(name), value) => {
            if table.insert(name.clone(), value).is_some() {
                return Err(format!("{name:?} is there twice"));
            }
        }
    }
    Ok(())
}

/// Only plain scalars are anything but text.
fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text.parse::<i64>().map_or(Value::String(text), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_generators_write_is_read() {
        let text = "---\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n      major: 195\n    env: []\ncontainerEdits: {env: [A=b]}\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "cdiVersion": "0.5.0",
                "kind": "nvidia.com/gpu",
                "devices": [{"name": "0", "containerEdits": {
                    "deviceNodes": [{"path": "/dev/nvidia0", "major": 195}], "env": []
                }}],
                "containerEdits": {"env": ["A=b"]}
            })
        );
    }

    #[test]
    fn what_could_grow_or_mean_two_things_is_refused() {
        for (text, why) in [
            ("a: &x 1\nb: *x\n", "anchors"),
            ("a: *x\n", "anchor"),
            ("a: !!str 1\n", "tags"),
            ("a: 1\na: 2\n", "twice"),
            ("a: 1\n---\nb: 2\n", "second document"),
            ("", "empty"),
            ("[a: [", ""),
            ("? [x]\n: 1\n", "no text"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        parse(&"[".repeat(100_000)).unwrap_err();
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        let error = parse(&deep).unwrap_err().to_string();
        assert!(error.contains("too deep"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]{}:,&*!?|>'\"#~ \n\ta-c0-2-]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn json_is_read_as_itself(n in any::<i32>(), text in "[ -~]{0,20}", flag: bool) {
            let value = json!({"a": [n, {"b": text}], "c": flag});
            prop_assert_eq!(parse(&value.to_string()).unwrap(), value);
        }
    }
}
