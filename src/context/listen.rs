//! What a program's output says about how it fares: a loss that is no number any more, a limit that it
//! ran into. Pure; bytes come in as they are written, in any pieces.
//!
//! A program may print anything, so nothing that is found here is proof. Whoever acts on it acts on that
//! program alone.

mod loss;

use super::sanitise::visible;
use loss::Read;
use regex::bytes::Regex;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A limit as error messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Complaint {
    OpenFiles,
    /// Of processes and threads; also what a program gets that would have to wait.
    Pids,
    FileSize,
    Space,
    Shm,
}

/// What is looked for, and what it means. A bad loss is decided by what stands around it.
const NEEDLES: [(&str, Option<Complaint>); 17] = [
    ("loss", None),
    ("Loss", None),
    ("LOSS", None),
    ("Too many open files", Some(Complaint::OpenFiles)),
    ("can't start new thread", Some(Complaint::Pids)),
    ("Cannot fork", Some(Complaint::Pids)),
    ("cannot fork", Some(Complaint::Pids)),
    ("fork: retry", Some(Complaint::Pids)),
    ("pthread_create failed", Some(Complaint::Pids)),
    ("Resource temporarily unavailable", Some(Complaint::Pids)),
    ("File too large", Some(Complaint::FileSize)),
    ("File size limit exceeded", Some(Complaint::FileSize)),
    ("No space left on device", Some(Complaint::Space)),
    ("out of shared memory", Some(Complaint::Shm)),
    ("insufficient shared memory", Some(Complaint::Shm)),
    ("Bus error", Some(Complaint::Shm)),
    ("bus error", Some(Complaint::Shm)),
];

static ANY: LazyLock<Regex> = LazyLock::new(|| {
    let words = NEEDLES.map(|(word, _)| regex::escape(word));
    Regex::new(&words.join("|")).expect("words make an expression")
});

/// Bytes kept of what was heard: enough for any needle and for what stands around a loss.
const KEPT: usize = loss::BEFORE + loss::AFTER + 64;

/// Characters of a line that are quoted.
const QUOTED: usize = 120;

/// Listens to one stream.
#[derive(Debug, Default)]
pub struct Listener {
    /// The end of what was heard, then what is new.
    window: Vec<u8>,
    complaints: BTreeSet<Complaint>,
    bad_loss: Option<String>,
}

impl Listener {
    pub fn hear(&mut self, bytes: &[u8]) {
        self.window.extend_from_slice(bytes);
        self.look(Read::MoreMayCome);
        let old = self.window.len().saturating_sub(KEPT);
        self.window.drain(..old);
    }

    /// The stream has ended.
    pub fn finish(&mut self) {
        self.look(Read::All);
        self.window.clear();
    }

    /// Limits that were named so far.
    pub fn complaints(&self) -> &BTreeSet<Complaint> {
        &self.complaints
    }

    /// The first line that told of a loss that is no number, or infinite; printable.
    pub fn bad_loss(&self) -> Option<&str> {
        self.bad_loss.as_deref()
    }

    fn look(&mut self, read: Read) {
        let window = &self.window;
        for found in ANY.find_iter(window) {
            let needle = NEEDLES
                .iter()
                .find(|(word, _)| word.as_bytes() == found.as_bytes());
            match needle.and_then(|(_, complaint)| *complaint) {
                Some(complaint) => drop(self.complaints.insert(complaint)),
                None if self.bad_loss.is_some() => {}
                None => {
                    let (before, after) = (&window[..found.start()], &window[found.end()..]);
                    if loss::is_bad(before, after, read) {
                        self.bad_loss = Some(line_around(window, found.start()));
                    }
                }
            }
        }
    }
}

/// The line in which a byte lies, as far as it is here, printable and not too long.
fn line_around(window: &[u8], at: usize) -> String {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let begin = window[..at]
        .iter()
        .rposition(is_end)
        .map_or(0, |end| end + 1);
    // The loss itself is always shown, however long the line is before it.
    let begin = begin.max(at.saturating_sub(loss::BEFORE));
    let end = window[at..]
        .iter()
        .position(is_end)
        .map_or(window.len(), |end| at + end);
    let line = visible(String::from_utf8_lossy(&window[begin..end]).trim());
    line.chars().take(QUOTED).collect()
}

#[cfg(test)]
#[path = "listen/listen_tests.rs"]
mod tests;
