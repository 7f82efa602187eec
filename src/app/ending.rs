//! What an execution of the user's ends a run with. Pure.

use super::RunEnd;
use crate::context::sanitise::visible;
use crate::protocol::outcome::Outcome;
use crate::protocol::stop::StopReason;
use crate::sandbox::wire::StartError;
use crate::tools::ToolStop;
use crate::tools::bench::Executed;

/// The exit codes of `exec` that are not the program's own.
pub mod exits {
    /// Everything that is Fumehood's own.
    pub const OWN: u8 = 125;
    /// Denied, or not executable.
    pub const DENIED: u8 = 126;
    /// Not found in the sandbox.
    pub const NOT_FOUND: u8 = 127;
    /// 128 + SIGINT.
    pub const INTERRUPTED: u8 = 130;
}

/// How the run of one execution ends.
pub fn exec_end(executed: &Result<Executed, ToolStop>) -> RunEnd {
    let (stop, code) = match executed {
        Ok(Executed::Ran { exit, .. }) => {
            let stop = match exit.outcome {
                Outcome::Cancelled => StopReason::Interrupted,
                _ => StopReason::Finished,
            };
            let code = u8::try_from(exit.outcome.exit_code()).unwrap_or(exits::OWN);
            (stop, code)
        }
        Ok(Executed::Denied(denial)) => {
            let why = denial.to_string();
            (StopReason::Denied { why }, exits::DENIED)
        }
        Ok(Executed::NotStarted(error)) => (StopReason::Finished, not_started(error)),
        Err(stop) => (stop.reason(), stopped(stop)),
    };
    RunEnd {
        stop,
        exit_code: i32::from(code),
        text: String::new(),
    }
}

fn not_started(error: &StartError) -> u8 {
    match error {
        StartError::NotFound => exits::NOT_FOUND,
        StartError::NotExecutable { .. } => exits::DENIED,
        StartError::WorkingDirectory { .. }
        | StartError::TooLarge
        | StartError::Resources { .. }
        | StartError::Unconfined { .. }
        | StartError::Invalid { .. } => exits::OWN,
    }
}

fn stopped(stop: &ToolStop) -> u8 {
    match stop {
        ToolStop::Aborted { .. } | ToolStop::NobodyAsked { .. } => exits::DENIED,
        ToolStop::Interrupted => exits::INTERRUPTED,
        ToolStop::Sandbox { .. } | ToolStop::Record { .. } => exits::OWN,
    }
}

/// The argument list on one line, for the record.
pub fn said(argv: &[Vec<u8>]) -> String {
    let words = argv
        .iter()
        .map(|word| visible(&String::from_utf8_lossy(word)));
    words.collect::<Vec<_>>().join(" ")
}
