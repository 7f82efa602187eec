//! A model's server on loopback: answers each request at once from a script, and notes when it came.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// What the model says.
pub(super) enum Say {
    /// It is done.
    Done,
    /// It calls `exec` with this command.
    Exec(String),
}

/// One question of Fumehood's.
pub(super) struct Asked {
    pub(super) at: Instant,
    pub(super) turn: usize,
    /// Answered when this is dropped.
    _go_on: Sender<()>,
}

/// The server; its thread ends with the process.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) asked: Receiver<Asked>,
}

impl Server {
    /// `script` answers the n-th question, from 0. Each is answered when its [`Asked`] was taken and
    /// dropped.
    pub(super) fn start(script: impl Fn(usize) -> Say + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("failed to listen on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (tell, asked) = channel();
        std::thread::spawn(move || {
            let mut turn = 0;
            for stream in listener.incoming().flatten() {
                // One connection at a time: what breaks off is not counted.
                let _ = serve(stream, &script, &mut turn, &tell);
            }
        });
        Ok(Self { url, asked })
    }
}

fn serve(
    stream: TcpStream,
    script: &impl Fn(usize) -> Say,
    turn: &mut usize,
    tell: &Sender<Asked>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let at = Instant::now();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if !first.starts_with("POST ") {
        return respond(stream, "404 Not Found", "application/json", "{}");
    }
    let (go_on, wait) = channel();
    let asked = Asked {
        at,
        turn: *turn,
        _go_on: go_on,
    };
    if tell.send(asked).is_ok() {
        // Ends with an error when it is dropped, which is what is waited for.
        let _ = wait.recv();
    }
    let said = script(*turn);
    *turn += 1;
    respond(stream, "200 OK", "text/event-stream", &events(&said, *turn))
}

fn respond(mut stream: TcpStream, status: &str, kind: &str, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(())
}

fn events(said: &Say, turn: usize) -> String {
    let (delta, finish) = match said {
        Say::Done => (json!({"role": "assistant", "content": "Done."}), "stop"),
        Say::Exec(command) => {
            let arguments = json!({"command": command}).to_string();
            let call = json!({"index": 0, "id": format!("call_{turn}"), "type": "function",
                "function": {"name": "exec", "arguments": arguments}});
            let delta = json!({"role": "assistant", "content": null, "tool_calls": [call]});
            (delta, "tool_calls")
        }
    };
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "x", "object": "chat.completion.chunk", "model": "bench",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    };
    let usage = json!({"id": "x", "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}});
    [
        chunk(delta, Value::Null),
        chunk(json!({}), json!(finish)),
        usage,
    ]
    .iter()
    .map(|event| format!("data: {event}\n\n"))
    .chain(["data: [DONE]\n\n".to_owned()])
    .collect()
}
