//! Too much of everything: the sandbox holds it, says which limit it was, and goes on.

use crate::stage::{Stage, python, sh};
use fumehood::policy::model::Policy;
use fumehood::protocol::outcome::Outcome;
use fumehood::protocol::spec::BackendKind;
use fumehood::sandbox::StepIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

fn small(policy: &mut Policy) {
    policy.limits.memory = Some(256 << 20);
    policy.limits.pids = Some(64);
    policy.limits.open_files = Some(512);
    policy.tmp.size = 16 << 20;
    policy.shm = 16 << 20;
}

/// The sandbox goes on, and this host is as quick as it was.
async fn goes_on(stage: Stage) {
    let began = Instant::now();
    assert_eq!(stage.text(sh("echo alive")).await, "alive\n");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    stage.end().await;
}

pub(crate) async fn a_fork_bomb(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    // Every process of it begets as long as it may, and then waits.
    let bomb = "import os, time\nmost = 0\nend = time.monotonic() + 60\nwhile time.monotonic() < end:\n try: os.fork()\n except OSError as e: time.sleep(0.01)";
    let ran = stage.run(python(bomb).within(2000)).await;
    assert_eq!(ran.outcome(), Outcome::TimedOut);
    let count = "import os, sys\nn = 0\ntry:\n while n < 1000:\n  if os.fork() == 0: __import__('time').sleep(60)\n  n += 1\nexcept OSError: pass\nprint(n, flush=True); os.kill(os.getpid(), 9)";
    let ran = stage.run(python(count)).await;
    let made: u32 = String::from_utf8(ran.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!((8..64).contains(&made), "{made} processes");
    goes_on(stage).await;
}

pub(crate) async fn a_thread_bomb(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    let bomb = "import os, threading, time\nn = 0\ntry:\n while n < 1000:\n  threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n  n += 1\nexcept RuntimeError: pass\nprint(n, flush=True); os._exit(0)";
    let made: u32 = stage.text(python(bomb)).await.trim().parse().unwrap();
    assert!((8..64).contains(&made), "{made} threads");
    goes_on(stage).await;
}

pub(crate) async fn memory_by_one_process(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    let eater = "x = []\nwhile True: x.append(bytearray(b'x' * (8 << 20)))";
    assert_eq!(
        stage.run(python(eater)).await.outcome(),
        Outcome::OutOfMemory
    );
    goes_on(stage).await;
}

pub(crate) async fn memory_by_many_processes(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    // None of them is large.
    let eaters = "import os, time\nfor n in range(30):\n if os.fork() == 0:\n  x = bytearray(b'x' * (24 << 20))\n  time.sleep(60); os._exit(0)\nos.waitpid(-1, 0)\nos.kill(os.getpid(), 9)";
    assert_eq!(
        stage.run(python(eaters)).await.outcome(),
        Outcome::OutOfMemory
    );
    goes_on(stage).await;
}

pub(crate) async fn tmp_and_shared_memory(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    for folder in ["/tmp", "/dev/shm"] {
        let fill = format!(
            "import errno, os\nfd = os.open('{folder}/big', os.O_CREAT | os.O_WRONLY)\ntry:\n for n in range(64): os.write(fd, b'x' * (1 << 20))\nexcept OSError as e: print(errno.errorcode[e.errno])\nprint(os.fstat(fd).st_size >> 20)\nos.unlink('{folder}/big')"
        );
        assert_eq!(stage.text(python(&fill)).await, "ENOSPC\n16\n", "{folder}");
    }
    let names = "import errno\ntry:\n for n in range(10_000_000): open(f'/tmp/{n}', 'w').close()\nexcept OSError as e: print(errno.errorcode[e.errno])";
    assert_eq!(stage.text(python(names).within(60_000)).await, "ENOSPC\n");
    goes_on(stage).await;
}

pub(crate) async fn descriptors(kind: BackendKind) {
    let Some(stage) = Stage::set(kind, small).await else {
        return;
    };
    let flood = "import errno, os, resource\nn = 0\ntry:\n while n < 100_000: os.dup(0); n += 1\nexcept OSError as e: print(errno.errorcode[e.errno], n < 512)\ntry: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nexcept ValueError: print('kept')";
    assert_eq!(stage.text(python(flood)).await, "EMFILE True\nkept\n");
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
