//! What a program said, for the model and for the eyes: sanitised as it comes, known values replaced
//! (once more: what stood between the pieces of one is gone now), head and tail kept, memory bounded
//! however much it says.

use super::desk::Desk;
use crate::context::redact::Redacting;
use crate::context::sanitise::Sanitiser;
use crate::context::truncate::{Gather, Truncated};
use crate::protocol::event::Event;
use crate::protocol::ids::StepNumber;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::AsyncWrite;

/// Bytes of text shown live in one go, and how many more each second; the rest is counted.
const BURST: f64 = 128.0 * 1024.0;
const PER_SECOND: f64 = 64.0 * 1024.0;

/// One step's output, both streams in the order they came.
#[derive(Clone)]
pub(super) struct Capture(Arc<Mutex<Kept>>);

struct Kept {
    gather: Gather,
    live: Live,
}

/// The live view: rate-limited, so that a flood neither fills a terminal nor slows the program down.
struct Live {
    desk: Desk,
    step: StepNumber,
    credit: f64,
    last: Instant,
    /// Bytes not shown since the last piece that was.
    skipped: usize,
}

impl Capture {
    /// Keeps at most `max_bytes` for the model.
    pub(super) fn new(desk: Desk, step: StepNumber, max_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            gather: Gather::new(max_bytes),
            live: Live {
                desk,
                step,
                credit: BURST,
                last: Instant::now(),
                skipped: 0,
            },
        })))
    }

    /// One stream's way in. Each stream is sanitised by itself: a sequence that begins in one does not
    /// go on in the other.
    pub(super) fn stream(&self, max_line: usize) -> CaptureStream {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        CaptureStream {
            capture: self.clone(),
            redacting: kept.live.desk.redactor().stream(),
            sanitiser: Sanitiser::new(max_line),
        }
    }

    fn add(&self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.gather.push(text);
        kept.live.show(text);
    }

    /// What the model reads of it: head, tail and the last traceback, and what was cut.
    pub(super) fn take(&self, max_bytes: usize) -> Truncated {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.live.tell_skipped();
        std::mem::replace(&mut kept.gather, Gather::new(max_bytes)).finish()
    }
}

impl Live {
    fn show(&mut self, text: &str) {
        let now = Instant::now();
        let earned = now.duration_since(self.last).as_secs_f64() * PER_SECOND;
        self.credit = (self.credit + earned).min(BURST);
        self.last = now;
        if self.credit < text.len() as f64 {
            self.skipped += text.len();
            return;
        }
        self.credit -= text.len() as f64;
        self.tell_skipped();
        self.emit(text.to_owned());
    }

    fn tell_skipped(&mut self) {
        if self.skipped > 0 {
            let text = format!("\n[… {} bytes not shown live …]\n", self.skipped);
            self.skipped = 0;
            self.emit(text);
        }
    }

    fn emit(&self, text: String) {
        let event = Event::Output {
            step: self.step,
            text,
        };
        // Transient: it is shown only, and showing does not fail.
        let _ = self.desk.emit(&event);
    }
}

/// One stream's way in.
pub(super) struct CaptureStream {
    capture: Capture,
    sanitiser: Sanitiser,
    redacting: Redacting,
}

impl CaptureStream {
    /// The stream has ended: what was held back comes out.
    pub(super) fn finish(mut self) {
        let rest = self.sanitiser.finish();
        let mut decided = Vec::new();
        self.redacting.push(rest.as_bytes(), &mut decided);
        self.redacting.finish(&mut decided);
        self.capture.add(&String::from_utf8_lossy(&decided));
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = self.sanitiser.push(bytes);
        let mut decided = Vec::new();
        self.redacting.push(text.as_bytes(), &mut decided);
        self.capture.add(&String::from_utf8_lossy(&decided));
    }
}

impl AsyncWrite for CaptureStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
