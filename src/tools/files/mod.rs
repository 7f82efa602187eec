//! `read`, `write`, `edit`, `list`: the model's own hands in the workspace, without a sandbox.
//!
//! ```text
//!   arguments ─ path, by its words ─ gate ─┬─ denied ──────────────────────────▶ words
//!                                          └─ permit ─ by descriptor, bounded ─▶ words, sanitised
//! ```
//!
//! Reading and listing are in the record as the call and its answer; a write is decided on the record
//! before it is done. What a file holds is data for the model, framed as such and never executed here.

mod change;
mod look;
mod transfer;

pub use transfer::{Offer, Receiving, Sending, TransferError};

use super::bench::Bench;
use super::{Tool, ToolOutput, ToolStop};
use crate::context::sanitise::visible;
use crate::workspace::{Beneath, WorkspaceError};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The four of them, on one bench.
pub fn file_tools(bench: &Arc<Bench>) -> Vec<Box<dyn Tool>> {
    vec![
        Box::new(look::ReadTool(bench.clone())),
        Box::new(change::WriteTool(bench.clone())),
        Box::new(change::EditTool(bench.clone())),
        Box::new(look::ListTool(bench.clone())),
    ]
}

/// Why a call came to nothing: words for the model, or the end of the run.
enum Off {
    Said(String),
    Stop(ToolStop),
}

impl From<ToolStop> for Off {
    fn from(stop: ToolStop) -> Self {
        Self::Stop(stop)
    }
}

impl From<WorkspaceError> for Off {
    fn from(error: WorkspaceError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let remedy = error.remedy().map(|remedy| format!(". {remedy}"));
        let words = format!(
            "{error}{}{}",
            cause.unwrap_or_default(),
            remedy.unwrap_or_default()
        );
        Self::Said(visible(&words))
    }
}

fn answer(tool: &str, done: Result<String, Off>) -> Result<ToolOutput, ToolStop> {
    match done {
        Ok(text) => Ok(ToolOutput::ok(text)),
        Err(Off::Said(why)) => Ok(ToolOutput::failed(format!("{tool}: {why}."))),
        Err(Off::Stop(stop)) => Err(stop),
    }
}

fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, Off> {
    serde_json::from_value(arguments).map_err(|error| Off::Said(error.to_string()))
}

fn beneath(path: &str) -> Result<Beneath, Off> {
    Ok(Beneath::parse(Path::new(path))?)
}

/// Off the async threads: a disk may be slow.
async fn on_disk<T: Send + 'static>(
    bench: &Arc<Bench>,
    act: impl FnOnce(&Bench) -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, Off> {
    let bench = bench.clone();
    match tokio::task::spawn_blocking(move || act(&bench)).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Off::Said(format!("it failed within: {error}"))),
    }
}
