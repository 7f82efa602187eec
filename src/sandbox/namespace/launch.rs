//! Starts `init enter`, hands it its world, and reads its one answer.
//!
//! The process started here is the outer half: it leaves the terminal's session, outlives this process
//! on purpose, and ends after the sandbox. It inherits nothing but the pipe.

use crate::sandbox::backend::SandboxError;
use crate::sandbox::last_words::LastWords;
use crate::sandbox::wire::{self, EnterError, Entered, World};
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A world takes a few milliseconds. This is for machines that swap, or build hundreds at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long one that failed may take to end, and to say why.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Bytes a pipe holds, where the kernel allows: fewer turns between init and us.
const PIPE: i32 = 1 << 20;

/// A started init, and what it answered.
pub(super) struct Launched {
    pub(super) outer: Child,
    pub(super) to_init: ChildStdin,
    pub(super) from_init: ChildStdout,
    pub(super) words: LastWords,
    /// PID 1 of the sandbox, as this host numbers it.
    pub(super) pid: u32,
    pub(super) landlock: u32,
}

/// Why nothing was started.
pub(super) enum NotLaunched {
    /// Init says where it failed.
    Entered(EnterError),
    /// It said nothing that makes sense.
    Other(SandboxError),
}

impl From<SandboxError> for NotLaunched {
    fn from(error: SandboxError) -> Self {
        Self::Other(error)
    }
}

/// On any failure nothing is left running.
pub(super) async fn launch(init: &Path, world: &World) -> Result<Launched, NotLaunched> {
    let mut outer = Command::new(init)
        .arg("enter")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io_error(format!("failed to start init at {}", init.display()), error))?;
    let pipe = (outer.stdin.take(), outer.stdout.take(), outer.stderr.take());
    let (Some(mut to_init), Some(mut from_init), Some(stderr)) = pipe else {
        return Err(broken("it has no pipe").into());
    };
    enlarge(&to_init, &from_init);
    let (words, listening) = listen(stderr);
    match timeout(ANSWER, talk(&mut to_init, &mut from_init, world)).await {
        Ok(Ok(Entered::Standing { pid, landlock })) => Ok(Launched {
            outer,
            to_init,
            from_init,
            words,
            pid,
            landlock,
        }),
        Ok(Ok(Entered::Failed(error))) => {
            reap(outer).await;
            Err(NotLaunched::Entered(error))
        }
        Ok(Err(error)) => {
            reap(outer).await;
            // What it said last is in the pipe still.
            let _ = timeout(LAST_WORD, listening).await;
            let said = words.text();
            let context = match said.is_empty() {
                true => "init ended before the sandbox stood".to_owned(),
                false => format!("init ended before the sandbox stood: {said}"),
            };
            Err(io_error(context, error).into())
        }
        Err(_) => {
            reap(outer).await;
            Err(broken(&format!("no answer within {} s", ANSWER.as_secs())).into())
        }
    }
}

/// One frame each way; what follows belongs to the connection.
async fn talk(
    to_init: &mut ChildStdin,
    from_init: &mut ChildStdout,
    world: &World,
) -> io::Result<Entered> {
    let frame = wire::frame(world).map_err(io::Error::other)?;
    // It may have answered and gone already: then the answer says more than the broken pipe.
    let written = to_init.write_all(&frame).await;
    let mut prefix = [0; 4];
    if let Err(error) = from_init.read_exact(&mut prefix).await {
        written?;
        return Err(error);
    }
    let length = wire::body_length(prefix, wire::MAX_FROM_INIT)
        .ok_or_else(|| io::Error::other("its answer is too long"))?;
    let mut body = vec![0; length];
    from_init.read_exact(&mut body).await?;
    wire::parse(&body).map_err(io::Error::other)
}

fn enlarge(to_init: &ChildStdin, from_init: &ChildStdout) {
    // Smaller is slower and nothing else.
    let _ = fcntl(to_init.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE));
    let _ = fcntl(from_init.as_fd(), FcntlArg::F_SETPIPE_SZ(PIPE));
}

/// Reads for as long as init lives, so that it never waits for us.
fn listen(mut stderr: ChildStderr) -> (LastWords, JoinHandle<()>) {
    let words = LastWords::default();
    let heard = words.clone();
    let listening = tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
            heard.add(&buffer[..read]);
        }
    });
    (words, listening)
}

/// Killed, its child dies with it.
async fn reap(mut outer: Child) {
    if timeout(LAST_WORD, outer.wait()).await.is_err() {
        let _ = outer.kill().await;
    }
}

fn broken(why: &str) -> SandboxError {
    SandboxError::Ended(format!("init did not start: {why}"))
}

fn io_error(context: String, source: io::Error) -> SandboxError {
    SandboxError::Io { context, source }
}
