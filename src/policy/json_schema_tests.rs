use super::*;
use crate::policy::builtin;

/// As much of JSON Schema as the document uses; a word it does not know is a mistake of the document.
fn fits(schema: &Value, value: &Value) -> bool {
    let rules = schema.as_object().unwrap();
    rules.iter().all(|(word, rule)| match word.as_str() {
        "$schema" | "title" | "description" | "default" => true,
        "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(one, value)),
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "type" => {
            let one = |name: &Value| is_a(value, name.as_str().unwrap());
            rule.as_array()
                .map_or_else(|| one(rule), |names| names.iter().any(one))
        }
        "pattern" => regex::Regex::new(rule.as_str().unwrap())
            .unwrap()
            .is_match(value.as_str().unwrap_or_default()),
        "maxLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= rule.as_f64().unwrap()),
        "maxItems" => value
            .as_array()
            .is_none_or(|all| all.len() as u64 <= rule.as_u64().unwrap()),
        "uniqueItems" => value.as_array().is_none_or(|all| {
            all.iter()
                .enumerate()
                .all(|(at, one)| !all[..at].contains(one))
        }),
        "items" => value
            .as_array()
            .is_none_or(|all| all.iter().all(|one| fits(rule, one))),
        "required" => rule.as_array().unwrap().iter().all(|name| {
            value
                .as_object()
                .is_none_or(|table| table.contains_key(name.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|table| {
            table
                .iter()
                .all(|(name, one)| rule.get(name).is_none_or(|rule| fits(rule, one)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|table| {
            let known = rules.get("properties").and_then(Value::as_object);
            table
                .iter()
                .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
                .all(|(_, one)| rule.as_bool().unwrap_or_else(|| fits(rule, one)))
        }),
        other => panic!("{other} is not checked here"),
    })
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    }
}

fn json_of(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap();
    serde_json::to_value(table).unwrap()
}

#[test]
fn each_built_in_and_the_reference_of_the_readme_fit() {
    let schema = document();
    for name in builtin::NAMES {
        let text = builtin::source(name).unwrap().text;
        assert!(fits(&schema, &json_of(&text)), "{name}");
    }
    let readme = include_str!("../../README.md");
    let reference = readme.split("Every key, with the default").nth(1).unwrap();
    let reference = reference
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert!(fits(&schema, &json_of(reference)));
}

/// What the reader knows, and no more: the document follows the reader's own table.
#[test]
fn every_key_is_in_it_with_its_default_and_no_other() {
    let schema = document();
    for key in schema::KEYS {
        let (table, name) = key.path.split_once('.').unwrap();
        let found = &schema["properties"][table]["properties"][name];
        assert_eq!(found["description"], key.about, "{}", key.path);
        let usual = &found["default"];
        assert!(fits(found, usual), "{}: {usual}", key.path);
        let stranger = format!("schema = 1\n[{table}]\n{name}x = 1");
        assert!(!fits(&schema, &json_of(&stranger)), "{stranger}");
    }
    for text in [
        "schema = 2",
        "name = \"x\"",
        "schema = 1\nlimit.memory = \"4GiB\"",
        "schema = 1\nlimits.memory = 4",
        "schema = 1\nlimits.memory = \"4\"",
        "schema = 1\nlimits.pids = 0",
        "schema = 1\nbackend = \"docker\"",
        "schema = 1\nexecutor.backend = \"podman\"",
        "schema = 1\n[[mount]]\nsource = \"a\"",
        "schema = 1\n[[mount]]\nsource = \"a\"\ntarget = \"/data/a\"\nmax_size = \"1GiB\"",
        "schema = 1\n[[approval.rule]]\nid = \"a\"\naction = \"exec\"\ndecision = \"never\"",
        "schema = 1\naudit.fail_closed = false",
        "schema = 1\nexecutor.require = [\"memroy\"]",
        "schema = 1\nenv.set = { A = 1 }",
    ] {
        assert!(!fits(&schema, &json_of(text)), "{text}");
    }
}
