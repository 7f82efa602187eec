//! Files that the user puts into the workspace or takes out of it (`box put`, `box get`).
//!
//! ```text
//!   Offer(path, bytes, digest) ─ gate ─ permit ─▶ Receiving ─ take … ─ place: the permit's very bytes
//!   path ─ gate ─ permit ─▶ Sending ─ next … ─ finish
//! ```
//!
//! Decided on the record before a byte is moved; told on the record when all were.

use super::super::bench::Bench;
use super::super::desk::About;
use crate::context::sanitise::visible;
use crate::policy::action::FileAction;
use crate::policy::gate::decide_file;
use crate::policy::permit::{Denial, Permit};
use crate::protocol::event::Event;
use crate::protocol::ids::Digest;
use crate::tools::ToolStop;
use crate::workspace::{Beneath, Incoming, Outgoing, WorkspaceError};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file did not go.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Stop(#[from] ToolStop),
    #[error("the file has {bytes} bytes, and the workspace may have {max}")]
    OverSize { bytes: u64, max: u64 },
    #[error("other bytes came than were decided about; nothing was written")]
    OtherBytes,
    #[error("it failed within: {0}")]
    Within(String),
}

impl TransferError {
    /// What the user can do about it, where there is something.
    pub fn remedy(&self) -> Option<String> {
        match self {
            // The words of a workspace's remedy are for a model with tools.
            Self::Workspace(WorkspaceError::Kind {
                found: "a folder", ..
            }) => Some(
                "a folder goes as an archive: fumehood box exec NAME -- tar c DIR | tar x"
                    .to_owned(),
            ),
            Self::Workspace(WorkspaceError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Some("`fumehood box exec NAME -- ls` shows what is there".to_owned())
            }
            Self::Workspace(error) => error.remedy(),
            Self::Stop(stop) => stop.remedy(),
            Self::OverSize { .. } => {
                Some("open a box with more, as in --set workspace.size=100GiB".to_owned())
            }
            Self::Denied(_) | Self::OtherBytes | Self::Within(_) => None,
        }
    }

    /// With what is beneath it, on one line.
    pub fn told(&self) -> String {
        let mut text = self.to_string();
        let mut below = std::error::Error::source(self);
        while let Some(cause) = below {
            text.push_str(&format!(": {cause}"));
            below = cause.source();
        }
        visible(&text)
    }
}

/// A file as it is offered.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Where to, as typed.
    pub path: PathBuf,
    /// Its name where `path` is a folder.
    pub name: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
    /// Where it replaces none.
    pub mode: u32,
}

/// A file that comes in.
pub struct Receiving {
    permit: Permit<FileAction>,
    incoming: Incoming,
    hash: Sha256,
    bytes: u64,
}

impl Receiving {
    /// Decides, and begins. Parents are made.
    pub async fn begin(bench: &Arc<Bench>, offer: Offer) -> Result<Self, TransferError> {
        if let Some(max) = bench
            .policy()
            .workspace
            .size
            .filter(|max| offer.bytes > *max)
        {
            let bytes = offer.bytes;
            return Err(TransferError::OverSize { bytes, max });
        }
        let mut path = Beneath::parse(&offer.path)?;
        if path.is_root()
            || on_disk(bench, {
                let path = path.clone();
                move |bench| Ok(bench.workspace().is_folder(&path))
            })
            .await?
        {
            path = Beneath::parse(&path.as_path().join(&offer.name))?;
        }
        let act = FileAction::Write {
            path: path.as_path().to_owned(),
            content: offer.digest,
        };
        let permit = decided(bench, act)?;
        let mode = offer.mode;
        let incoming = on_disk(bench, move |bench| bench.workspace().receive(&path, mode)).await?;
        Ok(Self {
            permit,
            incoming,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    /// The next of its bytes.
    pub async fn take(mut self, bytes: Vec<u8>) -> Result<Self, TransferError> {
        within(move || {
            self.hash.update(&bytes);
            self.bytes += bytes.len() as u64;
            self.incoming.write(&bytes)?;
            Ok(self)
        })
        .await
    }

    /// All came: in its place, if these are the bytes that the permit is for.
    pub async fn place(self, bench: &Arc<Bench>) -> Result<(), TransferError> {
        let digest = hex(self.hash);
        let FileAction::Write { path, content } = self.permit.into_act() else {
            return Err(TransferError::OtherBytes);
        };
        if content != digest {
            return Err(TransferError::OtherBytes);
        }
        let incoming = self.incoming;
        within(move || Ok(incoming.place()?)).await?;
        bench.desk().emit(&Event::FilePut {
            path: visible(&path.to_string_lossy()),
            bytes: self.bytes,
            digest,
        })?;
        Ok(())
    }
}

/// A file that goes out.
pub struct Sending {
    path: PathBuf,
    file: File,
    size: u64,
    executable: bool,
    hash: Sha256,
    sent: u64,
}

impl Sending {
    /// Decides, and opens it.
    pub async fn begin(bench: &Arc<Bench>, path: &Path) -> Result<Self, TransferError> {
        let path = Beneath::parse(path)?;
        let act = FileAction::Read {
            path: path.as_path().to_owned(),
        };
        let permit = decided(bench, act)?;
        let path = permit.into_act().path().to_owned();
        let beneath = Beneath::parse(&path)?;
        let Outgoing {
            file,
            bytes,
            executable,
        } = on_disk(bench, move |bench| bench.workspace().send(&beneath)).await?;
        Ok(Self {
            path,
            file,
            size: bytes,
            executable,
            hash: Sha256::new(),
            sent: 0,
        })
    }

    /// Bytes it had when it was opened.
    pub fn bytes(&self) -> u64 {
        self.size
    }

    pub fn is_executable(&self) -> bool {
        self.executable
    }

    /// At most `max` of its next bytes; none at its end. One that grows for ever ends as it was opened.
    pub async fn next(mut self, max: usize) -> Result<(Self, Vec<u8>), TransferError> {
        within(move || {
            let left = self.size.saturating_sub(self.sent).min(max as u64);
            let mut bytes = Vec::with_capacity(usize::try_from(left).unwrap_or(max));
            (&self.file)
                .take(left)
                .read_to_end(&mut bytes)
                .map_err(|error| TransferError::Within(error.to_string()))?;
            self.hash.update(&bytes);
            self.sent += bytes.len() as u64;
            Ok((self, bytes))
        })
        .await
    }

    /// Bytes that went, and their digest.
    pub fn finish(self, bench: &Bench) -> Result<(u64, Digest), TransferError> {
        let digest = hex(self.hash);
        bench.desk().emit(&Event::FileGot {
            path: visible(&self.path.to_string_lossy()),
            bytes: self.sent,
            digest: digest.clone(),
        })?;
        Ok((self.sent, digest))
    }
}

fn decided(bench: &Bench, act: FileAction) -> Result<Permit<FileAction>, TransferError> {
    let about = About::act(&act);
    let verdict = decide_file(bench.policy(), act);
    Ok(bench.desk().settle_unasked(&about, verdict)??)
}

async fn on_disk<T: Send + 'static>(
    bench: &Arc<Bench>,
    act: impl FnOnce(&Bench) -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, TransferError> {
    let bench = bench.clone();
    within(move || Ok(act(&bench)?)).await
}

/// Off the async threads: a disk may be slow.
async fn within<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|error| TransferError::Within(error.to_string()))?
}

fn hex(hash: Sha256) -> Digest {
    let hash = hash.finalize();
    Digest::new(
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    )
}
