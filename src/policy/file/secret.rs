//! Reading `[[secrets]]`.

use super::entry::{Entry, entries};
use super::problem::Code;
use super::reader::{At, Reader};
use crate::policy::model::{Decision, PolicySecret, SecretFrom};
use crate::policy::names;
use crate::policy::schema;
use toml::Spanned;
use toml::de::DeValue;

/// Whether a person is asked first.
const GRANT: [&str; 2] = ["ask", "allow"];

/// Every `[[secrets]]`.
pub(super) fn secrets<'v>(
    reader: &mut Reader<'_>,
    value: &'v Spanned<DeValue<'v>>,
) -> Vec<(At, PolicySecret)> {
    let mut secrets: Vec<(At, PolicySecret)> = Vec::new();
    for entry in entries(reader, "secrets", value) {
        entry.check_keys(reader, &schema::SECRET);
        let Some((at, secret)) = secret(reader, &entry) else {
            continue;
        };
        if secrets.iter().any(|(_, other)| other.name == secret.name) {
            let message = format!("there is a secret {:?} already", secret.name);
            reader
                .note(Code::DuplicateId, &at, message)
                .fix("give each secret a name of its own");
            continue;
        }
        secrets.push((at, secret));
    }
    secrets
}

fn secret(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, PolicySecret)> {
    let name = name(reader, entry);
    let hand = handed_as_file(reader, entry);
    let from = match entry.get("file") {
        None => Some(SecretFrom::Environment),
        Some((at, value)) => file(reader, &at, value.get_ref()),
    };
    let grant = match entry.get("grant") {
        None => Some(0),
        Some((at, value)) => reader.word(&at, value.get_ref(), &GRANT),
    };
    let (at, name) = name?;
    hand?;
    let secret = PolicySecret {
        name,
        from: from?,
        grant: [Decision::Ask, Decision::Allow][grant?],
    };
    Some((at, secret))
}

/// It is the name of a variable and of a file.
fn name(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<(At, String)> {
    let (at, name) = entry.needed(reader, "name", "\"HF_TOKEN\"")?;
    if let Err(error) = names::check_secret(&name) {
        reader
            .note(Code::EnvPattern, &at, error.to_string())
            .fix("name = \"HF_TOKEN\"");
        return None;
    }
    Some((at, name))
}

fn handed_as_file(reader: &mut Reader<'_>, entry: &Entry<'_>) -> Option<()> {
    let Some((at, value)) = entry.get("as") else {
        return entry.needed(reader, "as", "\"file\"").and(None);
    };
    if value.get_ref().as_str() == Some("proxy-header") {
        reader
            .note(
                Code::NotBuilt,
                &at,
                "TLS goes through the proxy unopened, so it has no place for a header",
            )
            .fix("as = \"file\": the program reads it and sends it itself; list its host in [network] allow");
        return None;
    }
    reader.word(&at, value.get_ref(), &["file"]).map(drop)
}

fn file(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<SecretFrom> {
    let path = reader.string(at, value, "the path of a file")?;
    if path.is_empty() || path.starts_with('~') || path.contains('$') {
        let message = format!("{path:?} is taken as it is: `~` and `$` mean nothing here");
        reader
            .note(Code::PathChars, at, message)
            .fix("write the whole path, or one relative to this file");
        return None;
    }
    Some(SecretFrom::File(path))
}
