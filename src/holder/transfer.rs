//! Files into and out of a box's workspace, of any size, decided at the gate before a byte is moved.
//!
//! ```text
//!   Put(path, size, digest) ─ gate ─▶ Send ─▶ bytes … ─▶ the digest is the permit's? ─▶ in place ─▶ Moved
//!   Get(path) ─ gate ─▶ File(size) ─▶ bytes … ─▶ Moved(digest)
//! ```
//!
//! A put that breaks off leaves nothing: its file has no name until it is whole.

use super::error::HolderError;
use super::serve::{Busy, Holder, tell};
use super::wire::{self, Frame, FromHolder, MAX_DATA, PutAsk};
use crate::protocol::ids::Digest;
use crate::tools::files::{Offer, Receiving, Sending, TransferError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixStream;

impl From<TransferError> for HolderError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Denied(denial) => Self::Denied {
                why: denial.to_string(),
            },
            other => Self::Refused {
                why: other.told(),
                remedy: other.remedy(),
            },
        }
    }
}

pub(super) async fn put(holder: &Arc<Holder>, mut stream: UnixStream, ask: PutAsk) {
    let Ok(_place) = holder.transfers.try_acquire() else {
        return tell(stream, wire::refusal(&one_too_many())).await;
    };
    let busy = holder.busy();
    let received = receive(holder, &mut stream, ask).await;
    conclude(stream, busy, received).await;
}

async fn receive(
    holder: &Holder,
    stream: &mut UnixStream,
    ask: PutAsk,
) -> Result<(u64, Digest), HolderError> {
    let digest = ask.digest.clone();
    let mut receiving = Receiving::begin(
        &holder.bench,
        Offer {
            path: ask.path,
            name: ask.name,
            bytes: ask.bytes,
            digest: ask.digest,
            mode: if ask.executable { 0o755 } else { 0o644 },
        },
    )
    .await?;
    wire::write_message(stream, &FromHolder::Send)
        .await
        .map_err(|_| HolderError::Lost)?;
    let mut left = ask.bytes;
    while left > 0 {
        let frame = tokio::select! {
            frame = wire::read_frame(stream) => frame,
            () = holder.stop.cancelled() => return Err(closing()),
        };
        let Ok(Some(Frame::Data(bytes))) = frame else {
            return Err(HolderError::Lost);
        };
        if bytes.is_empty() || bytes.len() as u64 > left {
            let what = "more or fewer bytes than were offered".to_owned();
            return Err(HolderError::Nonsense { what });
        }
        left -= bytes.len() as u64;
        receiving = receiving.take(bytes).await?;
    }
    receiving.place(&holder.bench).await?;
    Ok((ask.bytes, digest))
}

pub(super) async fn get(holder: &Arc<Holder>, mut stream: UnixStream, path: &Path) {
    let Ok(_place) = holder.transfers.try_acquire() else {
        return tell(stream, wire::refusal(&one_too_many())).await;
    };
    let busy = holder.busy();
    let sent = send(holder, &mut stream, path).await;
    conclude(stream, busy, sent).await;
}

/// The last word, which a client that does not read must not make the holder wait for.
async fn conclude(stream: UnixStream, busy: Busy, moved: Result<(u64, Digest), HolderError>) {
    drop(busy);
    let last = match moved {
        Ok((bytes, digest)) => FromHolder::Moved { bytes, digest },
        // In the middle of a frame there is no place for a word.
        Err(HolderError::Lost) => return,
        Err(error) => wire::refusal(&error),
    };
    tell(stream, last).await;
}

async fn send(
    holder: &Holder,
    stream: &mut UnixStream,
    path: &Path,
) -> Result<(u64, Digest), HolderError> {
    let mut sending = Sending::begin(&holder.bench, path).await?;
    let said = FromHolder::File {
        bytes: sending.bytes(),
        executable: sending.is_executable(),
    };
    let lost = |_: io::Error| HolderError::Lost;
    wire::write_message(stream, &said).await.map_err(lost)?;
    loop {
        let (next, bytes) = sending.next(MAX_DATA).await?;
        sending = next;
        if bytes.is_empty() {
            break;
        }
        tokio::select! {
            sent = wire::write_data(stream, &bytes) => sent.map_err(lost)?,
            () = holder.stop.cancelled() => return Err(HolderError::Lost),
        }
    }
    Ok(sending.finish(&holder.bench)?)
}

fn one_too_many() -> HolderError {
    HolderError::Refused {
        why: "as many files are moved at the same time as may be; wait until one of them is done"
            .to_owned(),
        remedy: None,
    }
}

fn closing() -> HolderError {
    HolderError::Refused {
        why: "the box is being closed".to_owned(),
        remedy: None,
    }
}
