//! Too much of everything: the sandbox holds it, says which limit it was, and goes on.

use crate::stage::{Stage, python, sh};
use fumehood::app::selftest::attempts::{FLOODS, small};
use fumehood::protocol::outcome::Outcome;
use fumehood::protocol::spec::BackendKind;
use fumehood::sandbox::StepIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

/// The sandbox goes on, and this host is as quick as it was.
async fn goes_on(stage: Stage) {
    let began = Instant::now();
    assert_eq!(stage.text(sh("echo alive")).await, "alive\n");
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    stage.end().await;
}

/// One of the selftest's.
pub(crate) async fn flood(kind: BackendKind, name: &str) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    let flood = FLOODS.iter().find(|flood| flood.name == name).unwrap();
    for step in flood.steps {
        let mut ask = python(step.script);
        ask.wall_ms = step.wall_ms;
        let ran = stage.run(ask).await;
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            (step.holds)(ran.outcome(), &said),
            "{}: {said}",
            ran.outcome()
        );
    }
    goes_on(stage).await;
}

/// Counts, keeps nothing.
struct Counted(u64);

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0 += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A gibibyte without a line end passes; this process does not grow with it.
pub(crate) async fn one_endless_line(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    let ask = sh("head -c 256M /dev/zero | tr '\\0' x; head -c 256M /dev/zero >&2");
    let (mut stdout, mut stderr) = (Counted(0), Counted(0));
    let before = resident();
    let io = StepIo {
        stdin: None,
        stdout: &mut stdout,
        stderr: &mut stderr,
        cancel: CancellationToken::new(),
        started: None,
    };
    let exit = stage.sandbox.step(stage.permit(&ask), io).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(0));
    assert_eq!((stdout.0, stderr.0), (256 << 20, 256 << 20));
    // Other tests run in this process too.
    let grown = resident().saturating_sub(before);
    assert!(grown < 128 << 20, "grown by {grown}");
    goes_on(stage).await;
}
