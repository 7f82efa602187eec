//! An init that does what no init of ours does. Each time the sandbox is over, its lease is ended, and
//! the step that ran says why.

use super::*;
use crate::sandbox::channel::far_end::{FarEnd, FarStream};
use crate::sandbox::fake::{Gauges, exit};
use crate::sandbox::wire::{FromInit, PROTOCOL_VERSION, StreamHead, ToInit};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::io::DuplexStream;

type Init = Box<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// An init of a test's own.
struct HostileBackend {
    init: Init,
    gauges: Gauges,
}

#[async_trait]
impl Backend for HostileBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Namespace
    }

    async fn controls(&self) -> Result<Controls, SandboxError> {
        Ok(Controls::new())
    }

    async fn start(&self, _: &SandboxSpec, _: &str) -> Result<Started, SandboxError> {
        Ok(self.gauges.start(|pipe| (self.init)(pipe)))
    }
}

fn hostile<F>(init: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> HostileBackend
where
    F: Future<Output = ()> + Send + 'static,
{
    HostileBackend {
        init: Box::new(move |pipe| Box::pin(init(pipe))),
        gauges: Gauges::default(),
    }
}

/// The streams of a step that is running as far as the host knows.
struct Victim {
    step: u32,
    stdout: FarStream,
    stderr: FarStream,
}

/// Says hello and starts the first step, then does as the test says, and stays as long as the pipe.
fn after_start<F>(
    act: impl Fn(FarEnd, Victim) -> F + Send + Sync + Copy + 'static,
) -> HostileBackend
where
    F: Future<Output = ()> + Send + 'static,
{
    hostile(move |pipe| async move {
        let mut far = FarEnd::accept(pipe).await.unwrap();
        let version = PROTOCOL_VERSION;
        far.hear().await.unwrap();
        far.say(FromInit::Hello { version }).await;
        let Some(ToInit::Start(start)) = far.hear().await else {
            return;
        };
        let step = start.step;
        let stdout = far.streams.take(StreamHead::Stdout(step)).await.unwrap();
        let stderr = far.streams.take(StreamHead::Stderr(step)).await.unwrap();
        far.say(FromInit::Started { step }).await;
        let victim = Victim {
            step,
            stdout,
            stderr,
        };
        act(far, victim).await;
    })
}

/// Keeps everything open, and answers nothing.
async fn linger(far: FarEnd, victim: Victim) {
    let mut far = far;
    let _victim = victim;
    while far.hear().await.is_some() {}
}

/// What a step comes to.
async fn fate(backend: &HostileBackend) -> SandboxError {
    let sandbox = start(backend).await;
    let error = run(&sandbox, act(&spec(), &["x"])).await.exit.unwrap_err();
    // And nothing runs in it any more.
    let again = run(&sandbox, act(&spec(), &["x"])).await.exit.unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    sandbox.end().await.unwrap();
    assert_eq!(backend.gauges.ended(), 1);
    timeout(PATIENCE, backend.gauges.gone()).await.unwrap();
    error
}

async fn is_protocol_error(backend: HostileBackend, part: &str) {
    let error = fate(&backend).await;
    assert!(
        matches!(&error, SandboxError::Protocol(what) if what.contains(part)),
        "{error}"
    );
}

#[tokio::test]
async fn a_frame_above_the_bound_ends_it() {
    let backend = after_start(async |mut far, victim| {
        far.say_bytes(&[0xff; 64]).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "above").await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_ends_it() {
    let backend = after_start(async |mut far, victim| {
        far.say_bytes(&[0, 0, 0, 3, 99, 99, 99]).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "cannot be read").await;
}

#[tokio::test]
async fn bytes_after_a_message_end_it() {
    let backend = after_start(async |mut far, victim| {
        let mut frame = crate::sandbox::wire::frame(&FromInit::Pong { seq: 1 }).unwrap();
        frame.push(0);
        frame[3] += 1;
        far.say_bytes(&frame).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "cannot be read").await;
}

#[tokio::test]
async fn bytes_that_are_no_connection_end_it() {
    let backend = hostile(async |mut pipe: DuplexStream| {
        let _ = pipe.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut rest).await;
    });
    let error = Sandbox::start(&backend, &spec(), "x").await.err().unwrap();
    assert!(matches!(error, SandboxError::Protocol(_)), "{error}");
    assert_eq!(backend.gauges.ended(), 1);
}

/// The header of a frame of the multiplexer.
fn header(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let parts: [&[u8]; 4] = [
        &[0, kind],
        &flags.to_be_bytes(),
        &stream.to_be_bytes(),
        &length.to_be_bytes(),
    ];
    parts.concat()
}

/// What starting comes to when init sends just this.
async fn start_after(bytes: Vec<u8>) -> SandboxError {
    let backend = hostile(move |mut pipe| {
        let bytes = bytes.clone();
        async move {
            let _ = pipe.write_all(&bytes).await;
            let mut rest = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut rest).await;
        }
    });
    let started = Sandbox::start(&backend, &spec(), "x").await;
    assert_eq!(backend.gauges.ended(), 1);
    started.err().unwrap()
}

#[tokio::test]
async fn a_window_that_overflows_ends_it() {
    // A panic of the multiplexer's where overflows are checked, a stream of init's own where not.
    let error = start_after(header(1, 1, 2, u32::MAX)).await;
    assert!(matches!(error, SandboxError::Protocol(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn frames_at_random_end_it_and_nothing_hangs() {
    let mut state = 7u64;
    let mut random = move |below: u32| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) as u32) % below
    };
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..=random(8) {
            let (kind, length) = (random(4) as u8, random(40));
            let flags = 1 << random(5);
            bytes.extend(header(kind, flags >> 1, random(4), length));
            let body = if kind == 0 { length } else { 0 };
            bytes.extend((0..body).map(|_| random(256) as u8));
        }
        start_after(bytes).await;
    }
}

#[tokio::test]
async fn a_stream_of_its_own_ends_it() {
    let backend = after_start(async |far, victim| {
        far.open_stream();
        linger(far, victim).await;
    });
    is_protocol_error(backend, "a stream of its own").await;
}

#[tokio::test]
async fn an_exit_of_a_step_that_does_not_run_ends_it() {
    let backend = after_start(async |mut far, victim| {
        let status = WaitStatus::Code(0);
        far.say(FromInit::Exited(exit(4711, status, false))).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "step 4711").await;
}

#[tokio::test]
async fn a_second_exit_ends_it() {
    let backend = after_start(async |mut far, victim| {
        let status = WaitStatus::Code(0);
        for _ in 0..2 {
            let exit = exit(victim.step, status, false);
            far.say(FromInit::Exited(exit)).await;
        }
        linger(far, victim).await;
    });
    // The output was still open: the exit does not count.
    is_protocol_error(backend, "does not run").await;
}

#[tokio::test]
async fn a_second_start_ends_it() {
    let backend = after_start(async |mut far, victim| {
        let step = victim.step;
        far.say(FromInit::Started { step }).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "twice").await;
}

#[tokio::test]
async fn a_pong_without_a_ping_ends_it() {
    let backend = after_start(async |mut far, victim| {
        far.say(FromInit::Pong { seq: 1 }).await;
        linger(far, victim).await;
    });
    is_protocol_error(backend, "ping").await;
}

#[tokio::test]
async fn output_that_is_cut_off_is_not_taken_for_its_end() {
    let backend = after_start(async |mut far, mut victim| {
        let _ = victim.stdout.write_all(b"half").await;
        let _ = victim.stdout.flush().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(victim.stdout);
        let _ = victim.stderr.shutdown().await;
        let exit = exit(victim.step, WaitStatus::Code(0), false);
        far.say(FromInit::Exited(exit)).await;
        while far.hear().await.is_some() {}
    });
    is_protocol_error(backend, "cut off").await;
}

#[tokio::test(start_paused = true)]
async fn output_that_does_not_end_with_its_step_ends_it() {
    let backend = after_start(async |mut far, victim| {
        let exit = exit(victim.step, WaitStatus::Code(0), false);
        far.say(FromInit::Exited(exit)).await;
        while let Some(message) = far.hear().await {
            if let ToInit::Ping { seq } = message {
                far.say(FromInit::Pong { seq }).await;
            }
        }
        drop(victim);
    });
    is_protocol_error(backend, "did not end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_goes_on_and_on_after_its_step_ends_it() {
    let backend = after_start(async |mut far, mut victim| {
        let exit = exit(victim.step, WaitStatus::Code(0), false);
        far.say(FromInit::Exited(exit)).await;
        let _ = victim.stderr.shutdown().await;
        while victim.stdout.write_all(&[b'y'; 16 * 1024]).await.is_ok() {}
    });
    is_protocol_error(backend, "goes on").await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_not_ended_when_it_is_killed_ends_it() {
    let backend = after_start(async |mut far, victim| {
        while let Some(message) = far.hear().await {
            if let ToInit::Ping { seq } = message {
                far.say(FromInit::Pong { seq }).await;
            }
        }
        drop(victim);
    });
    let sandbox = start(&backend).await;
    let mut act = act(&spec(), &["x"]);
    act.wall_ms = Some(1000);
    let error = run(&sandbox, act).await.exit.unwrap_err();
    assert!(error.to_string().contains("did not end when it was killed"));
    sandbox.end().await.unwrap();
    assert_eq!(backend.gauges.ended(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_end() {
    let error = fate(&after_start(linger)).await;
    let SandboxError::Ended(why) = error else {
        panic!("{error}");
    };
    assert!(why.contains("no ping for 30 s"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_init_that_does_not_say_hello_is_given_up_with_its_last_words() {
    let backend = hostile(async |mut pipe: DuplexStream| {
        let mut all = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut all).await;
    });
    backend
        .gauges
        .set_last_words("exec format \u{1b}[2Jerror\n");
    let error = Sandbox::start(&backend, &spec(), "x").await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the sandbox ended: init did not answer within 60 s: exec format \\u{1b}[2Jerror"
    );
    assert_eq!(backend.gauges.ended(), 1);
    backend.gauges.gone().await;
}

#[tokio::test]
async fn another_version_is_not_spoken_to() {
    let backend = hostile(async |pipe| {
        let mut far = FarEnd::accept(pipe).await.unwrap();
        far.hear().await;
        far.say(FromInit::Hello { version: 99 }).await;
        while far.hear().await.is_some() {}
    });
    let error = Sandbox::start(&backend, &spec(), "x").await.err().unwrap();
    assert!(error.to_string().contains("version 99"), "{error}");
}

#[tokio::test]
async fn last_words_of_init_are_passed_on_sanitised() {
    let backend = after_start(async |mut far, victim| {
        let reason = "step 1: its keeper died\u{1b}]0;pwned\u{7}".to_owned();
        far.say(FromInit::Fatal { reason }).await;
        linger(far, victim).await;
    });
    let error = fate(&backend).await.to_string();
    assert!(error.contains("init gave up: step 1: its keeper died"));
    assert!(!error.contains('\u{1b}') && !error.contains('\u{7}'));
}

#[tokio::test]
async fn an_init_that_dies_is_an_end_and_memory_is_named_as_its_cause() {
    let backend = after_start(async |far, victim| {
        far.close();
        drop(victim);
    });
    backend.gauges.set_oom_kills(1);
    let error = fate(&backend).await;
    assert!(matches!(&error, SandboxError::Ended(_)), "{error}");
    assert!(error.to_string().contains("closed the pipe"), "{error}");
    assert!(error.to_string().contains("for memory"), "{error}");
}
