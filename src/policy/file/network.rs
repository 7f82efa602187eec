//! Reading `[network] allow` and `[network] sources`.

use super::problem::Code;
use super::reader::{At, Reader, nearest, one_of};
use crate::policy::network::{self, HostError};
use crate::policy::schema;
use crate::protocol::net::{HostRule, SourceAlias};
use std::net::IpAddr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The port of an entry that names none.
const HTTPS: u16 = 443;

/// Most entries, and most ports of one.
const MAX_HOSTS: usize = 256;
const MAX_PORTS: usize = 32;

/// Every entry of `allow`, sorted, without what another covers.
pub(super) fn hosts(
    reader: &mut Reader<'_>,
    at: &At,
    value: &DeValue<'_>,
) -> Option<Vec<HostRule>> {
    const WANTED: &str = "a list such as [{ host = \"pypi.org\", ports = [443] }]";
    let Some(array) = value.as_array() else {
        reader.wrong_type(at, WANTED, value);
        return None;
    };
    if array.len() > MAX_HOSTS {
        reader
            .note(Code::Range, at, "it is too long")
            .allowed(format!("{MAX_HOSTS} hosts"));
        return None;
    }
    let mut rules = Vec::new();
    for one in array.iter() {
        let at = At::new(at.key.clone(), one.span());
        let read = match (one.get_ref().as_table(), one.get_ref().as_str()) {
            (Some(table), _) => Entry { at, table }.read(reader),
            (None, Some(_)) => word(reader, &at, one.get_ref()),
            (None, None) => {
                let wanted = "a table such as { host = \"pypi.org\" }, or \"pypi.org\"";
                reader.wrong_type(&at, wanted, one.get_ref());
                None
            }
        };
        let Some(rule) = read else {
            continue;
        };
        if rules.contains(&rule) {
            let at = At::new("network.allow", one.span());
            let message = format!("{} is listed twice", rule.host);
            reader.note(Code::DuplicateId, &at, message);
            continue;
        }
        rules.push(rule);
    }
    Some(network::normal(rules))
}

struct Entry<'v> {
    at: At,
    table: &'v DeTable<'v>,
}

impl<'v> Entry<'v> {
    fn get(&self, name: &str) -> Option<(At, &'v Spanned<DeValue<'v>>)> {
        let (_, value) = self.table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some((
            At::new(format!("network.allow.{name}"), value.span()),
            value,
        ))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Option<HostRule> {
        let known = schema::HOST;
        let mut whole = true;
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let at = At::new(format!("network.allow.{name}"), key.span());
                let near = nearest(name, known.into_iter()).map(str::to_owned);
                reader.unknown_key(&at, near);
                whole = false;
            }
        }
        let address = match self.get("address") {
            None => Some(None),
            Some((at, value)) => address(reader, &at, value.get_ref()).map(Some),
        };
        let host = self.host(reader, address.flatten());
        let ports = match self.get("ports") {
            None => Some(vec![HTTPS]),
            Some((at, value)) => ports(reader, &at, value.get_ref()),
        };
        let methods = match self.get("methods") {
            None => Some(Vec::new()),
            Some((at, value)) => methods(reader, &at, value.get_ref()),
        };
        let rule = HostRule {
            host: host?,
            ports: ports?,
            methods: methods?,
            address: address?,
            source: None,
            private: false,
        };
        self.check_fit(reader, &rule)
            .then_some(rule)
            .filter(|_| whole)
    }

    fn host(&self, reader: &mut Reader<'_>, address: Option<IpAddr>) -> Option<String> {
        let Some((at, value)) = self.get("host") else {
            reader
                .note(Code::Missing, &self.at, "an entry needs `host`")
                .fix("host = \"pypi.org\"");
            return None;
        };
        let host = match value.get_ref().as_str() {
            // Letters that are not shown are another spelling, not merely a text that is not shown.
            Some(text) if !text.is_ascii() => text.to_owned(),
            _ => reader.string(&at, value.get_ref(), "the name of a host in quotes")?,
        };
        checked(reader, &at, host, address)
    }

    /// Methods are seen in plain HTTP only.
    fn check_fit(&self, reader: &mut Reader<'_>, rule: &HostRule) -> bool {
        if rule.methods.is_empty() || !rule.ports.contains(&HTTPS) {
            return true;
        }
        let at = self.get("methods").map_or(self.at.clone(), |(at, _)| at);
        reader
            .note(
                Code::Conflict,
                &at,
                "what is asked over TLS (port 443) cannot be seen: methods hold for plain HTTP",
            )
            .fix("leave methods out, or list the host's plain port alone");
        false
    }
}

/// `"pypi.org"` or `"pypi.org:8080"`.
fn word(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<HostRule> {
    let text = value.as_str().unwrap_or_default();
    let ported = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':'))
        .and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port > 0)?)));
    let (host, port) = ported.unwrap_or((text, HTTPS));
    Some(HostRule {
        host: checked(reader, at, host.to_owned(), None)?,
        ports: vec![port],
        methods: Vec::new(),
        address: None,
        source: None,
        private: false,
    })
}

fn checked(
    reader: &mut Reader<'_>,
    at: &At,
    host: String,
    address: Option<IpAddr>,
) -> Option<String> {
    let Err(error) = network::check_host(&host, address) else {
        return Some(host);
    };
    let code = match error {
        HostError::Pattern { .. } => Code::HostPattern,
        HostError::Private { .. } => Code::HostPrivate,
        HostError::Confusable { .. } => Code::HostConfusable,
    };
    reader.note(code, at, error.to_string()).fix(error.remedy());
    None
}

fn address(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<IpAddr> {
    const WANTED: &str = "an address such as \"10.0.0.5\"";
    let text = reader.string(at, value, WANTED)?;
    let parsed = text.parse();
    if parsed.is_err() {
        reader
            .note(Code::HostPattern, at, format!("{text:?} is no address"))
            .allowed(WANTED);
    }
    parsed.ok()
}

fn ports(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Vec<u16>> {
    const WANTED: &str = "a list of ports such as [443]";
    let Some(array) = value.as_array() else {
        reader.wrong_type(at, WANTED, value);
        return None;
    };
    let mut ports = Vec::new();
    for one in array.iter() {
        let at = At::new(at.key.clone(), one.span());
        let port = reader.integer(&at, one.get_ref(), "a port, 1 to 65535")?;
        match u16::try_from(port) {
            Ok(port @ 1..) => ports.push(port),
            _ => {
                let message = format!("{port} is no port");
                reader.note(Code::Range, &at, message).allowed("1 to 65535");
                return None;
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() || ports.len() > MAX_PORTS {
        reader
            .note(Code::Range, at, "it lists no port, or too many")
            .allowed(format!("1 to {MAX_PORTS} ports"));
        return None;
    }
    Some(ports)
}

fn methods(reader: &mut Reader<'_>, at: &At, value: &DeValue<'_>) -> Option<Vec<String>> {
    let mut methods = Vec::new();
    for (at, text) in reader.strings(at, value, "a list of methods such as [\"GET\", \"HEAD\"]")? {
        if !network::check_method(&text) {
            reader
                .note(Code::Enum, &at, format!("{text:?} is no method of a host"))
                .allowed("capitals, such as \"GET\"");
            return None;
        }
        methods.push(text);
    }
    methods.sort();
    methods.dedup();
    if methods.is_empty() {
        reader
            .note(Code::Range, at, "it lists no method")
            .fix("leave it out for every method");
        return None;
    }
    Some(methods)
}

/// Every alias of `sources`, sorted.
pub(super) fn sources(
    reader: &mut Reader<'_>,
    at: &At,
    value: &DeValue<'_>,
) -> Option<Vec<SourceAlias>> {
    let words = SourceAlias::ALL.map(SourceAlias::name);
    let mut sources = Vec::new();
    for (at, text) in reader.strings(at, value, "a list such as [\"pip\"]")? {
        match SourceAlias::parse(&text) {
            Some(source) if sources.contains(&source) => {
                reader.note(Code::DuplicateId, &at, format!("{text:?} is listed twice"));
            }
            Some(source) => sources.push(source),
            None => {
                let near = nearest(&text, words.into_iter()).map(|word| format!("{word:?}"));
                reader
                    .note(
                        Code::Enum,
                        &at,
                        format!("{text:?} is no source of packages"),
                    )
                    .allowed(one_of(&words))
                    .or_fix(near);
            }
        }
    }
    sources.sort();
    Some(sources)
}
