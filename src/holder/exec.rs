//! One execution on a client's behalf, through the bench as everything is.
//!
//! ```text
//!   client: Exec ──▶ Streams(token) ──▶ client connects stdin, stdout, stderr ──▶ bench.exec ──▶ Ended
//!                                                      notices, questions ◀──▶ answers, Cancel
//!   the client goes away: the step is cancelled, or ("finish") goes on with its log alone
//! ```

use super::detach::Output;
use super::door::{CLIENT, Client};
use super::end::End;
use super::error::HolderError;
use super::serve::{Holder, Service, tell};
use super::talk::Talk;
use super::wire::{self, ExecAsk, ExecEnd, FromHolder, StreamKind, ToHolder};
use crate::app;
use crate::policy::action::Origin;
use crate::policy::model::OnDisconnect;
use crate::policy::names;
use crate::protocol::ids::StepNumber;
use crate::tools::bench::{BenchIo, ExecRequest};
use crate::tools::{Passing, ToolStop};
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a client may take to connect its streams.
const CONNECTING: Duration = Duration::from_secs(30);

pub(super) async fn exec(holder: &Arc<Holder>, stream: UnixStream, ask: ExecAsk) {
    let refuse = |why: String| FromHolder::Refused {
        why,
        remedy: None,
        denied: false,
    };
    if matches!(holder.service, Service::Agent(_)) {
        let why = "it is an agent's run, and no box".to_owned();
        return tell(stream, refuse(why)).await;
    }
    let Ok(_place) = holder.execs.try_acquire() else {
        let why = "as many run at the same time as may be; wait until one of them has ended";
        return tell(stream, refuse(why.to_owned())).await;
    };
    if holder.stop.is_cancelled() {
        return tell(stream, refuse("the box is being closed".to_owned())).await;
    }
    for (name, value) in &ask.env {
        if let Err(error) = names::check_env(name, value) {
            return tell(stream, refuse(format!("--env {name}: {error}"))).await;
        }
    }
    if let Some(name) = app::unknown(holder.bench.desk().redactor(), &ask.env) {
        let why = format!(
            "--env {name} holds a secret that the box did not know when it was opened, so it could not be kept \
             out of the log: open the box with it (`box open --env {name}`)"
        );
        return tell(stream, refuse(why)).await;
    }
    let busy = holder.busy();
    let step = holder.bench.next_step();
    let mut talk = Talk::over(stream);
    let ended = match connected(holder, &mut talk, step).await {
        Ok(streams) => run(holder, &mut talk, streams, (step, ask)).await,
        Err(error) => return talk.end(wire::refusal(&error)).await,
    };
    drop(busy);
    let last = conclude(holder, ended).await;
    talk.end(last).await;
}

/// What the client hears, and what the holder makes of it.
async fn conclude(holder: &Holder, ended: ExecEnd) -> FromHolder {
    match (&holder.service, &ended) {
        (Service::Once, _) => {
            holder.finish(End::Done(app::exec_end(&ended)));
            match (holder.is_down().await, &ended) {
                // What went wrong first says more than a failure to clean up after it.
                (Err(why), Ok(_)) => {
                    return FromHolder::Refused {
                        why,
                        remedy: None,
                        denied: false,
                    };
                }
                _ => return FromHolder::Ended(ended),
            }
        }
        (Service::Box { .. }, Err(stop @ (ToolStop::Aborted { .. } | ToolStop::Record { .. }))) => {
            holder.finish(End::Broken(stop.clone()));
        }
        (Service::Box { .. } | Service::Agent(_), _) => {}
    }
    FromHolder::Ended(ended)
}

struct Streams {
    stdin: UnixStream,
    stdout: UnixStream,
    stderr: UnixStream,
}

async fn connected(
    holder: &Holder,
    talk: &mut Talk,
    step: StepNumber,
) -> Result<Streams, HolderError> {
    // Made from the time and at random; nobody but this user could use it anyway.
    let token = crate::record::new_run_id().to_string();
    let [stdin, stdout, stderr] = [StreamKind::Stdin, StreamKind::Stdout, StreamKind::Stderr]
        .map(|kind| holder.expect(&token, kind));
    let announced = talk.say.send(FromHolder::Streams {
        token: token.clone(),
        step,
        max_line: holder.bench.max_line(),
    });
    let arriving = async {
        announced.await.ok()?;
        Some(Streams {
            stdin: stdin.await.ok()?,
            stdout: stdout.await.ok()?,
            stderr: stderr.await.ok()?,
        })
    };
    let arrived = tokio::select! {
        arrived = timeout(CONNECTING, arriving) => arrived.ok().flatten(),
        // It has nothing to say before.
        _ = talk.said.recv() => None,
    };
    holder.expect_no_more(&token);
    arrived.ok_or(HolderError::Lost)
}

async fn run(
    holder: &Arc<Holder>,
    talk: &mut Talk,
    streams: Streams,
    (step, ask): (StepNumber, ExecAsk),
) -> ExecEnd {
    let request = ExecRequest {
        origin: Origin::Typed,
        argv: ask.argv,
        cwd: ask.cwd,
        env: ask.env,
        wall_ms: ask.wall_ms,
    };
    let cancel = holder.stop.child_token();
    let client = Arc::new(Client::new(talk.say.clone()));
    let (gone, reading) = (CancellationToken::new(), CancellationToken::new());
    let goes_on = holder.bench.policy().lifecycle.on_disconnect == OnDisconnect::Finish;
    let _listed = holder.listed(step, app::said(&request.argv), cancel.clone());
    let kept = goes_on.then(|| gone.clone());
    let (mut stdout, mut stderr) = (
        Output::new(streams.stdout, kept.clone()),
        Output::new(streams.stderr, kept),
    );
    let io = BenchIo {
        passing: match ask.raw {
            true => Passing::Raw,
            false => Passing::Redacted,
        },
        step,
        stdin: Some(Box::new(Input {
            from: streams.stdin,
            reading: reading.clone(),
        })),
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel: cancel.clone(),
    };
    let executed = CLIENT.scope(client.clone(), holder.bench.exec(&request, io));
    let listening = async {
        listen(talk, &client, (&cancel, &reading)).await;
        client.is_gone();
        gone.cancel();
        if !goes_on {
            cancel.cancel();
        }
        pending::<()>().await;
    };
    tokio::select! {
        ended = executed => ended,
        () = listening => Err(ToolStop::Interrupted),
    }
}

/// Hears the client until it is gone, or what it says makes no sense; tells it when its input is read.
async fn listen(
    talk: &mut Talk,
    client: &Client,
    (cancel, reading): (&CancellationToken, &CancellationToken),
) {
    let mut told = false;
    loop {
        tokio::select! {
            said = talk.said.recv() => match said {
                Some(ToHolder::Cancel) => cancel.cancel(),
                Some(ToHolder::Answer { answer, by }) => client.answered(answer, by),
                Some(_) | None => return,
            },
            () = reading.cancelled(), if !told => {
                told = true;
                // One that is gone is heard of above.
                let _ = talk.say.send(FromHolder::Reading).await;
            }
        }
    }
}

/// A step's input, which tells when it is first read: before, a terminal's keys may be answers.
struct Input {
    from: UnixStream,
    reading: CancellationToken,
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reading.cancel();
        Pin::new(&mut self.from).poll_read(context, buffer)
    }
}
