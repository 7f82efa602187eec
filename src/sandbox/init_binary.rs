//! Init itself: embedded, and laid down where an engine or the kernel can execute it.
//!
//! Its file name is a digest of its bytes, so that two versions of Fumehood never meet in one file,
//! and a file that is there already serves. What is there is never believed: its bytes are compared.

use nix::libc;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole program, as `build.rs` left it.
static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fumehood-init"));

/// Everybody may read and execute it, nobody may write.
const MODE: u32 = 0o555;

/// How long a forked child may take to its `execve`.
const WRITER_ROUNDS: u32 = 1000;
const WRITER_ROUND: Duration = Duration::from_millis(1);

/// Where [`install`] puts init in `dir`.
pub fn path_in(dir: &Path) -> PathBuf {
    let digest: String = Sha256::digest(INIT)
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    dir.join(format!("init-{digest}"))
}

/// Makes sure that init lies in `dir`, which exists and which whoever runs sandboxes can traverse.
///
/// # Errors
/// When it cannot be written there.
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    let path = path_in(dir);
    if !is_there(&path)? {
        put(dir, &path)?;
    }
    wait_for_writers(&path)?;
    Ok(path)
}

/// A child that another thread forks while the file is written holds a copy of the descriptor until it
/// executes something, and the kernel executes no file that is open for writing. A read lease is given
/// only where nobody has it open so.
#[expect(unsafe_code, reason = "leases have no wrapper")]
fn wait_for_writers(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    for _ in 0..WRITER_ROUNDS {
        // SAFETY: the call takes and gives integers.
        let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        match nix::errno::Errno::result(leased) {
            Err(nix::errno::Errno::EAGAIN) => std::thread::sleep(WRITER_ROUND),
            // Given back with the descriptor, or there are no leases here.
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Whether exactly this program, with exactly this mode, is a file there of this user's own.
fn is_there(path: &Path) -> io::Result<bool> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        // A link counts as nothing there: it is replaced, and not followed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(false),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    let right = found.is_file()
        && found.mode() & 0o7777 == MODE
        && found.uid() == nix::unistd::geteuid().as_raw()
        && found.len() == INIT.len() as u64;
    if !right {
        return Ok(false);
    }
    let mut bytes = Vec::with_capacity(INIT.len());
    file.take(INIT.len() as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes == INIT)
}

/// Complete or not at all, also when several processes do it at once: closed before it has its name, and
/// put in nobody's place who was first and may be executing theirs.
fn put(dir: &Path, path: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".init-")
        .permissions(Permissions::from_mode(0o700))
        .tempfile_in(dir)?;
    file.write_all(INIT)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(MODE))?;
    file.as_file().sync_all()?;
    match file.into_temp_path().persist_noclobber(path) {
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
            match is_there(path)? {
                true => Ok(()),
                // Something else has its name.
                false => failed.path.persist(path).map_err(io::Error::from),
            }
        }
        put => put.map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_is_laid_down_once_and_executable_by_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let first = install(dir.path()).unwrap();
        let inode = fs::metadata(&first).unwrap().ino();
        assert_eq!(install(dir.path()).unwrap(), first);
        let found = fs::metadata(&first).unwrap();
        assert_eq!((found.ino(), found.mode() & 0o7777), (inode, MODE));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Each executes it as soon as it has it, while the others lay it down.
    #[test]
    fn many_lay_it_down_at_once_and_each_can_execute_it() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let _ = fs::remove_file(path_in(dir.path()));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let path = install(dir.path()).unwrap();
                        // Run as nothing, it says so and ends.
                        let run = std::process::Command::new(path).output();
                        run.unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_file_with_other_bytes_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = install(dir.path()).unwrap();
        let mut other = INIT.to_vec();
        other[1000] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, other).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(MODE)).unwrap();
        install(dir.path()).unwrap();
        assert!(fs::read(&path).unwrap() == INIT);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, b"kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path_in(dir.path())).unwrap();
        let path = install(dir.path()).unwrap();
        assert!(fs::symlink_metadata(path).unwrap().is_file());
        assert_eq!(fs::read(elsewhere).unwrap(), b"kept");
    }
}
