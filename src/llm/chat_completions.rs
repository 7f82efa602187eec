//! Chat Completions, streamed, over reqwest: what OpenAI, vLLM, llama.cpp, Ollama and LM Studio speak.
//!
//! ```text
//!   attempt ──▶ whole answer
//!      │ └────▶ final error: wrong key, full context, no such model
//!      └ cut off, busy, silent ─▶ retry::wait ─▶ Delta::Restart ─▶ attempt …
//! ```
//!
//! A client of our own, because truncation must be noticed, memory bounded, model names sent as given,
//! and no call lost where a server leaves the index out.

use super::assembly::{Assembly, Ending, Refusal, Step};
use super::endpoint::{Endpoint, LlmConfig};
use super::failure::{self, Failure};
use super::retry::{self, Cause};
use super::sse::Decoder;
use super::{ChatAnswer, ChatModel, ChatRequest, Delta, DeltaSink, ModelError, request, window};
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, NoProxy, Proxy, RequestBuilder, Response, redirect};
use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Longest wait for a connection, and for what is not the answer itself.
const SHORT: Duration = Duration::from_secs(10);

/// One model behind one address.
pub(super) struct ChatCompletions {
    endpoint: Endpoint,
    client: Client,
    patience: Duration,
    /// Tokens that fit; 0 until known.
    window: AtomicU64,
}

impl ChatCompletions {
    pub(super) fn open(given: &str, config: &LlmConfig) -> Result<Self, ModelError> {
        let endpoint = Endpoint::of(given, config)?;
        Ok(Self {
            client: client(&endpoint, config)?,
            patience: config.patience,
            window: AtomicU64::new(config.window.unwrap_or(0)),
            endpoint,
        })
    }

    async fn attempt(
        &self,
        body: &Bytes,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failure> {
        let request = self
            .authorised(self.client.post(self.endpoint.at("chat/completions")))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body.clone());
        let response = match timeout(self.patience, request.send()).await {
            Err(_) => return Err(self.stalled()),
            Ok(Err(error)) => return Err(self.not_sent(&error)),
            Ok(Ok(response)) => response,
        };
        if !response.status().is_success() || !is_stream(&response) {
            return Err(self.refused(response).await);
        }
        self.follow(response, delta).await
    }

    /// Reads the stream to its end.
    async fn follow(
        &self,
        mut response: Response,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, Failure> {
        let (mut decoder, mut assembly) = (Decoder::default(), Assembly::default());
        'stream: loop {
            let bytes = match timeout(self.patience, response.chunk()).await {
                Err(_) => return Err(self.stalled()),
                // What closes the connection rudely after the last word took nothing away.
                Ok(Err(_)) if assembly.is_finished() => break,
                Ok(Err(error)) => return Err(self.cut_off(&reason(&error))),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(bytes))) => bytes,
            };
            let events = decoder.push(&bytes);
            for event in events.map_err(|error| self.cut_off(&error.to_string()))? {
                match assembly.take(&event).map_err(|why| self.nonsense(why))? {
                    Step::Text(text) if text.is_empty() => {}
                    Step::Text(text) => delta(Delta::Text(&text)),
                    Step::Done => break 'stream,
                }
            }
        }
        match assembly.end() {
            Ending::Whole(answer) => Ok(answer),
            Ending::Stopped(why) => Err(failure::truncated(&self.endpoint, &why, None)),
            Ending::CutOff if decoder.is_inside() => {
                Err(self.cut_off("the stream ended inside an event"))
            }
            Ending::CutOff => Err(self.cut_off("the stream ended before the answer did")),
        }
    }

    async fn refused(&self, mut response: Response) -> Failure {
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let mut body = Vec::new();
        while let Ok(Ok(Some(bytes))) = timeout(SHORT, response.chunk()).await {
            let room = MAX_ERROR_BODY - body.len();
            body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if body.len() == MAX_ERROR_BODY {
                break;
            }
        }
        failure::of_status(&self.endpoint, status, &body, retry_after)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let Some(key) = &self.endpoint.key else {
            return request;
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .expect("a key was checked to be printable ASCII");
        value.set_sensitive(true);
        request.header(AUTHORIZATION, value)
    }

    fn not_sent(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() || error.is_timeout() {
            failure::unreachable(&self.endpoint, &reason(error))
        } else {
            self.cut_off(&format!("no answer came: {}", reason(error)))
        }
    }

    fn nonsense(&self, why: Refusal) -> Failure {
        match why {
            Refusal::Error(error) => failure::of_event(&self.endpoint, &error),
            Refusal::Nonsense(why) => self.cut_off(&why),
        }
    }

    fn cut_off(&self, why: &str) -> Failure {
        failure::truncated(&self.endpoint, why, Some(Cause::CutOff))
    }

    fn stalled(&self) -> Failure {
        let why = format!("the server was silent for {:?}", self.patience);
        failure::truncated(&self.endpoint, &why, Some(Cause::Stalled))
    }

    /// Asks the server once how much fits; what it does not say stays unknown.
    async fn learn_window(&self) {
        if self.window.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut found = None;
        if let Some(question) = window::question(&self.endpoint) {
            let request = self.authorised(self.client.get(question)).send();
            if let Ok(Ok(response)) = timeout(SHORT, request).await {
                found = self.window_in(response).await;
            }
        }
        let window = found.unwrap_or(window::UNKNOWN);
        self.window.store(window, Ordering::Relaxed);
    }

    async fn window_in(&self, mut response: Response) -> Option<u64> {
        let mut body = Vec::new();
        while let Ok(Ok(Some(bytes))) = timeout(SHORT, response.chunk()).await {
            body.extend_from_slice(&bytes);
            if body.len() > window::MAX_BODY {
                return None;
            }
        }
        window::found(&self.endpoint, &body)
    }
}

#[async_trait]
impl ChatModel for ChatCompletions {
    fn name(&self) -> &str {
        &self.endpoint.given
    }

    fn window(&self) -> u64 {
        match self.window.load(Ordering::Relaxed) {
            0 => window::UNKNOWN,
            known => known,
        }
    }

    async fn answer(
        &self,
        request: ChatRequest<'_>,
        delta: &mut DeltaSink<'_>,
    ) -> Result<ChatAnswer, ModelError> {
        let body = request::body(&self.endpoint.model, request);
        let body = Bytes::from(body.to_string());
        let mut failed = 0;
        let began = Instant::now();
        loop {
            let failure = match self.attempt(&body, delta).await {
                Ok(answer) => {
                    tracing::debug!(sent = body.len(), took = ?began.elapsed(), calls = answer.calls.len(), "model answered");
                    self.learn_window().await;
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            failed += 1;
            let next = failure.cause.and_then(|cause| retry::wait(failed, cause));
            let Some(wait) = next else {
                return Err(failure.error);
            };
            delta(Delta::Restart {
                why: &failure.error.to_string(),
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            });
            tokio::time::sleep(wait).await;
        }
    }
}

fn client(endpoint: &Endpoint, config: &LlmConfig) -> Result<Client, ModelError> {
    let bad = |why: String, remedy: &str| ModelError::Name {
        given: endpoint.given.clone(),
        why,
        remedy: remedy.into(),
    };
    // Proxies come from the given map, never from the process's environment behind our back.
    let mut builder = Client::builder()
        .user_agent(concat!("fumehood/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(SHORT)
        .no_proxy();
    let proxy = proxy(endpoint.base.scheme(), config);
    if let Some((variable, address)) = proxy.filter(|_| !endpoint.is_loopback()) {
        let except = ["no_proxy", "NO_PROXY"];
        let except = except.iter().find_map(|name| config.get(name));
        let proxy = Proxy::all(address).map_err(|_| {
            bad(
                format!("{variable} is no proxy address"),
                "correct or unset it",
            )
        })?;
        builder = builder.proxy(proxy.no_proxy(except.and_then(NoProxy::from_string)));
    }
    builder.build().map_err(|error| {
        bad(
            reason(&error),
            "are the system's CA certificates installed?",
        )
    })
}

/// The variable that counts for a scheme, and its value. `HTTP_PROXY` in capitals is left alone, as curl does.
fn proxy<'a>(scheme: &str, config: &'a LlmConfig) -> Option<(&'static str, &'a str)> {
    let names: &[&'static str] = match scheme {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    names
        .iter()
        .find_map(|&name| config.get(name).map(|value| (name, value)))
}

/// A page or a plain JSON document is no answer, whatever its status.
fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_none_or(|kind| kind.starts_with("text/event-stream"))
}

/// Seconds, or milliseconds where a server is that exact. A date is left to the schedule.
fn retry_after(response: &Response) -> Option<Duration> {
    let number = |name: &str| -> Option<f64> {
        let text = response.headers().get(name)?.to_str().ok()?;
        text.trim().parse().ok().filter(|n: &f64| n.is_finite())
    };
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// The innermost cause says what happened; the outer ones repeat the address.
fn reason(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(inner) = cause {
        text = Some(inner.to_string());
        cause = inner.source();
    }
    text.unwrap_or_else(|| error.to_string())
}
