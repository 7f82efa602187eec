//! The attacks, made on this very machine: what a sandbox here holds, shown instead of claimed.
//!
//! ```text
//!   decoys laid out ─▶ each backend ─▶ a run of its own, as `exec` opens it
//!                                        ├─ probes  one step each: what was done, what refused
//!                                        └─ floods  under small limits: how it ended
//!                                      ─▶ held │ escaped │ failed, for each attempt
//! ```
//!
//! The same attempts, in the same words, are the project's own attack suite. It knows nothing of
//! tables; those are the doors'.

pub mod attempts;
pub mod decoys;

use super::{AppError, OpenedRun, RunEnd, RunStart, SandboxRequest, open_run};
use crate::config::Config;
use crate::context::sanitise::visible;
use crate::policy::action::Origin;
use crate::policy::model::{BackendChoice, Policy};
use crate::protocol::ids::RunId;
use crate::protocol::outcome::{Exit, Outcome};
use crate::protocol::spec::WORKSPACE_TARGET;
use crate::protocol::stop::StopReason;
use crate::tools::Passing;
use crate::tools::bench::{BenchIo, ExecRequest, Executed};
use crate::tools::door::Door;
use attempts::{FLOODS, Flood, PROBES, Report, Subject};
use decoys::Decoys;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Looked up in the sandbox.
const PYTHON: &str = "python3";

/// What the probes get: every machine that trains has it.
const MEMORY: u64 = 1 << 30;

/// No probe takes as long, unless it hangs.
const PROBE_MS: u64 = 120_000;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Everything it tried was refused.
    Held {
        /// How many things it tried.
        tried: usize,
    },
    Escaped {
        /// What succeeded.
        done: Vec<String>,
    },
    /// It says nothing about the sandbox: the attempt itself broke.
    Failed { why: String },
}

/// One attempt on one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub subject: Subject,
    pub name: &'static str,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// One backend.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Attacked {
    /// In the order of the attempts.
    Ran {
        /// Their records.
        runs: Vec<RunId>,
        tried: Vec<Tried>,
    },
    /// It is not there to be attacked.
    NotApplicable { why: String, remedy: Option<String> },
}

impl Attacked {
    pub fn tried(&self) -> &[Tried] {
        match self {
            Self::Ran { tried, .. } => tried,
            Self::NotApplicable { .. } => &[],
        }
    }
}

/// What is to be attacked, and with what.
pub struct Target<'a> {
    pub config: &'a Config,
    /// What the user types must be allowed by it: nobody is asked.
    pub policy: Policy,
    pub backend: BackendChoice,
    pub image: Option<&'a str>,
    pub door: Arc<dyn Door>,
    pub cancel: CancellationToken,
}

/// Is told the name of each attempt before it is made.
pub type Progress<'a> = dyn FnMut(&str) + Send + 'a;

/// Makes every attempt on one backend.
///
/// # Errors
/// When the attempts cannot be gone on with: interrupted, the record or the sandbox failed.
pub async fn attack(
    target: &Target<'_>,
    decoys: &Decoys,
    each: &mut Progress<'_>,
) -> Result<Attacked, AppError> {
    let mut tried = Vec::new();
    let run = match open(target, |_| {}).await {
        Ok(run) => run,
        Err(error) => {
            return Ok(Attacked::NotApplicable {
                why: error.to_string(),
                remedy: error.remedy(),
            });
        }
    };
    let mut runs = vec![run.record.run().clone()];
    let mut told = decoys.told(run.bench.workspace().path());
    told["tmp_exec"] = target.policy.tmp.exec.into();
    let probed = probe_all(target, &run, &told, (each, &mut tried)).await;
    close(run, &tried).await?;
    probed?;
    for flood in FLOODS {
        each(flood.name);
        let run = open(target, attempts::small).await?;
        runs.push(run.record.run().clone());
        let verdict = inundate(target, &run, flood).await;
        close(run, &tried).await?;
        tried.push(Tried {
            subject: Subject::Limits,
            name: flood.name,
            verdict: verdict?,
        });
    }
    Ok(Attacked::Ran { runs, tried })
}

async fn probe_all(
    target: &Target<'_>,
    run: &OpenedRun,
    told: &serde_json::Value,
    (each, tried): (&mut Progress<'_>, &mut Vec<Tried>),
) -> Result<(), AppError> {
    let program = attempts::program();
    for (subject, names) in PROBES {
        for &name in *names {
            each(name);
            let mut request = python(&program, Some(PROBE_MS));
            request.argv.push(name.as_bytes().to_vec());
            request.env = BTreeMap::from([("ATTACK".to_owned(), told.to_string())]);
            let verdict = match step(target, run, &request).await? {
                Ok((exit, said)) => judge(name, &exit, &said),
                Err(why) => Verdict::Failed { why },
            };
            tried.push(Tried {
                subject: *subject,
                name,
                verdict,
            });
        }
    }
    Ok(())
}

/// What a probe's report comes to. One that has nothing to say has not tried.
pub fn judge(name: &str, exit: &Exit, stdout: &[u8]) -> Verdict {
    let failed = |why: String| Verdict::Failed { why };
    if exit.outcome != Outcome::Code(0) {
        return failed(format!("the attempt ended with {}", exit.outcome));
    }
    let reports: BTreeMap<String, Report> = match serde_json::from_slice(stdout) {
        Ok(reports) => reports,
        Err(error) => return failed(format!("its report makes no sense: {error}")),
    };
    match reports.get(name) {
        None => failed("it made no report".to_owned()),
        Some(report) if !report.done.is_empty() => Verdict::Escaped {
            // What a sandbox says goes to a terminal.
            done: report.done.iter().map(|what| visible(what)).collect(),
        },
        Some(report) if report.refused.is_empty() => failed("it tried nothing".to_owned()),
        Some(report) => Verdict::Held {
            tried: report.refused.len(),
        },
    }
}

/// One flood in a sandbox of its own, which must go on after it.
async fn inundate(
    target: &Target<'_>,
    run: &OpenedRun,
    flood: &Flood,
) -> Result<Verdict, AppError> {
    for each in flood.steps {
        match step(target, run, &python(each.script, each.wall_ms)).await? {
            Err(why) => return Ok(Verdict::Failed { why }),
            Ok((exit, said)) => {
                let said = String::from_utf8_lossy(&said);
                if !(each.holds)(exit.outcome, &said) {
                    let done = vec![format!(
                        "{}, and said {}",
                        exit.outcome,
                        visible(said.trim())
                    )];
                    return Ok(Verdict::Escaped { done });
                }
            }
        }
    }
    let after = step(target, run, &python("print('alive')", None)).await?;
    Ok(match after {
        Ok((_, said)) if said == b"alive\n" => Verdict::Held {
            tried: flood.steps.len(),
        },
        Ok(_) => Verdict::Escaped {
            done: vec!["the sandbox does not go on after it".to_owned()],
        },
        Err(why) => Verdict::Failed { why },
    })
}

fn python(script: &str, wall_ms: Option<u64>) -> ExecRequest {
    ExecRequest {
        origin: Origin::Typed,
        argv: [PYTHON, "-c", script]
            .map(|word| word.as_bytes().to_vec())
            .to_vec(),
        cwd: WORKSPACE_TARGET.to_owned(),
        env: BTreeMap::new(),
        wall_ms,
    }
}

/// Runs it as the user's own command; what did not run is said in words.
async fn step(
    target: &Target<'_>,
    run: &OpenedRun,
    request: &ExecRequest,
) -> Result<Result<(Exit, Vec<u8>), String>, AppError> {
    let (mut stdout, mut stderr) = (Vec::new(), tokio::io::sink());
    let io = BenchIo {
        passing: Passing::Redacted,
        step: run.bench.next_step(),
        stdin: None,
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel: target.cancel.clone(),
    };
    Ok(match run.bench.exec(request, io).await? {
        Executed::Ran { exit, .. } if exit.outcome == Outcome::Cancelled => {
            return Err(AppError::Stop(crate::tools::ToolStop::Interrupted));
        }
        Executed::Ran { exit, .. } => Ok((exit, stdout)),
        Executed::Denied(denial) => Err(denial.to_string()),
        Executed::NotStarted(error) => Err(crate::tools::exec::not_started(&error, request)),
    })
}

async fn open(
    target: &Target<'_>,
    change: impl FnOnce(&mut Policy),
) -> Result<OpenedRun, AppError> {
    let mut policy = target.policy.clone();
    policy.limits.memory = Some(MEMORY);
    change(&mut policy);
    let request = SandboxRequest {
        artifacts: None,
        policy,
        policy_notes: Vec::new(),
        policy_folder: PathBuf::from("/"),
        backend: Some(target.backend),
        image: target.image.map(str::to_owned),
        workspace: None,
        unpack: None,
        venv: None,
        mounts: Vec::new(),
        env: BTreeMap::new(),
    };
    let start = RunStart {
        command: "selftest",
        task: "attacks on this machine's own sandboxes".to_owned(),
        model: None,
        cancel: target.cancel.clone(),
    };
    open_run(target.config, request, start, target.door.clone()).await
}

async fn close(run: OpenedRun, tried: &[Tried]) -> Result<(), AppError> {
    let held = tried
        .iter()
        .filter(|each| matches!(each.verdict, Verdict::Held { .. }))
        .count();
    let end = RunEnd {
        stop: StopReason::Finished,
        exit_code: 0,
        text: format!("{held} of {} held", tried.len()),
    };
    run.close(end).await.map(drop)
}

#[cfg(test)]
#[path = "selftest_tests.rs"]
mod tests;
