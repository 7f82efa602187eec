//! How much of an archive has been read, and when it is too much: of what is packed, of what comes out,
//! and of what is read before an entry is even known.

use super::entry::Fault;
use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;

/// Longest header with everything that belongs to it: names, attributes, maps of sparse files. Its
/// reader keeps it in memory.
const MAX_HEADER: u64 = 1 << 20;

/// Small archives may shrink as much as they like.
const SMALL: u64 = 64 << 20;

/// How often its own size an archive may come to.
pub(super) const RATIO: u64 = 200;

/// What has been read, and what still may be.
#[derive(Debug)]
pub(super) struct Gauge {
    packed: Cell<u64>,
    passed: Cell<u64>,
    max: u64,
    /// Left of the header that is being read; `None` within a body.
    header: Cell<Option<u64>>,
    /// The reader of the format makes other errors of ours.
    fault: Cell<Option<Fault>>,
}

impl Gauge {
    pub(super) fn new(max: u64) -> Self {
        Self {
            packed: Cell::new(0),
            passed: Cell::new(0),
            max,
            header: Cell::new(None),
            fault: Cell::new(None),
        }
    }

    pub(super) fn enter_header(&self) {
        self.header.set(Some(MAX_HEADER));
    }

    pub(super) fn enter_body(&self) {
        self.header.set(None);
    }

    /// The fault that reading ended with, if it was one of ours.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether `written` bytes are too many for what has been read of the packed archive.
    pub(super) fn outgrown(&self, written: u64) -> Option<Fault> {
        let most = self.packed.get().saturating_mul(RATIO).max(SMALL);
        (written > most).then_some(Fault::Ratio(RATIO))
    }

    fn fail(&self, fault: Fault) -> io::Error {
        self.fault.set(Some(fault));
        io::Error::other(fault.to_string())
    }

    fn pass(&self, count: u64) -> io::Result<()> {
        self.passed.set(self.passed.get().saturating_add(count));
        if let Some(left) = self.header.get() {
            self.header.set(Some(left.saturating_sub(count)));
        }
        if self.passed.get() > self.max {
            return Err(self.fail(Fault::TooManyBytes(self.max)));
        }
        match self.outgrown(self.passed.get()) {
            Some(fault) => Err(self.fail(fault)),
            None => Ok(()),
        }
    }
}

/// Counts what is read of the packed archive.
pub(super) struct Packed<'a, R> {
    pub(super) inner: R,
    pub(super) gauge: &'a Gauge,
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let packed = &self.gauge.packed;
        packed.set(packed.get().saturating_add(count as u64));
        Ok(count)
    }
}

/// Sees every byte that comes out of an archive, and says whether it is read on.
pub type Tap<'a> = &'a mut dyn FnMut(&[u8]) -> ControlFlow<()>;

/// Counts what comes out of it, shows it to `tap`, and ends where that says so or it is too much.
pub(super) struct Metered<'a, R> {
    pub(super) inner: R,
    pub(super) gauge: &'a Gauge,
    pub(super) tap: Tap<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = match self.gauge.header.get() {
            Some(0) if !buffer.is_empty() => {
                return Err(self.gauge.fail(Fault::HeaderTooLong));
            }
            Some(left) => buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buffer.len(),
        };
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.inner.read(part)?;
        if (self.tap)(part.get(..count).unwrap_or_default()).is_break() {
            return Err(self.gauge.fail(Fault::Interrupted));
        }
        self.gauge.pass(count as u64)?;
        Ok(count)
    }
}
