//! Looks through a pack as it comes, before libgit2 does, and bounds what it would unfold to. Pure.
//!
//! ```text
//!   "PACK" version count ─▶ object ─┬─ plain ───▶ zlib stream of the size it announced ─┐
//!                             ▲     └─ delta ─▶ base ─▶ zlib stream; its head says what │
//!                             │                         it unfolds to                   │
//!                             └──────────────────────── until count ────────────────────┘ ─▶ checksum, end
//! ```
//!
//! libgit2 allocates what an object announces: a few hundred bytes of deltas would otherwise be
//! gigabytes of memory. Whether content is right is libgit2's to check.

use super::error::Limit;
use flate2::{Decompress, FlushDecompress, Status};

/// Bounds on one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackBounds {
    pub(super) objects: u64,
    /// Bytes of one object, unfolded.
    pub(super) object: u64,
    /// Bytes of all objects, unfolded.
    pub(super) total: u64,
}

/// Why a pack is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    TooBig(Limit),
    Wrong(&'static str),
}

impl From<&'static str> for Fault {
    fn from(why: &'static str) -> Self {
        Self::Wrong(why)
    }
}

/// Bytes at the head of a delta that hold its two sizes.
const DELTA_HEAD: usize = 20;

#[derive(Debug)]
pub(super) struct PackScan {
    bounds: PackBounds,
    state: State,
    objects_left: u64,
    unfolded: u64,
    inflate: Decompress,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    /// Kind and size of an object: seven bits a byte after the first four.
    Object {
        kind: u8,
        size: u64,
        shift: u32,
    },
    /// The distance of a delta's base.
    Distance(u32),
    /// The id of a delta's base: bytes still to come.
    Base(usize),
    Content,
    Checksum(usize),
    End,
}

/// The object whose content is read now.
#[derive(Debug, Default)]
struct Object {
    size: u64,
    seen: u64,
    /// The first bytes of a delta.
    delta: Option<Vec<u8>>,
}

/// A scan and the object it is at.
#[derive(Debug)]
pub(super) struct Scanner {
    scan: PackScan,
    object: Object,
}

impl Scanner {
    pub(super) fn new(bounds: PackBounds) -> Self {
        Self {
            scan: PackScan {
                bounds,
                state: State::Head(Vec::new()),
                objects_left: 0,
                unfolded: 0,
                inflate: Decompress::new(true),
            },
            object: Object::default(),
        }
    }

    /// Bytes that its objects unfold to so far.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn unfolded(&self) -> u64 {
        self.scan.unfolded
    }

    /// Whether its end was seen.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn is_over(&self) -> bool {
        matches!(self.scan.state, State::End)
    }

    /// Looks at the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Some((&first, rest)) = bytes.split_first() {
            let Self { scan, object } = self;
            bytes = match &mut scan.state {
                State::Head(head) => {
                    head.push(first);
                    if head.len() == 12 {
                        let head = std::mem::take(head);
                        scan.begin(&head)?;
                    }
                    rest
                }
                State::Object { .. } => {
                    scan.describe(first, object)?;
                    rest
                }
                State::Distance(seen) => {
                    *seen += 1;
                    if *seen > 10 {
                        return Err(Fault::Wrong("a delta in its pack has no base"));
                    }
                    if first & 0x80 == 0 {
                        scan.state = State::Content;
                    }
                    rest
                }
                State::Base(left) => {
                    *left -= 1;
                    if *left == 0 {
                        scan.state = State::Content;
                    }
                    rest
                }
                State::Content => scan.content(bytes, object)?,
                State::Checksum(left) => {
                    *left -= 1;
                    if *left == 0 {
                        scan.state = State::End;
                    }
                    rest
                }
                State::End => return Err(Fault::Wrong("its pack goes on after its end")),
            };
        }
        Ok(())
    }
}

impl PackScan {
    fn begin(&mut self, head: &[u8]) -> Result<(), Fault> {
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !head.starts_with(b"PACK") || !matches!(word(4), 2 | 3) {
            return Err(Fault::Wrong("what it sends is not a pack"));
        }
        self.objects_left = u64::from(word(8));
        if self.objects_left > self.bounds.objects {
            return Err(Fault::TooBig(Limit::Objects(self.bounds.objects)));
        }
        self.next_object();
        Ok(())
    }

    fn next_object(&mut self) {
        self.state = match self.objects_left {
            0 => State::Checksum(20),
            _ => State::Object {
                kind: 0,
                size: 0,
                shift: 0,
            },
        };
    }

    /// A byte of an object's kind and size.
    fn describe(&mut self, byte: u8, object: &mut Object) -> Result<(), Fault> {
        let State::Object { kind, size, shift } = &mut self.state else {
            return Ok(());
        };
        if *shift == 0 {
            *kind = (byte >> 4) & 7;
            *size = u64::from(byte & 15);
            *shift = 4;
        } else {
            if *shift > 53 {
                return Err(Fault::Wrong("an object in its pack has an impossible size"));
            }
            *size |= u64::from(byte & 0x7f) << *shift;
            *shift += 7;
        }
        if byte & 0x80 != 0 {
            return Ok(());
        }
        let (kind, size) = (*kind, *size);
        self.check_object(size)?;
        let delta = matches!(kind, 6 | 7);
        if !delta {
            self.unfold(size)?;
        }
        *object = Object {
            size,
            seen: 0,
            delta: delta.then(Vec::new),
        };
        self.state = match kind {
            1..=4 => State::Content,
            6 => State::Distance(0),
            7 => State::Base(20),
            _ => return Err(Fault::Wrong("an object in its pack is of no kind")),
        };
        self.inflate.reset(true);
        Ok(())
    }

    /// Unfolds some content; gives what comes after.
    fn content<'a>(&mut self, bytes: &'a [u8], object: &mut Object) -> Result<&'a [u8], Fault> {
        let mut out = [0; 16 << 10];
        let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(bytes, &mut out, FlushDecompress::None)
            .map_err(|_| Fault::Wrong("an object in its pack does not unfold"))?;
        let read = usize::try_from(self.inflate.total_in() - read).unwrap_or(bytes.len());
        let made = usize::try_from(self.inflate.total_out() - made).unwrap_or(out.len());
        object.seen += made as u64;
        if let Some(delta) = &mut object.delta {
            let wanted = DELTA_HEAD.saturating_sub(delta.len());
            delta.extend_from_slice(&out[..made.min(wanted)]);
        }
        let wrong_size = Fault::Wrong("an object in its pack is not of the size it announced");
        if object.seen > object.size {
            return Err(wrong_size);
        }
        if status == Status::StreamEnd {
            if object.seen != object.size {
                return Err(wrong_size);
            }
            if let Some(delta) = &object.delta {
                let size = unfolds_to(delta).ok_or(Fault::Wrong("a delta does not parse"))?;
                self.check_object(size)?;
                self.unfold(size)?;
            }
            self.objects_left -= 1;
            self.next_object();
        } else if read == 0 && made == 0 {
            return Err(Fault::Wrong("an object in its pack does not unfold"));
        }
        Ok(&bytes[read..])
    }

    fn check_object(&self, size: u64) -> Result<(), Fault> {
        if size > self.bounds.object {
            return Err(Fault::TooBig(Limit::Object(self.bounds.object)));
        }
        Ok(())
    }

    fn unfold(&mut self, size: u64) -> Result<(), Fault> {
        self.unfolded = self.unfolded.saturating_add(size);
        if self.unfolded > self.bounds.total {
            return Err(Fault::TooBig(Limit::Unfolded(self.bounds.total)));
        }
        Ok(())
    }
}

/// The second of the two sizes at the head of a delta.
fn unfolds_to(delta: &[u8]) -> Option<u64> {
    let mut bytes = delta.iter();
    let mut size = || {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = *bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    size()?;
    size()
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
