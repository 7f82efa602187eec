//! Small texts kept by their hash, so that what changed can be shown after it changed.
//!
//! One file, `texts.pack`, that only grows: `<sha256> <size>\n<bytes>\n` for each text. Bounded: what
//! does not fit is not kept, and a question then shows the whole new text instead of a difference. So is
//! one that holds a known secret: no copy of that is made.

use super::error::WorkspaceError;
use super::hash::Hash;
use crate::context::redact::Redactor;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Largest text that is kept, in bytes.
pub const MAX_TEXT: u64 = 1024 * 1024;

/// Bytes kept of one run.
const MAX_KEPT: u64 = 128 * 1024 * 1024;

/// The texts of one run.
#[derive(Debug)]
pub struct Texts(Mutex<Pack>);

#[derive(Debug)]
struct Pack {
    file: File,
    length: u64,
    places: HashMap<Hash, (u64, usize)>,
    /// Seen, and no text.
    others: HashSet<Hash>,
    max: u64,
    redactor: Redactor,
}

impl Texts {
    /// Makes the pack in a folder of the run that has none.
    pub fn create(folder: &Path) -> Result<Self, WorkspaceError> {
        Self::with_bound(folder, MAX_KEPT)
    }

    fn with_bound(folder: &Path, max: u64) -> Result<Self, WorkspaceError> {
        let path = folder.join("texts.pack");
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(WorkspaceError::io("create", &path))?;
        Ok(Self(Mutex::new(Pack {
            file,
            length: 0,
            places: HashMap::new(),
            others: HashSet::new(),
            max,
            redactor: Redactor::default(),
        })))
    }

    /// The same, keeping none in which one of these values is.
    #[must_use]
    pub fn without(self, redactor: Redactor) -> Self {
        let mut pack = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        pack.redactor = redactor;
        Self(Mutex::new(pack))
    }

    /// Keeps a text, if it is one and fits. What the disk refuses is not kept.
    pub(super) fn keep(&self, hash: &Hash, bytes: &[u8]) {
        let mut pack = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !pack.wants(hash) {
            return;
        }
        let is_text = bytes.len() as u64 <= MAX_TEXT
            && as_text(bytes).is_some()
            && !pack.redactor.finds(bytes);
        if !is_text {
            pack.others.insert(*hash);
        } else if pack.length + bytes.len() as u64 <= pack.max {
            // A failure is a text that is not kept: the question shows more for it, never less.
            let _ = pack.append(hash, bytes);
        }
    }

    /// Whether these bytes should be handed to [`Texts::keep`].
    pub(super) fn wants(&self, hash: &Hash) -> bool {
        let pack = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pack.wants(hash)
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<String> {
        let pack = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, size) = *pack.places.get(hash)?;
        let mut bytes = vec![0; size];
        pack.file.read_exact_at(&mut bytes, at).ok()?;
        String::from_utf8(bytes).ok()
    }
}

impl Pack {
    fn wants(&self, hash: &Hash) -> bool {
        self.length < self.max && !self.places.contains_key(hash) && !self.others.contains(hash)
    }

    fn append(&mut self, hash: &Hash, bytes: &[u8]) -> io::Result<()> {
        let mut entry = format!("{hash} {}\n", bytes.len()).into_bytes();
        let at = self.length + entry.len() as u64;
        entry.extend_from_slice(bytes);
        entry.push(b'\n');
        if let Err(error) = self.file.write_all(&entry) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += entry.len() as u64;
        self.places.insert(*hash, (at, bytes.len()));
        Ok(())
    }
}

/// Text is UTF-8 without NUL.
pub(super) fn as_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_other_bytes_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let texts = Texts::with_bound(dir.path(), 156).unwrap();
        let put = |bytes: &[u8]| {
            let hash = Hash::of(bytes);
            texts.keep(&hash, bytes);
            texts.get(&hash)
        };
        assert_eq!(put("first …\n".as_bytes()).as_deref(), Some("first …\n"));
        assert_eq!(put(b"second").as_deref(), Some("second"));
        assert_eq!(put(b"first").as_deref(), None, "over the bound");
        assert_eq!(put(b"\xff"), None);
        assert_eq!(put(b"a\0b"), None);
    }

    #[test]
    fn a_text_with_a_secret_in_it_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let mut known = crate::context::redact::Known::default();
        known.add("KEY", b"hf_12345678");
        let texts = Texts::create(dir.path()).unwrap();
        let texts = texts.without(Redactor::new(&known));
        let bytes = b"key = 'hf_12345678'";
        texts.keep(&Hash::of(bytes), bytes);
        assert_eq!(texts.get(&Hash::of(bytes)), None);
        assert!(
            std::fs::read(dir.path().join("texts.pack"))
                .unwrap()
                .is_empty()
        );
    }
}
