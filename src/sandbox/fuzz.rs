//! Where the fuzz targets of this room are reached from.

pub(crate) use super::channel::fuzz::wire;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Runs one input to its end, on this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime of one thread");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
