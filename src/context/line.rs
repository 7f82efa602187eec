//! The line being written: folding of carriage returns, the limit on its length.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Holds the line until it is whole.
    Folding,
    /// Gives each piece at once.
    Live,
}

#[derive(Debug)]
pub(super) struct Line {
    mode: Mode,
    max: usize,
    /// What the line says so far, at most `max` bytes. A live line keeps it for backspaces only.
    text: String,
    /// Bytes beyond the limit.
    cut: u64,
    /// A carriage return came: the next character starts the line over. `\r\n` is a plain newline.
    returned: bool,
}

impl Line {
    pub(super) fn folding(max: usize) -> Self {
        Self::new(Mode::Folding, max)
    }

    pub(super) fn live(max: usize) -> Self {
        Self::new(Mode::Live, max)
    }

    fn new(mode: Mode, max: usize) -> Self {
        Self {
            mode,
            max,
            text: String::new(),
            cut: 0,
            returned: false,
        }
    }

    /// Appends printable text, or a tab.
    pub(super) fn put(&mut self, piece: &str, out: &mut String) {
        if piece.is_empty() {
            return;
        }
        if std::mem::take(&mut self.returned) {
            self.start_over(out);
        }
        let room = if self.cut > 0 {
            0
        } else {
            self.max - self.text.len()
        };
        let fits = piece.floor_char_boundary(room);
        self.text.push_str(&piece[..fits]);
        if self.mode == Mode::Live {
            out.push_str(&piece[..fits]);
        }
        self.cut += (piece.len() - fits) as u64;
    }

    pub(super) fn carriage_return(&mut self) {
        self.returned = true;
    }

    /// Takes back one character, as spinners mean it.
    pub(super) fn backspace(&mut self, out: &mut String) {
        if self.returned || self.cut > 0 {
            return;
        }
        if self.text.pop().is_some() && self.mode == Mode::Live {
            out.push_str("\u{8} \u{8}");
        }
    }

    pub(super) fn newline(&mut self, out: &mut String) {
        self.end(out);
        out.push('\n');
    }

    /// Gives what is held, without a newline.
    pub(super) fn end(&mut self, out: &mut String) {
        if self.mode == Mode::Folding {
            out.push_str(&self.text);
        }
        if self.cut > 0 {
            let _ = write!(out, "[… {} bytes of this line cut]", self.cut);
        }
        self.text.clear();
        self.cut = 0;
        self.returned = false;
    }

    pub(super) fn held(&self) -> &str {
        match self.mode {
            Mode::Folding => &self.text,
            Mode::Live => "",
        }
    }

    fn start_over(&mut self, out: &mut String) {
        if self.mode == Mode::Live && (self.cut > 0 || !self.text.is_empty()) {
            out.push_str("\r\u{1b}[K");
        }
        self.text.clear();
        self.cut = 0;
    }
}
