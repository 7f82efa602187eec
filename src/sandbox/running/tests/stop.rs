//! Deadlines, cancels, and steps that nobody waits for any more.

use super::*;
use tokio::time::Instant;

const SIGTERM: i32 = 15;

/// Dies of TERM, or of KILL only.
fn backend() -> FakeBackend {
    FakeBackend::new(|start| match named(start) {
        "polite" => Part::until(&[SIGTERM]),
        "stubborn" => Part::until(&[]),
        "cleans-up" => Part::acted(async |mut seat| {
            seat.signals.recv().await;
            seat.stdout.write_all(b"saved").await.unwrap();
            WaitStatus::Code(0)
        }),
        _ => Part::exit(0, "", ""),
    })
}

fn within(wall_ms: u64, program: &str) -> ExecAction {
    ExecAction {
        wall_ms: Some(wall_ms),
        ..act(&spec(), &[program])
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_step_with_term() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let begun = Instant::now();
    let ran = run(&sandbox, within(5000, "polite")).await;
    assert_eq!(ran.outcome(), Outcome::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(sandbox.alive().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_ignores_term_is_killed_after_the_grace() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let begun = Instant::now();
    let ran = run(&sandbox, within(5000, "stubborn")).await;
    assert_eq!(ran.outcome(), Outcome::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_a_step_says_on_term_is_heard_and_it_is_timed_out_all_the_same() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let ran = run(&sandbox, within(5000, "cleans-up")).await;
    assert_eq!(ran.outcome(), Outcome::TimedOut);
    assert_eq!(ran.stdout, b"saved");
}

#[tokio::test(start_paused = true)]
async fn the_nearer_deadline_counts() {
    let backend = backend();
    let mut strict = spec();
    strict.limits.wall_ms = Some(2000);
    let sandbox = Sandbox::start(&backend, &strict, "x").await.unwrap();
    for (asked, expected) in [(Some(60_000), 2000), (None, 2000), (Some(500), 500)] {
        let mut act = act(&strict, &["polite"]);
        act.wall_ms = asked;
        let begun = Instant::now();
        assert_eq!(run(&sandbox, act).await.outcome(), Outcome::TimedOut);
        let took = begun.elapsed().as_millis();
        assert!((expected..expected + 100).contains(&took), "{took}");
    }
}

#[tokio::test]
async fn one_step_is_cancelled_while_another_runs() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let both = async {
        tokio::join!(
            run_until(&sandbox, act(&spec(), &["polite"]), first.clone()),
            async {
                let other = run_until(&sandbox, act(&spec(), &["polite"]), second.clone());
                tokio::pin!(other);
                let still = timeout(Duration::from_millis(50), &mut other).await;
                assert!(still.is_err());
                first.cancel();
                let still = timeout(Duration::from_millis(50), &mut other).await;
                assert!(still.is_err());
                assert_eq!(sandbox.alive().await, 1);
                second.cancel();
                other.await
            }
        )
    };
    let (one, other) = both.await;
    assert_eq!(one.outcome(), Outcome::Cancelled);
    assert_eq!(other.outcome(), Outcome::Cancelled);
}

#[tokio::test]
async fn a_cancel_before_the_start_counts() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let ran = run_until(&sandbox, act(&spec(), &["polite"]), cancel).await;
    assert_eq!(ran.outcome(), Outcome::Cancelled);
}

#[tokio::test]
async fn a_step_that_is_dropped_is_killed_and_forgotten_when_it_is_gone() {
    let backend = backend();
    let sandbox = start(&backend).await;
    let running = run(&sandbox, act(&spec(), &["stubborn"]));
    assert!(timeout(Duration::from_millis(50), running).await.is_err());
    timeout(PATIENCE, async {
        while sandbox.alive().await > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it lives on");
    let next = run(&sandbox, act(&spec(), &["next"])).await;
    assert_eq!(next.outcome(), Outcome::Code(0));
}

#[tokio::test]
async fn a_deadline_is_kept_under_a_flood() {
    let backend = FakeBackend::new(|_| {
        Part::acted(async |mut seat| {
            while seat.stdout.write_all(&[b'y'; 4096]).await.is_ok() {}
            WaitStatus::Signal(13)
        })
    });
    let sandbox = start(&backend).await;
    let mut act = act(&spec(), &["yes"]);
    act.wall_ms = Some(100);
    let io = StepIo {
        stdin: None,
        stdout: &mut tokio::io::sink(),
        stderr: &mut tokio::io::sink(),
        cancel: CancellationToken::new(),
        started: None,
    };
    let exit = timeout(PATIENCE, sandbox.run(act, io))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(exit.outcome, Outcome::TimedOut);
    assert!(exit.usage.wall_ms < 5000, "{}", exit.usage.wall_ms);
}
