//! The archive that a run's own workspace is filled from.

use super::{AppError, SandboxRequest};
use crate::context::sanitise::visible;
use crate::policy::unit;
use crate::tools::ToolStop;
use crate::workspace::{Bounds, Fault, Unpacked, Workspace, WorkspaceError};
use std::ops::ControlFlow;
use std::path::Path;
use tokio_util::sync::CancellationToken;

/// Where a policy sets no bound, the free space of the disk is one.
const UNBOUNDED: Bounds = Bounds {
    bytes: 1 << 44,
    entries: 10_000_000,
};

/// Fills it, and says what came of it; `None` where there is no archive.
pub(super) fn fill(
    workspace: &Workspace,
    request: &SandboxRequest,
    cancel: &CancellationToken,
) -> Result<Option<String>, AppError> {
    let Some(archive) = &request.unpack else {
        return Ok(None);
    };
    let own = &request.policy.workspace;
    let bounds = Bounds {
        bytes: own.size.unwrap_or(UNBOUNDED.bytes),
        entries: own.inodes.unwrap_or(UNBOUNDED.entries),
    };
    let mut tap = |_: &[u8]| match cancel.is_cancelled() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    match workspace.unpack(archive, bounds, &mut tap) {
        Ok(unpacked) => Ok(Some(told(archive, &unpacked))),
        Err(WorkspaceError::Archive {
            fault: Fault::Interrupted,
            ..
        }) => Err(ToolStop::Interrupted.into()),
        Err(error) => Err(error.into()),
    }
}

fn told(archive: &Path, unpacked: &Unpacked) -> String {
    let Unpacked {
        files,
        folders,
        bytes,
        left_out,
        named,
        ..
    } = unpacked;
    let (size, archive) = (unit::size(*bytes), visible(&archive.to_string_lossy()));
    let mut text = format!("{archive} is unpacked: {files} files, {folders} folders, {size}");
    if named.is_empty() {
        return text;
    }
    let named: Vec<String> = named
        .iter()
        .map(|(path, why)| format!("{} ({why})", visible(&path.to_string_lossy())))
        .collect();
    text.push_str(&format!("; left out: {}", named.join(", ")));
    match left_out.saturating_sub(named.len() as u64) {
        0 => {}
        more => text.push_str(&format!(" and {more} more")),
    }
    text
}
