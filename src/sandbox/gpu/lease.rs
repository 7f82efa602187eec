//! Who has which GPU: a locked file for each, so that two runs of this machine never share one unless
//! both policies say so.
//!
//! ```text
//!   exclusive ── lock alone ──┐                       ┌─ taken: the file says by whom (run, pid, start)
//!                             ├─▶ file of the GPU ────┤
//!   shared ──── lock shared ──┘                       └─ held by others: wait, or be cancelled
//! ```
//!
//! The kernel holds the lock and lets go of it with the process, however that ends: a file that a dead
//! run left says nothing and is taken over. What a file says is for people, and read as hostile.

use super::error::GpuError;
use crate::protocol::device::Gpu;
use crate::sandbox::owner::Owner;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder all users of a machine share, where there is such a place.
pub const MACHINE: &str = "/run/lock/fumehood";

/// Bytes of a lock file that are read.
const SAID: u64 = 200;

/// A GPU that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    _file: File,
}

/// Where leases are written.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    dir: PathBuf,
    /// What is written into a file that was taken.
    holder: String,
}

/// Whether others may have it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    Exclusive,
    Shared,
}

impl Leases {
    /// In the first of these folders that can be used; made where it is not there.
    pub(super) fn open(dirs: &[PathBuf], run: &str) -> Result<Self, GpuError> {
        let owner = Owner::this_process().map_err(|source| GpuError::Lock {
            path: "/proc/self/stat".into(),
            source,
        })?;
        let mut failed = None;
        for dir in dirs {
            match make(dir) {
                Ok(()) => {
                    return Ok(Self {
                        dir: dir.clone(),
                        holder: format!("{} {} {run}\n", owner.pid, owner.start),
                    });
                }
                Err(source) => {
                    failed.get_or_insert((dir.clone(), source));
                }
            }
        }
        let (path, source) = failed.unwrap_or((PathBuf::new(), ErrorKind::NotFound.into()));
        Err(GpuError::Lock { path, source })
    }

    /// Takes a GPU, or says who has it.
    pub(super) fn take(
        &self,
        gpu: &Gpu,
        sharing: Sharing,
    ) -> Result<Result<Lease, String>, GpuError> {
        let path = self.dir.join(file_name(gpu));
        let locked = open(&path).and_then(|file| self.lock(file, sharing));
        locked.map_err(|source| GpuError::Lock { path, source })
    }

    fn lock(&self, mut file: File, sharing: Sharing) -> io::Result<Result<Lease, String>> {
        let tried = match sharing {
            Sharing::Exclusive => file.try_lock(),
            Sharing::Shared => file.try_lock_shared(),
        };
        match tried {
            Ok(()) => {
                // A second name would be another file's, and is written over.
                let found = file.metadata()?;
                if !found.is_file() || found.nlink() != 1 {
                    return Err(io::Error::other("it is no file of its own"));
                }
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(self.holder.as_bytes())?;
                Ok(Ok(Lease { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(Err(who(&mut file))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Of all users where the folder's own folder is: each may lock, nobody may remove another's.
fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o777).create(dir) {
        Ok(()) => {
            let mode = if dir == Path::new(MACHINE) {
                0o1777
            } else {
                0o700
            };
            fs::set_permissions(dir, Permissions::from_mode(mode))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(dir)?;
            match found.is_dir() && nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
            {
                true => Ok(()),
                false => Err(ErrorKind::PermissionDenied.into()),
            }
        }
        Err(error) => Err(error),
    }
}

/// What is there is opened without making it: in a folder of everybody's the kernel refuses to make
/// what another user has made. No link is followed.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = options.clone().create_new(true).mode(0o666).open(path);
            match made {
                Ok(file) => {
                    file.set_permissions(Permissions::from_mode(0o666))?;
                    Ok(file)
                }
                // Another run was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
                Err(error) => Err(error),
            }
        }
        opened => opened,
    }
}

/// A name of letters, digits and hyphens.
fn file_name(gpu: &Gpu) -> String {
    let key = match &gpu.uuid {
        Some(uuid) => uuid.to_ascii_lowercase(),
        None => format!("index-{}", gpu.index),
    };
    key.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(80)
        .collect()
}

fn who(file: &mut File) -> String {
    let mut said = String::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(SAID).read_to_string(&mut said));
    let mut words = said.split_ascii_whitespace();
    let pid = words.next().and_then(|pid| pid.parse::<u32>().ok());
    let run: String = words
        .nth(1)
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    match (read.is_ok(), pid) {
        (true, Some(pid)) if !run.is_empty() => format!("run {run} (process {pid}) has it"),
        (true, Some(pid)) => format!("process {pid} has it"),
        _ => "another run has it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(uuid: Option<&str>) -> Gpu {
        Gpu {
            index: 0,
            uuid: uuid.map(str::to_owned),
            name: String::new(),
        }
    }

    fn leases(dir: &Path) -> Leases {
        Leases::open(&[dir.join("gpus")], "0192abc").unwrap()
    }

    #[test]
    fn an_exclusive_gpu_is_had_by_one_and_free_again_when_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (leases(dir.path()), leases(dir.path()));
        let gpu = gpu(Some("GPU-00000001"));
        let held = one.take(&gpu, Sharing::Exclusive).unwrap().unwrap();
        for sharing in [Sharing::Exclusive, Sharing::Shared] {
            let why = two.take(&gpu, sharing).unwrap().unwrap_err();
            let pid = std::process::id();
            assert_eq!(why, format!("run 0192abc (process {pid}) has it"));
        }
        drop(held);
        two.take(&gpu, Sharing::Exclusive).unwrap().unwrap();
    }

    #[test]
    fn only_those_who_both_share_share() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (leases(dir.path()), leases(dir.path()));
        let gpu = gpu(None);
        let _first = one.take(&gpu, Sharing::Shared).unwrap().unwrap();
        let _second = two.take(&gpu, Sharing::Shared).unwrap().unwrap();
        assert!(one.take(&gpu, Sharing::Exclusive).unwrap().is_err());
    }

    #[test]
    fn what_a_dead_run_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        fs::write(leases.dir.join("gpu-00000002"), "4194300 1 deadbeef\n").unwrap();
        let gpu = gpu(Some("GPU-00000002"));
        leases.take(&gpu, Sharing::Exclusive).unwrap().unwrap();
        let said = fs::read_to_string(leases.dir.join("gpu-00000002")).unwrap();
        assert!(said.starts_with(&std::process::id().to_string()), "{said}");
    }

    #[test]
    fn a_lock_file_says_nothing_but_a_number_and_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let path = leases.dir.join("gpu-00000003");
        fs::write(&path, "12 3 \u{1b}[31mrun\n").unwrap();
        let other = open(&path).unwrap();
        other.try_lock().unwrap();
        let why = leases
            .take(&gpu(Some("GPU-00000003")), Sharing::Exclusive)
            .unwrap()
            .unwrap_err();
        assert_eq!(why, "run 31mrun (process 12) has it");
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let leases = leases(dir.path());
        let aim = dir.path().join("aim");
        fs::write(&aim, "kept").unwrap();
        std::os::unix::fs::symlink(&aim, leases.dir.join("index-0")).unwrap();
        let error = leases.take(&gpu(None), Sharing::Exclusive).unwrap_err();
        assert!(error.to_string().contains("index-0"), "{error}");
        fs::remove_file(leases.dir.join("index-0")).unwrap();
        fs::hard_link(&aim, leases.dir.join("index-0")).unwrap();
        leases.take(&gpu(None), Sharing::Exclusive).unwrap_err();
        assert_eq!(fs::read_to_string(aim).unwrap(), "kept");
    }
}
