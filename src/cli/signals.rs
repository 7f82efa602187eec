//! Ctrl-C and its relatives: the first stops what runs and leaves everything in order, the second ends
//! this process at once (the closed pipe then ends the sandbox).

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled by the first INT, TERM or HUP.
pub(super) fn cancel_on_signals() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut int, mut term, mut hup) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let cancel = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
                _ = hup.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
