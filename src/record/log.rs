//! A step's raw output on disk: its head and its tail, and the count of what was cut between.
//!
//! ```text
//!   while it runs, of a bound of 4 quarters        when it has ended
//!   step-1.stdout.log              head, 2 quarters   step-1.stdout.log   head, marker, tail
//!   step-1.stdout.log.tail-000007  the quarter before
//!   step-1.stdout.log.tail-000008  the newest bytes, up to 1 quarter
//! ```
//!
//! A tail file's number says which bytes of the stream it holds, so a log can be read while its step
//! runs and after a crash. Memory is bounded by the caller's buffer, disk by the bound (half as much
//! again for the moment of the end). The program waits for a write to the page cache, never longer. A
//! disk that takes no more does not stop the program: what is lost is counted and the reason kept.

use crate::protocol::ids::StepNumber;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// Which output of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn file_name(self, step: StepNumber) -> String {
        format!("step-{step}.{self}.log")
    }

    /// The step that a log's file name tells.
    pub(super) fn step_of(name: &str) -> Option<StepNumber> {
        let (number, rest) = name.strip_prefix("step-")?.split_once('.')?;
        let is_log = rest == "stdout.log" || rest == "stderr.log";
        number.parse().ok().filter(|_| is_log).map(StepNumber)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// How a bound is divided.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Bytes of the head; `None`: everything is head.
    head: Option<u64>,
    /// Bytes of one tail file.
    tail: u64,
}

impl Shares {
    fn of(bytes: Option<u64>) -> Self {
        let tail = bytes.unwrap_or(0) / 4;
        Self {
            head: bytes.map(|bytes| bytes - 2 * tail),
            tail,
        }
    }

    /// The tail file that holds this byte of the stream, and the byte at which that file ends.
    fn place(self, position: u64) -> Option<(u64, u64)> {
        let head = self.head?;
        let number = position.checked_sub(head)?.checked_div(self.tail)?;
        Some((number, head + (number + 1) * self.tail))
    }
}

/// What a finished log came to.
#[derive(Debug)]
pub struct LogSummary {
    pub path: PathBuf,
    /// Bytes that were written to it.
    pub total: u64,
    /// Bytes of these that are not on disk.
    pub dropped: u64,
    /// Why the disk took no more, where it did not.
    pub failure: Option<io::Error>,
}

/// Writes one log.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    shares: Shares,
    head: File,
    /// The newest tail file and its number.
    tail: Option<(u64, File)>,
    total: u64,
    /// Bytes the disk refused, or a bound too small for a tail has no place for.
    unkept: u64,
    failure: Option<io::Error>,
}

impl LogWriter {
    pub(super) fn create(path: &Path, bytes: Option<u64>) -> io::Result<Self> {
        let shares = Shares::of(bytes);
        Ok(Self {
            path: path.to_owned(),
            shares,
            head: create_file(path)?,
            tail: None,
            total: 0,
            unkept: 0,
            failure: None,
        })
    }

    /// Takes all of `bytes`; what the disk refuses is counted.
    pub fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = match self.shares.head {
                None => bytes.len() as u64,
                Some(head) if self.total < head => head - self.total,
                Some(_) => match self.shares.place(self.total) {
                    Some((_, end)) => end - self.total,
                    None => bytes.len() as u64,
                },
            };
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(take);
            self.put_within(now);
            self.total += take as u64;
            bytes = later;
        }
    }

    /// Bytes that lie in one file.
    fn put_within(&mut self, bytes: &[u8]) {
        if self.failure.is_none()
            && let Err(error) = self.write_within(bytes)
        {
            self.failure = Some(error);
        }
        if self.failure.is_some() {
            self.unkept += bytes.len() as u64;
        }
    }

    fn write_within(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.shares.head.is_none_or(|head| self.total < head) {
            return self.head.write_all(bytes);
        }
        let Some((number, _)) = self.shares.place(self.total) else {
            self.unkept += bytes.len() as u64;
            return Ok(());
        };
        match &mut self.tail {
            Some((open, file)) if *open == number => file.write_all(bytes),
            _ => {
                if let Some(old) = number.checked_sub(2) {
                    fs::remove_file(tail_path(&self.path, old))?;
                }
                let mut file = create_file(&tail_path(&self.path, number))?;
                let written = file.write_all(bytes);
                self.tail = Some((number, file));
                written
            }
        }
    }

    /// Bytes taken so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Makes the one file of it.
    pub fn finish(mut self) -> LogSummary {
        let newest = self.tail.take().map(|(number, _)| number);
        let cut = newest.map_or(0, |newest| newest.saturating_sub(1) * self.shares.tail);
        let dropped = cut + self.unkept;
        let joined = match newest {
            Some(newest) => self.join(newest, dropped),
            None if dropped > 0 => self.head.write_all(&marker(dropped)),
            None => Ok(()),
        };
        LogSummary {
            path: self.path,
            total: self.total,
            dropped,
            failure: self.failure.or(joined.err()),
        }
    }

    /// Appends marker and tail to the head. Where the disk refuses, the parts stay as they were:
    /// a reader puts them together.
    fn join(&mut self, newest: u64, dropped: u64) -> io::Result<()> {
        let tails: Vec<PathBuf> = (newest.saturating_sub(1)..=newest)
            .map(|number| tail_path(&self.path, number))
            .collect();
        let before = self.head.metadata()?.len();
        if let Err(error) = append(&mut self.head, dropped, &tails) {
            self.head.set_len(before)?;
            return Err(error);
        }
        tails.iter().try_for_each(fs::remove_file)
    }
}

fn append(head: &mut File, dropped: u64, tails: &[PathBuf]) -> io::Result<()> {
    if dropped > 0 {
        head.write_all(&marker(dropped))?;
    }
    for path in tails {
        io::copy(&mut File::open(path)?, head)?;
    }
    Ok(())
}

impl AsyncWrite for LogWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The line between head and tail.
pub(super) fn marker(cut: u64) -> Vec<u8> {
    format!("\n[fumehood: {cut} bytes were cut here]\n").into_bytes()
}

fn tail_path(log: &Path, number: u64) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".tail-{number:06}"));
    PathBuf::from(name)
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Reads a log back, finished or not.
#[derive(Debug)]
pub struct LogReader {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    Text(io::Cursor<Vec<u8>>),
    File(File),
}

impl LogReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // The writer may turn its tail over, or join it, between two looks.
        let mut tries = 0;
        loop {
            match Self::try_open(path) {
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && tries < 5 && path.exists() =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn try_open(path: &Path) -> io::Result<Self> {
        let tails = tails_of(path)?;
        let mut parts = VecDeque::from([Part::File(File::open(path)?)]);
        for (index, (number, tail)) in tails.iter().enumerate() {
            let file = File::open(tail)?;
            if index == 0 && *number > 0 {
                // Only a full one has a younger one beside it: its size is that of each before it.
                let cut = number * file.metadata()?.len();
                parts.push_back(Part::Text(io::Cursor::new(marker(cut))));
            }
            parts.push_back(Part::File(file));
        }
        Ok(Self { parts })
    }
}

/// The tail files of a log, oldest first.
pub(super) fn tails_of(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let prefix = format!("{}.tail-", name.to_string_lossy());
    let mut tails = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            tails.push((number, entry.path()));
        }
    }
    tails.sort();
    Ok(tails)
}

impl Read for LogReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.parts.front_mut() {
            let count = match part {
                Part::Text(text) => text.read(buffer)?,
                Part::File(file) => file.read(buffer)?,
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
