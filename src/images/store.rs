//! What images there are, by name: one small file for each, written whole or not at all.
//!
//! ```text
//!   STATE/images/names/NAME.json      which id the name stands for, and where it came from
//!                roots/HEX/           what is unpacked of it: see `roots`
//!                .making-*/           what is only passing: see `passing`
//! ```

use super::error::ImageError;
use super::name::{ImageName, Reference, is_id};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Longest file of the store that is read.
const MAX_FILE: u64 = 64 * 1024;

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub name: String,
    /// `sha256:…` of its configuration, which names its layers by their digests: the same on an engine.
    pub id: String,
    /// When, in UTC.
    pub made: String,
    /// From what, in words.
    pub from: String,
    /// As what it was pulled, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
}

/// What the engine calls an image besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// `REPOSITORY@sha256:…`, by the digest of its manifest.
    pub reference: String,
    /// The engine knew it by that before: it goes on to when our name goes.
    pub was_there: bool,
}

/// The images of one user.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Cheap: nothing is looked at yet.
    pub fn open(state: &Path) -> Self {
        Self {
            dir: state.join("images"),
        }
    }

    /// All of them, by name.
    pub fn list(&self) -> Result<Vec<Made>, ImageError> {
        let folder = self.names();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(ImageError::io("read", &folder))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(ImageError::io("read", &folder))?.path();
            if path.extension().is_some_and(|end| end == "json") {
                all.push(read(&path)?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// `None` where there is no such name.
    pub fn get(&self, name: &ImageName) -> Result<Option<Made>, ImageError> {
        match read(&self.file(name)) {
            Err(ImageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// What `--image` means, where it is one of ours.
    ///
    /// # Errors
    /// Where it names an id, and the name stands for another.
    pub fn resolve(&self, reference: &str) -> Result<Option<Made>, ImageError> {
        let Some(Reference { name, id }) = Reference::parse(reference) else {
            return Ok(None);
        };
        let Some(made) = self.get(&name)? else {
            return Ok(None);
        };
        match id {
            Some(wanted) if wanted != made.id => Err(ImageError::Moved {
                name: made.name,
                is: made.id,
                wanted,
            }),
            _ => Ok(Some(made)),
        }
    }

    /// The name stands for that image from now on.
    pub fn put(&self, made: &Made) -> Result<(), ImageError> {
        let name = ImageName::parse(&made.name)?;
        let (folder, path) = (self.names(), self.file(&name));
        make_folder(&folder)?;
        let mut text = serde_json::to_vec_pretty(made)
            .map_err(|error| ImageError::io("write", &path)(error.into()))?;
        text.push(b'\n');
        let mut file = tempfile::NamedTempFile::new_in(&folder)
            .map_err(ImageError::io("write in", &folder))?;
        file.write_all(&text)
            .and_then(|()| file.as_file().sync_all())
            .map_err(ImageError::io("write", &path))?;
        file.persist(&path)
            .map_err(|error| ImageError::io("write", &path)(error.error))?;
        Ok(())
    }

    /// The name stands for nothing any more.
    pub fn forget(&self, name: &ImageName) -> Result<Made, ImageError> {
        let Some(made) = self.get(name)? else {
            return Err(self.unknown(name.as_str()));
        };
        let path = self.file(name);
        fs::remove_file(&path).map_err(ImageError::io("remove", &path))?;
        Ok(made)
    }

    /// The error of a name that is not here.
    pub fn unknown(&self, name: &str) -> ImageError {
        let known = self.list().unwrap_or_default();
        ImageError::Unknown {
            name: name.to_owned(),
            known: known.into_iter().map(|made| made.name).collect(),
        }
    }

    /// Where it all is; it may not be there yet.
    pub(super) fn folder(&self) -> &Path {
        &self.dir
    }

    fn names(&self) -> PathBuf {
        self.dir.join("names")
    }

    fn file(&self, name: &ImageName) -> PathBuf {
        self.names().join(format!("{name}.json"))
    }
}

pub(super) fn make_folder(folder: &Path) -> Result<(), ImageError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ImageError::io("create", folder))
}

fn read(path: &Path) -> Result<Made, ImageError> {
    let size = fs::metadata(path)
        .map_err(ImageError::io("read", path))?
        .len();
    if size > MAX_FILE {
        return Err(ImageError::damaged(path, "it is too long"));
    }
    let text = fs::read(path).map_err(ImageError::io("read", path))?;
    let made: Made = serde_json::from_slice(&text)
        .map_err(|error| ImageError::damaged(path, error.to_string()))?;
    let named = path.file_stem().is_some_and(|stem| *stem == *made.name);
    match named && is_id(&made.id) {
        true => Ok(made),
        false => Err(ImageError::damaged(path, "it is no record of this image")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, digit: &str) -> Made {
        Made {
            name: name.to_owned(),
            id: format!("sha256:{}", digit.repeat(64)),
            made: "2026-01-01T00:00:00Z".to_owned(),
            from: "a test".to_owned(),
            pulled: None,
        }
    }

    #[test]
    fn a_name_stands_for_the_last_that_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        assert_eq!(store.list().unwrap(), []);
        for digit in ["0", "1"] {
            store.put(&made("base", digit)).unwrap();
        }
        store.put(&made("cpu", "2")).unwrap();
        assert_eq!(store.list().unwrap(), [made("base", "1"), made("cpu", "2")]);
        assert_eq!(store.resolve("base").unwrap(), Some(made("base", "1")));
        assert_eq!(store.resolve("python").unwrap(), None);
        assert_eq!(store.resolve("python:3").unwrap(), None);
    }

    #[test]
    fn a_digest_holds_a_name_to_one_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        store.put(&made("base", "1")).unwrap();
        let pinned = |digit: &str| format!("base@sha256:{}", digit.repeat(64));
        assert!(store.resolve(&pinned("1")).unwrap().is_some());
        let error = store.resolve(&pinned("2")).unwrap_err();
        assert!(matches!(error, ImageError::Moved { .. }), "{error}");
    }

    #[test]
    fn a_record_that_is_not_what_it_says_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        store.put(&made("base", "1")).unwrap();
        let name = ImageName::parse("base").unwrap();
        let path = store.file(&name);
        let other = store.names().join("other.json");
        fs::copy(&path, &other).unwrap();
        assert!(matches!(store.list(), Err(ImageError::Damaged { .. })));
        fs::remove_file(other).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(matches!(store.get(&name), Err(ImageError::Damaged { .. })));
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path());
        store.put(&made("base", "1")).unwrap();
        let name = ImageName::parse("base").unwrap();
        assert_eq!(store.forget(&name).unwrap(), made("base", "1"));
        let error = store.forget(&name).unwrap_err();
        assert!(error.remedy().unwrap().contains("images build base"));
    }
}
