//! Where the user's tools get packages from, as their own configuration says it: so that a mirror works
//! as it is. Hosts and addresses only; credentials are never taken in.

use super::settings::{ini, many, one, text};
use crate::context::sanitise::visible;
use crate::protocol::net::{HostRule, SourceAlias};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use url::Url;

/// Hosts that serve the files of an index, where that is not the index's own host.
const FILES_OF: [(&str, &str); 2] = [
    ("pypi.org", "files.pythonhosted.org"),
    ("test.pypi.org", "test-files.pythonhosted.org"),
];

/// Hosts of a hub's files: models and data sets are redirected there.
const HF_FILES: [&str; 6] = [
    "cdn-lfs.hf.co",
    "cdn-lfs-us-1.hf.co",
    "cdn-lfs-eu-1.hf.co",
    "cas-bridge.xethub.hf.co",
    "cas-server.xethub.hf.co",
    "transfer.xethub.hf.co",
];

/// What a clone, an archive and a release of a public repository come from.
const GITHUB: [&str; 5] = [
    "github.com",
    "codeload.github.com",
    "objects.githubusercontent.com",
    "raw.githubusercontent.com",
    "release-assets.githubusercontent.com",
];

/// Where configuration lies.
pub(super) struct Places<'a> {
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) home: &'a Path,
    /// `~/.config`, or what stands for it.
    pub(super) config: PathBuf,
    /// `/`.
    pub(super) root: &'a Path,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rules: Vec<HostRule>,
    /// Told to the tools inside, which see none of these files.
    pub(super) env: BTreeMap<String, String>,
    /// Files of certificate authorities that a tool is told to trust beside the usual ones.
    pub(super) bundles: Vec<PathBuf>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// The hosts of these sources.
pub(super) fn find(sources: &[SourceAlias], places: &Places<'_>) -> Found {
    let mut search = Search {
        places,
        found: Found::default(),
    };
    for source in sources {
        match source {
            SourceAlias::Pip => search.pip(),
            SourceAlias::Uv => search.uv(),
            SourceAlias::Conda => search.conda(),
            SourceAlias::Apt => search.apt(),
            SourceAlias::Hf => search.hf(),
            SourceAlias::Github => {
                for host in GITHUB {
                    search.host(SourceAlias::Github, host, 443);
                }
            }
        }
    }
    search.found
}

struct Search<'a> {
    places: &'a Places<'a>,
    found: Found,
}

impl Search<'_> {
    fn pip(&mut self) {
        let environment = &self.places.environment;
        let mut files = vec![
            self.places.root.join("etc/pip.conf"),
            self.places.home.join(".pip/pip.conf"),
            self.places.config.join("pip/pip.conf"),
        ];
        files.extend(environment.get("PIP_CONFIG_FILE").map(PathBuf::from));
        let mut index = None;
        let mut extra = Vec::new();
        let mut cert = None;
        // The later file wins, a variable over all of them.
        for text in files.iter().filter_map(|path| text(path)) {
            index = ini(&text, "index-url").pop().or(index);
            cert = ini(&text, "cert").pop().or(cert);
            extra.extend(ini(&text, "extra-index-url"));
        }
        index = environment.get("PIP_INDEX_URL").cloned().or(index);
        cert = environment.get("PIP_CERT").cloned().or(cert);
        match cert.map(PathBuf::from) {
            Some(bundle) if bundle.is_file() => self.found.bundles.push(bundle),
            Some(bundle) => self.note(format!(
                "pip trusts the certificates in {}, which is no file: they are not handed in",
                visible(&bundle.to_string_lossy())
            )),
            None => {}
        }
        if let Some(urls) = environment.get("PIP_EXTRA_INDEX_URL") {
            extra = urls.split_whitespace().map(str::to_owned).collect();
        }
        let own = index.is_some();
        let index = match index {
            Some(index) => self.index(SourceAlias::Pip, &index),
            None => self.public_index(SourceAlias::Pip),
        };
        let extra: Vec<String> = extra
            .iter()
            .filter_map(|url| self.index(SourceAlias::Pip, url))
            .collect();
        if let Some(index) = index.filter(|_| own) {
            // pip takes nothing over plain HTTP that it was not told to trust.
            self.trust(&index);
            self.tell("PIP_INDEX_URL", index);
        }
        if !extra.is_empty() {
            extra.iter().for_each(|url| self.trust(url));
            self.tell("PIP_EXTRA_INDEX_URL", extra.join(" "));
        }
    }

    fn trust(&mut self, url: &str) {
        let Ok(url) = Url::parse(url) else { return };
        if let ("http", Some(host)) = (url.scheme(), url.host_str()) {
            let trusted = self
                .found
                .env
                .entry("PIP_TRUSTED_HOST".to_owned())
                .or_default();
            if !trusted.split(' ').any(|one| one == host) {
                trusted.push_str(if trusted.is_empty() { "" } else { " " });
                trusted.push_str(host);
            }
        }
    }

    fn uv(&mut self) {
        let environment = &self.places.environment;
        let files = [
            self.places.root.join("etc/uv/uv.toml"),
            self.places.config.join("uv/uv.toml"),
        ];
        let mut default = None;
        let mut more = Vec::new();
        for text in files.iter().filter_map(|path| text(path)) {
            let Ok(table) = text.parse::<toml::Table>() else {
                continue;
            };
            let table = table
                .get("pip")
                .and_then(toml::Value::as_table)
                .unwrap_or(&table)
                .clone();
            default = one(&table, "index-url").or(default);
            more.extend(many(&table, "extra-index-url"));
            let indexes = table.get("index").and_then(toml::Value::as_array);
            for index in indexes
                .into_iter()
                .flatten()
                .filter_map(toml::Value::as_table)
            {
                let url = one(index, "url");
                match index.get("default").and_then(toml::Value::as_bool) {
                    Some(true) => default = url.or(default),
                    _ => more.extend(url),
                }
            }
        }
        let get = |name: &str| environment.get(name).cloned();
        default = get("UV_DEFAULT_INDEX")
            .or_else(|| get("UV_INDEX_URL"))
            .or(default);
        for name in ["UV_INDEX", "UV_EXTRA_INDEX_URL"] {
            let urls = get(name).unwrap_or_default();
            more.extend(urls.split_whitespace().map(unnamed));
        }
        let own = default.is_some();
        let default = match default {
            Some(default) => self.index(SourceAlias::Uv, &default),
            None => self.public_index(SourceAlias::Uv),
        };
        let more: Vec<String> = more
            .iter()
            .filter_map(|url| self.index(SourceAlias::Uv, url))
            .collect();
        if let Some(default) = default.filter(|_| own) {
            self.tell("UV_DEFAULT_INDEX", default);
        }
        if !more.is_empty() {
            self.tell("UV_INDEX", more.join(" "));
        }
    }

    fn conda(&mut self) {
        let files = [
            self.places.root.join("etc/conda/.condarc"),
            self.places.home.join(".conda/.condarc"),
            self.places.home.join(".condarc"),
        ];
        let mut urls = Vec::new();
        for text in files.iter().filter_map(|path| text(path)) {
            for line in text
                .lines()
                .map(|line| line.split(" #").next().unwrap_or(line))
            {
                let Some(at) = line.find("http://").or_else(|| line.find("https://")) else {
                    continue;
                };
                let url = line[at..].trim_end().trim_matches(['"', '\'']).to_owned();
                if line.trim_start().starts_with("channel_alias:")
                    && let Some(alias) = self.url(SourceAlias::Conda, &url)
                {
                    self.tell("CONDA_CHANNEL_ALIAS", alias);
                }
                urls.push(url);
            }
        }
        for url in &urls {
            self.url(SourceAlias::Conda, url);
        }
        if urls.is_empty() {
            for host in ["conda.anaconda.org", "repo.anaconda.com"] {
                self.host(SourceAlias::Conda, host, 443);
            }
        }
    }

    fn apt(&mut self) {
        let folder = self.places.root.join("etc/apt");
        let mut files = vec![folder.join("sources.list")];
        let parts = std::fs::read_dir(folder.join("sources.list.d"));
        let parts = parts
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        files.extend(parts);
        files.sort();
        for text in files.iter().filter_map(|path| text(path)) {
            for line in text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'))
            {
                let urls = line
                    .split_whitespace()
                    .filter(|word| word.starts_with("http://") || word.starts_with("https://"));
                for url in urls {
                    self.url(SourceAlias::Apt, url);
                }
            }
        }
    }

    fn hf(&mut self) {
        match self.places.environment.get("HF_ENDPOINT").cloned() {
            Some(endpoint) => {
                if let Some(endpoint) = self.url(SourceAlias::Hf, &endpoint) {
                    self.tell("HF_ENDPOINT", endpoint);
                }
            }
            None => self.host(SourceAlias::Hf, "huggingface.co", 443),
        }
        for host in HF_FILES {
            self.host(SourceAlias::Hf, host, 443);
        }
    }

    fn public_index(&mut self, source: SourceAlias) -> Option<String> {
        let (index, files) = FILES_OF[0];
        self.host(source, index, 443);
        self.host(source, files, 443);
        None
    }

    /// An index of Python packages, with the host of its files.
    fn index(&mut self, source: SourceAlias, url: &str) -> Option<String> {
        let clean = self.url(source, url)?;
        let host = Url::parse(&clean).ok()?.host_str()?.to_owned();
        for (index, files) in FILES_OF {
            if host == index {
                self.host(source, files, 443);
            }
        }
        Some(clean)
    }

    /// Lets through what a URL names; the URL without credentials.
    fn url(&mut self, source: SourceAlias, text: &str) -> Option<String> {
        let mut url = Url::parse(text.trim()).ok();
        let named = url
            .as_mut()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = named else {
            let shown = visible(text.rsplit('@').next().unwrap_or_default());
            self.note(format!(
                "{source} gets packages from {shown}, which is no host that a sandbox can reach"
            ));
            return None;
        };
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default()?;
        if is_here(&host) {
            self.note(format!("{source} gets packages from {host}:{port}, which inside a sandbox is the sandbox itself: give that index a name, and list it with its address"));
        }
        self.host(source, &host, port);
        if !url.username().is_empty() || url.password().is_some() {
            self.note(format!(
                "{source} has credentials for {host}: they are not handed in"
            ));
            // An `http` URL with a host takes both.
            let _ = url.set_username("");
            let _ = url.set_password(None);
        }
        Some(url.to_string().trim_end_matches('/').to_owned())
    }

    /// Wherever it is, it is meant: networks of their own send the public names to mirrors of theirs.
    fn host(&mut self, source: SourceAlias, host: &str, port: u16) {
        let rule = HostRule {
            host: host.to_owned(),
            ports: vec![port],
            methods: Vec::new(),
            address: None,
            source: Some(source),
            private: true,
        };
        if !self.found.rules.contains(&rule) {
            self.found.rules.push(rule);
        }
    }

    fn tell(&mut self, name: &str, value: String) {
        self.found.env.insert(name.to_owned(), value);
    }

    fn note(&mut self, note: String) {
        if !self.found.notes.contains(&note) {
            self.found.notes.push(note);
        }
    }
}

/// The URL of `name=https://…`.
fn unnamed(url: &str) -> String {
    let named = url.split_once('=').filter(|(name, _)| !name.contains(':'));
    named.map_or(url, |(_, url)| url).to_owned()
}

/// The machine's own loopback.
fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
