//! A body in chunks, followed as far as its end. Pure: bytes in, how many of them belong to it out.

/// Longest line that says a chunk's size.
const MAX_LINE: usize = 18;

/// Where in a body the next byte lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line with a size.
    Size(Vec<u8>),
    /// In the bytes of a chunk, so many left.
    Data(u64),
    /// In the line end after a chunk, so much of it seen.
    AfterData(Vec<u8>),
    /// In the line end after the last chunk.
    Last(Vec<u8>),
    Done,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self::Size(Vec::new())
    }

    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// How many of these bytes belong to the body. An error where it could be read in two ways:
    /// extensions and trailers are among that.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let Self::Data(left) = self {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                at += here;
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::AfterData(Vec::new());
                }
                continue;
            }
            self.byte(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn byte(&mut self, byte: u8) -> Result<(), &'static str> {
        const WRONG: &str = "its chunks cannot be read";
        let is_last = matches!(self, Self::Last(_));
        match self {
            Self::Size(line) => {
                line.push(byte);
                let digits = match line.strip_suffix(b"\r\n") {
                    Some(digits) => digits,
                    None if line.len() < MAX_LINE => return Ok(()),
                    None => return Err(WRONG),
                };
                let hex = std::str::from_utf8(digits).ok().filter(|text| {
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
                });
                let size = hex.and_then(|hex| u64::from_str_radix(hex, 16).ok());
                *self = match size.ok_or(WRONG)? {
                    0 => Self::Last(Vec::new()),
                    size => Self::Data(size),
                };
            }
            Self::AfterData(seen) | Self::Last(seen) => {
                seen.push(byte);
                match (seen.as_slice(), is_last) {
                    (b"\r", _) => {}
                    (b"\r\n", true) => *self = Self::Done,
                    (b"\r\n", false) => *self = Self::new(),
                    _ => return Err(WRONG),
                }
            }
            Self::Data(_) | Self::Done => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n";

    #[test]
    fn what_follows_the_last_chunk_is_not_part_of_it() {
        let smuggled = [BODY, b"GET /x HTTP/1.1\r\n"].concat();
        let mut chunks = Chunks::new();
        assert_eq!(chunks.follow(&smuggled), Ok(BODY.len()));
        assert!(chunks.is_done());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            &b"5;x=y\r\nhello\r\n"[..],
            b"5\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"\r\n",
            b"11111111111111111\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
        ] {
            assert!(Chunks::new().follow(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_where_it_is_cut(cut in 0..BODY.len()) {
            let mut chunks = Chunks::new();
            prop_assert_eq!(chunks.follow(&BODY[..cut]), Ok(cut));
            prop_assert_eq!(chunks.follow(&BODY[cut..]), Ok(BODY.len() - cut));
            prop_assert!(chunks.is_done());
        }
    }
}
