//! `clone_repo`: the files of a repository into the workspace.

use super::bench::Bench;
use super::desk::{About, Patience, Settled};
use super::{CallContext, Tool, ToolOutput, ToolStop};
use crate::context::sanitise::visible;
use crate::policy::action::CloneAction;
use crate::policy::gate::decide_clone;
use crate::policy::permit::Permit;
use crate::protocol::event::{ClonePhase, Event};
use crate::protocol::message::ToolSpec;
use crate::protocol::question::{CloneView, QuestionBody};
use crate::repo::{CloneReport, Ground, Progress, RepoClient, RepoError};
use crate::sandbox::owner;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two words on how a clone goes on.
const PACE: Duration = Duration::from_millis(100);

/// The tool.
pub struct CloneTool {
    bench: Arc<Bench>,
    client: RepoClient,
    /// A folder of ours for what is fetched, outside the workspace.
    scratch: PathBuf,
}

impl CloneTool {
    pub fn new(bench: Arc<Bench>, client: RepoClient, scratch: PathBuf) -> Self {
        Self {
            bench,
            client,
            scratch,
        }
    }

    async fn clone_repo(
        &self,
        permit: Permit<CloneAction>,
        context: &CallContext,
    ) -> Result<CloneReport, RepoError> {
        let ground = Ground {
            policy: self.bench.policy(),
            workspace: self.bench.workspace().fd(),
            owner: (owner::caller().0 == 0).then(|| self.bench.user()),
            scratch: &self.scratch,
        };
        let desk = self.bench.desk();
        let mut told: Option<Instant> = None;
        let mut tell = |step: Progress| {
            if told.is_none_or(|at| at.elapsed() >= PACE) {
                told = Some(Instant::now());
                // It is shown only: nothing of it can fail.
                let _ = desk.emit(&stands(step));
            }
        };
        self.client
            .clone_repo(permit, ground, &mut tell, &context.cancel)
            .await
    }
}

fn stands(step: Progress) -> Event {
    match step {
        Progress::Receiving {
            bytes,
            objects,
            total,
        } => Event::CloneProgress {
            phase: ClonePhase::Receiving,
            done: objects,
            total,
            bytes,
        },
        Progress::Writing { files, total } => Event::CloneProgress {
            phase: ClonePhase::Writing,
            done: files,
            total,
            bytes: 0,
        },
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    url: String,
    rev: Option<String>,
    into: Option<String>,
}

#[async_trait]
impl Tool for CloneTool {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "clone_repo".into(),
            description: "Clones a repository into the workspace: its files at one revision, \
                without history, links, submodules or LFS content. Only from the places that the \
                policy names; others are asked about."
                .into(),
            schema: json!({
                "type": "object",
                "properties": {
                    "url": {"type": "string", "description": "https://HOST/PATH, or what the policy lists"},
                    "rev": {"type": "string", "description": "a branch, a tag or a full commit id; default: the default branch"},
                    "into": {"type": "string", "description": "folder below /workspace; default: the repository's name"}
                },
                "required": ["url"],
                "additionalProperties": false
            }),
        }
    }

    async fn call(&self, arguments: Value, context: &CallContext) -> Result<ToolOutput, ToolStop> {
        let arguments: Arguments = match serde_json::from_value(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return Ok(ToolOutput::failed(format!("clone_repo: {error}"))),
        };
        let act = CloneAction {
            run: self.bench.run().clone(),
            into: folder(&arguments),
            url: arguments.url,
            rev: arguments.rev,
            policy: self.bench.policy_digest().clone(),
        };
        let into = act.into.clone();
        let about = About::act(&act);
        let verdict = decide_clone(self.bench.policy(), act);
        let patience = Patience {
            timeout: self
                .bench
                .policy()
                .approval
                .timeout_ms
                .map(Duration::from_millis),
            cancel: context.cancel.clone(),
        };
        let desk = self.bench.desk();
        let permit = match desk.settle(about, verdict, view, &patience).await? {
            Settled::Granted { permit, .. } => permit,
            Settled::Denied(denial) => {
                return Ok(ToolOutput::failed(format!("Not cloned: {denial}.")));
            }
        };
        desk.emit(&Event::CloneStarted {
            url: visible(&permit.act().url),
            rev: permit.act().rev.as_deref().map(visible),
        })?;
        match self.clone_repo(permit, context).await {
            Ok(report) => {
                desk.emit(&ended(&report))?;
                Ok(ToolOutput::ok(said(&report, &into)))
            }
            Err(_) if context.cancel.is_cancelled() => Err(ToolStop::Interrupted),
            Err(error) => Ok(ToolOutput::failed(failed(&error))),
        }
    }
}

fn view(act: &CloneAction) -> QuestionBody {
    QuestionBody::Clone(CloneView {
        url: visible(&act.url),
        rev: act.rev.as_deref().map(visible),
        into: visible(&act.into.to_string_lossy()),
    })
}

/// Where it goes: as given, else the last name of the URL's path. The gate judges it.
fn folder(arguments: &Arguments) -> PathBuf {
    if let Some(into) = &arguments.into {
        let below = into.strip_prefix("/workspace").unwrap_or(into);
        return PathBuf::from(below.trim_start_matches('/'));
    }
    let path = arguments.url.split(['?', '#']).next().unwrap_or_default();
    let name = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let name = name.strip_suffix(".git").unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(plain) {
        true => PathBuf::from(name),
        false => PathBuf::from("repository"),
    }
}

fn ended(report: &CloneReport) -> Event {
    Event::CloneEnded {
        url: visible(&report.url),
        commit: report.commit.clone(),
        files: report.files,
        bytes: report.bytes,
        notes: report.notes.iter().map(ToString::to_string).collect(),
    }
}

fn said(report: &CloneReport, into: &std::path::Path) -> String {
    let mut text = format!(
        "cloned into /workspace/{}: {} files, {} bytes, commit {}\n",
        into.display(),
        report.files,
        report.bytes,
        report.commit
    );
    for note in &report.notes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{note}");
    }
    text
}

fn failed(error: &RepoError) -> String {
    let mut text = format!("Not cloned, and nothing is left of it: {error}");
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        let _ = write!(text, ": {cause}");
        below = cause.source();
    }
    if let Some(remedy) = error.remedy() {
        let _ = write!(text, "\nhelp: {remedy}");
    }
    visible_text(&text)
}

/// What a server said may be in it.
fn visible_text(text: &str) -> String {
    crate::context::sanitise::sanitise(text.as_bytes(), 2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn into(url: &str, into: Option<&str>) -> PathBuf {
        folder(&Arguments {
            url: url.into(),
            rev: None,
            into: into.map(str::to_owned),
        })
    }

    #[test]
    fn the_folder_is_the_repositorys_name_or_what_was_asked_for() {
        assert_eq!(into("https://h/a/iris.git", None), PathBuf::from("iris"));
        assert_eq!(into("https://h/a/iris/?x=1", None), PathBuf::from("iris"));
        assert_eq!(into("https://h/a/..git", None), PathBuf::from("repository"));
        assert_eq!(into("https://h/..", None), PathBuf::from("repository"));
        assert_eq!(
            into("https://h/a", Some("/workspace/x/y")),
            PathBuf::from("x/y")
        );
    }
}
