//! The chain of hashes: one line made, and a whole file judged. No clock, no disk but what it is handed.
//!
//! ```text
//!   {"v":1,"seq":1,"time":"…","prev":"000…0","event":{…}}
//!   {"v":1,"seq":2,"time":"…","prev":"<SHA-256 of the bytes of line 1>","event":{…}}
//! ```
//!
//! `prev` covers the exact bytes of the previous line without its newline. Nothing covers the last
//! line but the [`Head`], which is written after each line and may lag behind by a crash, never lead.

use crate::policy::permit::digest_of_bytes;
use crate::protocol::event::Event;
use crate::protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, BufRead, Read};

/// Version of the line format.
pub const VERSION: u32 = 1;

/// Largest line, in bytes without the newline.
pub const MAX_LINE: usize = 32 * 1024 * 1024;

/// What the first record has for a hash of the line before it.
pub fn genesis() -> Digest {
    Digest::new("0".repeat(64))
}

/// The last record of a file: its number, and the hash of its line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// 0 before the first record.
    pub seq: u64,
    pub hash: Digest,
}

impl Head {
    pub fn start() -> Self {
        Self {
            seq: 0,
            hash: genesis(),
        }
    }

    /// The head after one more line.
    pub(super) fn then(&self, line: &[u8]) -> Self {
        Self {
            seq: self.seq + 1,
            hash: digest_of_bytes(line),
        }
    }

    /// Always of the same length, so that it is overwritten in place.
    pub(super) fn to_text(&self) -> String {
        format!("{:020} {}\n", self.seq, self.hash)
    }

    /// `None` for what a power cut can leave of it (nothing, or zeros).
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let parsed = std::str::from_utf8(bytes).ok().and_then(|text| {
            let (seq, hash) = text.strip_suffix('\n')?.split_once(' ')?;
            let digits = seq.len() == 20 && seq.bytes().all(|byte| byte.is_ascii_digit());
            let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            (digits && hex)
                .then(|| seq.parse().ok())
                .flatten()
                .map(|seq| Self {
                    seq,
                    hash: Digest::new(hash),
                })
        });
        parsed.map(Some).ok_or(Fault::HeadUnreadable)
    }
}

#[derive(Serialize)]
struct LineOut<'a> {
    v: u32,
    seq: u64,
    time: &'a str,
    prev: &'a Digest,
    event: &'a Event,
}

/// Read first, whatever else the line holds.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineIn<'a> {
    #[serde(rename = "v")]
    _version: u32,
    seq: u64,
    time: String,
    prev: Digest,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl LineIn<'_> {
    fn into_record(self) -> Result<Recorded, Fault> {
        Ok(Recorded {
            seq: self.seq,
            time: self.time,
            event: serde_json::from_str(self.event.get()).map_err(Fault::not_a_record)?,
        })
    }
}

/// The line that follows `head`, without its newline.
pub(super) fn encode(head: &Head, time: &str, event: &Event) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&LineOut {
        v: VERSION,
        seq: head.seq + 1,
        time,
        prev: &head.hash,
        event,
    })
}

/// One record as it was read back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recorded {
    pub seq: u64,
    /// RFC 3339, UTC.
    pub time: String,
    pub event: Event,
}

/// What a file of records is found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Every line follows from the one before, and the head fits.
    Intact { records: u64, head: Head },
    /// The same up to an unfinished last line: the process or the machine stopped while writing it.
    Torn { records: u64, head: Head },
    /// The first line that does not fit (from 1).
    Broken { line: u64, why: Fault },
}

/// Why a line does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    NotARecord {
        why: String,
    },
    UnknownVersion {
        found: u32,
    },
    /// A record is missing, doubled, or out of order.
    Sequence {
        found: u64,
    },
    /// The line before is not the line that was there when this one was written.
    Hash,
    TooLong,
    /// The head tells of this record; the file does not hold it, or not whole.
    Missing {
        told: u64,
    },
    /// This line is not the one the head tells of.
    Head,
    /// The head file itself is no head.
    HeadUnreadable,
}

impl Fault {
    fn not_a_record(error: serde_json::Error) -> Self {
        Self::NotARecord {
            why: error.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord { why } => write!(f, "it is not a record ({why})"),
            Self::UnknownVersion { found } => {
                write!(
                    f,
                    "its format is version {found}; this program knows {VERSION}"
                )
            }
            Self::Sequence { found } => write!(f, "its number is {found}"),
            Self::Hash => f.write_str("the line before it was changed after it was written"),
            Self::TooLong => write!(f, "it is longer than {MAX_LINE} bytes"),
            Self::Missing { told } => {
                write!(
                    f,
                    "{told} records were written; from this one on they are gone"
                )
            }
            Self::Head => f.write_str("it is not the line that was written last"),
            Self::HeadUnreadable => f.write_str("the file `head` beside it was changed"),
        }
    }
}

/// One step of reading.
enum Read1 {
    Line(Vec<u8>),
    /// Bytes without a newline at the end of the file.
    Tail,
    TooLong,
    End,
}

/// Reads records one after the other, checking each against the one before.
pub(super) struct Reader<R> {
    input: R,
    head: Head,
    /// Set at the first fault or at the end: nothing is read past it.
    over: bool,
}

/// What the reader came to.
pub(super) enum Next {
    Record { record: Box<Recorded>, head: Head },
    Torn,
    Broken { line: u64, why: Fault },
    End,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            head: Head::start(),
            over: false,
        }
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        if self.over {
            return Ok(Next::End);
        }
        let line = self.head.seq + 1;
        let broken = |why| Next::Broken { line, why };
        let next = match read_line(&mut self.input)? {
            Read1::End => Next::End,
            Read1::Tail => Next::Torn,
            Read1::TooLong => broken(Fault::TooLong),
            Read1::Line(bytes) => match decode(&self.head, &bytes) {
                Err(why) => broken(why),
                Ok(record) => {
                    self.head = self.head.then(&bytes);
                    Next::Record {
                        record: Box::new(record),
                        head: self.head.clone(),
                    }
                }
            },
        };
        self.over = !matches!(next, Next::Record { .. });
        Ok(next)
    }
}

/// Judges a whole file against the head that was stored beside it.
pub fn verify(input: impl BufRead, stored: Option<&Head>) -> io::Result<Verified> {
    let mut reader = Reader::new(input);
    let mut last = Head::start();
    let end = loop {
        match reader.next()? {
            Next::Record { head, .. } => {
                if stored.is_some_and(|told| told.seq == head.seq && told.hash != head.hash) {
                    let why = Fault::Head;
                    return Ok(Verified::Broken {
                        line: head.seq,
                        why,
                    });
                }
                last = head;
            }
            other => break other,
        }
    };
    if let Next::Broken { line, why } = end {
        return Ok(Verified::Broken { line, why });
    }
    if let Some(told) = stored.filter(|told| told.seq > last.seq) {
        let why = Fault::Missing { told: told.seq };
        let line = last.seq + 1;
        return Ok(Verified::Broken { line, why });
    }
    let (records, head) = (last.seq, last);
    Ok(match end {
        Next::Torn => Verified::Torn { records, head },
        _ => Verified::Intact { records, head },
    })
}

/// A line that must follow from `before`.
fn decode(before: &Head, bytes: &[u8]) -> Result<Recorded, Fault> {
    let line = parse(bytes)?;
    if line.seq != before.seq + 1 {
        return Err(Fault::Sequence { found: line.seq });
    }
    if line.prev != before.hash {
        return Err(Fault::Hash);
    }
    line.into_record()
}

/// A line by itself.
pub(super) fn decode_alone(bytes: &[u8]) -> Result<Recorded, Fault> {
    parse(bytes)?.into_record()
}

fn parse(bytes: &[u8]) -> Result<LineIn<'_>, Fault> {
    let version: Version = serde_json::from_slice(bytes).map_err(Fault::not_a_record)?;
    match version.v {
        VERSION => serde_json::from_slice(bytes).map_err(Fault::not_a_record),
        found => Err(Fault::UnknownVersion { found }),
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<Read1> {
    let mut bytes = Vec::new();
    let bound = MAX_LINE as u64 + 1;
    input.by_ref().take(bound).read_until(b'\n', &mut bytes)?;
    Ok(match bytes.last() {
        None => Read1::End,
        Some(b'\n') => {
            bytes.pop();
            Read1::Line(bytes)
        }
        Some(_) if bytes.len() as u64 == bound => Read1::TooLong,
        Some(_) => Read1::Tail,
    })
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
