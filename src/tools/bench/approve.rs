//! From a request to a permit: what the workspace holds, what the gate says, what a person is shown.

use super::{Bench, BenchIo, ExecRequest, Seen};
use crate::context::sanitise::visible;
use crate::policy::action::{ExecAction, Origin};
use crate::policy::gate::decide_exec;
use crate::policy::permit::{Denial, Permit};
use crate::protocol::question::{ExecView, QuestionBody};
use crate::protocol::spec::SandboxSpec;
use crate::tools::ToolStop;
use crate::tools::desk::{About, Patience, Scope, Settled};
use crate::workspace::{
    Snapshot, SnapshotRequest, ViewRequest, WorkspaceError, code_tree, names_artifact,
};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

impl Bench {
    /// The workspace as it is now. Off the async threads: it walks and hashes. Texts are kept for the
    /// model's steps only: what the user typed has no earlier yes to show a difference to.
    pub(super) async fn look(&self, origin: Origin) -> Result<Seen, ToolStop> {
        let mut memory = self.memory.lock().await;
        let (setup, artifacts) = (self.setup.clone(), self.artifacts.clone());
        let before = memory.seen.clone();
        let seen = tokio::task::spawn_blocking(move || -> Result<Seen, WorkspaceError> {
            let tree = setup.workspace.snapshot(&SnapshotRequest {
                artifacts: &artifacts,
                previous: before.as_deref(),
                texts: (origin == Origin::Model).then_some(&setup.texts),
            })?;
            Ok(Seen {
                code: code_tree(&tree, &artifacts)?,
                tree: Arc::new(tree),
            })
        })
        .await
        .map_err(|error| unreadable(&error, None))?
        .map_err(|error| unreadable(&error, error.remedy()))?;
        memory.seen = Some(seen.tree.clone());
        Ok(seen)
    }

    pub(super) fn act(&self, request: &ExecRequest, seen: &Seen, io: &BenchIo<'_>) -> ExecAction {
        ExecAction {
            run: self.setup.run.clone(),
            origin: request.origin,
            argv: request.argv.clone(),
            cwd: request.cwd.clone(),
            env: request.env.clone(),
            stdin: io.stdin.is_some(),
            wall_ms: request.wall_ms,
            sandbox: self.setup.spec.clone(),
            policy: self.policy_digest.clone(),
            code: seen.code.clone(),
            names_artifact: names_artifact(
                &request.argv,
                &request.cwd,
                &self.artifacts,
                &seen.tree,
            ),
        }
    }

    pub(super) async fn settle(
        &self,
        act: ExecAction,
        seen: &Seen,
        cancel: &CancellationToken,
    ) -> Result<Result<Permit<ExecAction>, Denial>, ToolStop> {
        let (standing, approved) = {
            let memory = self.memory.lock().await;
            (memory.standing.clone(), memory.approved.clone())
        };
        let about = About::act(&act);
        let verdict = decide_exec(&self.setup.policy, &standing, act);
        let patience = Patience {
            timeout: self
                .setup
                .policy
                .approval
                .timeout_ms
                .map(Duration::from_millis),
            cancel: cancel.clone(),
        };
        let body = |act: &ExecAction| self.view(act, approved.as_deref(), &seen.tree);
        match self
            .setup
            .desk
            .settle(about, verdict, body, &patience)
            .await?
        {
            Settled::Denied(denial) => Ok(Err(denial)),
            Settled::Granted { permit, scope } => {
                let mut memory = self.memory.lock().await;
                if scope != Scope::Unasked {
                    memory.standing.yes_given = true;
                    memory.approved = Some(seen.tree.clone());
                }
                if scope == Scope::Run {
                    memory.standing.remembered.insert(permit.digest().clone());
                }
                Ok(Ok(permit))
            }
        }
    }

    pub(super) fn view(
        &self,
        act: &ExecAction,
        approved: Option<&Snapshot>,
        tree: &Snapshot,
    ) -> QuestionBody {
        let argv = act.argv.iter();
        let views = self.setup.workspace.file_views(&ViewRequest {
            argv: &act.argv,
            cwd: &act.cwd,
            artifacts: &self.artifacts,
            approved,
            now: tree,
            texts: &self.setup.texts,
        });
        QuestionBody::Exec(Box::new(ExecView {
            argv: argv
                .map(|word| visible(&String::from_utf8_lossy(word)))
                .collect(),
            cwd: visible(&act.cwd),
            files: views.files,
            omitted: views.omitted,
            sandbox: shown(act),
            controls: self.setup.controls.clone(),
            wall_ms: act.wall_ms,
            watch: self.setup.policy.watch.clone(),
            granted: self.grants.all().iter().map(ToString::to_string).collect(),
        }))
    }
}

/// The sandbox, with the variables that this execution adds.
fn shown(act: &ExecAction) -> SandboxSpec {
    let mut sandbox = act.sandbox.clone();
    sandbox.env.extend(act.env.clone());
    sandbox
}

/// A workspace that cannot be looked at cannot be approved.
fn unreadable(error: &dyn std::error::Error, remedy: Option<String>) -> ToolStop {
    let mut text = format!("failed to read the workspace: {error}");
    let mut below = error.source();
    while let Some(cause) = below {
        text.push_str(&format!(": {cause}"));
        below = cause.source();
    }
    ToolStop::Sandbox {
        error: text,
        remedy,
    }
}
