//! What goes in and comes out.

use super::*;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, ReadBuf, duplex};

/// Takes a little, then fails as a closed pipe does.
struct Closing(usize);

impl AsyncWrite for Closing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = self.0.min(bytes.len());
        self.0 -= count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Cannot be read.
struct Unreadable;

impl AsyncRead for Unreadable {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(5)))
    }
}

async fn run_with(
    sandbox: &Sandbox,
    stdin: impl AsyncRead + Send + Unpin,
    stdout: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<Exit, SandboxError> {
    let io = StepIo {
        stdin: Some(Box::new(stdin)),
        stdout,
        stderr: &mut tokio::io::sink(),
        cancel: CancellationToken::new(),
        started: None,
    };
    timeout(PATIENCE, sandbox.run(act(&spec(), &["x"]), io))
        .await
        .expect("the step hangs")
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_mebibytes_go_in_and_come_out_unchanged() {
    let backend = FakeBackend::new(|_| Part::echo());
    let sandbox = start(&backend).await;
    let sent = noise(50 * MIB);
    let mut received = Vec::new();
    let exit = run_with(&sandbox, sent.as_slice(), &mut received)
        .await
        .unwrap();
    assert!(sent == received);
    assert_eq!(exit.usage.stdout_bytes, 50 * MIB as u64);
}

#[tokio::test]
async fn input_that_never_ends_does_not_hold_the_step() {
    let backend = FakeBackend::new(|_| Part::exit(0, "done", ""));
    let sandbox = start(&backend).await;
    let (_held_open, never) = duplex(1);
    let mut received = Vec::new();
    let exit = run_with(&sandbox, never, &mut received).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(0));
    assert_eq!(received, b"done");
}

#[tokio::test]
async fn input_nobody_reads_does_not_hold_the_step() {
    let backend = FakeBackend::new(|_| {
        Part::acted(async |seat| {
            drop(seat.stdin);
            tokio::time::sleep(Duration::from_millis(20)).await;
            WaitStatus::Code(0)
        })
    });
    let sandbox = start(&backend).await;
    let endless = tokio::io::repeat(7);
    let exit = run_with(&sandbox, endless, &mut Vec::new()).await.unwrap();
    assert_eq!(exit.outcome, Outcome::Code(0));
}

#[tokio::test]
async fn input_that_cannot_be_read_is_not_taken_for_its_end() {
    let backend = FakeBackend::new(|_| Part::echo());
    let sandbox = start(&backend).await;
    let result = run_with(&sandbox, Unreadable, &mut Vec::new()).await;
    assert!(matches!(result, Err(SandboxError::Io { .. })), "{result:?}");
    while sandbox.alive().await > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let next = run_with(&sandbox, &b"x"[..], &mut Vec::new())
        .await
        .unwrap();
    assert_eq!(next.outcome, Outcome::Code(0));
}

#[tokio::test]
async fn input_the_permit_does_not_name_is_refused() {
    let backend = FakeBackend::new(|_| Part::echo());
    let sandbox = start(&backend).await;
    let mut silent = act(&spec(), &["x"]);
    silent.stdin = false;
    let io = StepIo {
        stdin: Some(Box::new(&b"x"[..])),
        stdout: &mut Vec::new(),
        stderr: &mut Vec::new(),
        cancel: CancellationToken::new(),
        started: None,
    };
    let result = sandbox.run(silent, io).await;
    assert!(matches!(result, Err(SandboxError::Refused { .. })));
}

#[tokio::test]
async fn a_writer_that_fails_closes_the_programs_pipe_and_fails_nothing() {
    let backend = FakeBackend::new(|_| {
        Part::acted(async |mut seat| {
            let mut written = 0;
            while seat.stdout.write_all(&[b'y'; 1000]).await.is_ok() {
                written += 1000;
            }
            let said = format!("closed after {written}");
            seat.stderr.write_all(said.as_bytes()).await.unwrap();
            WaitStatus::Signal(13)
        })
    });
    let sandbox = start(&backend).await;
    let mut stderr = Vec::new();
    let io = StepIo {
        stdin: None,
        stdout: &mut Closing(5000),
        stderr: &mut stderr,
        cancel: CancellationToken::new(),
        started: None,
    };
    let running = sandbox.run(act(&spec(), &["yes"]), io);
    let exit = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(exit.outcome, Outcome::Signal(13));
    assert!(stderr.starts_with(b"closed after"));
}

/// Writes without end, and counts.
fn flood(written: &Arc<AtomicUsize>) -> FakeBackend {
    let written = Arc::clone(written);
    FakeBackend::new(move |_| {
        let written = Arc::clone(&written);
        Part::acted(async move |mut seat| {
            while seat.stdout.write_all(&[b'y'; 4096]).await.is_ok() {
                written.fetch_add(4096, Ordering::Relaxed);
            }
            WaitStatus::Signal(13)
        })
    })
}

#[tokio::test]
async fn a_writer_that_stands_still_stops_the_program_not_the_memory() {
    let written = Arc::default();
    let backend = flood(&written);
    let sandbox = start(&backend).await;
    let (mut into, mut out) = duplex(1000);
    let cancel = CancellationToken::new();
    let io = StepIo {
        stdin: None,
        stdout: &mut into,
        stderr: &mut tokio::io::sink(),
        cancel: cancel.clone(),
        started: None,
    };
    let looking = async {
        let mut first = [0; 3000];
        out.read_exact(&mut first).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let held_back = written.load(Ordering::Relaxed);
        assert!(held_back < MIB, "{held_back}");
        // Read on, it goes on.
        let mut more = vec![0; 4 * MIB];
        out.read_exact(&mut more).await.unwrap();
        cancel.cancel();
    };
    let (exit, ()) = tokio::join!(sandbox.run(act(&spec(), &["yes"]), io), looking);
    // The writer stands still again: it is not waited for.
    assert_eq!(exit.unwrap().outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn output_is_passed_on_at_once() {
    let backend = FakeBackend::new(|_| {
        Part::acted(async |mut seat| {
            seat.stdout.write_all(b"prompt> ").await.unwrap();
            let mut answer = [0; 3];
            seat.stdin.unwrap().read_exact(&mut answer).await.unwrap();
            seat.stdout.write_all(&answer).await.unwrap();
            WaitStatus::Code(0)
        })
    });
    let sandbox = start(&backend).await;
    let (out, mut seen) = duplex(100);
    let (mut typed, stdin) = duplex(100);
    let typing = async {
        let mut prompt = [0; 8];
        seen.read_exact(&mut prompt).await.unwrap();
        typed.write_all(b"yes").await.unwrap();
        let mut answer = [0; 3];
        seen.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"yes");
    };
    // What is buffered here must be flushed when nothing more comes.
    let mut out = tokio::io::BufWriter::new(out);
    let (exit, ()) = tokio::join!(run_with(&sandbox, stdin, &mut out), typing);
    assert_eq!(exit.unwrap().outcome, Outcome::Code(0));
}

#[tokio::test]
async fn the_caller_is_told_of_the_start() {
    let backend = FakeBackend::new(|_| Part::sleep());
    let sandbox = start(&backend).await;
    let (started, has_started) = oneshot::channel();
    let cancel = CancellationToken::new();
    let io = StepIo {
        stdin: None,
        stdout: &mut tokio::io::sink(),
        stderr: &mut tokio::io::sink(),
        cancel: cancel.clone(),
        started: Some(started),
    };
    let watching = async {
        has_started.await.unwrap();
        cancel.cancel();
    };
    let (exit, ()) = tokio::join!(sandbox.run(act(&spec(), &["x"]), io), watching);
    assert_eq!(exit.unwrap().outcome, Outcome::Cancelled);
}
