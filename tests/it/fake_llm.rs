//! A server on loopback that speaks Chat Completions as rudely as asked: each event is cut every 37
//! bytes, tool calls come interleaved, and it can refuse, fall silent, or hang up. It keeps what it
//! was sent.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What one POST is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// A whole streamed answer, with usage.
    Answer(Turn),
    /// The same from a server that counts nothing.
    Uncounted(Turn),
    /// Hangs up after so many events, between two of them.
    ClosedAfter(usize, Turn),
    /// Hangs up after so many bytes of the stream.
    CutAt(usize, Turn),
    /// Sends so many events, then nothing, and keeps the connection.
    SilentAfter(usize, Turn),
    /// Never answers at all.
    Silent,
    /// A stream of exactly these events' data.
    Events(Vec<String>),
    /// No stream: a status with headers and a body.
    Status(u16, &'static str, String),
}

/// What the model says in one turn: text, and calls as (name, arguments).
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    pub(crate) text: String,
    pub(crate) calls: Vec<(String, String)>,
}

pub(crate) fn says(text: &str) -> Turn {
    Turn {
        text: text.into(),
        calls: vec![],
    }
}

impl Turn {
    pub(crate) fn calls(mut self, name: &str, arguments: impl ToString) -> Self {
        self.calls.push((name.into(), arguments.to_string()));
        self
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) path: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Roles of the messages sent.
    pub(crate) fn roles(&self) -> Vec<&str> {
        let messages = self.body["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|m| m["role"].as_str().unwrap())
            .collect()
    }

    /// The text of the last message.
    pub(crate) fn last_text(&self) -> &str {
        let messages = self.body["messages"].as_array().unwrap();
        messages.last().unwrap()["content"].as_str().unwrap()
    }
}

#[derive(Debug)]
struct Shared {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Recorded>>,
    props: Mutex<Option<Value>>,
}

/// The server: a thread of its own, gone when dropped.
pub(crate) struct FakeLlm {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FakeLlm {
    pub(crate) fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            replies: Mutex::new(replies.into_iter().collect()),
            requests: Mutex::default(),
            props: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            port,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What llama.cpp says of itself.
    pub(crate) fn props(self, props: Value) -> Self {
        *self.shared.props.lock().unwrap() = Some(props);
        self
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The POSTs so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeLlm {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, shared.clone()));
    }
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some((method, request)) = read_request(&mut stream).await else {
        return;
    };
    if method == "GET" {
        let props = shared.props.lock().unwrap().clone();
        let props = props.filter(|_| request.path == "/props");
        let (status, body) = match props {
            Some(props) => (200, props.to_string()),
            None => (404, "{}".into()),
        };
        let _ = plain(&mut stream, status, "", &body).await;
        return;
    }
    let known = request.path == "/v1/chat/completions";
    shared.requests.lock().unwrap().push(request);
    let reply = shared.replies.lock().unwrap().pop_front();
    let _ = match reply {
        _ if !known => plain(&mut stream, 404, "", "{\"error\":\"no such path\"}").await,
        None => plain(&mut stream, 500, "", "{\"error\":\"the script is over\"}").await,
        Some(reply) => answer(&mut stream, reply).await,
    };
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Recorded)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(key, _)| key == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = serde_json::from_slice(&bytes[head_end + 4..]).unwrap_or(Value::Null);
    let recorded = Recorded {
        path,
        headers,
        body,
    };
    Some((method, recorded))
}

async fn plain(
    stream: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &str,
) -> std::io::Result<()> {
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await
}

async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    let (events, keep) = match &reply {
        Reply::Silent => return std::future::pending().await,
        Reply::Status(status, headers, body) => return plain(stream, *status, headers, body).await,
        Reply::Events(events) => (events.clone(), usize::MAX),
        Reply::Answer(turn) => (events(turn, true), usize::MAX),
        Reply::Uncounted(turn) => (events(turn, false), usize::MAX),
        Reply::ClosedAfter(count, turn) => (events(turn, true), *count),
        Reply::SilentAfter(count, turn) => (events(turn, true), *count),
        Reply::CutAt(_, turn) => (events(turn, true), usize::MAX),
    };
    let text: String = events
        .iter()
        .take(keep)
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let mut bytes = text.as_bytes();
    if let Reply::CutAt(at, _) = &reply {
        bytes = &bytes[..*at];
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n: hello\n\n";
    stream.write_all(head.as_bytes()).await?;
    stream.set_nodelay(true)?;
    for piece in bytes.chunks(37) {
        stream.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    if matches!(reply, Reply::SilentAfter(..)) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    stream.shutdown().await
}

fn events(turn: &Turn, counted: bool) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "x", "object": "chat.completion.chunk", "model": "fake",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        .to_string()
    };
    let mut events = vec![chunk(
        json!({"role": "assistant", "content": null}),
        Value::Null,
    )];
    for word in turn.text.split_inclusive(' ') {
        events.push(chunk(json!({"content": word}), Value::Null));
    }
    for (n, (name, _)) in turn.calls.iter().enumerate() {
        let call = json!({"index": n, "id": format!("call_{n}"), "type": "function",
            "function": {"name": name, "arguments": ""}});
        events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
    }
    let mut pieces: Vec<VecDeque<String>> =
        turn.calls.iter().map(|(_, text)| split(text)).collect();
    while pieces.iter().any(|queue| !queue.is_empty()) {
        for (n, queue) in pieces.iter_mut().enumerate() {
            if let Some(piece) = queue.pop_front() {
                let call = json!({"index": n, "function": {"arguments": piece}});
                events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
            }
        }
    }
    let finish = if turn.calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    events.push(chunk(json!({}), json!(finish)));
    if counted {
        let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        events.push(json!({"id": "x", "choices": [], "usage": usage}).to_string());
    }
    events.push("[DONE]".into());
    events
}

fn split(text: &str) -> VecDeque<String> {
    let chars: Vec<char> = text.chars().collect();
    chars
        .chunks(7)
        .map(|piece| piece.iter().collect())
        .collect()
}
