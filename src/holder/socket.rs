//! Where a holder is reached: a socket in its run's own folder.
//!
//! An address of a socket has at most 107 bytes, a path may have more: it is named through the open
//! folder (`/proc/self/fd/N/socket`), which is always short. The folder is 0700 and the socket 0600; and
//! whoever gets through all the same must be of the same user, by the kernel's word.

use super::error::HolderError;
use crate::sandbox::owner;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

const SOCKET: &str = "socket";

/// Whether a run is held by a process of its own that can be reached.
pub fn is_held(run_dir: &Path) -> bool {
    run_dir.join(SOCKET).exists()
}

/// A holder's end of its socket; gone from disk with the value.
pub struct Listener {
    inner: UnixListener,
    path: PathBuf,
}

/// Makes the socket of a run's folder.
pub fn listen(run_dir: &Path) -> Result<Listener, HolderError> {
    let path = run_dir.join(SOCKET);
    let bound = short(run_dir).and_then(|(_folder, name)| {
        let inner = UnixListener::bind(&name)?;
        fs::set_permissions(&name, Permissions::from_mode(0o600))?;
        Ok(inner)
    });
    match bound {
        Ok(inner) => Ok(Listener { inner, path }),
        Err(error) => Err(HolderError::io("create", &path)(error)),
    }
}

impl Listener {
    /// The next connection of this user. One of another user's is closed without a word.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.inner.accept().await?;
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == owner::caller().0 => return Ok(stream),
                peer => tracing::warn!(?peer, "a connection of another user was refused"),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A name that nobody listens at any more; gone already where the folder is.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to the holder of a run's folder, which must be this user's own.
pub(super) async fn connect(run_dir: &Path) -> Result<UnixStream, HolderError> {
    let path = run_dir.join(SOCKET);
    let no_answer = |source| HolderError::NoAnswer {
        path: path.clone(),
        source,
    };
    let (_folder, name) = short(run_dir).map_err(no_answer)?;
    let stream = UnixStream::connect(&name).await.map_err(no_answer)?;
    let peer = stream.peer_cred().map_err(no_answer)?;
    match peer.uid() == owner::caller().0 {
        true => Ok(stream),
        false => Err(no_answer(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "another user's process listens there",
        ))),
    }
}

/// The folder, held open, and the socket's name through it.
fn short(run_dir: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(run_dir)?;
    let name = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    Ok((folder, name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_with_a_long_path_has_a_socket_of_its_owners_only() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(120)).join("e".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let mode = fs::metadata(deep.join(SOCKET))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (near, far) = tokio::join!(listener.accept(), connect(&deep));
        assert!(near.is_ok() && far.is_ok());
        drop(listener);
        assert!(connect(&deep).await.is_err());
        assert!(!deep.join(SOCKET).exists());
    }
}
