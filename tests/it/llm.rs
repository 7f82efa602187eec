//! The model's adapter against a server that misbehaves.

use crate::fake_llm::{FakeLlm, Reply, Turn, says};
use fumehood::llm::{ChatAnswer, ChatModel, ChatRequest, Delta, LlmConfig, ModelError, open};
use fumehood::protocol::message::{Message, ToolSpec};
use serde_json::json;
use std::time::{Duration, Instant};

fn config(server: &FakeLlm) -> LlmConfig {
    let env = [("LLAMACPP_BASE_URL".to_owned(), server.base_url())];
    LlmConfig::new(env.into_iter().collect())
}

fn model(server: &FakeLlm) -> Box<dyn ChatModel> {
    open("llamacpp/some-model-high", &config(server)).unwrap()
}

/// One question; gives the answer and what streamed, restarts as `[restart N ms]`.
async fn ask(model: &dyn ChatModel) -> (Result<ChatAnswer, ModelError>, String) {
    let messages = [
        Message::System {
            text: "system".into(),
        },
        Message::User {
            text: "task".into(),
        },
    ];
    let tools = [ToolSpec {
        name: "exec".into(),
        description: "runs".into(),
        schema: json!({"type": "object"}),
    }];
    let request = ChatRequest {
        messages: &messages,
        tools: &tools,
    };
    let mut streamed = String::new();
    let mut sink = |delta: Delta<'_>| match delta {
        Delta::Text(text) => streamed.push_str(text),
        Delta::Restart { wait_ms, .. } => streamed.push_str(&format!("[restart {wait_ms} ms]")),
    };
    let answer = model.answer(request, &mut sink).await;
    (answer, streamed)
}

fn turn() -> Turn {
    says("I look, then run — déjà vu ✓.")
        .calls("list", json!({"path": "."}))
        .calls("exec", json!({"argv": ["python3", "träin.py"]}))
}

#[tokio::test]
async fn a_streamed_answer_arrives_whole_however_it_is_cut() {
    let server = FakeLlm::start([Reply::Answer(turn())]);
    let model = model(&server);
    let (answer, streamed) = ask(&*model).await;
    let answer = answer.unwrap();
    assert_eq!(answer.text, turn().text);
    assert_eq!(streamed, turn().text);
    let calls: Vec<_> = answer
        .calls
        .iter()
        .map(|call| (call.name.clone(), call.arguments.clone()))
        .collect();
    assert_eq!(calls, turn().calls);
    assert_eq!(
        answer.usage.map(|usage| (usage.input, usage.output)),
        Some((100, 10))
    );
    let sent = &server.requests()[0];
    assert_eq!(sent.body["model"], "some-model-high", "the name as given");
    assert_eq!(sent.roles(), ["system", "user"]);
    assert_eq!(sent.last_text(), "task");
    assert_eq!(sent.body["tools"][0]["function"]["name"], "exec");
    assert_eq!(sent.header("authorization"), None, "no key, no header");
}

#[tokio::test]
async fn a_server_that_counts_nothing_gives_no_usage() {
    let server = FakeLlm::start([Reply::Uncounted(says("hi"))]);
    assert_eq!(ask(&*model(&server)).await.0.unwrap().usage, None);
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let refusal = "{\"error\":{\"message\":\"Incorrect API key provided: top-secret\"}}";
    let server = FakeLlm::start([Reply::Status(401, "", refusal.into())]);
    let mut config = config(&server);
    config
        .env
        .insert("LOCAL_LLM_API_KEY".into(), "top-secret".into());
    let (answer, _) = ask(&*open("llamacpp/m", &config).unwrap()).await;
    let error = answer.unwrap_err();
    assert!(matches!(
        error,
        ModelError::Unauthorized { status: 401, .. }
    ));
    assert!(
        error.remedy().contains("LLAMACPP_API_KEY"),
        "{}",
        error.remedy()
    );
    assert!(!format!("{error} {error:?}").contains("top-secret"));
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "a wrong key is not tried again");
    assert_eq!(
        requests[0].header("authorization"),
        Some("Bearer top-secret")
    );
}

#[tokio::test]
async fn a_model_that_is_not_there_is_said_at_once() {
    let body = "{\"error\":{\"message\":\"model 'x' not found\",\"code\":404}}";
    let server = FakeLlm::start([Reply::Status(404, "", body.into())]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(
        matches!(error, ModelError::Status { status: 404, .. }),
        "{error:?}"
    );
    assert!(error.remedy().contains("/v1/models"), "{}", error.remedy());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_busy_server_is_asked_again_when_it_says() {
    let busy = Reply::Status(429, "retry-after: 0.3\r\n", "{\"error\":\"busy\"}".into());
    let server = FakeLlm::start([busy, Reply::Answer(says("now"))]);
    let start = Instant::now();
    let (answer, streamed) = ask(&*model(&server)).await;
    assert_eq!(answer.unwrap().text, "now");
    assert_eq!(streamed, "[restart 300 ms]now");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn an_error_of_the_server_is_tried_again_and_then_said() {
    let broken = Reply::Status(500, "", "{\"error\":{\"message\":\"boom\"}}".into());
    let server = FakeLlm::start(vec![broken; 9]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(matches!(error, ModelError::Status { status: 500, .. }));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_stream_closed_between_two_events_is_a_truncated_answer() {
    let whole = says("one two three");
    let server = FakeLlm::start([
        Reply::ClosedAfter(3, whole.clone()),
        Reply::Answer(whole.clone()),
    ]);
    let (answer, streamed) = ask(&*model(&server)).await;
    assert_eq!(answer.unwrap().text, "one two three");
    assert_eq!(streamed, "one two [restart 500 ms]one two three");
}

#[tokio::test]
async fn a_stream_that_is_always_cut_is_an_error_never_half_an_answer() {
    let half = "{\"choices\":[{\"delta\":{\"content\":\"half\"}}]}";
    let faults = [
        Reply::ClosedAfter(2, turn()),
        Reply::CutAt(333, turn()),
        Reply::Events(vec![half.into(), "[DONE]".into()]),
        Reply::Events(vec!["{\"choices\": [garbage".into()]),
        Reply::Events(vec![]),
    ];
    // Each waits between its attempts: all at once.
    let all = faults.map(|fault| async move {
        let server = FakeLlm::start(vec![fault.clone(); 9]);
        let error = ask(&*model(&server)).await.0.unwrap_err();
        let truncated = matches!(error, ModelError::Truncated { .. });
        assert!(truncated, "{fault:?}: {error:?}");
        assert_eq!(server.requests().len(), 4, "{fault:?}");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn an_answer_that_reached_the_servers_limit_is_not_taken_for_whole() {
    let events = [
        json!({"choices": [{"delta": {"content": "to be cont"}}]}).to_string(),
        json!({"choices": [{"delta": {}, "finish_reason": "length"}]}).to_string(),
        "[DONE]".into(),
    ];
    let server = FakeLlm::start([Reply::Events(events.to_vec())]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(matches!(error, ModelError::Truncated { .. }), "{error:?}");
    assert!(
        error.remedy().contains("output limit"),
        "{}",
        error.remedy()
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_its_patience() {
    for reply in [Reply::Silent, Reply::SilentAfter(2, turn())] {
        let server = FakeLlm::start([reply, Reply::Answer(says("awake"))]);
        let mut config = config(&server);
        config.patience = Duration::from_millis(200);
        let (answer, streamed) = ask(&*open("llamacpp/m", &config).unwrap()).await;
        assert_eq!(answer.unwrap().text, "awake");
        assert!(streamed.ends_with("[restart 500 ms]awake"), "{streamed}");
    }
}

#[tokio::test]
async fn an_error_inside_the_stream_is_an_error() {
    let error = json!({"error": {"code": 400, "message": "request exceeds the available context size",
        "type": "exceed_context_size_error"}});
    let server = FakeLlm::start([Reply::Events(vec![error.to_string()])]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(matches!(error, ModelError::ContextFull { .. }), "{error:?}");
}

#[tokio::test]
async fn a_page_or_a_plain_document_is_no_answer() {
    let server = FakeLlm::start([Reply::Status(200, "", "{\"choices\":[]}".into())]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(
        matches!(error, ModelError::Status { status: 200, .. }),
        "{error:?}"
    );
    let server = FakeLlm::start([Reply::Status(
        302,
        "location: http://127.0.0.1:1/\r\n",
        String::new(),
    )]);
    let error = ask(&*model(&server)).await.0.unwrap_err();
    assert!(error.remedy().contains("BASE_URL"), "{error:?}");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_soon_with_what_to_start() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let env = [("OLLAMA_BASE_URL".to_owned(), address.clone())];
    let model = open("ollama/qwen", &LlmConfig::new(env.into_iter().collect())).unwrap();
    let start = Instant::now();
    let error = ask(&*model).await.0.unwrap_err();
    assert!(matches!(error, ModelError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(
        error.remedy().contains("ollama serve"),
        "{}",
        error.remedy()
    );
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn the_window_is_what_the_server_says_after_its_first_answer() {
    let props = json!({"default_generation_settings": {"n_ctx": 4096}});
    let server = FakeLlm::start([Reply::Answer(says("hi"))]).props(props);
    let model = model(&server);
    assert_eq!(model.window(), 128 * 1024);
    ask(&*model).await.0.unwrap();
    assert_eq!(model.window(), 4096);
}

#[tokio::test]
async fn a_proxy_of_the_environment_gets_no_loopback_traffic() {
    let server = FakeLlm::start([Reply::Answer(says("direct"))]);
    let mut config = config(&server);
    for name in ["http_proxy", "all_proxy", "ALL_PROXY"] {
        config.env.insert(name.into(), "http://127.0.0.1:9".into());
    }
    let (answer, _) = ask(&*open("llamacpp/m", &config).unwrap()).await;
    assert_eq!(answer.unwrap().text, "direct");
}

#[tokio::test]
async fn an_address_elsewhere_is_reached_through_the_proxy_given() {
    let proxy = FakeLlm::start([]);
    let env = [
        (
            "VLLM_BASE_URL".to_owned(),
            "http://model.invalid:8000".to_owned(),
        ),
        ("http_proxy".to_owned(), proxy.base_url()),
    ];
    let model = open("vllm/m", &LlmConfig::new(env.into_iter().collect())).unwrap();
    let error = ask(&*model).await.0.unwrap_err();
    assert!(
        matches!(error, ModelError::Status { status: 404, .. }),
        "{error:?}"
    );
    assert_eq!(
        proxy.requests()[0].path,
        "http://model.invalid:8000/v1/chat/completions"
    );
}

#[tokio::test]
async fn dropping_the_question_hangs_up() {
    let server = FakeLlm::start([Reply::SilentAfter(2, turn())]);
    let model = model(&server);
    let waited = tokio::time::timeout(Duration::from_millis(300), ask(&*model)).await;
    assert!(waited.is_err());
    assert_eq!(server.requests().len(), 1);
}
