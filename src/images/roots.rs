//! Unpacked images: one folder for each id, whole or not there, not changed afterwards.
//!
//! ```text
//!   STATE/images/roots/HEX/root         the root file system, read-only in every sandbox
//!                         /about.json   what is in it
//!                         /lock         held by who uses it; who removes it needs it alone
//! ```

use super::error::ImageError;
use super::name::{ImageName, hex};
use super::store::{Made, Store};
use crate::workspace::remove_tree;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is in an unpacked image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub id: String,
    pub files: u64,
    pub bytes: u64,
    /// Entries of its layers that nothing was made of: devices and the like.
    pub left_out: u64,
}

/// An unpacked image that is being used: it stays as long as this value.
#[derive(Debug)]
pub struct HeldRoot {
    pub id: String,
    /// Without a link in it.
    pub path: PathBuf,
    _lock: File,
}

impl Store {
    /// What is unpacked of an id.
    pub fn unpacked(&self, id: &str) -> Result<Option<About>, ImageError> {
        let path = self.root_of(id)?.join("about.json");
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => serde_json::from_slice(&text.map_err(ImageError::io("read", &path))?)
                .map(Some)
                .map_err(|error| ImageError::damaged(&path, error.to_string())),
        }
    }

    /// Holds what is unpacked of an id; `None` where nothing is.
    pub fn hold(&self, id: &str) -> Result<Option<HeldRoot>, ImageError> {
        let folder = self.root_of(id)?;
        let Some(lock) = lock(&folder, Hold::Shared)? else {
            return Ok(None);
        };
        let path = match fs::canonicalize(folder.join("root")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            path => path.map_err(ImageError::io("look at", &folder))?,
        };
        Ok(Some(HeldRoot {
            id: id.to_owned(),
            path,
            _lock: lock,
        }))
    }

    /// Puts what was unpacked in `making` (its `root`) in its place. One that is there already stays: it
    /// is the same.
    pub(super) fn place(&self, making: &Path, about: &About) -> Result<(), ImageError> {
        let folder = self.root_of(&about.id)?;
        let roots = folder.parent().unwrap_or(&folder);
        super::store::make_folder(roots)?;
        let path = making.join("about.json");
        let text = serde_json::to_vec(about)
            .map_err(|error| ImageError::io("write", &path)(error.into()))?;
        fs::write(&path, text).map_err(ImageError::io("write", &path))?;
        let lock = making.join("lock");
        File::create_new(&lock).map_err(ImageError::io("create", &lock))?;
        match fs::rename(making, &folder) {
            Err(error) if is_there(&error) => Ok(()),
            placed => placed.map_err(ImageError::io("place", &folder)),
        }
    }

    /// As [`Store::put`]; what is unpacked of the image that the name stood for goes, where no other name
    /// stands for it and nobody uses it.
    pub(super) fn replace(&self, made: &Made) -> Result<(), ImageError> {
        let name = ImageName::parse(&made.name)?;
        let before = self.get(&name)?;
        self.put(made)?;
        if let Some(before) = before
            && !self.list()?.iter().any(|made| made.id == before.id)
        {
            match self.clear(&before.id) {
                // Its files stay: taking them away under a sandbox would be worse.
                Err(ImageError::InUse { .. }) => {}
                cleared => drop(cleared?),
            }
        }
        Ok(())
    }

    /// Removes what is unpacked of an id; false where nothing was.
    ///
    /// # Errors
    /// Where a sandbox uses it.
    pub fn clear(&self, id: &str) -> Result<bool, ImageError> {
        let folder = self.root_of(id)?;
        let Some(_lock) = lock(&folder, Hold::Alone)? else {
            return Ok(false);
        };
        // Out of the way first: half of it is never found.
        let passing = self.passing()?;
        let gone = passing.path().join("gone");
        fs::rename(&folder, &gone).map_err(ImageError::io("remove", &folder))?;
        remove_tree(&gone)?;
        Ok(true)
    }

    fn root_of(&self, id: &str) -> Result<PathBuf, ImageError> {
        let hex = hex(id).ok_or_else(|| self.unknown(id))?;
        Ok(self.folder().join("roots").join(hex))
    }
}

#[derive(Clone, Copy)]
enum Hold {
    /// Waits for who removes it.
    Shared,
    /// Refused where anyone else holds it.
    Alone,
}

/// The lock of what is unpacked in `folder` now; `None` where nothing is. What is locked may have gone while
/// we waited, and another have come in its place: then that one is locked.
fn lock(folder: &Path, hold: Hold) -> Result<Option<File>, ImageError> {
    let name = folder.join("lock");
    let failed = |error| ImageError::io("lock", folder)(error);
    loop {
        let lock = match File::open(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            lock => lock.map_err(failed)?,
        };
        match hold {
            Hold::Shared => lock.lock_shared().map_err(failed)?,
            Hold::Alone => match lock.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let id = folder.file_name().unwrap_or_default().to_string_lossy();
                    return Err(ImageError::InUse {
                        id: format!("sha256:{id}"),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Ok(()) => {}
            },
        }
        let locked = lock.metadata().map_err(failed)?;
        match fs::metadata(&name) {
            Ok(now) if (now.dev(), now.ino()) == (locked.dev(), locked.ino()) => {
                return Ok(Some(lock));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            // Once more: it is another one by now, or gone.
            _ => {}
        }
    }
}

fn is_there(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty
    )
}
