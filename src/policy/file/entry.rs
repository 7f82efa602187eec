//! Reading what repeats: its entries, and `[[mount]]`.

use super::problem::Code;
use super::reader::{At, Reader, nearest};
use crate::policy::model::PolicyMount;
use crate::policy::names::{self, TargetError};
use crate::policy::schema;
use crate::protocol::spec::Access;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Places of the host that no policy names; the rest is judged by identity when it is mounted.
const NEVER: [&str; 8] = [
    "/", "/proc", "/sys", "/dev", "/etc", "/boot", "/var", "/run",
];

/// One entry of a repeating table, as it is read.
pub(super) struct Entry<'v> {
    /// `mount`, `secrets` or `approval.rule`.
    path: &'static str,
    pub(super) at: At,
    table: &'v DeTable<'v>,
}

impl<'v> Entry<'v> {
    pub(super) fn get(&self, name: &str) -> Option<(At, &'v Spanned<DeValue<'v>>)> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((
            At::new(format!("{}.{name}", self.path), value.span()),
            value,
        ))
    }

    /// Keys that are none of `known`.
    pub(super) fn check_keys(&self, reader: &mut Reader<'_>, known: &[&str]) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            let at = At::new(format!("{}.{name}", self.path), key.span());
            if schema::is_not_built(&at.key) {
                reader.not_built(&at);
            } else if !known.contains(&name) {
                let near = nearest(name, known.iter().copied()).map(str::to_owned);
                reader.unknown_key(&at, near);
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn needed(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        wanted: &str,
    ) -> Option<(At, String)> {
        let Some((at, value)) = self.get(name) else {
            reader
                .note(Code::Missing, &self.at, format!("an entry needs `{name}`"))
                .fix(format!("{name} = {wanted}"));
            return None;
        };
        let text = reader.string(&at, value.get_ref(), wanted)?;
        Some((at, text))
    }
}

/// The tables of an array of tables.
pub(super) fn entries<'v>(
    reader: &mut Reader<'_>,
    path: &'static str,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<Entry<'v>> {
    let at = At::new(path, value.span());
    let Some(array) = value.get_ref().as_array() else {
        reader
            .note(
                Code::Type,
                &at,
                "it repeats, and is written as an array of tables",
            )
            .fix(format!("[[{path}]]"));
        return Vec::new();
    };
    let mut entries = Vec::new();
    for one in array.iter() {
        let at = At::new(path, one.span());
        if let Some(table) = reader.table(&at, one) {
            entries.push(Entry { path, at, table });
        }
    }
    entries
}

/// Every `[[mount]]`.
pub(super) fn mounts<'v>(
    reader: &mut Reader<'_>,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<(At, PolicyMount)> {
    let mut mounts: Vec<(At, PolicyMount)> = Vec::new();
    for entry in entries(reader, "mount", value) {
        entry.check_keys(reader, &schema::MOUNT);
        let source = source(reader, &entry);
        let target = target(reader, &entry);
        let access = match entry.get("mode") {
            None => Some(Access::ReadOnly),
            Some((at, mode)) => reader
                .word(&at, mode.get_ref(), &["ro", "rw"])
                .map(|index| [Access::ReadOnly, Access::ReadWrite][index]),
        };
        let (Some(source), Some((at, target)), Some(access)) = (source, target, access) else {
            continue;
        };
        let over = mounts.iter().find(|(_, other)| {
            let (a, b) = (Path::new(&target), Path::new(&other.target));
            a.starts_with(b) || b.starts_with(a)
        });
        if let Some((_, other)) = over {
            let message = format!("{target} and {} cover each other", other.target);
            reader
                .note(Code::MountOverlap, &at, message)
                .fix("give each mount a target beside the other, not in it");
            continue;
        }
        mounts.push((
            entry.at.clone(),
            PolicyMount {
                source,
                target,
                access,
            },
        ));
    }
    mounts
}

fn source(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<String> {
    let (at, source) = entry.needed(reader, "source", "\"data/cifar10\"")?;
    if source.starts_with("volume:") {
        reader.note(Code::NotBuilt, &at, "volumes are not in this version");
        return None;
    }
    if source.is_empty() || source.starts_with('~') || source.contains('$') {
        reader
            .note(
                Code::PathChars,
                &at,
                format!("{source:?} is taken as it is: `~` and `$` mean nothing here"),
            )
            .fix("write the whole path, or one relative to this file");
        return None;
    }
    if source.split('/').any(|part| part == "..") {
        reader
            .note(
                Code::PathTraversal,
                &at,
                format!("{source:?} climbs with `..`"),
            )
            .fix("write the absolute path");
        return None;
    }
    let plain = match source.trim_end_matches('/') {
        "" => "/",
        plain => plain,
    };
    if NEVER.contains(&plain) || plain.ends_with(".sock") {
        reader
            .note(
                Code::MountForbidden,
                &at,
                format!("{plain} opens the machine and is never mounted"),
            )
            .fix("name the folder that holds the data");
        return None;
    }
    Some(source)
}

fn target(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, String)> {
    let (at, target) = entry.needed(reader, "target", "\"/data/NAME\"")?;
    if let Err(error) = names::check_target(Path::new(&target)) {
        let code = match error {
            TargetError::NotPlain { .. } => Code::PathChars,
            TargetError::Place { .. } => Code::MountTarget,
        };
        reader
            .note(code, &at, error.to_string())
            .fix(error.remedy());
        return None;
    }
    Some((at, target))
}
