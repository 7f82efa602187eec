//! The embedded init itself, driven over its pipe by a small host: what it promises to every backend.

use fumehood::sandbox::init_binary;
use fumehood::sandbox::wire::{
    self, Entered, FromInit, MAX_FROM_INIT, PROTOCOL_VERSION, Purpose, StartError, StartStep,
    StepExit, StepLimits, StreamHead, ToInit, WaitStatus, World, WorldMemory, WorldSystem,
};
use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

type Stream = Compat<yamux::Stream>;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox of init's own making, and the host's end of its pipe.
struct Host {
    child: Child,
    /// Of PID 1, as this machine numbers it.
    pid: u32,
    open: mpsc::UnboundedSender<oneshot::Sender<Stream>>,
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    /// Heard while something else was waited for.
    heard: Vec<FromInit>,
    next_step: u32,
    _dir: TempDir,
}

/// One step's streams.
struct Step {
    number: u32,
    stdin: Option<Stream>,
    stdout: Stream,
    stderr: Stream,
}

/// A step that has ended, with all it wrote.
struct Ran {
    exit: StepExit,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn system() -> Vec<WorldSystem> {
    let mut system = vec![WorldSystem::Bind {
        path: "/usr".into(),
    }];
    for path in ["/bin", "/lib", "/lib64", "/sbin"] {
        match fs::read_link(path) {
            Ok(target) => system.push(WorldSystem::Link {
                path: path.into(),
                target: target.to_str().unwrap().into(),
            }),
            Err(_) if Path::new(path).exists() => {
                system.push(WorldSystem::Bind { path: path.into() });
            }
            Err(_) => {}
        }
    }
    system
}

fn world() -> World {
    let (uid, gid) = match nix::unistd::geteuid().as_raw() {
        0 => (1000, 1000),
        uid => (uid, nix::unistd::getegid().as_raw()),
    };
    World {
        hostname: "box".into(),
        host_uid: uid,
        host_gid: gid,
        groups: Vec::new(),
        system: system(),
        mounts: Vec::new(),
        tmp_size: 64 << 20,
        tmp_inodes: 10_000,
        tmp_exec: true,
        shm_size: 1 << 20,
        cgroups: Vec::new(),
        memory: WorldMemory::Watched,
        purpose: Purpose::Serve,
    }
}

fn limits() -> StepLimits {
    StepLimits {
        open_files: Some(1024),
        file_size: None,
        processes: Some(3000),
        cores: None,
        oom_score_adj: 500,
    }
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(String::from).to_vec()
}

fn python(script: &str) -> Vec<String> {
    ["/usr/bin/python3", "-c", script]
        .map(String::from)
        .to_vec()
}

async fn read_frame<T: serde::de::DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<T> {
    let mut prefix = [0; 4];
    from.read_exact(&mut prefix).await?;
    let mut body = vec![0; wire::body_length(prefix, MAX_FROM_INIT).unwrap()];
    from.read_exact(&mut body).await?;
    Ok(wire::parse(&body).unwrap())
}

async fn write_frame(to: &mut (impl AsyncWrite + Unpin), message: &impl serde::Serialize) {
    to.write_all(&wire::frame(message).unwrap()).await.unwrap();
    to.flush().await.unwrap();
}

/// The connection's driver: moves bytes, opens streams, ends when nobody can ask for one any more.
async fn drive<T>(
    mut connection: yamux::Connection<T>,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Stream>>,
) where
    T: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin,
{
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return };
                let Ok(stream) = poll_fn(|cx| connection.poll_new_outbound(cx)).await else { return };
                let _ = request.send(stream.compat());
            }
            inbound = poll_fn(|cx| connection.poll_next_inbound(cx)) => match inbound {
                Some(Ok(_)) => panic!("init opened a stream"),
                Some(Err(_)) | None => return,
            },
        }
    }
}

impl Host {
    async fn start() -> Self {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let mut child = Command::new(init_binary::install(dir.path()).unwrap())
            .arg("enter")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        write_frame(&mut stdin, &world()).await;
        let pid = match read_frame(&mut stdout).await.unwrap() {
            Entered::Standing { pid, .. } => pid,
            Entered::Failed(error) => panic!("no world: {error:?}"),
        };
        let pipe = tokio::io::join(stdout, stdin).compat();
        let config = yamux::Config::default();
        let connection = yamux::Connection::new(pipe, config, yamux::Mode::Client);
        let (open, requests) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, requests));
        let control = Self::stream(&open, StreamHead::Control).await;
        let (read, write) = tokio::io::split(control);
        let mut host = Self {
            child,
            pid,
            open,
            read,
            write,
            heard: Vec::new(),
            next_step: 1,
            _dir: dir,
        };
        let version = PROTOCOL_VERSION;
        host.say(ToInit::Hello { version }).await;
        assert_eq!(host.listen().await, FromInit::Hello { version });
        host
    }

    async fn stream(
        open: &mpsc::UnboundedSender<oneshot::Sender<Stream>>,
        head: StreamHead,
    ) -> Stream {
        let (send, receive) = oneshot::channel();
        open.send(send).unwrap();
        let mut stream = receive.await.unwrap();
        write_frame(&mut stream, &head).await;
        stream
    }

    async fn say(&mut self, message: ToInit) {
        write_frame(&mut self.write, &message).await;
    }

    async fn listen(&mut self) -> FromInit {
        let frame = read_frame(&mut self.read);
        timeout(PATIENCE, frame)
            .await
            .expect("init is silent")
            .unwrap()
    }

    async fn wait_for(&mut self, mut wanted: impl FnMut(&FromInit) -> bool) -> FromInit {
        if let Some(at) = self.heard.iter().position(&mut wanted) {
            return self.heard.remove(at);
        }
        loop {
            let message = self.listen().await;
            if wanted(&message) {
                return message;
            }
            assert!(!matches!(message, FromInit::Fatal { .. }), "{message:?}");
            self.heard.push(message);
        }
    }

    fn request(&mut self, argv: &[String]) -> StartStep {
        self.next_step += 1;
        StartStep {
            step: self.next_step,
            argv: argv.iter().map(|arg| arg.clone().into_bytes()).collect(),
            env: vec![(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())],
            cwd: b"/tmp".to_vec(),
            stdin: false,
            limits: limits(),
        }
    }

    async fn begin(&mut self, request: StartStep) -> Step {
        let number = request.step;
        let stdin = match request.stdin {
            true => Some(Self::stream(&self.open, StreamHead::Stdin(number)).await),
            false => None,
        };
        let step = Step {
            number,
            stdin,
            stdout: Self::stream(&self.open, StreamHead::Stdout(number)).await,
            stderr: Self::stream(&self.open, StreamHead::Stderr(number)).await,
        };
        self.say(ToInit::Start(request)).await;
        step
    }

    /// Starts it, and waits until it was executed.
    async fn started(&mut self, request: StartStep) -> Step {
        let step = self.begin(request).await;
        let number = step.number;
        self.wait_for(|message| *message == FromInit::Started { step: number })
            .await;
        step
    }

    async fn finish(&mut self, mut step: Step) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        drop(step.stdin.take());
        let reading = async {
            let (out, err) = tokio::join!(
                step.stdout.read_to_end(&mut stdout),
                step.stderr.read_to_end(&mut stderr)
            );
            (out.unwrap(), err.unwrap())
        };
        timeout(PATIENCE, reading)
            .await
            .expect("the output does not end");
        let number = step.number;
        let exit = self
            .wait_for(|message| matches!(message, FromInit::Exited(exit) if exit.step == number))
            .await;
        let FromInit::Exited(exit) = exit else {
            unreachable!()
        };
        Ran {
            exit,
            stdout,
            stderr,
        }
    }

    async fn run(&mut self, argv: Vec<String>) -> Ran {
        let request = self.request(&argv);
        let step = self.started(request).await;
        self.finish(step).await
    }

    async fn refused(&mut self, request: StartStep) -> StartError {
        let number = request.step;
        let _step = self.begin(request).await;
        let failed = self
            .wait_for(
                |message| matches!(message, FromInit::StartFailed { step, .. } if *step == number),
            )
            .await;
        let FromInit::StartFailed { error, .. } = failed else {
            unreachable!()
        };
        error
    }

    /// How long PID 1 took to be gone.
    async fn gone(mut self, begun: Instant) -> Duration {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("init lives on").unwrap();
        assert!(!Path::new(&format!("/proc/{}", self.pid)).exists());
        begun.elapsed()
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    let mut host = Host::start().await;
    for (script, status) in [
        ("exit 0", WaitStatus::Code(0)),
        ("exit 3", WaitStatus::Code(3)),
        ("exit 137", WaitStatus::Code(137)),
        ("kill -9 $$", WaitStatus::Signal(9)),
        ("kill -TERM $$", WaitStatus::Signal(15)),
        ("kill -40 $$", WaitStatus::Signal(40)),
    ] {
        assert_eq!(
            host.run(shell(script)).await.exit.status,
            status,
            "{script}"
        );
    }
}
