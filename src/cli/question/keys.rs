//! From what a keyboard sends to a line, key by key. Pure.
//!
//! A person's keys come one at a time. Several bytes at once are a paste, a function key, or a report
//! that the terminal sends by itself because some output asked it to: no typing.

/// Longest line that could be an answer.
const MAX_LINE: usize = 16;

/// What came of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// To be shown.
    Echo(String),
    Line(String),
    /// Nothing a person typed; what was typed before is void too.
    NoTyping,
    Nothing,
}

/// A line as it is typed.
#[derive(Debug, Default)]
pub(super) struct Keys {
    line: String,
}

impl Keys {
    /// Takes the bytes that one read gave.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Taken {
        let &[key] = bytes else {
            return match bytes.is_empty() {
                true => Taken::Nothing,
                false => Taken::NoTyping,
            };
        };
        match key {
            b'\r' | b'\n' => Taken::Line(std::mem::take(&mut self.line)),
            // Backspace, in both its spellings.
            0x7f | 0x08 => match self.line.pop() {
                Some(_) => Taken::Echo("\u{8} \u{8}".to_owned()),
                None => Taken::Nothing,
            },
            b' '..=b'~' if self.line.len() < MAX_LINE => {
                self.line.push(char::from(key));
                Taken::Echo(char::from(key).to_string())
            }
            b' '..=b'~' => Taken::Nothing,
            _ => Taken::NoTyping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(keys: &mut Keys, text: &str) -> Vec<Taken> {
        text.bytes().map(|key| keys.take(&[key])).collect()
    }

    #[test]
    fn keys_make_a_line_and_backspace_takes_one_back() {
        let mut keys = Keys::default();
        typed(&mut keys, "yx\u{7f}es");
        assert_eq!(keys.take(b"\r"), Taken::Line("yes".into()));
        assert_eq!(keys.take(b"\n"), Taken::Line(String::new()));
    }

    #[test]
    fn what_comes_at_once_is_no_typing() {
        for bytes in [
            &b"y\n"[..],
            b"yes\r",
            b"\x1b[24;80R",
            b"\x1b[200~y\r\x1b[201~",
            "é".as_bytes(),
        ] {
            assert_eq!(Keys::default().take(bytes), Taken::NoTyping);
        }
        assert_eq!(Keys::default().take(b"\x1b"), Taken::NoTyping);
    }

    proptest! {
        #[test]
        fn no_chunk_of_several_bytes_ever_ends_a_line(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 2..20), 1..20)) {
            let mut keys = Keys::default();
            for chunk in chunks {
                prop_assert_eq!(keys.take(&chunk), Taken::NoTyping);
            }
        }
    }
}
