//! Writes a judged tree into the workspace, by descriptors beneath it, and all of it or nothing.
//!
//! ```text
//!   open ── into is free? ──▶ Place ── stage ──▶ files, in a folder of a name of ours beside `into`
//!     └─ Taken, Into                     │
//!                                        ├─ renamed to `into` at the end
//!                                        └─ removed on every failure
//! ```
//!
//! Whoever else writes into the workspace meanwhile (a step that still runs) can spoil the outcome, but
//! not send a write elsewhere: no link is followed, nothing that exists is opened for writing.

use super::error::{RepoError, brief_path};
use super::judge::{Judged, Step};
use super::objects::{MAX_FILE, read};
use super::report::{Listed, Note};
use git2::{ObjectType, Odb};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// Folders that are removed again, within each other: deeper than anything written here.
const MAX_REMOVED_DEPTH: usize = 256;

/// Uid and gid that get the files; `None` leaves them ours.
pub type Owner = Option<(u32, u32)>;

/// The free place in the workspace where a repository goes.
#[derive(Debug)]
pub(super) struct Place {
    /// The folder that will hold it.
    parent: OwnedFd,
    name: OsString,
    /// Relative to the workspace, for messages.
    shown: PathBuf,
    owner: Owner,
    /// Folders made on the way, outermost first: each with the folder that holds it.
    made: Vec<(OwnedFd, OsString)>,
    done: bool,
}

/// Checks a path relative to the workspace. Pure.
pub(super) fn check_into(into: &Path) -> Result<Vec<&OsStr>, RepoError> {
    let refuse = |why: &str| RepoError::Into {
        path: into.to_owned(),
        why: why.to_owned(),
    };
    let mut names = Vec::new();
    for part in into.components() {
        match part {
            Component::Normal(name) => match super::judge::bad_name(name.as_bytes()) {
                Some(why) => return Err(refuse(&format!("a part of it {why}"))),
                None => names.push(name),
            },
            Component::CurDir => {}
            _ => return Err(refuse("it leads out of the workspace")),
        }
    }
    if names.is_empty() {
        return Err(refuse("it is the workspace itself"));
    }
    Ok(names)
}

impl Place {
    /// Opens the folder that will hold `into`, making what is missing on the way.
    pub(super) fn open(
        workspace: BorrowedFd<'_>,
        into: &Path,
        owner: Owner,
    ) -> Result<Self, RepoError> {
        let names = check_into(into)?;
        let failed = RepoError::io("open the place in the workspace", into);
        let (last, above) = names.split_last().expect("check_into gives at least one");
        let mut place = Self {
            parent: workspace.try_clone_to_owned().map_err(failed)?,
            name: last.into(),
            shown: into.to_owned(),
            owner,
            made: Vec::new(),
            done: false,
        };
        for name in above {
            place.descend(name)?;
        }
        place.check_free()?;
        Ok(place)
    }

    fn descend(&mut self, name: &OsStr) -> Result<(), RepoError> {
        let made = match mkdirat(&self.parent, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(self.failed("make a folder for", error)),
        };
        let next = open_folder(&self.parent, name).map_err(|error| match error {
            Errno::ELOOP | Errno::ENOTDIR => RepoError::Into {
                path: self.shown.clone(),
                why: "a part of it is a link or a file".to_owned(),
            },
            error => self.failed("open a folder for", error),
        })?;
        if made {
            finish(&next, self.owner, 0o755)
                .map_err(|error| self.failed("make a folder for", error))?;
        }
        let holder = std::mem::replace(&mut self.parent, next);
        if made {
            self.made.push((holder, name.to_owned()));
        }
        Ok(())
    }

    /// Nothing there, or an empty folder.
    fn check_free(&self) -> Result<(), RepoError> {
        let taken = || RepoError::Taken {
            path: self.shown.clone(),
        };
        match open_folder(&self.parent, &self.name) {
            Ok(folder) => match names_in(folder) {
                Ok(names) if names.is_empty() => Ok(()),
                Ok(_) => Err(taken()),
                Err(error) => Err(self.failed("list", error)),
            },
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ELOOP | Errno::ENOTDIR) => Err(taken()),
            Err(error) => Err(self.failed("look at", error)),
        }
    }

    /// Writes everything, then gives it its name. `each` is told after every file and may stop it.
    pub(super) fn write(
        mut self,
        odb: &Odb<'_>,
        judged: &Judged,
        each: &mut dyn FnMut(u64) -> Result<(), RepoError>,
    ) -> Result<Vec<Note>, RepoError> {
        let staging: OsString = format!(".fumehood-clone-{}", uuid::Uuid::now_v7().simple()).into();
        let notes = self.stage(&staging, odb, judged, each).and_then(|notes| {
            // Replaces an empty folder; fails on everything else that may have come there meanwhile.
            match renameat(
                &self.parent,
                staging.as_os_str(),
                &self.parent,
                self.name.as_os_str(),
            ) {
                Ok(()) => Ok(notes),
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => Err(RepoError::Taken {
                    path: self.shown.clone(),
                }),
                Err(error) => Err(self.failed("name", error)),
            }
        });
        if notes.is_err() {
            remove(&self.parent, &staging, MAX_REMOVED_DEPTH);
        }
        self.done = notes.is_ok();
        notes
    }

    fn stage(
        &self,
        staging: &OsStr,
        odb: &Odb<'_>,
        judged: &Judged,
        each: &mut dyn FnMut(u64) -> Result<(), RepoError>,
    ) -> Result<Vec<Note>, RepoError> {
        let failed = |error| self.failed("write", error);
        let mut folders = vec![self.make_folder(&self.parent, staging).map_err(failed)?];
        let mut pointers = Listed::default();
        let mut written = 0;
        let mut path: Vec<&[u8]> = Vec::new();
        for step in &judged.steps {
            let here = folders.last().expect("Leave is paired with Enter");
            match step {
                Step::Enter { name } => {
                    let folder = self.make_folder(here, OsStr::from_bytes(name));
                    folders.push(folder.map_err(failed)?);
                    path.push(name);
                }
                Step::Leave => {
                    folders.pop();
                    path.pop();
                }
                Step::File { name, id, mode } => {
                    let content = read(odb, *id, ObjectType::Blob, MAX_FILE)?;
                    self.make_file(here, OsStr::from_bytes(name), content.data(), *mode)
                        .map_err(failed)?;
                    if is_lfs_pointer(content.data()) {
                        let whole = [path.as_slice(), &[name]].concat().join(&b'/');
                        pointers.add(|| brief_path(&whole));
                    }
                    written += 1;
                    each(written)?;
                }
            }
        }
        let notes = judged.notes().into_iter();
        Ok(notes.chain(pointers.into_note(Note::LfsPointers)).collect())
    }

    fn make_folder(&self, holder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
        mkdirat(holder, name, Mode::from_bits_truncate(0o700))?;
        let folder = open_folder(holder, name)?;
        finish(&folder, self.owner, 0o755)?;
        Ok(folder)
    }

    fn make_file(
        &self,
        holder: &OwnedFd,
        name: &OsStr,
        content: &[u8],
        mode: u32,
    ) -> Result<(), Errno> {
        let how = beneath(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)
            .mode(Mode::from_bits_truncate(0o600));
        let mut file = File::from(openat2(holder, name, how)?);
        file.write_all(content)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)))?;
        finish(&file, self.owner, mode)
    }

    fn failed(&self, what: &'static str, error: Errno) -> RepoError {
        RepoError::Io {
            what,
            path: self.shown.clone(),
            source: io::Error::from(error),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Innermost first; one that is no longer empty stays.
        for (holder, name) in self.made.iter().rev() {
            let _gone_or_used = unlinkat(holder, name.as_os_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

/// No link is followed, nothing outside the given folder is reached.
fn beneath(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn open_folder(holder: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat2(holder, name, beneath(OFlag::O_RDONLY | OFlag::O_DIRECTORY))
}

/// Owner first: a changed owner clears bits of the mode.
fn finish(fd: &impl AsFd, owner: Owner, mode: u32) -> Result<(), Errno> {
    if let Some((uid, gid)) = owner {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(fd, Mode::from_bits_truncate(mode))
}

fn names_in(folder: OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(folder)?.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    Ok(names)
}

/// Removes a folder and what is in it, following nothing. What cannot be removed stays.
fn remove(holder: &impl AsFd, name: &OsStr, depth: usize) {
    if unlinkat(holder, name, UnlinkatFlags::NoRemoveDir).is_ok() || depth == 0 {
        return;
    }
    if let Ok(folder) = open_folder(holder, name)
        && let Ok(copy) = folder.try_clone()
    {
        for inner in names_in(copy).unwrap_or_default() {
            remove(&folder, &inner, depth - 1);
        }
    }
    let _stays = unlinkat(holder, name, UnlinkatFlags::RemoveDir);
}

fn is_lfs_pointer(content: &[u8]) -> bool {
    content.len() <= 1024 && content.starts_with(b"version https://git-lfs.github.com/spec/")
}
