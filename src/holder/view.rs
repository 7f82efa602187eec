//! One who looks at an agent's run: first what the record has, then what happens, to the end.

use super::audience::{Audience, Sitting};
use super::error::HolderError;
use super::serve::{Holder, Service, tell};
use super::talk::Talk;
use super::wire::{self, FromHolder, RunOver, Seat, ToHolder, When};
use crate::protocol::stop::StopReason;
use crate::record::{RecordError, StoredRun};
use crate::tools::door::Answered;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

pub(super) async fn view(holder: &Arc<Holder>, stream: UnixStream, (from, seat): (u64, Seat)) {
    let Service::Agent(audience) = &holder.service else {
        let error = HolderError::Refused {
            why: "it is no agent's run".to_owned(),
            remedy: None,
        };
        return tell(stream, wire::refusal(&error)).await;
    };
    let mut talk = Talk::over(stream);
    let mut sitting = audience.sit(seat);
    let stored = holder.bench.desk().record().stored();
    let (say, until) = (talk.say.clone(), sitting.before);
    let past = tokio::task::spawn_blocking(move || past(&stored, (from, until), &say)).await;
    if let Ok(Err(error)) = past {
        tracing::warn!(%error, "the record cannot be shown");
        return;
    }
    if attend(holder, audience, (&mut talk, &mut sitting)).await {
        let last = over(audience, holder.is_down().await);
        talk.end(FromHolder::RunOver(last)).await;
    }
}

/// What was recorded before. One that is gone is heard of later.
fn past(
    stored: &StoredRun,
    (from, until): (u64, u64),
    say: &mpsc::Sender<FromHolder>,
) -> Result<(), RecordError> {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let events = stored.events()?.take(count(until)).skip(count(from));
    for record in events {
        let seen = FromHolder::Seen {
            event: Box::new(record?.event),
            when: When::Past,
        };
        if say.blocking_send(seen).is_err() {
            break;
        }
    }
    Ok(())
}

/// Until the run is closed: true. Or until it looks no more, or does not keep up: false.
async fn attend(
    holder: &Arc<Holder>,
    audience: &Audience,
    (talk, sitting): (&mut Talk, &mut Sitting),
) -> bool {
    loop {
        tokio::select! {
            seen = sitting.live.recv() => match seen {
                Some(seen) => if talk.say.send(seen).await.is_err() {
                    return false;
                },
                None => return false,
            },
            said = talk.said.recv() => match said {
                Some(ToHolder::Cancel) => holder.stop.cancel(),
                Some(ToHolder::Answer { answer, by }) => {
                    audience.answered(Answered { answer, approver: by });
                }
                Some(_) | None => return false,
            },
            _ = holder.is_down() => {
                while let Ok(seen) = sitting.live.try_recv() {
                    if talk.say.send(seen).await.is_err() {
                        return false;
                    }
                }
                return true;
            }
        }
    }
}

fn over(audience: &Audience, closed: Result<(), String>) -> RunOver {
    let over = audience.over().unwrap_or(RunOver {
        stop: StopReason::Interrupted,
        text: String::new(),
        remedy: None,
        unclosed: None,
    });
    RunOver {
        unclosed: closed.err(),
        ..over
    }
}
