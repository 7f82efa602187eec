//! An agent's run as it is looked at from another process than its own, from the beginning to the end.
//!
//! ```text
//!   held?  ─yes─▶ its holder tells all, and is answered ─ lost ─▶ once more, from where it stopped
//!     └no─▶ the record tells what is lasting, as it grows ─▶ ended, or its process is gone
//! ```

use super::doors::{Answers, Show, TerminalDoor};
use super::failure::{self, Failure};
use super::hold::{holder_failure, over};
use super::{run, say};
use crate::config::Config;
use crate::holder::{
    FromHolder, HolderError, RunOver, Seat, ToHolder, WatchTalk, When, connect_watch, unexpected,
};
use crate::protocol::event::Event;
use crate::record::{RecordError, StoredRun};
use crate::tools::door::{Answered, Door};
use std::fs;
use std::future::{Future, pending};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks at a record.
const OFTEN: Duration = Duration::from_millis(100);

/// How it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) show: Show,
    pub(super) answers: Answers,
}

/// What came of looking.
enum Seen {
    Over(RunOver),
    /// Whoever looked does no more; it goes on.
    Left,
    /// Its process is gone without an end.
    Crashed,
}

struct Look<'a> {
    run: &'a StoredRun,
    door: TerminalDoor,
    how: How,
    cancel: &'a CancellationToken,
    /// Records that were shown.
    seen: u64,
}

/// Shows it to its end and gives its exit code.
pub(super) async fn to_the_end(
    config: &Config,
    run: &StoredRun,
    (how, cancel): (How, &CancellationToken),
) -> Result<ExitCode, Failure> {
    let mut look = Look {
        run,
        door: TerminalDoor::new(how.show, how.answers),
        how,
        cancel,
        seen: 0,
    };
    let ended = match look.look().await? {
        Seen::Over(ended) => ended,
        Seen::Left => {
            say("fumehood: no longer looking; it goes on");
            return Ok(ExitCode::from(failure::INTERRUPTED));
        }
        Seen::Crashed => {
            let why = format!("run {} has no end: its process was killed", run.id());
            let remedy = format!("fumehood runs show {}", run.id());
            return Err(Failure::new(why, failure::SANDBOX).remedy(Some(remedy)));
        }
    };
    // One that does not go is no matter of this command's.
    let _ = over(run).await;
    if let Some(why) = ended.unclosed {
        return Err(Failure::new(why, failure::SANDBOX));
    }
    if how.show == Show::Transcript {
        run::tell(&ended.stop, &ended.text, ended.remedy.as_deref());
        run::verified(config, run.id(), run.dir());
    }
    let code = u8::try_from(ended.stop.exit_code()).unwrap_or(failure::SANDBOX);
    Ok(ExitCode::from(code))
}

impl Look<'_> {
    async fn look(&mut self) -> Result<Seen, Failure> {
        let seat = match self.how.answers {
            Answers::Person => Seat::Asked,
            Answers::Yes | Answers::Nobody => Seat::Looking,
        };
        loop {
            match connect_watch(self.run.dir(), self.seen, seat).await {
                Ok(talk) => {
                    if let Some(seen) = self.attend(talk).await? {
                        return Ok(seen);
                    }
                }
                // Not held, or not any more.
                Err(HolderError::NoAnswer { .. } | HolderError::Lost) => {
                    return self.follow().await.map_err(unreadable);
                }
                Err(error) => return Err(holder_failure(&error, failure::SANDBOX)),
            }
            tokio::time::sleep(OFTEN).await;
        }
    }

    /// What its holder says, to the end; `None` where the holder is lost.
    async fn attend(&mut self, talk: WatchTalk) -> Result<Option<Seen>, Failure> {
        let WatchTalk { mut said, say } = talk;
        let mut asking: Option<Pin<Box<dyn Future<Output = Answered> + Send + '_>>> = None;
        let (door, cancel) = (&self.door, self.cancel);
        let mut stopped = false;
        loop {
            let answered = async {
                match &mut asking {
                    Some(asking) => asking.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = said.recv() => match message {
                    Some(FromHolder::Seen { event, when }) => {
                        self.seen += u64::from(!event.is_transient());
                        show(door, self.how.show, (&event, when));
                    }
                    Some(FromHolder::Ask(question)) => {
                        asking = Some(Box::pin(async move { door.ask(&question).await }));
                    }
                    Some(FromHolder::Settled) => asking = None,
                    Some(FromHolder::RunOver(over)) => return Ok(Some(Seen::Over(over))),
                    Some(other) => {
                        return Err(holder_failure(&unexpected(other), failure::SANDBOX));
                    }
                    None => return Ok(None),
                },
                Answered { answer, approver } = answered => {
                    asking = None;
                    // A terminal that went away answers nothing.
                    if Answers::of(false) != Answers::Person {
                        return Ok(Some(Seen::Left));
                    }
                    // A holder that is gone is heard of above.
                    let _ = say.send(ToHolder::Answer { answer, by: approver }).await;
                }
                () = cancel.cancelled(), if !stopped => {
                    stopped = true;
                    asking = None;
                    let _ = say.send(ToHolder::Cancel).await;
                }
            }
        }
    }

    /// What the record says, as it grows.
    async fn follow(&mut self) -> Result<Seen, RecordError> {
        let mut size = None;
        loop {
            // Before the record: what it says last was said before nobody held it.
            let running = self.run.is_running()?;
            let now = fs::metadata(self.run.events_path()).map_or(0, |found| found.len());
            if size.replace(now) != Some(now) || !running {
                let seen = usize::try_from(self.seen).unwrap_or(usize::MAX);
                for record in self.run.events()?.skip(seen) {
                    let event = record?.event;
                    self.seen += 1;
                    show(&self.door, self.how.show, (&event, When::Past));
                    if let Event::RunEnded { stop, text, .. } = event {
                        return Ok(Seen::Over(RunOver {
                            stop,
                            text,
                            remedy: None,
                            unclosed: None,
                        }));
                    }
                }
            }
            if !running {
                return Ok(Seen::Crashed);
            }
            tokio::select! {
                () = tokio::time::sleep(OFTEN) => {}
                () = self.cancel.cancelled() => return Ok(Seen::Left),
            }
        }
    }
}

/// As it happens; or, of the past, with what streamed when it happened.
fn show(door: &TerminalDoor, how: Show, (event, when): (&Event, When)) {
    if how == Show::Transcript && when == When::Past {
        match event {
            // Its output is in the answer.
            Event::StepStarted { .. } => return,
            Event::ModelAnswered { text, .. } if !text.is_empty() => {
                door.show(&Event::TextDelta { text: text.clone() });
            }
            _ => {}
        }
    }
    door.show(event);
}

fn unreadable(error: RecordError) -> Failure {
    let remedy = error.remedy();
    Failure::of(&error, failure::SANDBOX).remedy(remedy)
}
