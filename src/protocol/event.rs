//! What happened, one value for each thing: the lines of the record and of `--json`.

use super::alarm::Alarm;
use super::control::Controls;
use super::device::{Gpu, GpuSample};
use super::ids::{CallId, Digest, RunId, StepNumber};
use super::outcome::Exit;
use super::spec::BackendKind;
use super::stop::StopReason;
use serde::{Deserialize, Serialize};

/// Who let an act through, or refused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Approver {
    /// A rule or a default of the policy.
    Policy { rule: String },
    /// A person at the terminal.
    Person,
    /// `--yes`, inside the policy's envelope.
    YesFlag,
    /// A person's earlier "yes to this code tree and argv for the run".
    Remembered,
    /// The user typed the very command (`exec`).
    Typed,
    /// Nobody could be asked.
    NoTerminal,
}

/// What a clone is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClonePhase {
    /// Objects come.
    Receiving,
    /// Files are written into the workspace.
    Writing,
}

/// One result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Relative to the workspace.
    pub path: String,
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Event {
    RunStarted {
        run: RunId,
        version: String,
        /// `run`, `exec`, `box` or `demo`.
        command: String,
        /// The task or the command line, as given.
        task: String,
        policy: String,
        policy_digest: Digest,
        workspace: String,
        model: Option<String>,
    },
    UserInput {
        text: String,
    },
    /// A piece of the model's text as it streams; shown, and kept out of the record.
    TextDelta {
        text: String,
    },
    ModelAnswered {
        turn: u32,
        text: String,
        input_tokens: u64,
        output_tokens: u64,
    },
    ToolCalled {
        call: CallId,
        name: String,
        arguments: String,
    },
    ToolAnswered {
        call: CallId,
        name: String,
        ok: bool,
        text: String,
    },
    Asked {
        digest: Digest,
        action: String,
        summary: String,
        rule: String,
        detail: serde_json::Value,
    },
    Decided {
        digest: Digest,
        action: String,
        allowed: bool,
        approver: Approver,
        why: String,
    },
    SandboxStarted {
        name: String,
        backend: BackendKind,
        image: Option<String>,
        controls: Controls,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gpus: Vec<Gpu>,
    },
    /// Secrets were handed to the sandbox: from here on its steps can read them.
    SecretsGiven {
        names: Vec<String>,
    },
    StepStarted {
        step: StepNumber,
        argv: Vec<String>,
        cwd: String,
        digest: Digest,
    },
    /// A piece of a step's output, sanitised; shown, and kept out of the record.
    Output {
        step: StepNumber,
        text: String,
    },
    /// What the GPUs of the sandbox were busy with while the step ran, from time to time.
    GpusSampled {
        step: StepNumber,
        gpus: Vec<GpuSample>,
    },
    /// Something about a running step is worth a look; the policy says what.
    Alarm {
        step: StepNumber,
        alarm: Alarm,
    },
    StepEnded {
        step: StepNumber,
        exit: Exit,
        log: String,
        log_dropped: u64,
        changed: Vec<String>,
    },
    /// The program was not executed.
    StepNotStarted {
        step: StepNumber,
        why: String,
    },
    SandboxEnded {
        name: String,
    },
    CloneStarted {
        url: String,
        rev: Option<String>,
    },
    /// Where a clone stands, a few times a second; shown, and kept out of the record.
    CloneProgress {
        phase: ClonePhase,
        /// Objects that came, or files that are written.
        done: u64,
        /// 0 while unknown.
        total: u64,
        /// Bytes that came over the network.
        bytes: u64,
    },
    CloneEnded {
        url: String,
        commit: String,
        files: u64,
        bytes: u64,
        notes: Vec<String>,
    },
    /// Something in the sandbox wanted to reach what it may not. `port` is unknown where only a name was
    /// asked for.
    NetworkBlocked {
        host: String,
        port: Option<u16>,
        why: String,
    },
    /// A connection is about to be made. `method` is seen in plain HTTP only.
    NetworkOpened {
        connection: u64,
        host: String,
        port: u16,
        method: Option<String>,
    },
    /// It is over. `sent` and `received` are bytes, `why` is empty where both sides were done.
    NetworkClosed {
        connection: u64,
        address: Option<String>,
        sent: u64,
        received: u64,
        why: String,
    },
    /// Things the workspace may not keep (links out, setuid bits, new `.git`), moved into the record.
    Quarantined {
        paths: Vec<String>,
    },
    /// Results were copied out of the workspace, after nothing lived in it any more.
    ArtifactsCollected {
        into: String,
        files: Vec<ArtifactFile>,
        /// Of these files.
        bytes: u64,
        /// What was not taken, and why.
        left: Vec<String>,
    },
    /// A file was put into the workspace from outside, on the user's word (`box put`).
    FilePut {
        path: String,
        bytes: u64,
        digest: Digest,
    },
    /// A file of the workspace was given out, on the user's word (`box get`).
    FileGot {
        path: String,
        bytes: u64,
        digest: Digest,
    },
    Notice {
        text: String,
    },
    RunEnded {
        stop: StopReason,
        exit_code: i32,
        text: String,
    },
}

impl Event {
    /// True for pieces that are shown as they come and not written to the record.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::TextDelta { .. } | Self::Output { .. } | Self::CloneProgress { .. }
        )
    }
}
