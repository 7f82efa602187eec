use super::*;

fn config(pairs: &[(&str, &str)]) -> LlmConfig {
    LlmConfig::new(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

fn base(name: &str, pairs: &[(&str, &str)]) -> String {
    Endpoint::of(name, &config(pairs)).unwrap().base.to_string()
}

fn error(name: &str, pairs: &[(&str, &str)]) -> String {
    let error = Endpoint::of(name, &config(pairs)).unwrap_err();
    let ModelError::Name { remedy, .. } = &error else {
        panic!("{error:?}")
    };
    format!("{error} — {remedy}")
}

#[test]
fn each_provider_has_its_usual_port() {
    assert_eq!(base("ollama/x", &[]), "http://127.0.0.1:11434/v1");
    assert_eq!(base("vllm/x", &[]), "http://127.0.0.1:8000/v1");
    assert_eq!(base("llamacpp/x", &[]), "http://127.0.0.1:8080/v1");
    assert_eq!(base("lm_studio/x", &[]), "http://127.0.0.1:1234/v1");
    let openai = [("OPENAI_API_KEY", "k")];
    assert_eq!(base("openai/x", &openai), "https://api.openai.com/v1");
}

#[test]
fn an_address_is_understood_with_and_without_its_usual_ends() {
    for text in [
        "http://gpu:9000",
        "http://gpu:9000/",
        "http://gpu:9000/v1",
        "http://gpu:9000/v1/",
        "gpu:9000",
        "http://gpu:9000/v1/chat/completions",
    ] {
        assert_eq!(
            base("vllm/x", &[("VLLM_BASE_URL", text)]),
            "http://gpu:9000/v1",
            "{text}"
        );
    }
    let behind = [("OPENAI_BASE_URL", "https://host/v1beta/openai/")];
    assert_eq!(base("openai/x", &behind), "https://host/v1beta/openai");
}

#[test]
fn the_providers_own_variable_wins_over_the_shared_one() {
    let both = [
        ("OLLAMA_BASE_URL", "http://own:1"),
        ("LOCAL_LLM_BASE_URL", "http://shared:2"),
        ("LOCAL_LLM_API_KEY", "shared-key"),
    ];
    let ollama = Endpoint::of("ollama/x", &config(&both)).unwrap();
    assert_eq!(ollama.base.as_str(), "http://own:1/v1");
    assert_eq!(ollama.key.unwrap().expose(), "shared-key");
    assert_eq!(base("vllm/x", &both), "http://shared:2/v1");
}

#[test]
fn shared_variables_do_not_reach_openai() {
    let shared = [
        ("LOCAL_LLM_BASE_URL", "http://shared:2"),
        ("LOCAL_LLM_API_KEY", "k"),
    ];
    assert!(error("openai/gpt", &shared).contains("OPENAI_API_KEY is not set"));
}

#[test]
fn a_variable_set_to_nothing_is_not_set() {
    assert_eq!(
        base("ollama/x", &[("OLLAMA_BASE_URL", " ")]),
        "http://127.0.0.1:11434/v1"
    );
}

#[test]
fn a_models_name_may_hold_slashes_and_colons() {
    let endpoint = Endpoint::of("vllm/Qwen/Qwen2.5-Coder-7B:main-high", &config(&[])).unwrap();
    assert_eq!(endpoint.model, "Qwen/Qwen2.5-Coder-7B:main-high");
}

#[test]
fn a_wrong_provider_gets_the_nearest_one() {
    assert!(error("olama/x", &[]).contains("did you mean ollama/x?"));
    assert!(error("llama.cpp/x", &[]).contains("did you mean llamacpp/x?"));
    assert!(error("LM-Studio/x", &[]).contains("did you mean lm_studio/x?"));
    assert!(error("anthropic/x", &[]).contains("write one of ollama/, vllm/"));
    assert!(error("qwen", &[]).contains("names no provider"));
    assert!(error("ollama/", &[]).contains("no model is named"));
}

#[test]
fn an_address_that_makes_no_sense_names_its_variable() {
    let text = error("vllm/x", &[("LOCAL_LLM_BASE_URL", "ftp://x")]);
    assert!(text.contains("LOCAL_LLM_BASE_URL"), "{text}");
    let text = error("vllm/x", &[("VLLM_BASE_URL", "http://me:secret@x")]);
    assert!(
        text.contains("API_KEY") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn no_error_and_no_debug_text_shows_a_key() {
    let text = error("vllm/x", &[("VLLM_API_KEY", "sk-secret\nX")]);
    assert!(
        text.contains("VLLM_API_KEY") && !text.contains("sk-secret"),
        "{text}"
    );
    let endpoint = Endpoint::of("vllm/x", &config(&[("VLLM_API_KEY", "sk-secret")])).unwrap();
    assert!(!format!("{endpoint:?}").contains("sk-secret"));
}

#[test]
fn only_this_machine_is_loopback() {
    for (address, loopback) in [
        ("http://127.0.0.1:1", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:1", true),
        ("http://localhost:1", true),
        ("http://10.0.0.1", false),
        ("http://localhost.example.org", false),
    ] {
        let endpoint = Endpoint::of("vllm/x", &config(&[("VLLM_BASE_URL", address)])).unwrap();
        assert_eq!(endpoint.is_loopback(), loopback, "{address}");
    }
}
