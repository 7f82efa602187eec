//! The schema of policy files as JSON Schema (draft 7), so that editors complete and mark them. Made
//! from the table that reading follows. It says what may be written where; the reader says the rest.

use super::action::ActionKind;
use super::defaults;
use super::model::Decision;
use super::schema::{self, Key};
use super::value::{Form, Unit};
use crate::protocol::control::Control;
use crate::protocol::net::SourceAlias;
use serde_json::{Map, Value, json};

/// A number with its unit.
const SIZE: &str = r"^[0-9][0-9._ ]*[A-Za-z]+$";
const TIME: &str = r"^[0-9][0-9a-z ]*[a-z]$";

/// The whole schema.
pub fn document() -> Value {
    let mut tables: Map<String, Value> = Map::new();
    for key in schema::KEYS {
        let (table, name) = key.path.split_once('.').unwrap_or(("", key.path));
        put(&mut tables, table, name, of_key(key));
    }
    put(
        &mut tables,
        "approval",
        "rule",
        array(object(
            &schema::RULE,
            rule_key,
            &["id", "action", "decision"],
        )),
    );
    tables.insert(
        "mount".to_owned(),
        array(object(&schema::MOUNT, mount_key, &["source", "target"])),
    );
    tables.insert(
        "secrets".to_owned(),
        array(object(&schema::SECRET, secret_key, &["name", "as"])),
    );
    let mut properties: Map<String, Value> = schema::HEAD
        .iter()
        .map(|name| ((*name).to_owned(), head_key(name)))
        .collect();
    properties.extend(tables);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Fumehood policy",
        "type": "object",
        "properties": properties,
        "required": ["schema"],
        "additionalProperties": false,
    })
}

fn put(tables: &mut Map<String, Value>, table: &str, name: &str, value: Value) {
    let held = tables.entry(table).or_insert_with(
        || json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    );
    held["properties"][name] = value;
}

fn of_key(key: &Key) -> Value {
    let mut value = of_form(&key.form);
    value["description"] = json!(key.about);
    let usual = key.form.show(&(key.slot.get)(&defaults::policy()));
    let parsed = toml::from_str::<toml::Table>(&format!("v = {usual}")).ok();
    if let Some(usual) = parsed.and_then(|table| serde_json::to_value(table.get("v")?).ok()) {
        value["default"] = usual;
    }
    value
}

fn of_form(form: &Form) -> Value {
    match form {
        Form::Limit { unit, range } => {
            json!({ "anyOf": [of_unit(*unit, *range), { "const": "unlimited" }] })
        }
        Form::Amount { unit, range } => of_unit(*unit, *range),
        Form::Cores => json!({ "anyOf": [
            { "type": "number", "minimum": 0.01, "maximum": 4096 },
            { "const": "unlimited" },
        ] }),
        Form::Flag { .. } => json!({ "type": "boolean" }),
        Form::Choice(words) | Form::Pick(words) => json!({ "enum": words }),
        Form::Backend => json!({ "enum": ["auto", "docker", "namespace"] }),
        Form::User => json!({ "anyOf": [
            { "const": "auto" },
            { "type": "integer", "minimum": 1000, "maximum": u32::MAX - 1 },
        ] }),
        Form::Require => {
            let names: Vec<&str> = Control::ALL.iter().map(|one| one.name()).collect();
            let pattern = format!("^({})(:(enforced|watched|absent))?$", names.join("|"));
            array(json!({ "type": "string", "pattern": pattern }))
        }
        Form::Env => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Form::List(_) => list(),
        Form::Hosts => array(json!({ "anyOf": [
            { "type": "string" },
            object(&schema::HOST, host_key, &["host"]),
        ] })),
        Form::Sources => {
            let names: Vec<&str> = SourceAlias::ALL.iter().map(|one| one.name()).collect();
            array(json!({ "enum": names }))
        }
        Form::Gpus => json!({ "anyOf": [
            { "type": "string", "pattern": "^(none|any:[0-9]+( of .+)?)$" },
            array(json!({ "type": ["integer", "string"] })),
        ] }),
        Form::Only { word, .. } => json!({ "const": word }),
        Form::Always => json!({ "const": true }),
    }
}

fn of_unit(unit: Unit, (low, high): (u64, u64)) -> Value {
    match unit {
        Unit::Bytes => json!({ "type": "string", "pattern": SIZE }),
        Unit::Milliseconds => json!({ "type": "string", "pattern": TIME }),
        Unit::Count => json!({ "type": "integer", "minimum": low, "maximum": high }),
    }
}

fn list() -> Value {
    let mut list = array(json!({ "type": "string" }));
    list["uniqueItems"] = json!(true);
    list
}

fn array(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn object(keys: &[&str], of: fn(&str) -> Value, required: &[&str]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| ((*key).to_owned(), of(key)))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn head_key(name: &str) -> Value {
    match name {
        "schema" => json!({ "const": schema::VERSION }),
        "name" => json!({ "type": "string", "pattern": "^[a-z0-9-]{1,40}$" }),
        "description" => json!({ "type": "string", "maxLength": 200 }),
        _ => json!({ "type": "string" }),
    }
}

fn mount_key(name: &str) -> Value {
    match name {
        "mode" => json!({ "enum": ["ro", "rw"], "default": "ro" }),
        _ => json!({ "type": "string" }),
    }
}

fn secret_key(name: &str) -> Value {
    match name {
        "name" => json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$" }),
        "as" => json!({ "const": "file" }),
        "grant" => json!({ "enum": ["ask", "allow"], "default": "ask" }),
        _ => json!({ "type": "string" }),
    }
}

fn host_key(name: &str) -> Value {
    match name {
        "ports" => array(json!({ "type": "integer", "minimum": 1, "maximum": 65535 })),
        "methods" => array(json!({ "type": "string" })),
        _ => json!({ "type": "string" }),
    }
}

fn rule_key(name: &str) -> Value {
    let words = || array(json!({ "type": "string" }));
    match name {
        "action" => json!({ "enum": [ActionKind::Exec, ActionKind::Clone] }),
        "decision" => json!({ "enum": [Decision::Allow, Decision::Ask, Decision::Deny] }),
        "id" => json!({ "type": "string", "pattern": "^[a-z0-9-]{1,40}$" }),
        "command_prefix" => words(),
        "match" | "not_match" => array(words()),
        "max_gpus" => json!({ "type": "integer", "minimum": 0, "maximum": 1024 }),
        "network" => json!({ "enum": ["none"] }),
        "max_wall_time" => json!({ "type": "string", "pattern": TIME }),
        _ => json!({ "type": "string" }),
    }
}

#[cfg(test)]
#[path = "json_schema_tests.rs"]
mod tests;
