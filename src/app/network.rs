//! The network of a run: what the policy lists, what the user's own configuration adds to it by the
//! policy's leave, how this machine itself gets out, and which authorities are handed in.

use super::AppError;
use super::sources::{self, Found, Places};
use crate::config::Config;
use crate::policy::model::{CaHandIn, NetworkPolicy, Policy};
use crate::policy::network;
use crate::protocol::net::{Network, SourceAlias};
use crate::record::RunRecord;
use crate::repo::ProxyConfig;
use crate::sandbox::egress::{Outside, Upstream};
use crate::sandbox::plan::{NetworkFacts, Source};
use crate::workspace::make_authorities;
use std::path::{Path, PathBuf};

/// Where distributions keep the bundle, if the user names none.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Largest bundle: a usual one has 220 KiB.
const MAX_BUNDLE: u64 = 8 << 20;

/// What of the network goes into the plan, and what the user should know.
pub(super) struct Networked {
    pub(super) facts: NetworkFacts,
    pub(super) notes: Vec<String>,
}

/// `None` where the policy has no network.
pub(super) fn networked(
    config: &Config,
    policy: &Policy,
    record: &RunRecord,
) -> Result<Option<Networked>, AppError> {
    let wanted = &policy.network;
    if !network::is_on(wanted) {
        return Ok(None);
    }
    let found = sources::find(&wanted.sources, &places(config));
    let Found {
        rules,
        env,
        bundles,
        notes,
    } = found;
    let authorities = match wanted.ca {
        CaHandIn::None => None,
        CaHandIn::Host => Some(authorities(config, record, bundles)?),
    };
    Ok(Some(Networked {
        facts: NetworkFacts {
            network: together(wanted, rules),
            env,
            authorities,
        },
        notes,
    }))
}

fn together(wanted: &NetworkPolicy, found: Vec<crate::protocol::net::HostRule>) -> Network {
    let listed = wanted.allow.iter().cloned();
    Network {
        allow: network::normal(listed.chain(found).collect()),
        upload_bytes: wanted.upload_bytes,
        download_bytes: wanted.download_bytes,
    }
}

fn places(config: &Config) -> Places<'_> {
    let configured = config
        .environment
        .get("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    Places {
        environment: &config.environment,
        home: &config.user_home,
        config: configured.unwrap_or_else(|| config.user_home.join(".config")),
        root: Path::new("/"),
    }
}

/// How this machine gets out: by itself, or by the proxy that the customary variables name.
pub(super) fn outside(config: &Config) -> Result<Outside, AppError> {
    let proxies = ProxyConfig::from_variables(&config.environment);
    let upstream = proxies.https.as_deref().map(Upstream::parse).transpose()?;
    Ok(Outside::new(upstream, proxies.except))
}

/// A copy of the certificates in the user's bundle, and in these beside it.
fn authorities(
    config: &Config,
    record: &RunRecord,
    more: Vec<PathBuf>,
) -> Result<Source, AppError> {
    let place = make_authorities(record.dir(), &bundle_with(config, more)?)?;
    Ok(Source {
        path: place.path,
        device: place.device,
        inode: place.inode,
    })
}

/// What tells these tools where the user gets packages from, without credentials.
pub(super) fn package_variables(
    config: &Config,
    tools: &[SourceAlias],
) -> std::collections::BTreeMap<String, String> {
    sources::find(tools, &places(config)).env
}

/// The certificates of the user's bundle: of a file that holds more, no more.
pub(super) fn bundle(config: &Config) -> Result<String, AppError> {
    bundle_with(config, Vec::new())
}

fn bundle_with(config: &Config, more: Vec<PathBuf>) -> Result<String, AppError> {
    let usual = config.ca_bundle.clone().or_else(|| {
        let there = BUNDLES.iter().map(PathBuf::from);
        there.into_iter().find(|path| path.is_file())
    });
    let mut bundles: Vec<PathBuf> = usual.into_iter().chain(more).collect();
    bundles.dedup();
    if bundles.is_empty() {
        return Err(AppError::NoAuthorities);
    }
    let mut all = Vec::new();
    for bundle in bundles {
        for one in read_bundle(&bundle)? {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    Ok(all.concat())
}

/// The certificates in a file that holds at least one.
fn read_bundle(bundle: &Path) -> Result<Vec<String>, AppError> {
    let unreadable = |source| AppError::Authorities {
        bundle: bundle.to_owned(),
        source,
    };
    let size = std::fs::metadata(bundle).map_err(unreadable)?.len();
    let text = match size {
        0..=MAX_BUNDLE => std::fs::read_to_string(bundle).map_err(unreadable)?,
        _ => return Err(unreadable(std::io::ErrorKind::FileTooLarge.into())),
    };
    let certificates = certificates(&text);
    match certificates.is_empty() {
        true => Err(unreadable(std::io::Error::other("it holds no certificate"))),
        false => Ok(certificates),
    }
}

/// Only the certificates: a bundle may lie in one file with a key.
fn certificates(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((body, tail)) = after.split_once(END) else {
            break;
        };
        out.push(format!("{BEGIN}{body}{END}\n"));
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_bundle_only_the_certificates_are_handed_in() {
        let text = "# mine\n-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n\
             -----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\nnote\n\
             -----BEGIN CERTIFICATE-----\nBBB\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\ncut";
        assert_eq!(
            certificates(text).concat(),
            "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n\
             -----BEGIN CERTIFICATE-----\nBBB\n-----END CERTIFICATE-----\n"
        );
    }
}
