//! Why a holder ends, and what the record says of it. Pure.

use crate::app::RunEnd;
use crate::protocol::stop::StopReason;
use crate::tools::ToolStop;
use std::time::Duration;

/// Why a holder ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Closed,
    Idle(Duration),
    /// By a signal.
    Stopped,
    /// Its one execution has ended, or its agent, and the run with it.
    Done(RunEnd),
    /// A person ended the run at a question, or the record cannot be written.
    Broken(ToolStop),
}

impl End {
    /// What the record says of it.
    pub fn run_end(&self) -> RunEnd {
        let (stop, exit_code, text) = match self {
            Self::Done(end) => return end.clone(),
            Self::Closed => (StopReason::Finished, 0, "closed".to_owned()),
            Self::Idle(time) => (
                StopReason::Finished,
                0,
                format!("nothing was asked of it for {} s", time.as_secs()),
            ),
            Self::Stopped => (StopReason::Interrupted, 130, String::new()),
            Self::Broken(stop) => {
                let reason = stop.reason();
                let code = reason.exit_code();
                (reason, code, stop.to_string())
            }
        };
        RunEnd {
            stop,
            exit_code,
            text,
        }
    }
}
