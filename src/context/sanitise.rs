//! The one sanitiser between the sandbox and every sink but a raw pipe.
//!
//! Bytes in, plain text out: printable characters, `\n` and `\t`. Escape sequences (CSI, OSC, DCS,
//! SOS, PM, APC, in both their ESC and C1 spelling) vanish, other controls vanish, characters that
//! reorder or hide text are written out as `\u{…}`, bad UTF-8 becomes U+FFFD. A carriage return folds
//! a line to what was written last, as a terminal would show a progress bar at its end. A line over
//! its limit is cut, and says by how much.
//!
//! It does not judge what the text says, and it keeps nothing secret.
//!
//! Every decision is taken per character from explicit state, so how the bytes were split into
//! pushes never changes the output.
//!
//! ```text
//!            ESC            [                0x40–0x7e
//!  Ground ────────▶ Escape ───▶ Control (CSI) ─────────▶ Ground
//!    ▲                 │ ] P X ^ _              BEL, ST, CAN, SUB, newline, too long
//!    │                 └───────▶ Text (OSC, DCS, …) ───▶ Ground
//!    └── any other final byte
//! ```

use super::line::Line;

/// Longest parameter list of a control sequence that is still taken for one.
const MAX_CONTROL: usize = 256;

/// Longest payload of a control string (a title, a link, a picture) that is still swallowed. What
/// comes after is shown as text, so that an unterminated string cannot hide the rest of a log.
const MAX_STRING: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    /// After ESC, and any intermediates.
    Escape {
        intermediates: usize,
    },
    /// Inside a control sequence; remembers enough to know a "cursor to column one".
    Control {
        seen: usize,
        plain_column: bool,
    },
    /// Inside a control string.
    Text {
        seen: usize,
    },
    /// ESC inside a control string: `\` ends it, anything else begins another sequence.
    TextEscape,
}

/// A streaming sanitiser for one stream.
#[derive(Debug)]
pub struct Sanitiser {
    state: State,
    /// The bytes of a character that is not complete yet, at most three.
    carry: Vec<u8>,
    line: Line,
}

impl Sanitiser {
    /// Gives whole lines, each at most `max_line` bytes and a marker: for models, events and pages.
    pub fn new(max_line: usize) -> Self {
        Self::with(Line::folding(max_line))
    }

    /// Gives text at once, unfinished lines too: for a terminal. A carriage return comes out as
    /// "start of line, erase", the only escape sequence it ever gives.
    pub fn live(max_line: usize) -> Self {
        Self::with(Line::live(max_line))
    }

    fn with(line: Line) -> Self {
        Self {
            state: State::Ground,
            carry: Vec::new(),
            line,
        }
    }

    /// Takes bytes; gives the text that is now final.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::new();
        if self.carry.is_empty() {
            self.decode(bytes, &mut out);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(bytes);
            self.decode(&joined, &mut out);
        }
        out
    }

    /// The stream ended: gives what was held back. The sanitiser may be used again.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if !std::mem::take(&mut self.carry).is_empty() {
            self.take(char::REPLACEMENT_CHARACTER, &mut out);
        }
        self.state = State::Ground;
        self.line.end(&mut out);
        out
    }

    /// The unfinished line as it stands, which [`Self::push`] has not given yet: a door may show it
    /// as a passing status (a progress bar). Empty for a live sanitiser, which holds nothing.
    pub fn pending(&self) -> &str {
        self.line.held()
    }

    fn decode(&mut self, mut bytes: &[u8], out: &mut String) {
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return self.text(text, out),
                Err(error) => {
                    let (good, rest) = bytes.split_at(error.valid_up_to());
                    self.text(&String::from_utf8_lossy(good), out);
                    let Some(bad) = error.error_len() else {
                        self.carry = rest.to_vec();
                        return;
                    };
                    self.take(char::REPLACEMENT_CHARACTER, out);
                    bytes = &rest[bad..];
                }
            }
        }
    }

    fn text(&mut self, mut text: &str, out: &mut String) {
        while !text.is_empty() {
            if self.state == State::Ground {
                let plain = text
                    .bytes()
                    .position(|byte| !(0x20..0x7f).contains(&byte))
                    .unwrap_or(text.len());
                self.line.put(&text[..plain], out);
                text = &text[plain..];
            }
            let mut rest = text.chars();
            if let Some(c) = rest.next() {
                self.take(c, out);
            }
            text = rest.as_str();
        }
    }

    fn take(&mut self, c: char, out: &mut String) {
        match self.state {
            State::Ground => self.ground(c, out),
            State::Escape { intermediates } => self.escape(c, intermediates, out),
            State::Control { seen, plain_column } => self.control(c, seen, plain_column, out),
            State::Text { seen } => self.string(c, seen, out),
            State::TextEscape if c == '\\' => self.state = State::Ground,
            State::TextEscape => {
                self.state = State::Escape { intermediates: 0 };
                self.escape(c, 0, out);
            }
        }
    }

    fn ground(&mut self, c: char, out: &mut String) {
        self.state = State::Ground;
        match c {
            '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => self.line.newline(out),
            '\r' => self.line.carriage_return(),
            '\u{8}' => self.line.backspace(out),
            '\t' => self.line.put("\t", out),
            '\u{1b}' => self.state = State::Escape { intermediates: 0 },
            '\u{9b}' => self.state = CONTROL,
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.state = STRING,
            c if c.is_control() => {}
            c if deceives(c) => self.line.put(&escaped(c), out),
            c => self.line.put(c.encode_utf8(&mut [0; 4]), out),
        }
    }

    fn escape(&mut self, c: char, intermediates: usize, out: &mut String) {
        match c {
            '[' if intermediates == 0 => self.state = CONTROL,
            ']' | 'P' | 'X' | '^' | '_' if intermediates == 0 => self.state = STRING,
            ' '..='/' if intermediates < MAX_CONTROL => {
                self.state = State::Escape {
                    intermediates: intermediates + 1,
                };
            }
            '0'..='~' => self.state = State::Ground,
            other => self.ground(other, out),
        }
    }

    fn control(&mut self, c: char, seen: usize, plain_column: bool, out: &mut String) {
        match c {
            // "Cursor to column one" is how some progress bars spell a carriage return.
            'G' if plain_column => {
                self.line.carriage_return();
                self.state = State::Ground;
            }
            '@'..='~' => self.state = State::Ground,
            ' '..='?' if seen < MAX_CONTROL => {
                self.state = State::Control {
                    seen: seen + 1,
                    plain_column: seen == 0 && matches!(c, '0' | '1'),
                };
            }
            other => self.ground(other, out),
        }
    }

    fn string(&mut self, c: char, seen: usize, out: &mut String) {
        match c {
            '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => self.state = State::Ground,
            '\u{1b}' => self.state = State::TextEscape,
            '\n' => self.ground(c, out),
            _ if seen >= MAX_STRING => self.ground(c, out),
            _ => self.state = State::Text { seen: seen + 1 },
        }
    }
}

const CONTROL: State = State::Control {
    seen: 0,
    plain_column: true,
};
const STRING: State = State::Text { seen: 0 };

/// The whole of a finished text at once.
pub fn sanitise(bytes: &[u8], max_line: usize) -> String {
    let mut sanitiser = Sanitiser::new(max_line);
    let mut text = sanitiser.push(bytes);
    text.push_str(&sanitiser.finish());
    text
}

/// One printable ASCII line for a prompt: everything else as `\u{…}`. No two texts look the same.
pub fn visible(text: &str) -> String {
    write_out(text, |_| false)
}

/// As [`visible`], keeping newlines and tabs: for a script that is read before it runs.
pub fn visible_lines(text: &str) -> String {
    write_out(text, |c| matches!(c, '\n' | '\t'))
}

fn write_out(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        // A backslash that would read as one of our escapes is itself written out.
        let mimics = c == '\\' && text[at..].starts_with("\\u{");
        if keep(c) || (matches!(c, ' '..='~') && !mimics) {
            out.push(c);
        } else {
            out.push_str(&escaped(c));
        }
    }
    out
}

fn escaped(c: char) -> String {
    format!("\\u{{{:x}}}", u32::from(c))
}

/// Characters that reorder the text around them, or carry text that nobody sees.
pub(super) fn deceives(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}'       // marks that set a direction
        | '\u{202a}'..='\u{202e}'                 // embeddings and overrides
        | '\u{2066}'..='\u{206f}'                 // isolates and deprecated format characters
        | '\u{200b}' | '\u{2060}'..='\u{2064}'    // zero width
        | '\u{feff}' | '\u{180e}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}'                 // interlinear annotation
        | '\u{e0000}'..='\u{e0fff}'               // tags and further variation selectors
    )
}

#[cfg(test)]
#[path = "sanitise_tests.rs"]
mod tests;
