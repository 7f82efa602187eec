//! Output without a thread in between: tokio's own standard streams hand each write to one and wait.
//!
//! ```text
//!   a pipe         opened anew, so that it can be polled without changing what others hold of it
//!   a file, null   written at once: the page cache takes it
//!   anything else  (terminals, sockets, a pipe that may not be opened) is not for here
//! ```

use nix::sys::stat::{SFlag, fstat, major, minor};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe::OpenOptions;

/// The device number of `/dev/null`.
const NULL: (u64, u64) = (1, 3);

/// A direct way to what a descriptor writes to, where there is one.
pub(super) fn open(fd: BorrowedFd<'_>) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
    let found = fstat(fd).ok()?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    let device = (major(found.st_rdev), minor(found.st_rdev));
    match kind {
        SFlag::S_IFIFO => {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let pipe = OpenOptions::new().open_sender(path).ok()?;
            Some(Box::new(pipe))
        }
        // The same open file: its position and its mode to append are shared with others.
        SFlag::S_IFREG => Some(Box::new(Ready(fd.try_clone_to_owned().ok()?.into()))),
        SFlag::S_IFCHR if device == NULL => {
            Some(Box::new(Ready(fd.try_clone_to_owned().ok()?.into())))
        }
        _ => None,
    }
}

/// A file that never makes its writer wait long.
struct Ready(File);

impl AsyncWrite for Ready {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom};
    use std::os::fd::AsFd;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_pipe_gets_every_byte_and_stays_as_it_was_for_others() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut direct = open(writer.as_fd()).unwrap();
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & nix::libc::O_NONBLOCK, 0);
        let came = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        // More than a pipe holds.
        let bytes = vec![b'x'; 1 << 20];
        direct.write_all(&bytes).await.unwrap();
        drop((direct, writer));
        assert!(came.join().unwrap() == bytes);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        let mut direct = open(writer.as_fd()).unwrap();
        drop(reader);
        assert!(direct.write_all(b"nobody reads").await.is_err());
    }

    #[tokio::test]
    async fn a_file_is_written_where_it_stands() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before, ").unwrap();
        let mut direct = open(file.as_fd()).unwrap();
        direct.write_all(b"after").await.unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before, after");
    }

    #[test]
    fn a_socket_has_no_direct_way() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(open(socket.as_fd()).is_none());
    }
}
