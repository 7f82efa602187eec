//! `init serve`: PID 1 of a sandbox, and the one end of its connection.
//!
//! ```text
//!   the pipe ── yamux ──┬─ control   requests in, answers out
//!                       └─ streams   wait for their step, then are pumped
//!   the life line, where the pipe is the host's door: its end is the pipe's
//!   SIGCHLD ── the dead are reaped      SIGTERM ── obeyed if it comes from outside the sandbox
//! ```
//!
//! One thread. It ends when the pipe closes, when the host falls silent, when it is told to, and at
//! the first thing that makes no sense; and when PID 1 ends, the kernel ends everything else.

use crate::confine::Harden;
use crate::control;
use crate::egress::{Egress, Opener, Reply};
use crate::keeper;
use crate::limits::Saved;
use crate::link::{self, LifeLine, Pipe, Way};
use crate::prepare::Prepared;
use crate::process;
use crate::pump;
use crate::step;
use crate::streams::{Stream, Streams};
use crate::wire::{DEADMAN_MS, FromInit, PING_MS, StartError, StartStep, StreamHead};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, pipe2};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// `EX_SOFTWARE`: nothing was served.
const FAILED: u8 = 70;

/// How long the last word may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a silent host is given beyond the timer, one more ping: after a pause of the whole sandbox its
/// pings are still in the pipe.
const SECOND_CHANCE: Duration = Duration::from_millis(PING_MS);

/// Largest head of a stream.
const MAX_HEAD: usize = 16;

/// What the world adds.
pub struct Options {
    pub harden: Option<Box<dyn Harden>>,
    pub way: Way,
}

/// Why it ended.
pub enum End {
    /// The pipe, or the control stream.
    Closed,
    /// From outside: an engine's stop.
    Terminated,
    Shutdown,
    /// No ping for too long.
    Silent,
    /// Something made no sense.
    Broken,
    /// Init cannot go on; the host is told why.
    Fatal(String),
}

/// What all of init's tasks share.
pub struct Sandbox {
    pub harden: Option<Box<dyn Harden>>,
    pub saved: Saved,
    pub streams: Streams,
    said: mpsc::UnboundedSender<FromInit>,
    ends: mpsc::UnboundedSender<End>,
    steps: RefCell<BTreeMap<u32, Handle>>,
    /// Numbers that were used.
    used: RefCell<BTreeSet<u32>>,
    fed: Cell<Instant>,
    /// Streams that somebody inside wants to the host.
    wanted: mpsc::Sender<Reply>,
    /// Set while everybody is killed who is there, which starts nobody.
    clearing: watch::Sender<bool>,
}

/// What a running step is reached by.
struct Handle {
    commands: OwnedFd,
    keeper: Option<Pid>,
}

/// Serves the connection until it ends.
pub fn run(options: Options) -> ExitCode {
    match Prepared::now().and_then(|prepared| begin(prepared, options)) {
        // The exit of PID 1 kills everything, and waits for it.
        Ok(End::Closed | End::Terminated | End::Shutdown) => ExitCode::SUCCESS,
        Ok(End::Silent | End::Broken | End::Fatal(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn begin(prepared: Prepared, options: Options) -> io::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let end = LocalSet::new().block_on(&runtime, serve(prepared, options));
    // What still runs on the runtime may write forever.
    runtime.shutdown_background();
    end
}

async fn serve(prepared: Prepared, options: Options) -> io::Result<End> {
    let (said, to_say) = mpsc::unbounded_channel();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (wanted, wants) = mpsc::channel(1);
    let sandbox = Rc::new(Sandbox {
        harden: options.harden,
        saved: prepared.saved,
        streams: Streams::default(),
        said,
        ends,
        steps: RefCell::default(),
        used: RefCell::default(),
        fed: Cell::new(Instant::now()),
        wanted,
        clearing: watch::Sender::new(false),
    });
    let signals = link::poll(prepared.signals)?;
    let (finish, finished) = oneshot::channel();
    let asked = Asked { wants, finished };
    let meeting = link::meet(prepared.stdio, options.way);
    let connection = spawn_local(attend(Rc::clone(&sandbox), meeting, to_say, asked));
    let end = tokio::select! {
        Some(end) = ended.recv() => end,
        end = heed(&signals) => end,
        () = sandbox.fall_silent() => End::Silent,
    };
    if let End::Fatal(reason) = &end {
        sandbox.say(FromInit::Fatal {
            reason: reason.clone(),
        });
        let _ = finish.send(());
        let _ = timeout(LAST_WORD, connection).await;
    }
    Ok(end)
}

/// What the task of the connection is asked for.
struct Asked {
    wants: mpsc::Receiver<Reply>,
    finished: oneshot::Receiver<()>,
}

/// Meets the host, which may keep away for as long as the timer allows, and then serves it.
async fn attend(
    sandbox: Rc<Sandbox>,
    meeting: impl Future<Output = io::Result<(Pipe, Option<LifeLine>)>>,
    to_say: mpsc::UnboundedReceiver<FromInit>,
    asked: Asked,
) {
    let (pipe, life) = match meeting.await {
        Ok(met) => met,
        Err(error) => {
            eprintln!("init: {error}");
            return sandbox.end(End::Broken);
        }
    };
    if let Some(life) = life {
        let sandbox = Rc::clone(&sandbox);
        spawn_local(async move {
            match life.broken().await {
                true => sandbox.end(End::Broken),
                false => sandbox.end(End::Closed),
            }
        });
    }
    drive(sandbox, pipe, to_say, asked).await;
}

/// Moves the connection, and takes in its streams.
async fn drive(
    sandbox: Rc<Sandbox>,
    pipe: Pipe,
    to_say: mpsc::UnboundedReceiver<FromInit>,
    mut asked: Asked,
) {
    let mut config = yamux::Config::default();
    config.set_split_send_size(pump::BUFFER);
    let mut connection: yamux::Connection<Compat<Pipe>> =
        yamux::Connection::new(pipe.compat(), config, yamux::Mode::Server);
    let to_say = Rc::new(Cell::new(Some(to_say)));
    loop {
        let next = tokio::select! {
            next = poll_fn(|cx| connection.poll_next_inbound(cx)) => next,
            Some(reply) = asked.wants.recv() => {
                let opened = poll_fn(|cx| connection.poll_new_outbound(cx)).await;
                // Who asked may have gone away; then the stream is dropped.
                let _ = reply.send(opened.ok().map(FuturesAsyncReadCompatExt::compat));
                continue;
            }
            _ = &mut asked.finished => break,
        };
        match next {
            Some(Ok(stream)) => {
                let stream = stream.compat();
                spawn_local(receive(Rc::clone(&sandbox), stream, Rc::clone(&to_say)));
            }
            Some(Err(yamux::ConnectionError::Closed)) | None => return sandbox.end(End::Closed),
            Some(Err(_)) => return sandbox.end(End::Broken),
        }
    }
    let _ = poll_fn(|cx| connection.poll_close(cx)).await;
}

/// Finds out what a stream is.
async fn receive(
    sandbox: Rc<Sandbox>,
    mut stream: Stream,
    to_say: Rc<Cell<Option<mpsc::UnboundedReceiver<FromInit>>>>,
) {
    match link::read_frame(&mut stream, MAX_HEAD).await {
        Ok(Some(StreamHead::Control)) => {
            let Some(to_say) = to_say.take() else {
                return sandbox.end(End::Broken);
            };
            control::converse(sandbox, stream, to_say).await;
        }
        Ok(Some(head)) => sandbox.streams.put(head, stream),
        // A host that changed its mind before it said anything.
        Ok(None) => {}
        Err(_) => sandbox.end(End::Broken),
    }
}

/// Reaps, and waits for a TERM from outside: from inside, the sender has a number.
async fn heed(signals: &AsyncFd<SignalFd>) -> End {
    loop {
        let Ok(mut ready) = signals.readable().await else {
            return End::Fatal("signals cannot be read".into());
        };
        while let Ok(Some(signal)) = signals.get_ref().read_signal() {
            if signal.ssi_signo == Signal::SIGTERM as u32 && signal.ssi_pid == 0 {
                return End::Terminated;
            }
        }
        while let Ok(Some(_)) = process::reap() {}
        ready.clear_ready();
    }
}

impl Sandbox {
    /// Puts it after what was said before.
    pub fn say(&self, message: FromInit) {
        // Nobody listens any more only when everything ends.
        let _ = self.said.send(message);
    }

    pub fn end(&self, end: End) {
        let _ = self.ends.send(end);
    }

    /// The host is told, and everything ends.
    pub fn fail(&self, reason: String) {
        self.end(End::Fatal(reason));
    }

    /// Lets what is inside reach the host's proxy.
    pub fn connect(self: &Rc<Self>, proxy: u16) {
        if let Err(error) = Egress::start(self, proxy) {
            self.fail(format!("it cannot listen on the loopback: {error}"));
        }
    }

    pub fn opener(&self) -> Opener {
        Opener::new(self.wanted.clone())
    }

    /// The host is there.
    pub fn feed(&self) {
        self.fed.set(Instant::now());
    }

    async fn fall_silent(&self) {
        let limit = Duration::from_millis(DEADMAN_MS);
        loop {
            sleep_until(self.fed.get() + limit).await;
            if self.fed.get().elapsed() >= limit {
                sleep(SECOND_CHANCE).await;
                if self.fed.get().elapsed() >= limit {
                    return;
                }
            }
        }
    }

    pub fn start(self: &Rc<Self>, start: StartStep) {
        let step = start.step;
        let refuse = |error| self.say(FromInit::StartFailed { step, error });
        if !self.used.borrow_mut().insert(step) {
            return refuse(step::invalid("its number was used before"));
        }
        match pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) {
            Ok((commands_of_keeper, commands)) => {
                let handle = Handle {
                    commands,
                    keeper: None,
                };
                self.steps.borrow_mut().insert(step, handle);
                spawn_local(step::run(Rc::clone(self), start, commands_of_keeper));
            }
            Err(errno) => refuse(StartError::Resources {
                errno: errno as i32,
            }),
        }
    }

    /// Where its keeper is.
    pub fn kept_by(&self, step: u32, keeper: Pid) {
        if let Some(handle) = self.steps.borrow_mut().get_mut(&step) {
            handle.keeper = Some(keeper);
        }
    }

    /// It has ended.
    pub fn forget(&self, step: u32) {
        self.steps.borrow_mut().remove(&step);
        self.clearing.send_replace(false);
    }

    /// Lets a step that forks faster than it dies be ended by killing everybody, if it is the only one.
    pub fn clear_for(&self, step: u32) {
        let kept = |handle: &&Handle| handle.keeper.is_some();
        if self.steps.borrow().values().filter(kept).count() == 1
            && self.command(step, keeper::KILL_ALL_THERE_IS).is_ok()
        {
            self.clearing.send_replace(true);
        }
    }

    /// Until a step may be started.
    pub async fn until_clear(&self) {
        // The sender lives as long as this.
        let _ = self
            .clearing
            .subscribe()
            .wait_for(|clearing| !clearing)
            .await;
    }

    pub fn signal(&self, step: u32, signal: i32) {
        if let Ok(signal @ 1..=64) = u8::try_from(signal) {
            // A pipe full of signals loses one more.
            let _ = self.command(step, signal);
        }
    }

    pub fn kill(&self, step: u32) {
        if self.command(step, keeper::KILL).is_err() {
            self.fail(format!("step {step}: its keeper takes no commands"));
        }
    }

    /// To the keeper, which waits for nothing else. A step that has ended gets none.
    fn command(&self, step: u32, command: u8) -> nix::Result<()> {
        let steps = self.steps.borrow();
        let Some(handle) = steps.get(&step) else {
            return Ok(());
        };
        if let Some(keeper) = handle.keeper {
            // In case somebody managed to stop it.
            let _ = process::send(keeper.as_raw(), libc::SIGCONT);
        }
        nix::unistd::write(&handle.commands, &[command]).map(drop)
    }
}
