//! The terminal's own line: without echo and line editing while a question stands, and as it was after.

use nix::sys::termios::{self, FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// How often the keyboard is looked at: a person's keys come further apart. (Waiting for readiness
/// needs a registration that only unsafe code can promise to keep.)
const LOOK: Duration = Duration::from_millis(15);

/// A terminal to be asked at.
pub(super) struct Tty {
    file: File,
    /// As it was before, once it was changed.
    before: Option<Termios>,
}

impl Tty {
    /// The controlling terminal, through a description of our own: that it does not block concerns
    /// nobody else.
    pub(super) fn open() -> io::Result<Self> {
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open("/dev/tty")?;
        Ok(Self::at(file))
    }

    /// A terminal that is open already, and does not block.
    pub(super) fn at(file: File) -> Self {
        Self { file, before: None }
    }

    /// Keys come as they are typed, and are not shown. Ctrl-C stays what it is.
    pub(super) fn quieten(&mut self) -> io::Result<()> {
        let before = termios::tcgetattr(&self.file)?;
        let mut quiet = before.clone();
        quiet
            .local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
        quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        self.before.get_or_insert(before);
        termios::tcsetattr(&self.file, SetArg::TCSAFLUSH, &quiet)?;
        Ok(())
    }

    /// As it was, and nothing left of what was typed.
    pub(super) fn restore(&mut self) -> io::Result<()> {
        if let Some(before) = self.before.take() {
            termios::tcsetattr(&self.file, SetArg::TCSAFLUSH, &before)?;
        }
        Ok(())
    }

    /// Drops what was typed and not read.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        termios::tcflush(&self.file, FlushArg::TCIFLUSH)?;
        Ok(())
    }

    /// Some bytes; an error where the terminal went away.
    pub(super) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 256];
        loop {
            match self.file.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => return Ok(bytes[..length].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // A terminal that went away needs nothing put back.
        let _ = self.restore();
    }
}
