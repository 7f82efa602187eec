//! From `provider/name` and the environment's variables to an address and a key. Pure.

use super::ModelError;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use url::{Host, Url};

/// What `open` needs besides a name. The environment comes as a map: the library never reads it.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// `*_BASE_URL`, `*_API_KEY`, and the proxy variables.
    pub env: BTreeMap<String, String>,
    /// Tokens that fit, where the user knows better than the server says.
    pub window: Option<u64>,
    /// Longest silence of a server: a model that loads, or reads a long prompt.
    pub patience: Duration,
}

impl LlmConfig {
    pub fn new(env: BTreeMap<String, String>) -> Self {
        Self {
            env,
            window: None,
            patience: Duration::from_secs(300),
        }
    }

    /// A variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.env.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }
}

/// A kind of server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Provider {
    /// The part of a model's name before the slash.
    pub(super) prefix: &'static str,
    /// Start of its variables' names.
    variable: &'static str,
    base: &'static str,
    /// Whether `LOCAL_LLM_*` stand in for its own variables.
    local: bool,
    /// What to try when nothing answers.
    pub(super) start: &'static str,
}

pub(super) const PROVIDERS: &[Provider] = &[
    Provider {
        prefix: "ollama",
        variable: "OLLAMA",
        base: "http://127.0.0.1:11434",
        local: true,
        start: "start it with `ollama serve`",
    },
    Provider {
        prefix: "vllm",
        variable: "VLLM",
        base: "http://127.0.0.1:8000",
        local: true,
        start: "start it with `vllm serve MODEL --enable-auto-tool-choice --tool-call-parser …`",
    },
    Provider {
        prefix: "llamacpp",
        variable: "LLAMACPP",
        base: "http://127.0.0.1:8080",
        local: true,
        start: "start it with `llama-server --jinja -m MODEL.gguf`",
    },
    Provider {
        prefix: "lm_studio",
        variable: "LM_STUDIO",
        base: "http://127.0.0.1:1234",
        local: true,
        start: "start it with `lms server start`",
    },
    Provider {
        prefix: "openai",
        variable: "OPENAI",
        base: "https://api.openai.com/v1",
        local: false,
        start: "check the network and the proxy variables",
    },
];

/// A key that no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// Where a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) provider: &'static Provider,
    /// As the user gave it.
    pub(super) given: String,
    /// As the server knows it.
    pub(super) model: String,
    /// Ends in `/v1` or the like, without a slash.
    pub(super) base: Url,
    pub(super) key: Option<Key>,
}

impl Endpoint {
    pub(super) fn of(given: &str, config: &LlmConfig) -> Result<Self, ModelError> {
        let (provider, model) = split(given)?;
        let base = match provider.setting("BASE_URL", config) {
            Some((variable, text)) => base_url(text).map_err(|why| ModelError::Name {
                given: given.to_owned(),
                why: format!("{variable} is no usable address: {why}"),
                remedy: format!("set it like {variable}={}", provider.base),
            })?,
            None => base_url(provider.base).expect("a constant that parses"),
        };
        let key = match provider.setting("API_KEY", config) {
            Some((variable, text)) => Some(key(given, &variable, text)?),
            None => None,
        };
        let endpoint = Self {
            provider,
            given: given.to_owned(),
            model: model.to_owned(),
            base,
            key,
        };
        endpoint.insist_on_key()
    }

    /// The public service without a key cannot work: said before anything is sent.
    fn insist_on_key(self) -> Result<Self, ModelError> {
        let public = !self.provider.local && self.base.as_str() == self.provider.base;
        if public && self.key.is_none() {
            return Err(ModelError::Name {
                why: format!("{} is not set", self.key_variable()),
                remedy: self.key_remedy(),
                given: self.given,
            });
        }
        Ok(self)
    }

    /// `{base}/{path}`.
    pub(super) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{path}", self.base.path()));
        url
    }

    /// `{path}` beside the versioned base, where servers keep what is their own.
    pub(super) fn beside(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let parent = self.base.path().trim_end_matches("/v1").to_owned();
        url.set_path(&format!("{parent}/{path}"));
        url
    }

    /// Traffic to this very machine never goes through a proxy.
    pub(super) fn is_loopback(&self) -> bool {
        match self.base.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        }
    }

    fn key_variable(&self) -> String {
        format!("{}_API_KEY", self.provider.variable)
    }

    pub(super) fn key_remedy(&self) -> String {
        let own = self.key_variable();
        let local = if self.provider.local {
            " (or LOCAL_LLM_API_KEY)"
        } else {
            ""
        };
        match self.key {
            Some(_) => format!("check the key in {own}{local}"),
            None => format!("put the server's key into {own}{local}"),
        }
    }

    pub(super) fn address_remedy(&self) -> String {
        format!(
            "{}, or set {}_BASE_URL to where it listens",
            self.provider.start, self.provider.variable
        )
    }
}

impl Provider {
    /// The variable that decides, and its value: the provider's own wins over `LOCAL_LLM_…`.
    fn setting<'a>(&self, what: &str, config: &'a LlmConfig) -> Option<(String, &'a str)> {
        let own = format!("{}_{what}", self.variable);
        let shared = format!("LOCAL_LLM_{what}");
        let names = if self.local {
            vec![own, shared]
        } else {
            vec![own]
        };
        names
            .into_iter()
            .find_map(|name| config.get(&name).map(|value| (name.clone(), value)))
    }
}

fn split(given: &str) -> Result<(&'static Provider, &str), ModelError> {
    let bad = |why: String, remedy: String| ModelError::Name {
        given: given.to_owned(),
        why,
        remedy,
    };
    let prefixes: Vec<_> = PROVIDERS.iter().map(|p| format!("{}/", p.prefix)).collect();
    let known = format!("write one of {} and the model's name", prefixes.join(", "));
    let Some((prefix, model)) = given.split_once('/') else {
        return Err(bad("it names no provider".into(), known));
    };
    let Some(provider) = PROVIDERS.iter().find(|p| p.prefix == prefix) else {
        let nearest = PROVIDERS
            .iter()
            .map(|p| (strsim::damerau_levenshtein(p.prefix, &plain(prefix)), p))
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 3);
        let remedy = match nearest {
            Some((_, near)) => format!("did you mean {}/{model}?", near.prefix),
            None => known,
        };
        return Err(bad(format!("there is no provider {prefix:?}"), remedy));
    };
    if model.trim().is_empty() || model.chars().any(char::is_control) {
        let example = format!("write it like {prefix}/qwen2.5-coder:7b");
        return Err(bad(format!("no model is named after {prefix}/"), example));
    }
    Ok((provider, model))
}

/// `LM-Studio` and `llama.cpp` are meant as what they resemble.
fn plain(prefix: &str) -> String {
    prefix
        .to_lowercase()
        .replace(['-', ' '], "_")
        .replace('.', "")
}

/// With or without scheme, `/v1`, trailing slash, or the whole path of the endpoint.
fn base_url(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "{}:// is neither http:// nor https://",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or password; a key goes into the API_KEY variable".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or fragment".into());
    }
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/chat/completions").unwrap_or(path);
    let versioned = path.split('/').any(|segment| {
        let digits = segment.strip_prefix('v').unwrap_or("");
        digits.starts_with(|c: char| c.is_ascii_digit())
    });
    let path = match versioned {
        true => path.to_owned(),
        false => format!("{path}/v1"),
    };
    url.set_path(&path);
    Ok(url)
}

/// A key that can be sent. An error never shows it.
fn key(given: &str, variable: &str, text: &str) -> Result<Key, ModelError> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Key(text.to_owned()));
    }
    Err(ModelError::Name {
        given: given.to_owned(),
        why: format!("{variable} holds characters that no key has (spaces, line ends, accents)"),
        remedy: format!("set {variable} again, to the key alone"),
    })
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
