//! How many tokens a server's model takes: where each kind of server says so. Pure.

use super::endpoint::Endpoint;
use serde_json::Value;
use url::Url;

/// Assumed until a server says otherwise; it refuses what is too long.
pub(super) const UNKNOWN: u64 = 128 * 1024;

/// Larger documents are not read.
pub(super) const MAX_BODY: usize = 1 << 20;

/// The address that answers, where there is one. Asked after the first answer: a model is loaded then.
pub(super) fn question(endpoint: &Endpoint) -> Option<Url> {
    match endpoint.provider.prefix {
        "llamacpp" => Some(endpoint.beside("props")),
        "vllm" => Some(endpoint.at("models")),
        "lm_studio" => Some(endpoint.beside("api/v0/models")),
        "ollama" => Some(endpoint.beside("api/ps")),
        _ => None,
    }
}

/// The number in what it answered.
pub(super) fn found(endpoint: &Endpoint, body: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let tokens = match endpoint.provider.prefix {
        "llamacpp" => value.pointer("/default_generation_settings/n_ctx"),
        "vllm" => named(&value["data"], "id", &endpoint.model)?.get("max_model_len"),
        "lm_studio" => named(&value["data"], "id", &endpoint.model)?.get("loaded_context_length"),
        "ollama" => {
            let models = &value["models"];
            let tagged = format!("{}:latest", endpoint.model);
            named(models, "name", &endpoint.model)
                .or_else(|| named(models, "name", &tagged))?
                .get("context_length")
        }
        _ => None,
    };
    tokens?.as_u64().filter(|&tokens| tokens >= 512)
}

fn named<'a>(list: &'a Value, key: &str, name: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|entry| entry[key] == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::endpoint::LlmConfig;
    use std::collections::BTreeMap;

    fn endpoint(name: &str) -> Endpoint {
        Endpoint::of(name, &LlmConfig::new(BTreeMap::new())).unwrap()
    }

    #[test]
    fn each_server_is_asked_where_it_answers() {
        let at = |name: &str| question(&endpoint(name)).unwrap().to_string();
        assert_eq!(at("llamacpp/x"), "http://127.0.0.1:8080/props");
        assert_eq!(at("vllm/x"), "http://127.0.0.1:8000/v1/models");
        assert_eq!(at("lm_studio/x"), "http://127.0.0.1:1234/api/v0/models");
        assert_eq!(at("ollama/x"), "http://127.0.0.1:11434/api/ps");
    }

    #[test]
    fn the_window_is_read_from_each_servers_own_words() {
        for (name, body) in [
            (
                "llamacpp/x",
                r#"{"default_generation_settings":{"n_ctx":4096}}"#,
            ),
            (
                "vllm/a/b",
                r#"{"data":[{"id":"z","max_model_len":1},{"id":"a/b","max_model_len":4096}]}"#,
            ),
            (
                "lm_studio/x",
                r#"{"data":[{"id":"x","loaded_context_length":4096}]}"#,
            ),
            (
                "ollama/x",
                r#"{"models":[{"name":"x:latest","context_length":4096}]}"#,
            ),
        ] {
            assert_eq!(
                found(&endpoint(name), body.as_bytes()),
                Some(4096),
                "{name}"
            );
        }
    }

    #[test]
    fn nonsense_and_tiny_windows_stay_unknown() {
        for body in ["", "[]", r#"{"default_generation_settings":{"n_ctx":0}}"#] {
            assert_eq!(found(&endpoint("llamacpp/x"), body.as_bytes()), None);
        }
    }
}
