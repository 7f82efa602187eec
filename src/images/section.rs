//! A part of an open file, read by its place: no two readers disturb each other.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// A part of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) size: u64,
}

/// Reads a part of a file from its beginning to its end.
pub(super) struct Section<'a> {
    file: &'a File,
    part: Part,
}

impl<'a> Section<'a> {
    pub(super) fn new(file: &'a File, part: Part) -> Self {
        Self { file, part }
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.part.size)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..room).unwrap_or_default();
        let count = self.file.read_at(part, self.part.at)?;
        self.part.at += count as u64;
        self.part.size -= count as u64;
        Ok(count)
    }
}
