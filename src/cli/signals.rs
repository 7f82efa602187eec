//! Ctrl-C and its relatives: the first stops what runs and leaves everything in order, the second ends
//! this process at once (the closed pipe then ends the sandbox).

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// 128 + SIGTERM.
const TERMINATED: i32 = 143;

/// 128 + SIGHUP.
const HUNG_UP: i32 = 129;

/// A token that is cancelled by the first INT, TERM or HUP.
pub(super) fn cancel_on_signals() -> io::Result<CancellationToken> {
    watch(Hangup::Cancels)
}

/// The same for a client of a holder: it leaves when its terminal goes away, and the holder knows what
/// the policy says about that.
pub(super) fn cancel_but_leave() -> io::Result<CancellationToken> {
    watch(Hangup::Leaves)
}

/// The same for who only looks: TERM ends the looking as well, so that no script's timeout stops a run.
pub(super) fn cancel_or_look_away() -> io::Result<CancellationToken> {
    watch(Hangup::LeavesAsTermDoes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangup {
    Cancels,
    Leaves,
    LeavesAsTermDoes,
}

fn watch(hangup: Hangup) -> io::Result<CancellationToken> {
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
                _ = term.recv() => if hangup == Hangup::LeavesAsTermDoes {
                    std::process::exit(TERMINATED);
                },
                _ = hup.recv() => if hangup != Hangup::Cancels {
                    std::process::exit(HUNG_UP);
                },
            }
            if cancel.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
