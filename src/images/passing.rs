//! Folders for what is only passing: an archive being written, a root being unpacked or removed.
//!
//! ```text
//!   made ─▶ locked ─▶ … ─▶ removed with its value
//!              └ killed: nobody has the lock any more ─▶ removed with the next one that is made, or by `runs gc`
//! ```

use super::error::ImageError;
use super::store::{Store, make_folder};
use crate::workspace::remove_tree;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const PREFIX: &str = ".making-";

/// Removed, with what is in it, when it is dropped.
#[derive(Debug)]
pub(super) struct Passing {
    dir: PathBuf,
    _lock: File,
}

impl Passing {
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // What an archive made is removed by descriptor, however it is nested; what resists is tried again.
        let _ = remove_tree(&self.dir);
    }
}

impl Store {
    pub(super) fn passing(&self) -> Result<Passing, ImageError> {
        for left in self.left_behind()? {
            let _ = remove_tree(&left);
        }
        make_folder(self.folder())?;
        // Nobody takes one for left behind before it is locked.
        let _turn = self.turn()?;
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(self.folder())
            .map_err(ImageError::io("make a folder in", self.folder()))?
            .keep();
        let lock = File::open(&dir).map_err(ImageError::io("open", &dir))?;
        lock.lock().map_err(ImageError::io("lock", &dir))?;
        Ok(Passing { dir, _lock: lock })
    }

    /// Folders whose makers were killed.
    pub fn left_behind(&self) -> Result<Vec<PathBuf>, ImageError> {
        let folder = self.folder();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let _turn = self.turn()?;
        let mut left = Vec::new();
        for entry in fs::read_dir(folder).map_err(ImageError::io("read", folder))? {
            let entry = entry.map_err(ImageError::io("read", folder))?;
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            // One that went just now is as good.
            let free = |open: &File| open.try_lock().is_ok();
            if File::open(entry.path()).as_ref().is_ok_and(free) {
                left.push(entry.path());
            }
        }
        Ok(left)
    }

    /// One process at a time makes such a folder, or looks for them.
    fn turn(&self) -> Result<File, ImageError> {
        let folder = self.folder();
        let turn = File::open(folder).map_err(ImageError::io("open", folder))?;
        turn.lock().map_err(ImageError::io("lock", folder))?;
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_being_made_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        assert_eq!(store.left_behind().unwrap(), Vec::<PathBuf>::new());
        let made = store.passing().unwrap();
        let left = store.folder().join(".making-killed");
        fs::create_dir_all(left.join("making/root")).unwrap();
        assert_eq!(store.left_behind().unwrap(), std::slice::from_ref(&left));
        let second = store.passing().unwrap();
        assert!(!left.exists() && made.path().exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }
}
