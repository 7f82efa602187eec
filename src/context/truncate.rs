//! Long output cut to what a model can read: the head, the tail, and the last Python traceback whole.
//!
//! Cuts fall between lines where that costs little, and between characters always. What was cut is
//! said in its place, never dropped in silence. The full text is the log's business.
//!
//! ```text
//!   head │ … cut … │ last traceback │ … cut … │ tail
//! ```

use std::ops::Range;

/// A text within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncated {
    pub text: String,
    /// Bytes there were.
    pub total: u64,
    /// Bytes of them that `text` does not hold.
    pub dropped: u64,
}

/// Cuts a whole text to at most `max_bytes`, markers included.
pub fn head_and_tail(text: &str, max_bytes: usize) -> Truncated {
    Window {
        text,
        gap_at: text.len(),
        gap: 0,
    }
    .cut(max_bytes)
}

/// The same for a text that streams by: holds five times `max_bytes` at most, whatever passes.
#[derive(Debug)]
pub struct Gather {
    max_bytes: usize,
    head: String,
    /// Trimmed to `4 * max_bytes` whenever it is twice that.
    tail: String,
    gap: u64,
}

impl Gather {
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            head: String::new(),
            tail: String::new(),
            gap: 0,
        }
    }

    pub fn push(&mut self, text: &str) {
        let fits = if self.tail.is_empty() {
            text.floor_char_boundary(self.max_bytes - self.head.len())
        } else {
            0
        };
        self.head.push_str(&text[..fits]);
        self.tail.push_str(&text[fits..]);
        let keep = 4 * self.max_bytes;
        if self.tail.len() > 2 * keep {
            self.trim(keep);
        }
    }

    /// What a model may read of it.
    pub fn finish(mut self) -> Truncated {
        self.trim(4 * self.max_bytes);
        let gap_at = self.head.len();
        self.head.push_str(&self.tail);
        Window {
            text: &self.head,
            gap_at,
            gap: self.gap,
        }
        .cut(self.max_bytes)
    }

    fn trim(&mut self, keep: usize) {
        let drop = self
            .tail
            .ceil_char_boundary(self.tail.len().saturating_sub(keep));
        self.tail.drain(..drop);
        self.gap += drop as u64;
    }
}

/// What is at hand of a text: bytes may be missing at one place.
struct Window<'a> {
    text: &'a str,
    gap_at: usize,
    gap: u64,
}

/// Room for one marker with two numbers of twenty digits.
const MARKER: usize = 64;

impl Window<'_> {
    fn total(&self) -> u64 {
        self.text.len() as u64 + self.gap
    }

    fn cut(&self, max: usize) -> Truncated {
        if self.gap == 0 && self.text.len() <= max {
            return Truncated {
                text: self.text.to_owned(),
                total: self.total(),
                dropped: 0,
            };
        }
        if max < 4 * MARKER {
            return self.bare_tail(max);
        }
        let room = max - 2 * MARKER;
        let after_gap = if self.gap > 0 { self.gap_at } else { 0 };
        let traceback = last_traceback(&self.text[after_gap..])
            .map(|range| range.start + after_gap..range.end + after_gap)
            .filter(|range| range.len() <= room);
        let (kept, floor) = traceback
            .as_ref()
            .map_or((0, after_gap), |range| (range.len(), range.end));
        let free = room - kept;
        let tail = self.tail_from(free - free / 3, floor);
        let before = traceback.as_ref().map_or(tail.start, |range| range.start);
        let head = 0..self.head_to((free - tail.len()).min(before));
        self.joined(&[head, traceback.unwrap_or(before..before), tail])
    }

    /// No room for markers: the tail alone; `dropped` still says what is missing.
    fn bare_tail(&self, max: usize) -> Truncated {
        let start = self
            .text
            .ceil_char_boundary(self.text.len().saturating_sub(max));
        Truncated {
            text: self.text[start..].to_owned(),
            total: self.total(),
            dropped: self.gap + start as u64,
        }
    }

    /// The last `room` bytes, not reaching before `floor`; from the start of a line where that costs
    /// less than half of it.
    fn tail_from(&self, room: usize, floor: usize) -> Range<usize> {
        let end = self.text.len();
        if floor + room >= end {
            return floor..end;
        }
        let start = self.text.ceil_char_boundary(end - room);
        let line = self.text.as_bytes()[start - 1..]
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(end, |at| start + at);
        if line - start <= room / 2 {
            line..end
        } else {
            start..end
        }
    }

    /// Where the first `room` bytes end; after a whole line where that costs less than half of it.
    fn head_to(&self, room: usize) -> usize {
        let end = self.text.floor_char_boundary(room);
        match self.text[..end].rfind('\n') {
            Some(at) if at >= end / 2 => at + 1,
            _ => end,
        }
    }

    /// The pieces in order, with a marker wherever something is missing between two of them.
    fn joined(&self, pieces: &[Range<usize>]) -> Truncated {
        let (mut text, mut at, mut kept) = (String::new(), 0, 0);
        for piece in pieces {
            if piece.is_empty() {
                continue;
            }
            self.mark(at..piece.start, &mut text);
            text.push_str(&self.text[piece.clone()]);
            (at, kept) = (piece.end, kept + piece.len());
        }
        self.mark(at..self.text.len(), &mut text);
        Truncated {
            text,
            total: self.total(),
            dropped: self.total() - kept as u64,
        }
    }

    fn mark(&self, missing: Range<usize>, text: &mut String) {
        let gap = if (missing.start..=missing.end).contains(&self.gap_at) {
            self.gap
        } else {
            0
        };
        let bytes = missing.len() as u64 + gap;
        if bytes == 0 {
            return;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("[… {bytes} of {} bytes cut …]\n", self.total()));
    }
}

const HEADER: &str = "Traceback (most recent call last):";

/// The last traceback: its header line, the indented frames, the line that names the exception. What
/// stands before the header on its line (`[rank0]: `) is expected before each of its lines.
fn last_traceback(text: &str) -> Option<Range<usize>> {
    let found = text.rfind(HEADER)?;
    let start = text[..found].rfind('\n').map_or(0, |at| at + 1);
    let prefix = &text[start..found];
    let mut end = found + HEADER.len();
    end += text[end..].find('\n').map_or(text.len() - end, |at| at + 1);
    for line in text[end..].split_inclusive('\n') {
        let Some(rest) = line.strip_prefix(prefix) else {
            break;
        };
        end += line.len();
        let frame = rest.starts_with([' ', '\t']) || rest.trim().is_empty();
        if !frame {
            break;
        }
    }
    Some(start..end)
}

#[cfg(test)]
#[path = "truncate_tests.rs"]
mod tests;
