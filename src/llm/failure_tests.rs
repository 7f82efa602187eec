use super::*;
use crate::llm::endpoint::LlmConfig;

fn endpoint(name: &str, key: Option<&str>) -> Endpoint {
    let env = key.map(|key| ("LOCAL_LLM_API_KEY".to_owned(), key.to_owned()));
    Endpoint::of(name, &LlmConfig::new(env.into_iter().collect())).unwrap()
}

fn status(name: &str, status: u16, body: &str) -> Failure {
    of_status(&endpoint(name, None), status, body.as_bytes(), None)
}

#[test]
fn a_full_context_is_told_apart_whatever_the_server() {
    for (code, body) in [
        (
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"exceed_context_size_error","n_prompt_tokens":7654,"n_ctx":4096}}"#,
        ),
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000","type":"BadRequestError","code":400}"#,
        ),
        (
            400,
            r#"{"error":{"message":"Your input exceeds the context window","code":"context_length_exceeded"}}"#,
        ),
        (500, r#"{"error":"context size has been exceeded"}"#),
    ] {
        let failure = status("vllm/x", code, body);
        assert!(
            matches!(failure.error, ModelError::ContextFull { .. }),
            "{failure:?}"
        );
        assert_eq!(failure.cause, None);
    }
}

#[test]
fn a_wrong_key_names_its_variable_and_is_not_tried_again() {
    let failure = of_status(&endpoint("vllm/x", Some("wrong")), 401, b"no", None);
    let ModelError::Unauthorized { remedy, .. } = &failure.error else {
        panic!("{failure:?}")
    };
    assert!(remedy.contains("VLLM_API_KEY"), "{remedy}");
    assert_eq!(failure.cause, None);
}

#[test]
fn a_busy_server_is_tried_again_when_it_says_and_a_spent_quota_is_not() {
    let wait = Some(Duration::from_secs(3));
    let busy = of_status(&endpoint("vllm/x", None), 429, b"slow down", wait);
    assert_eq!(busy.cause, Some(Cause::Busy { retry_after: wait }));
    let spent =
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#;
    assert_eq!(status("vllm/x", 429, spent).cause, None);
    assert_eq!(status("vllm/x", 500, "").cause, Some(Cause::Server));
    assert_eq!(status("vllm/x", 400, "").cause, None);
}

#[test]
fn a_model_that_is_not_there_says_how_to_get_it() {
    let body = r#"{"error":{"message":"model \"qwen\" not found, try pulling it first"}}"#;
    let text = format!("{:?}", status("ollama/qwen", 404, body).error);
    assert!(text.contains("ollama pull qwen"), "{text}");
    let body = r#"{"error":{"message":"The model `x` does not exist."}}"#;
    let text = format!("{:?}", status("vllm/x", 404, body).error);
    assert!(text.contains("http://127.0.0.1:8000/v1/models"), "{text}");
}

#[test]
fn no_key_comes_back_out_of_a_servers_words() {
    let endpoint = endpoint("vllm/x", Some("my-very-own"));
    let body = b"bad key my-very-own, Bearer abcdef, sk-proj-1234567890 \x1b[31mred";
    let text = format!("{:?}", of_status(&endpoint, 400, body, None));
    for secret in ["my-very-own", "abcdef", "1234567890", "\u{1b}"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_servers_words_are_bounded_and_one_line() {
    let body = "<html>\n".repeat(10_000);
    let ModelError::Status { message, .. } = status("vllm/x", 502, &body).error else {
        panic!()
    };
    assert!(message.len() <= MAX_MESSAGE + 3 && !message.contains('\n'));
}

#[test]
fn an_error_inside_a_stream_is_known_by_its_code() {
    let endpoint = endpoint("llamacpp/x", None);
    let error = serde_json::json!({"code": 429, "message": "busy"});
    assert!(matches!(
        of_event(&endpoint, &error).cause,
        Some(Cause::Busy { .. })
    ));
    let error = serde_json::json!({"message": "cuda out of memory"});
    assert_eq!(of_event(&endpoint, &error).cause, Some(Cause::Server));
    let error = serde_json::json!({"code": "context_length_exceeded", "message": "context window exceeded"});
    assert!(matches!(
        of_event(&endpoint, &error).error,
        ModelError::ContextFull { .. }
    ));
}
