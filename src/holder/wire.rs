//! The words and frames on a holder's socket.
//!
//! ```text
//!   frame   kind (1 byte) · length (u32, big-endian) · body
//!             'm'  a message, JSON, at most 16 MiB: room for several MiB of arguments
//!             'd'  bytes of a file, at most 256 KiB
//! ```
//!
//! Only processes of the same user get through to say anything. It is bounded and strict all the same: a
//! frame over its bound, or one that does not parse, ends the connection.

use super::error::HolderError;
use crate::protocol::event::{Approver, Event};
use crate::protocol::ids::{Digest, RunId, StepNumber};
use crate::protocol::question::{Answer, QuestionView};
use crate::protocol::stop::StopReason;
use crate::tools::ToolStop;
use crate::tools::bench::Executed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Raised with every change that the other side must know of.
pub(super) const PROTOCOL: u32 = 1;

const MAX_MESSAGE: usize = 16 * 1024 * 1024;
pub(super) const MAX_DATA: usize = 256 * 1024;

const MESSAGE: u8 = b'm';
const DATA: u8 = b'd';

/// The first message on every connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) protocol: u32,
    pub(super) ask: ToHolder,
}

/// What a client says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToHolder {
    /// Opens: run this.
    Exec(ExecAsk),
    /// Opens: this connection is a stream of an execution.
    Stream { token: String, stream: StreamKind },
    /// Opens: put a file. Its bytes follow when the holder says [`FromHolder::Send`].
    Put(PutAsk),
    /// Opens: give a file.
    Get { path: PathBuf },
    /// Opens.
    Status,
    /// Opens: stop one step, whoever asked for it.
    StopStep { step: StepNumber },
    /// Opens: show an agent's run, but for its first `from` records.
    Watch { from: u64, seat: Seat },
    /// Opens: stop everything and end.
    Close,
    /// In an execution or of an agent: stop it.
    Cancel,
    /// In an execution or of an agent: a person's answer to the last question.
    Answer { answer: Answer, by: Approver },
}

/// What the holder says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromHolder {
    /// Nothing comes of it.
    Refused {
        why: String,
        remedy: Option<String>,
        denied: bool,
    },
    /// To an execution: connect its streams.
    Streams {
        token: String,
        step: StepNumber,
        max_line: usize,
    },
    Notice {
        text: String,
    },
    Ask(Box<QuestionView>),
    /// The program runs: from now on what is typed is its input, and no answer to a question.
    Reading,
    Ended(ExecEnd),
    /// To a put: permitted; send the bytes.
    Send,
    /// To a get: permitted; the bytes follow.
    File {
        bytes: u64,
        executable: bool,
    },
    /// All bytes were moved.
    Moved {
        bytes: u64,
        digest: Digest,
    },
    Status(HolderStatus),
    /// To one who watches an agent.
    Seen {
        event: Box<Event>,
        when: When,
    },
    /// To one who watches: the question is answered, or nobody wants to know any more.
    Settled,
    /// To one who watches, at the end.
    RunOver(RunOver),
    Done,
}

/// What whoever watches an agent is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seat {
    /// A person, who can be asked.
    Asked,
    /// Nobody who could answer.
    Looking,
}

/// Whether an event is seen as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    Now,
    /// Read from the record: what streamed besides is not in it.
    Past,
}

/// How an agent's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOver {
    pub stop: StopReason,
    /// The model's last words.
    pub text: String,
    pub remedy: Option<String>,
    /// Why the run could not be closed in order.
    pub unclosed: Option<String>,
}

/// How an execution ended, as the bench said it.
pub type ExecEnd = Result<Executed, ToolStop>;

/// An execution as a client asks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecAsk {
    pub argv: Vec<Vec<u8>>,
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    pub wall_ms: Option<u64>,
    /// The very bytes, known secrets included.
    #[serde(default)]
    pub raw: bool,
}

/// A file as a client offers it. The permit is for these bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PutAsk {
    pub path: PathBuf,
    /// Goes into `path` as a folder where that is one, under this name.
    pub name: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
    pub executable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamKind {
    Stdin,
    Stdout,
    Stderr,
}

/// How a holder stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    pub run: RunId,
    pub steps: Vec<StepStatus>,
    /// Milliseconds since the last thing asked of it was done; 0 while something is.
    pub idle_ms: u64,
    /// After so many it ends.
    pub idle_timeout_ms: Option<u64>,
}

/// A step that runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStatus {
    pub step: StepNumber,
    pub command: String,
}

/// One frame.
pub(super) enum Frame {
    Message(Vec<u8>),
    Data(Vec<u8>),
}

/// The next frame; `None` at the end of the connection.
pub(super) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0; 5];
    if from.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..]).await?;
    let [kind, length @ ..] = head;
    let bound = match kind {
        MESSAGE => MAX_MESSAGE,
        DATA => MAX_DATA,
        _ => return Err(nonsense("a frame of an unknown kind")),
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > bound {
        return Err(nonsense("a frame over its bound"));
    }
    // Grows with what really comes, not with what was announced.
    let mut body = Vec::with_capacity(length.min(64 * 1024));
    let came = from.take(length as u64).read_to_end(&mut body).await?;
    if came < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(match kind {
        MESSAGE => Frame::Message(body),
        _ => Frame::Data(body),
    }))
}

/// The next message; `None` at the end of the connection. A frame of bytes is nonsense here.
pub(super) async fn read_message<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    match read_frame(from).await? {
        None => Ok(None),
        Some(Frame::Message(body)) => parse(&body).map(Some),
        Some(Frame::Data(_)) => Err(nonsense("bytes where a message was due")),
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| nonsense(&error.to_string()))
}

pub(super) async fn write_message(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "arguments and environment are too large",
        ));
    }
    write_frame(to, MESSAGE, &body).await
}

pub(super) async fn write_data(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    write_frame(to, DATA, bytes).await
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut head = [kind, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_be_bytes());
    to.write_all(&head).await?;
    to.write_all(body).await?;
    to.flush().await
}

pub(super) fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What a refusal comes to for the client.
pub(super) fn refusal(error: &HolderError) -> FromHolder {
    FromHolder::Refused {
        why: error.told(),
        remedy: error.remedy(),
        denied: matches!(error, HolderError::Denied { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Option<ToHolder>> {
        read_message(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn a_message_is_read_back() {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &ToHolder::Status).await.unwrap();
        assert!(matches!(read(&bytes).await, Ok(Some(ToHolder::Status))));
        assert!(matches!(read(&[]).await, Ok(None)));
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_takes_no_memory() {
        for bytes in [
            &b"m\xff\xff\xff\xff"[..],
            b"d\x00\x04\x00\x01",
            b"x\x00\x00\x00\x00",
            b"m\x00\x00\x00\x02{]",
            b"m\x00\x00\x00\x09\"Status\"",
            b"d\x00\x00\x00\x01a",
            b"m\x00",
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_end_of_each_kind_goes_over_whole() {
        use crate::policy::permit::Denial;
        use crate::sandbox::wire::StartError;
        for end in [
            Ok(Executed::Denied(Denial {
                rule: "r".into(),
                why: "w".into(),
            })),
            Ok(Executed::NotStarted(StartError::NotExecutable {
                errno: 13,
            })),
            Err(ToolStop::Interrupted),
        ] {
            let said = format!("{end:?}");
            let mut bytes = Vec::new();
            write_message(&mut bytes, &FromHolder::Ended(end))
                .await
                .unwrap();
            let back: Option<FromHolder> = read_message(&mut &bytes[..]).await.unwrap();
            assert!(matches!(back, Some(FromHolder::Ended(end)) if format!("{end:?}") == said));
        }
    }
}
