use super::*;
use crate::protocol::ids::Digest;
use crate::protocol::question::{CloneView, QuestionBody};

fn question() -> QuestionView {
    QuestionView {
        digest: Digest::new("d"),
        action: "clone".into(),
        summary: "clone it".into(),
        rule: "default".into(),
        why: "it asks".into(),
        widens: None,
        for_run: false,
        body: QuestionBody::Clone(CloneView {
            url: "https://x/y".into(),
            rev: None,
            into: "y".into(),
        }),
    }
}

fn notice(text: &str) -> Event {
    Event::Notice { text: text.into() }
}

fn streamed() -> Event {
    Event::TextDelta { text: "a".into() }
}

fn by_a_person() -> Answered {
    Answered {
        answer: Answer::Yes,
        approver: Approver::Person,
    }
}

async fn is_asked(sitting: &mut Sitting) {
    assert!(matches!(
        sitting.live.recv().await,
        Some(FromHolder::Ask(_))
    ));
}

#[tokio::test]
async fn a_question_waits_for_whoever_attaches() {
    let audience = Audience::new(Standing::Person);
    let asking = {
        let audience = audience.clone();
        tokio::spawn(async move { audience.ask(&question()).await })
    };
    while audience.lock().asking.is_none() {
        tokio::task::yield_now().await;
    }
    let mut looking = audience.sit(Seat::Looking);
    let mut asked = audience.sit(Seat::Asked);
    is_asked(&mut asked).await;
    // The first answer counts, and the others' question goes away.
    let mut late = audience.sit(Seat::Asked);
    is_asked(&mut late).await;
    audience.answered(by_a_person());
    audience.answered(Answered {
        answer: Answer::Abort,
        approver: Approver::Person,
    });
    assert_eq!(asking.await.unwrap(), by_a_person());
    assert!(matches!(late.live.recv().await, Some(FromHolder::Settled)));
    assert!(looking.live.try_recv().is_err());
}

#[tokio::test]
async fn a_question_that_is_taken_back_is_asked_of_nobody() {
    let audience = Audience::new(Standing::Person);
    let mut asked = audience.sit(Seat::Asked);
    let patience = std::time::Duration::from_millis(1);
    let out_of_time = tokio::time::timeout(patience, audience.ask(&question())).await;
    assert!(out_of_time.is_err());
    is_asked(&mut asked).await;
    assert!(matches!(asked.live.recv().await, Some(FromHolder::Settled)));
    let mut late = audience.sit(Seat::Asked);
    assert!(late.live.try_recv().is_err());
}

#[tokio::test]
async fn without_a_terminal_at_the_start_the_answer_is_no_unless_a_person_is_there() {
    let audience = Audience::new(Standing::Nobody);
    let looking = audience.sit(Seat::Looking);
    let answered = audience.ask(&question()).await;
    assert_eq!(answered.approver, Approver::NoTerminal);
    drop(looking);
    let mut asked = audience.sit(Seat::Asked);
    let asked_about = question();
    let (answered, ()) = tokio::join!(audience.ask(&asked_about), async {
        is_asked(&mut asked).await;
        audience.answered(by_a_person());
    });
    assert_eq!(answered, by_a_person());
    drop(asked);
    let answered = audience.ask(&question()).await;
    assert_eq!(answered.approver, Approver::NoTerminal);
}

#[tokio::test]
async fn yes_that_was_typed_stays_a_yes_by_the_flag() {
    let audience = Audience::new(Standing::Yes);
    let mut asked = audience.sit(Seat::Asked);
    let answered = audience.ask(&question()).await;
    assert_eq!(answered.approver, Approver::YesFlag);
    assert!(asked.live.try_recv().is_err());
}

/// The record has what is lasting: one that is behind comes again, and begins where it stopped.
#[tokio::test]
async fn one_that_does_not_keep_up_misses_only_what_streams() {
    let audience = Audience::new(Standing::Nobody);
    audience.shown(&notice("before"));
    audience.shown(&streamed());
    let mut slow = audience.sit(Seat::Looking);
    assert_eq!(slow.before, 1, "what is lasting is counted");
    for _ in 0..2 * UNSEEN {
        audience.shown(&streamed());
    }
    assert_eq!(audience.lock().seats.len(), 1, "it stays");
    audience.shown(&notice("lost"));
    assert!(audience.lock().seats.is_empty());
    let mut came = 0;
    while let Some(seen) = slow.live.recv().await {
        assert!(matches!(
            seen,
            FromHolder::Seen {
                when: When::Now,
                ..
            }
        ));
        came += 1;
    }
    assert_eq!(came, UNSEEN);
    assert_eq!(audience.sit(Seat::Looking).before, 2);
}
