//! Bytes between a step's pipes and its streams.

use crate::streams::Stream;
use nix::errno::Errno;
use std::os::fd::AsRawFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

/// A pipe's usual capacity, and a frame of the connection.
pub const BUFFER: usize = 64 * 1024;

/// From the program to the host, until the program's end and what it had written by then.
///
/// Not until the pipe's end: a step can hand its descriptors to another one, which may keep them.
pub async fn output(mut pipe: Receiver, mut stream: Stream, mut ended: watch::Receiver<bool>) {
    let mut buffer = vec![0; BUFFER];
    let mut left = None;
    loop {
        if left.is_none() && *ended.borrow() {
            left = Some(pending(&pipe));
        }
        let read = match left {
            Some(left) => {
                let room = buffer.len().min(left);
                nix::unistd::read(&pipe, &mut buffer[..room]).map_err(Into::into)
            }
            None => tokio::select! {
                biased;
                read = pipe.read(&mut buffer) => read,
                _ = ended.changed() => continue,
            },
        };
        let Ok(count @ 1..) = read else { break };
        if stream.write_all(&buffer[..count]).await.is_err() {
            // The host wants no more of it. The program is told by the pipe's end.
            return;
        }
        left = left.map(|left| left.saturating_sub(count));
    }
    drop(pipe);
    // A connection that is gone ends everything elsewhere.
    let _ = stream.shutdown().await;
}

/// From the host to the program, until one of them has enough.
pub async fn input(mut stream: Stream, mut pipe: Sender, mut ended: watch::Receiver<bool>) {
    let copy = async {
        let mut buffer = vec![0; BUFFER];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            if pipe.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = copy => {}
        _ = ended.changed() => {}
    }
}

/// Bytes that lie in the pipe.
#[expect(unsafe_code, reason = "FIONREAD has no wrapper")]
fn pending(pipe: &Receiver) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one integer, which outlives the call.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    match Errno::result(done) {
        Ok(_) => usize::try_from(count).unwrap_or(0),
        Err(_) => 0,
    }
}
