//! The client's half: one connection for each thing asked.

use super::error::HolderError;
use super::socket::connect;
use super::wire::{
    self, ExecAsk, Frame, FromHolder, HolderStatus, MAX_DATA, Opening, PROTOCOL, PutAsk, Seat,
    StreamKind, ToHolder,
};
use crate::protocol::ids::{Digest, StepNumber};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a holder may take to answer a plain question.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to take in that a step is to be stopped.
const STOPPING: Duration = Duration::from_secs(30);

/// An execution that the holder has taken on.
pub struct ExecTalk {
    pub step: StepNumber,
    /// Bytes of a line on a terminal.
    pub max_line: usize,
    pub stdin: UnixStream,
    pub stdout: UnixStream,
    pub stderr: UnixStream,
    /// What the holder says; ends with the connection.
    pub said: mpsc::Receiver<FromHolder>,
    /// [`ToHolder::Cancel`] and answers. Dropped with the rest, the client is gone.
    pub say: mpsc::Sender<ToHolder>,
}

/// Asks for an execution and connects its streams.
pub async fn connect_exec(run_dir: &Path, ask: ExecAsk) -> Result<ExecTalk, HolderError> {
    let mut stream = opened(run_dir, ToHolder::Exec(ask)).await?;
    let (token, step, max_line) = match heard(&mut stream).await? {
        FromHolder::Streams {
            token,
            step,
            max_line,
        } => (token, step, max_line),
        other => return Err(unexpected(other)),
    };
    let open = |kind| {
        let token = token.clone();
        opened(
            run_dir,
            ToHolder::Stream {
                token,
                stream: kind,
            },
        )
    };
    let (stdin, stdout, stderr) = tokio::try_join!(
        open(StreamKind::Stdin),
        open(StreamKind::Stdout),
        open(StreamKind::Stderr),
    )?;
    let WatchTalk { said, say } = talk(stream);
    Ok(ExecTalk {
        step,
        max_line,
        stdin,
        stdout,
        stderr,
        said,
        say,
    })
}

/// A connection over which an agent's run is watched.
pub struct WatchTalk {
    /// What the holder says; ends with the connection.
    pub said: mpsc::Receiver<FromHolder>,
    /// [`ToHolder::Cancel`] and answers. Dropped, nobody looks any more.
    pub say: mpsc::Sender<ToHolder>,
}

/// Asks to see an agent's run, but for its first `from` records.
pub async fn connect_watch(
    run_dir: &Path,
    from: u64,
    seat: Seat,
) -> Result<WatchTalk, HolderError> {
    opened(run_dir, ToHolder::Watch { from, seat })
        .await
        .map(talk)
}

fn talk(stream: UnixStream) -> WatchTalk {
    let (mut from, mut to) = stream.into_split();
    let (hear, said) = mpsc::channel(64);
    let (say, mut to_say) = mpsc::channel::<ToHolder>(8);
    tokio::spawn(async move {
        while let Ok(Some(message)) = wire::read_message(&mut from).await {
            if hear.send(message).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(message) = to_say.recv().await {
            if wire::write_message(&mut to, &message).await.is_err() {
                break;
            }
        }
    });
    WatchTalk { said, say }
}

/// Sends a file; `moved` is told how many bytes are under way.
pub async fn put(
    run_dir: &Path,
    ask: PutAsk,
    mut source: impl AsyncRead + Unpin,
    mut moved: impl FnMut(u64),
) -> Result<(), HolderError> {
    let path = ask.name.clone();
    let (bytes, digest) = (ask.bytes, ask.digest.clone());
    let mut stream = opened(run_dir, ToHolder::Put(ask)).await?;
    match heard(&mut stream).await? {
        FromHolder::Send => {}
        other => return Err(unexpected(other)),
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; MAX_DATA];
    let mut left = bytes;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(MAX_DATA).min(MAX_DATA);
        let count = source
            .read(&mut buffer[..want])
            .await
            .map_err(HolderError::io("read", &path))?;
        if count == 0 {
            return Err(HolderError::Changed { path });
        }
        left -= count as u64;
        hash.update(&buffer[..count]);
        if left == 0 && hex(hash.clone()) != digest {
            return Err(HolderError::Changed { path });
        }
        if wire::write_data(&mut stream, &buffer[..count])
            .await
            .is_err()
        {
            // Its last words say why it takes no more.
            return Err(unexpected(heard(&mut stream).await?));
        }
        moved(bytes - left);
    }
    match heard(&mut stream).await? {
        FromHolder::Moved { .. } => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// A file that comes.
pub struct Got {
    stream: UnixStream,
    hash: Sha256,
    /// Bytes it had when it was opened.
    pub bytes: u64,
    pub executable: bool,
}

/// Asks for a file.
pub async fn get(run_dir: &Path, path: &Path) -> Result<Got, HolderError> {
    let path = path.to_owned();
    let mut stream = opened(run_dir, ToHolder::Get { path }).await?;
    match heard(&mut stream).await? {
        FromHolder::File { bytes, executable } => Ok(Got {
            stream,
            hash: Sha256::new(),
            bytes,
            executable,
        }),
        other => Err(unexpected(other)),
    }
}

impl Got {
    /// The next bytes; `None` when all came, and are those that were sent.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, HolderError> {
        match wire::read_frame(&mut self.stream).await.map_err(garbled)? {
            Some(Frame::Data(bytes)) => {
                self.hash.update(&bytes);
                Ok(Some(bytes))
            }
            Some(Frame::Message(body)) => match wire::parse(&body).map_err(garbled)? {
                FromHolder::Moved { digest, .. } if digest == hex(self.hash.clone()) => Ok(None),
                FromHolder::Moved { .. } => Err(HolderError::Nonsense {
                    what: "other bytes came than were sent".to_owned(),
                }),
                other => Err(unexpected(other)),
            },
            None => Err(HolderError::Lost),
        }
    }
}

/// How the holder stands.
pub async fn status(run_dir: &Path) -> Result<HolderStatus, HolderError> {
    let asked = async {
        match heard(&mut opened(run_dir, ToHolder::Status).await?).await? {
            FromHolder::Status(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    };
    patient(asked).await
}

/// Lets one step be stopped, whoever asked for it.
pub async fn stop_step(run_dir: &Path, step: StepNumber) -> Result<(), HolderError> {
    let told = done(run_dir, ToHolder::StopStep { step });
    timeout(STOPPING, told)
        .await
        .unwrap_or(Err(HolderError::Lost))
}

/// Lets the holder stop everything and end; returns when the run is closed.
pub async fn say_close(run_dir: &Path) -> Result<(), HolderError> {
    done(run_dir, ToHolder::Close).await
}

async fn done(run_dir: &Path, ask: ToHolder) -> Result<(), HolderError> {
    match heard(&mut opened(run_dir, ask).await?).await? {
        FromHolder::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

async fn patient<T>(asked: impl Future<Output = Result<T, HolderError>>) -> Result<T, HolderError> {
    timeout(PATIENCE, asked)
        .await
        .unwrap_or(Err(HolderError::Lost))
}

async fn opened(run_dir: &Path, ask: ToHolder) -> Result<UnixStream, HolderError> {
    let mut stream = connect(run_dir).await?;
    let opening = Opening {
        protocol: PROTOCOL,
        ask,
    };
    match wire::write_message(&mut stream, &opening).await {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let why = error.to_string();
            Err(HolderError::Refused { why, remedy: None })
        }
        Err(_) => Err(HolderError::Lost),
        Ok(()) => Ok(stream),
    }
}

async fn heard(stream: &mut UnixStream) -> Result<FromHolder, HolderError> {
    wire::read_message(stream)
        .await
        .map_err(garbled)?
        .ok_or(HolderError::Lost)
}

fn garbled(error: io::Error) -> HolderError {
    match error.kind() {
        io::ErrorKind::InvalidData => HolderError::Nonsense {
            what: error.to_string(),
        },
        _ => HolderError::Lost,
    }
}

/// What was said in place of what was due.
pub fn unexpected(said: FromHolder) -> HolderError {
    match said {
        FromHolder::Refused {
            why, denied: true, ..
        } => HolderError::Denied { why },
        FromHolder::Refused { why, remedy, .. } => HolderError::Refused { why, remedy },
        other => HolderError::Nonsense {
            what: format!("{other:?}").chars().take(80).collect(),
        },
    }
}

fn hex(hash: Sha256) -> Digest {
    let hash = hash.finalize();
    Digest::new(
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}
