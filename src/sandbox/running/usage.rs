//! How much lies in the folders that a sandbox can write.
//!
//! Counted by descriptors and without following links, for a step may swap anything at any time.
//! What counts is what the disk holds (blocks, not lengths) and every entry; a file with several
//! names counts once. What hides from being counted is over the limit: folders nested without end,
//! and folders that the sandbox's own user made unreadable.

use super::verdict::Full;
use crate::protocol::spec::{MountKind, SandboxSpec};
use crate::sandbox::backend::SandboxError;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statvfs::fstatvfs;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Deepest nesting that is followed; each level holds a descriptor.
const MAX_DEPTH: usize = 200;

/// Bytes of a block in `st_blocks`, whatever the file system's own are.
const BLOCK: u64 = 512;

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The writable folders of a sandbox.
pub(super) struct Roots {
    folders: Vec<OwnedFd>,
    /// Who the sandbox runs as.
    uid: u32,
}

/// What may lie there. `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceiling {
    pub(super) bytes: Option<u64>,
    pub(super) files: Option<u64>,
}

impl Ceiling {
    const OPEN: Self = Self {
        bytes: None,
        files: None,
    };

    pub(super) fn is_open(self) -> bool {
        self.bytes.is_none() && self.files.is_none()
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bytes, self.files) {
            (Some(bytes), Some(files)) => write!(f, "{} or {files} files", iec(bytes)),
            (Some(bytes), None) => f.write_str(&iec(bytes)),
            (None, Some(files)) => write!(f, "{files} files"),
            (None, None) => f.write_str("no limit"),
        }
    }
}

impl Roots {
    pub(super) fn open(spec: &SandboxSpec) -> Result<Self, SandboxError> {
        let counted = |kind| matches!(kind, MountKind::Workspace | MountKind::Home);
        let mut folders = Vec::new();
        for mount in spec.mounts.iter().filter(|mount| counted(mount.kind)) {
            let refused = |why: String| SandboxError::Refused {
                what: mount.source.display().to_string(),
                why,
                remedy: "start again: the folder is judged anew".to_owned(),
            };
            let folder = open(&mount.source, FOLDER, Mode::empty())
                .map_err(|errno| refused(format!("it cannot be opened: {}", errno.desc())))?;
            let found = fstat(&folder).map_err(|errno| refused(errno.desc().to_owned()))?;
            if (found.st_dev, found.st_ino) != (mount.device, mount.inode) {
                return Err(refused("it is another folder now".to_owned()));
            }
            folders.push(folder);
        }
        let uid = spec.uid;
        Ok(Self { folders, uid })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// What is free on the fullest of their file systems. `None` where they cannot be asked.
    pub(super) fn free(&self) -> Option<Free> {
        let of = |folder| {
            let found = fstatvfs(folder).ok()?;
            Some(Free {
                bytes: found
                    .blocks_available()
                    .saturating_mul(found.fragment_size()),
                files: match found.files() {
                    // It makes them as they are needed, out of the bytes.
                    0 => u64::MAX,
                    _ => found.files_available(),
                },
            })
        };
        let least = |a: Free, b: Free| Free {
            bytes: a.bytes.min(b.bytes),
            files: a.files.min(b.files),
        };
        self.folders.iter().filter_map(of).reduce(least)
    }
}

/// Room for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Free {
    /// What must stay free for everybody else, unless there was little more to begin with.
    const FLOOR: Self = Self {
        bytes: 512 << 20,
        files: 16_384,
    };

    /// What is left alone of what is free now.
    pub(super) fn floor(self) -> Self {
        Self {
            bytes: Self::FLOOR.bytes.min(self.bytes / 2),
            files: Self::FLOOR.files.min(self.files / 2),
        }
    }

    pub(super) fn is_below(self, floor: Self) -> bool {
        self.bytes < floor.bytes || self.files < floor.files
    }
}

/// How much lies there, or what of it is more than may. Stops counting when that is known.
pub(super) fn measure(roots: &Roots, ceiling: Ceiling) -> Result<Amount, Full> {
    let mut count = Count::new(roots, ceiling);
    count.add(roots)?;
    Ok(Amount {
        bytes: count.bytes,
        files: count.files,
    })
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// Refuses what is over its limit before anything runs: every step would be killed at once.
pub(super) fn check(roots: &Roots, ceiling: Ceiling) -> Result<(), SandboxError> {
    if measure(roots, ceiling).is_ok() {
        return Ok(());
    }
    let mut all = Count::new(roots, Ceiling::OPEN);
    let holds = match all.add(roots) {
        Ok(()) => format!("it holds {} in {} files", iec(all.bytes), all.files),
        Err(_) => "it holds folders that cannot be counted".to_owned(),
    };
    let mut sets = Vec::new();
    // What is there, and as much again as the policy thought of.
    if let Some(most) = ceiling.bytes.filter(|&most| all.bytes > most) {
        let gibibytes = all.bytes.saturating_add(most).div_ceil(1 << 30);
        sets.push(format!("`--set workspace.size={gibibytes}GiB`"));
    }
    if let Some(most) = ceiling.files.filter(|&most| all.files > most) {
        let files = all.files.saturating_add(most);
        sets.push(format!("`--set workspace.inodes={files}`"));
    }
    let raise = match sets.is_empty() {
        true => "take them out".to_owned(),
        false => format!("raise the limit with {}", sets.join(" ")),
    };
    Err(SandboxError::Refused {
        what: "workspace".to_owned(),
        why: format!("with the run's home {holds} already, more than {ceiling}"),
        remedy: format!(
            "{raise}, or keep data elsewhere and mount it with `--mount src=FOLDER,dst=/data`"
        ),
    })
}

fn iec(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

struct Count {
    ceiling: Ceiling,
    uid: u32,
    bytes: u64,
    files: u64,
    /// Files with several names that were counted.
    linked: HashSet<(u64, u64)>,
}

/// A folder that is being gone through: its subfolders still to come.
struct Level {
    dir: Dir,
    folders: Vec<CString>,
}

impl Count {
    fn new(roots: &Roots, ceiling: Ceiling) -> Self {
        Self {
            ceiling,
            uid: roots.uid,
            bytes: 0,
            files: 0,
            linked: HashSet::new(),
        }
    }

    fn add(&mut self, roots: &Roots) -> Result<(), Full> {
        let folders = &roots.folders;
        folders
            .iter()
            .try_for_each(|folder| self.add_tree(folder.as_fd()))
    }

    fn add_tree(&mut self, root: BorrowedFd<'_>) -> Result<(), Full> {
        let mut levels = Vec::new();
        levels.extend(self.open(root, c".")?);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.folders.pop() else {
                levels.pop();
                continue;
            };
            let Some(next) = self.open(level.dir.as_fd(), &name)? else {
                continue;
            };
            if levels.len() >= MAX_DEPTH {
                return Err(Full::Hidden);
            }
            levels.push(next);
        }
        Ok(())
    }

    /// Opens a folder and counts what is in it. `None` where there is none any more, or nothing of
    /// the sandbox's.
    fn open(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Level>, Full> {
        let mut dir = match Dir::openat(parent, name, FOLDER, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::EACCES) => return self.unreadable(parent, name),
            Err(_) => return Ok(None),
        };
        let mut folders = Vec::new();
        let mut names = Vec::new();
        for entry in dir.iter() {
            // A folder that is removed while it is read ends early.
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
            if self
                .ceiling
                .files
                .is_some_and(|most| self.files + names.len() as u64 > most)
            {
                return Err(Full::Files);
            }
        }
        for name in names {
            let Ok(found) = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.add_entry(&found)?;
            if is_folder(&found) {
                folders.push(name);
            }
        }
        Ok(Some(Level { dir, folders }))
    }

    /// Another's folder is closed to the sandbox too; its own was closed to hide something.
    fn unreadable(&self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Level>, Full> {
        match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) if found.st_uid == self.uid && is_folder(&found) => Err(Full::Hidden),
            _ => Ok(None),
        }
    }

    fn add_entry(&mut self, found: &FileStat) -> Result<(), Full> {
        self.files += 1;
        let again = found.st_nlink > 1
            && !is_folder(found)
            && !self.linked.insert((found.st_dev, found.st_ino));
        if !again {
            let blocks = u64::try_from(found.st_blocks).unwrap_or(0);
            self.bytes = self.bytes.saturating_add(blocks.saturating_mul(BLOCK));
        }
        let over = |most: Option<u64>, have| most.is_some_and(|most| have > most);
        match (
            over(self.ceiling.bytes, self.bytes),
            over(self.ceiling.files, self.files),
        ) {
            (true, _) => Err(Full::Bytes),
            (_, true) => Err(Full::Files),
            _ => Ok(()),
        }
    }
}

fn is_folder(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    /// Counts as an ordinary user would: root reads everything.
    fn is_over_for(uid: u32, roots: &Roots) -> bool {
        let ceiling = Ceiling {
            bytes: Some(1 << 40),
            files: None,
        };
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                nix::unistd::setfsuid(uid.into());
                measure(roots, ceiling) == Err(Full::Hidden)
            });
            counting.join().unwrap()
        })
    }

    #[test]
    fn what_is_left_for_others_is_bytes_and_files() {
        let free = |bytes, files| Free { bytes, files };
        let wide = free(100 << 30, 1 << 20).floor();
        assert_eq!(wide, free(512 << 20, 16_384));
        assert!(!free(512 << 20, 16_384).is_below(wide));
        assert!(free((512 << 20) - 1, 1 << 20).is_below(wide));
        assert!(free(100 << 30, 16_383).is_below(wide));
        // On a disk that was nearly full before, half of what there was.
        assert_eq!(free(1000, 10).floor(), free(500, 5));
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_over_the_limit_where_the_sandbox_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (ours, anothers) = match nix::unistd::geteuid().as_raw() {
            0 => (1000, 0),
            uid => (uid, uid + 1),
        };
        chown(&closed, Some(ours), None).unwrap();
        let roots = |uid| Roots {
            folders: vec![open(dir.path(), FOLDER, Mode::empty()).unwrap()],
            uid,
        };
        assert!(is_over_for(ours, &roots(ours)));
        assert!(!is_over_for(ours, &roots(anothers)));
    }
}
