//! Schema 1, as one table: each key with what may be written for it and what it is for. Reading a
//! file, `--set`, composition, `policy explain` and the README all follow it.
//!
//! `[[mount]]`, `[[secrets]]` and `[[approval.rule]]` repeat and have readers of their own.

#[macro_use]
mod forms;
mod keys;
mod watch;

use super::model::Policy;
use super::value::{Form, Slot};
pub(super) use keys::KEYS;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) path: &'static str,
    pub(super) form: Form,
    /// One line for a person.
    pub(super) about: &'static str,
    pub(super) slot: Slot,
}

/// The version of the schema.
pub(super) const VERSION: i64 = 1;

/// Keys outside of any table.
pub(super) const HEAD: [&str; 4] = ["schema", "name", "description", "extends"];

/// Keys of one `[[mount]]`.
pub(super) const MOUNT: [&str; 3] = ["source", "target", "mode"];

/// Keys of one `[[secrets]]`.
pub(super) const SECRET: [&str; 4] = ["name", "as", "file", "grant"];

/// Keys of one `[[approval.rule]]`.
pub(super) const RULE: [&str; 10] = [
    "id",
    "action",
    "decision",
    "command_prefix",
    "max_wall_time",
    "max_gpus",
    "network",
    "match",
    "not_match",
    "reason",
];

/// What the schema has and this version has not, by path or by table.
pub(super) const NOT_BUILT: [&str; 8] = [
    "workspace.exec",
    "mount.max_size",
    "secrets.host",
    "limits.cost_usd",
    "artifacts.types",
    "approval.rule.max_cost_usd",
    "approval.rule.code",
    "approval.rule.host",
];

/// What a rule may be about later.
pub(super) const ACTIONS_LATER: [&str; 9] = [
    "build",
    "pull",
    "fetch",
    "mount",
    "gpu",
    "secret",
    "network",
    "policy-change",
    "export",
];

/// Words a choice of the schema has and this version has not, by key.
pub(super) const WORDS_LATER: [(&str, &str); 1] = [("network.mode", "open")];

/// Keys of one entry of `[network] allow`.
pub(super) const HOST: [&str; 4] = ["host", "ports", "methods", "address"];

/// The key of that path.
pub(super) fn key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether that is the name of a table.
pub(super) fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Whether the schema has it and this version has not.
pub(super) fn is_not_built(path: &str) -> bool {
    NOT_BUILT.contains(&path)
        || NOT_BUILT
            .iter()
            .any(|table| !table.contains('.') && path.starts_with(&format!("{table}.")))
}

/// Every key's value, as a policy file says it.
pub(super) fn values(policy: &Policy) -> impl Iterator<Item = (&'static Key, String)> + '_ {
    KEYS.iter()
        .map(|key| (key, key.form.show(&(key.slot.get)(policy))))
}
