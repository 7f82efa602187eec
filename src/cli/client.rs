//! An execution in a holder, from its client's side: streams, questions, Ctrl-C.

use super::doors::{Answers, Show, TerminalDoor};
use super::exec::{told, unwritten};
use super::failure::{self, Failure};
use super::hold::holder_failure;
use super::input::Input;
use super::outlet::Outlet;
use crate::holder::{
    ExecAsk, ExecEnd, ExecTalk, FromHolder, HolderError, ToHolder, connect_exec, unexpected,
};
use crate::protocol::event::Event;
use crate::tools::Passing;
use crate::tools::bench::ExecRequest;
use crate::tools::door::{Answered, Door};
use std::future::{Future, pending};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// How long our own output is waited for after a stop: it may be what hangs.
const ABANDON: Duration = Duration::from_secs(10);

/// Runs it and gives its exit code.
pub(super) async fn exec(
    run_dir: &Path,
    (command, passing): (&ExecRequest, Passing),
    answers: Answers,
    cancel: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let ask = ExecAsk {
        argv: command.argv.clone(),
        cwd: command.cwd.clone(),
        env: command.env.clone(),
        wall_ms: command.wall_ms,
        raw: passing == Passing::Raw,
    };
    let failed = |error: HolderError| holder_failure(&error, failure::EXEC_OWN);
    let talk = connect_exec(run_dir, ask).await.map_err(failed)?;
    let door = TerminalDoor::new(Show::Quiet, answers);
    let (ended, lost) = attend(talk, &door, cancel).await.map_err(failed)?;
    let code = told(command, &ended)?;
    let run = run_dir.file_name().unwrap_or_default().to_string_lossy();
    lost.map(|()| code).map_err(|error| unwritten(&error, &run))
}

async fn attend(
    talk: ExecTalk,
    door: &TerminalDoor,
    cancel: &CancellationToken,
) -> Result<(ExecEnd, io::Result<()>), HolderError> {
    let ExecTalk {
        max_line,
        stdin,
        stdout,
        stderr,
        mut said,
        say,
        ..
    } = talk;
    let mut stdin = Some(stdin);
    let out = tokio::spawn(pour(stdout, Outlet::stdout(max_line)));
    let err = tokio::spawn(pour(stderr, Outlet::stderr(max_line)));
    let mut asking: Option<Pin<Box<dyn Future<Output = Answered> + Send + '_>>> = None;
    let mut stopped = false;
    let ended = loop {
        let answered = async {
            match &mut asking {
                Some(asking) => asking.await,
                None => pending().await,
            }
        };
        tokio::select! {
            message = said.recv() => match message {
                Some(FromHolder::Ended(ended)) => break ended,
                Some(FromHolder::Reading) => {
                    if let Some(stdin) = stdin.take() {
                        tokio::spawn(feed(stdin));
                    }
                }
                Some(FromHolder::Notice { text }) => door.show(&Event::Notice { text }),
                Some(FromHolder::Ask(question)) => {
                    asking = Some(Box::pin(async move { door.ask(&question).await }));
                }
                Some(other) => return Err(unexpected(other)),
                None => return Err(HolderError::Lost),
            },
            Answered { answer, approver } = answered => {
                asking = None;
                // A holder that is gone is heard of above.
                let _ = say.send(ToHolder::Answer { answer, by: approver }).await;
            }
            () = cancel.cancelled(), if !stopped => {
                stopped = true;
                asking = None;
                let _ = say.send(ToHolder::Cancel).await;
            }
        }
    };
    let rest = async {
        let (out, err) = tokio::join!(out, err);
        // A panic in one of them has been reported.
        out.unwrap_or(Ok(())).and(err.unwrap_or(Ok(())))
    };
    let lost = match stopped {
        true => tokio::time::timeout(ABANDON, rest).await.unwrap_or(Ok(())),
        false => rest.await,
    };
    Ok((ended, lost))
}

/// Our standard input, to its end.
async fn feed(mut to: UnixStream) {
    // A program that reads no more is no error.
    if tokio::io::copy(&mut Input::standard(), &mut to)
        .await
        .is_ok()
    {
        let _ = to.shutdown().await;
    }
}

/// What comes, onto one of our own streams. Where that is closed, so is the program's.
async fn pour(mut from: UnixStream, mut to: Outlet) -> io::Result<()> {
    // Its error is the stream's own, or one that the outlet keeps.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    drop(from);
    to.finish().await
}
