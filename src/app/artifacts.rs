//! Results of a run, copied out at its end and told on the record.

use super::{AppError, OpenedRun, SandboxRequest};
use crate::context::sanitise::visible;
use crate::protocol::event::{ArtifactFile, Event};
use crate::protocol::spec::{Access, SandboxSpec};
use crate::workspace::{Artifacts, Destination, Results, Share, Workspace, WorkspaceError};

/// Files that are told in one record.
const TOLD: usize = 1_000;

/// Makes the place for results, where some are wanted: before anything runs that could be in vain.
pub(super) fn place(
    request: &SandboxRequest,
    spec: &SandboxSpec,
    workspace: &Workspace,
) -> Result<Option<Destination>, AppError> {
    let Some(dir) = &request.artifacts else {
        return Ok(None);
    };
    let to = Destination::prepare(dir, workspace)?;
    let mut writable = spec
        .mounts
        .iter()
        .filter(|mount| mount.access == Access::ReadWrite);
    if let Some(mount) = writable.find(|mount| to.path().starts_with(&mount.source)) {
        return Err(AppError::Workspace(WorkspaceError::Results {
            dir: dir.clone(),
            why: format!("the sandbox writes in {}", mount.source.display()),
            remedy: "name an empty folder that is not mounted into the sandbox",
        }));
    }
    Ok(Some(to))
}

impl OpenedRun {
    /// Copies results out; nothing lives in the workspace any more.
    pub(super) fn collect(&self) -> Result<(), AppError> {
        let Some(to) = &self.artifacts else {
            return Ok(());
        };
        let wanted = &self.bench.policy().artifacts;
        let globs = Artifacts::new(&wanted.include)?;
        let bounds = Share {
            bytes: wanted.max_bytes,
            files: wanted.max_files,
        };
        let results = self.bench.workspace().collect(&globs, to, bounds)?;
        for event in events(&to.path().to_string_lossy(), results) {
            self.desk.emit(&event)?;
        }
        Ok(())
    }
}

/// One at least, also where there was nothing.
fn events(into: &str, results: Results) -> Vec<Event> {
    let text = |path: &std::path::Path| visible(&path.to_string_lossy());
    let mut left: Vec<String> = results
        .left
        .iter()
        .map(|(path, why)| format!("{}: {why}", text(path)))
        .collect();
    if results.left_more > 0 {
        left.push(format!("and {} more", results.left_more));
    }
    let files: Vec<ArtifactFile> = results
        .files
        .into_iter()
        .map(|file| ArtifactFile {
            path: text(&file.path),
            bytes: file.bytes,
            digest: file.digest,
        })
        .collect();
    let event = |files: &[ArtifactFile], left| Event::ArtifactsCollected {
        into: visible(into),
        files: files.to_vec(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        left,
    };
    let mut events: Vec<Event> = files
        .chunks(TOLD)
        .map(|some| event(some, Vec::new()))
        .collect();
    match events.last_mut() {
        Some(Event::ArtifactsCollected { left: said, .. }) => *said = left,
        _ => events.push(event(&[], left)),
    }
    events
}
