//! Reading a log along while its step writes it, without the writer's help.
//!
//! ```text
//!   head ──read to its end, and a tail file is there──▶ tail N ──a younger one is there──▶ tail N+1 …
//!                                                        └ gone before it was read: so many bytes missed
//!   the step has ended: the tail was joined to the head; what is left of it are its last bytes
//! ```

use super::log::{marker, tails_of};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One reader that keeps up.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    at: At,
    /// Bytes of the stream that were read or missed so far.
    position: u64,
    /// Bytes of the head, once it is known to be whole.
    head: u64,
}

#[derive(Debug)]
enum At {
    /// The log is not there yet.
    Before,
    Head(File),
    /// A tail file, its number, and its bytes that were read.
    Tail(File, u64, u64),
}

impl LogFollower {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            at: At::Before,
            position: 0,
            head: 0,
        }
    }

    /// The next bytes that are there; 0 when there are none for now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.at {
                At::Before => match File::open(&self.path) {
                    Ok(file) => {
                        self.at = At::Head(file);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                    Err(error) => return Err(error),
                },
                At::Head(file) => file.read(buffer)?,
                At::Tail(file, _, read) => {
                    let count = file.read(buffer)?;
                    *read += count as u64;
                    count
                }
            };
            self.position += count as u64;
            if count > 0 {
                return Ok(count);
            }
            match self.turn_over(buffer)? {
                Turned::Stays => return Ok(0),
                Turned::Over => {}
                Turned::Said(count) => return Ok(count),
            }
        }
    }

    /// After the step's end, of which this is what its stream came to.
    pub fn rest(&mut self, total: u64) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.read(&mut buffer)? {
                0 => break,
                count => rest.extend_from_slice(&buffer[..count]),
            }
        }
        let missing = total.saturating_sub(self.position);
        if missing > 0
            && let At::Tail(..) = self.at
        {
            let mut joined = File::open(&self.path)?;
            let length = joined.metadata()?.len();
            let from = length.saturating_sub(missing).max(self.head);
            joined.seek(SeekFrom::Start(from))?;
            joined.read_to_end(&mut rest)?;
        }
        Ok(rest)
    }

    /// The file that is read has no more: whether there is one after it.
    fn turn_over(&mut self, buffer: &mut [u8]) -> io::Result<Turned> {
        let tails = tails_of(&self.path)?;
        let next = match &mut self.at {
            At::Before => return Ok(Turned::Stays),
            // What was written before the first tail came is read first.
            At::Head(file) => {
                if tails.is_empty() {
                    return Ok(Turned::Stays);
                }
                let count = file.read(buffer)?;
                if count > 0 {
                    self.position += count as u64;
                    return Ok(Turned::Said(count));
                }
                self.head = self.position;
                0
            }
            At::Tail(file, number, read) => {
                let number = *number;
                if !tails.iter().any(|(other, _)| *other > number) {
                    return Ok(Turned::Stays);
                }
                let count = file.read(buffer)?;
                if count > 0 {
                    *read += count as u64;
                    self.position += count as u64;
                    return Ok(Turned::Said(count));
                }
                number + 1
            }
        };
        self.enter(next, &tails, buffer)
    }

    fn enter(
        &mut self,
        next: u64,
        tails: &[(u64, PathBuf)],
        buffer: &mut [u8],
    ) -> io::Result<Turned> {
        let Some((number, path)) = tails.iter().find(|(number, _)| *number >= next) else {
            return Ok(Turned::Stays);
        };
        let file = match File::open(path) {
            Ok(file) => file,
            // Turned over between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Turned::Over),
            Err(error) => return Err(error),
        };
        // Each before the newest has the same size.
        let missed = match &self.at {
            At::Tail(_, _, read) => (number - next) * read,
            _ => (number - next) * file.metadata()?.len(),
        };
        self.at = At::Tail(file, *number, 0);
        self.position += missed;
        if missed == 0 {
            return Ok(Turned::Over);
        }
        let words = marker(missed);
        let count = words.len().min(buffer.len());
        buffer[..count].copy_from_slice(&words[..count]);
        Ok(Turned::Said(count))
    }
}

enum Turned {
    /// There is nothing more for now.
    Stays,
    Over,
    /// So many bytes are in the buffer.
    Said(usize),
}

/// The bytes of a log's path, for whoever follows it.
pub(super) fn follow(path: &Path) -> LogFollower {
    LogFollower::new(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::StepNumber;
    use crate::record::{LogWriter, RunStore, Stream, new_run_id};

    struct Along {
        log: LogWriter,
        follower: LogFollower,
        seen: Vec<u8>,
        _home: tempfile::TempDir,
    }

    /// A log of at most 16 bytes: 8 of head, and tails of 4.
    fn along() -> Along {
        let home = tempfile::tempdir().unwrap();
        let record = RunStore::open(home.path()).create(&new_run_id()).unwrap();
        let log = record.step_log(StepNumber(1), Stream::Stdout, Some(16));
        let follower = RunStore::open(home.path())
            .newest()
            .unwrap()
            .follow(StepNumber(1), Stream::Stdout);
        Along {
            log: log.unwrap(),
            follower,
            seen: Vec::new(),
            _home: home,
        }
    }

    impl Along {
        fn put(&mut self, text: &str) {
            self.log.put(text.as_bytes());
        }

        fn look(&mut self) {
            let mut buffer = [0; 100];
            loop {
                match self.follower.read(&mut buffer).unwrap() {
                    0 => break,
                    count => self.seen.extend_from_slice(&buffer[..count]),
                }
            }
        }

        fn end(mut self) -> String {
            let total = self.log.total();
            self.log.finish();
            self.seen.extend(self.follower.rest(total).unwrap());
            String::from_utf8(self.seen).unwrap()
        }
    }

    const ALL: &str = "abcdefghijklmnopqrstuvwxyz";

    #[test]
    fn whoever_keeps_up_sees_every_byte_once() {
        for step in 1..=4 {
            let mut along = along();
            for at in (0..ALL.len()).step_by(step) {
                along.put(&ALL[at..(at + step).min(ALL.len())]);
                along.look();
            }
            assert_eq!(along.end(), ALL, "{step} at a time");
        }
    }

    #[test]
    fn what_was_written_before_the_end_and_not_seen_comes_after_it() {
        for seen in [0, 3, 8, 12, 17, 22] {
            let mut along = along();
            along.put(&ALL[..seen]);
            along.look();
            along.put(&ALL[seen..]);
            let all = along.end();
            assert!(all.starts_with(&ALL[..8]), "{seen}: {all}");
            assert!(all.ends_with(&ALL[ALL.len() - 4..]), "{seen}: {all}");
            if seen >= 17 {
                assert!(all.ends_with(&ALL[16..]), "{seen}: {all}");
            }
        }
    }

    #[test]
    fn what_was_missed_is_counted() {
        let mut along = along();
        along.put(&ALL[..8]);
        along.look();
        along.put(&ALL[8..]);
        along.look();
        let all = along.end();
        // Tails 0 to 2 held ijkl, mnop, qrst; 3 and 4 are there.
        assert_eq!(all, "abcdefgh\n[fumehood: 12 bytes were cut here]\nuvwxyz");
    }
}
