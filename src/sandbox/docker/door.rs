//! The door: a unix socket in a folder of the container, for an engine that shares this machine.
//!
//! ```text
//!   open ── create, attach, start ── meet ──┬─ init connects, and is the container's init ─▶ one byte
//!    │                                      │     there, then the pipe; stdio is the life line
//!    │                                      └─ says on stdout that it cannot, or nothing ──▶ the pipe is
//!    └ a folder that cannot be had ─────────────────────────────────────────────────────────── stdio
//! ```
//!
//! An engine copies every byte of an attached container twice, in small pieces; a socket passes it by.
//! Whether one can be used is found by trying, at each start: a virtual machine, another user namespace,
//! a security module or a runtime with a kernel of its own keep init away, and then nothing is different
//! but the speed.
//!
//! One connection is taken, before anything but init is in the container; the kernel must say that it is
//! the very process that the engine calls the container's. Then nobody listens any more, and socket and
//! folder are gone: what the container still has mounted is an empty folder without a name, and what its
//! kernel's list of sockets names is a number of ours. They lie in a folder that only this user can enter. What a crash leaves there nobody holds a lock on, and the next
//! sweep takes it. Descriptors that come along with the bytes are dropped by the kernel.

use super::attach::{Attached, FromInit};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::wire::HERE;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, Permissions};
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Where the folder is inside; init looks for [`DOOR`](crate::sandbox::wire::DOOR).
pub(super) const TARGET: &str = "/.fumehood/door";

/// The socket in it.
const SOCKET: &str = "host";

/// How long init is waited for. It connects, or says that it cannot, before it does anything else; one
/// that is later speaks over its stdio.
const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that init can come to. Dropped, nobody can, and nothing of it is there.
pub(super) struct Door {
    listener: UnixListener,
    _lock: Flock<File>,
    folder: TempDir,
}

/// The two ends of the pipe.
pub(super) struct Ends {
    pub(super) from_init: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) to_init: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Door {
    /// Makes one. `init` is the installed init, beside which the engine can see what there is.
    pub(super) fn open(init: &Path) -> io::Result<Self> {
        let doors = doors(init)?;
        let made = DirBuilder::new().mode(0o700).create(&doors);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        check_private(&doors)?;
        let folder = tempfile::Builder::new().prefix("").tempdir_in(&doors)?;
        let open = File::open(folder.path())?;
        // An address of a socket has at most 107 bytes, a path may have more.
        let address = format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd());
        let lock = lock(open)?;
        let listener = UnixListener::bind(&address)?;
        // The container's user is any; nobody else gets through the folder above.
        fs::set_permissions(&address, Permissions::from_mode(0o666))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        Ok(Self {
            listener,
            _lock: lock,
            folder,
        })
    }

    /// The folder to mount.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first who comes, and nobody after it. An error where that is not this process.
    async fn answer(self, pid: i64) -> io::Result<UnixStream> {
        let (mut stream, _) = self.listener.accept().await?;
        drop(self);
        let peer = stream.peer_cred()?.pid().map(i64::from);
        if peer != Some(pid) {
            return Err(io::Error::other(format!(
                "who came is {peer:?}, not init, which is {pid}"
            )));
        }
        stream.write_all(&[HERE]).await?;
        Ok(stream)
    }
}

/// Waits for the container's init, whose number is `pid`, at the door or on its stdio.
///
/// # Errors
/// Where the engine speaks nonsense.
pub(super) async fn meet(
    door: Door,
    mut attached: Attached,
    pid: i64,
) -> Result<Ends, SandboxError> {
    let came = tokio::select! {
        came = timeout(PATIENCE, door.answer(pid)) => came.unwrap_or_else(|late| Err(late.into())),
        spoke = poll_fn(|context| attached.from_init.poll_spoke(context)) => {
            spoke.map_err(|source| SandboxError::Io {
                context: "failed to read from the container".to_owned(),
                source,
            })?;
            Err(io::Error::other("init cannot reach it"))
        }
    };
    Ok(match came {
        Ok(stream) => {
            tracing::debug!("the pipe is a socket; the engine copies nothing");
            let (from_init, to_init) = stream.into_split();
            Ends {
                from_init: Box::new(FromDoor {
                    socket: from_init,
                    stdio: Some(attached.from_init),
                    _stdin: attached.to_init,
                }),
                to_init: Box::new(to_init),
            }
        }
        Err(error) => {
            tracing::debug!(%error, "the pipe is the container's stdio: no socket");
            over_stdio(attached.from_init.after(HERE), attached.to_init)
        }
    })
}

/// Where there never was a door.
pub(super) fn without(attached: Attached) -> Ends {
    over_stdio(attached.from_init, attached.to_init)
}

fn over_stdio(from_init: FromInit, to_init: Pin<Box<dyn AsyncWrite + Send>>) -> Ends {
    Ends {
        from_init: Box::new(from_init),
        to_init: Box::new(to_init),
    }
}

/// Init's half of the socket. The container's stdio ends with it, and the other way round.
struct FromDoor {
    socket: OwnedReadHalf,
    /// Until it has ended.
    stdio: Option<FromInit>,
    /// Open as long as this is: init ends with it too.
    _stdin: Pin<Box<dyn AsyncWrite + Send>>,
}

impl AsyncRead for FromDoor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stdio.as_mut().map(|stdio| stdio.poll_spoke(context)) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(Ok(true))) => {
                let what = "init spoke on its standard output";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
            }
            Some(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
            // The container is ending, or its engine is gone: init ends now in any case, and what it
            // said before is still in the socket.
            Some(Poll::Ready(Ok(false))) => {
                self.stdio = None;
                hang_up(self.socket.as_ref())?;
            }
        }
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

fn hang_up(socket: &UnixStream) -> io::Result<()> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    std::os::unix::net::UnixStream::from(socket).shutdown(Shutdown::Write)
}

/// Removes what nobody holds any more.
pub(super) fn sweep(init: &Path) -> io::Result<()> {
    let doors = doors(init)?;
    let entries = match fs::read_dir(&doors) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    check_private(&doors)?;
    for entry in entries {
        let path = entry?.path();
        // One that is gone by itself meanwhile, or that somebody holds: nothing to be done.
        if let Ok(_held) = File::open(&path).and_then(lock) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Held as long as the process lives; then nobody's.
fn lock(folder: File) -> io::Result<Flock<File>> {
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn doors(init: &Path) -> io::Result<PathBuf> {
    let beside = init.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(beside.join("doors"))
}

/// Nobody else finds a socket that everybody may connect to.
fn check_private(doors: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(doors)?;
    let (uid, _) = crate::sandbox::owner::caller();
    match found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{} is not a folder of this user's alone",
            doors.display()
        ))),
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
