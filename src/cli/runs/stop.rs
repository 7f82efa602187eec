//! `runs stop`: in order first, by force when that takes too long.

use super::failed;
use crate::cli::failure::{self, Failure};
use crate::cli::{request, say};
use crate::record::{Push, Pushed, RecordError, StoredRun};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks.
const OFTEN: Duration = Duration::from_millis(20);

/// How long a killed process may take to be gone: the kernel may have much to free.
const KILLED: Duration = Duration::from_secs(30);

pub(super) async fn stop(run: &StoredRun, grace: &str) -> Result<ExitCode, Failure> {
    let grace = Duration::from_millis(request::duration_ms("--grace", grace)?);
    if run.push(Push::Ask).map_err(failed)? == Pushed::HasEnded {
        say(&format!("run {} has ended already", run.id()));
        return Ok(ExitCode::SUCCESS);
    }
    if ended_within(run, grace).await.map_err(failed)? {
        say(&format!("run {} is stopped", run.id()));
        return Ok(ExitCode::SUCCESS);
    }
    run.push(Push::Force).map_err(failed)?;
    match ended_within(run, KILLED).await.map_err(failed)? {
        true => {
            say(&format!(
                "run {} did not stop in order, and was killed: its record has no end",
                run.id()
            ));
            Ok(ExitCode::SUCCESS)
        }
        false => Err(Failure::new(
            format!("run {} does not end, killed as it is", run.id()),
            failure::SANDBOX,
        )),
    }
}

async fn ended_within(run: &StoredRun, time: Duration) -> Result<bool, RecordError> {
    let end = Instant::now() + time;
    while !run.is_over()? {
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(OFTEN).await;
    }
    Ok(true)
}
