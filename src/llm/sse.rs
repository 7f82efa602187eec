//! Server-sent events: bytes in, the data of whole events out. Pure, bounded, and indifferent to how
//! the bytes were split.

/// Largest event: a file written in one tool call that a server sends in one piece.
const MAX_EVENT: usize = 8 << 20;

/// The stream is no event stream that can be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SseError {
    #[error("an event is larger than {} MiB", MAX_EVENT >> 20)]
    TooLarge,
    #[error("an event is not UTF-8")]
    NotText,
}

/// Collects lines into events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// The last byte was a carriage return: a newline that follows belongs to it.
    returned: bool,
}

impl Decoder {
    /// Gives the data of each event that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, SseError> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.returned, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() + self.data.len() >= MAX_EVENT => {
                    return Err(SseError::TooLarge);
                }
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    /// True in the middle of an event: a stream that ends here was cut.
    pub(super) fn is_inside(&self) -> bool {
        !self.line.is_empty() || self.has_data
    }

    fn end_line(&mut self) -> Result<Option<String>, SseError> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.data);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let line = String::from_utf8(line).map_err(|_| SseError::NotText)?;
        if let Some(value) = line.strip_prefix("data:") {
            if self.has_data {
                self.data.push('\n');
            }
            self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
            self.has_data = true;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(bytes: &[u8]) -> Vec<String> {
        Decoder::default().push(bytes).unwrap()
    }

    #[test]
    fn events_come_out_whole_and_comments_and_names_do_not() {
        let text = b"\xef: ping\n\n";
        assert!(Decoder::default().push(text).is_err(), "not UTF-8");
        assert_eq!(
            events(
                b": ping\n\nevent: x\nid: 1\ndata: {\"a\":1}\n\ndata:b\r\n\r\ndata: c\ndata: d\r\r"
            ),
            ["{\"a\":1}", "b", "c\nd"]
        );
        assert_eq!(events(b"data: half\n"), Vec::<String>::new());
    }

    #[test]
    fn an_event_without_an_end_is_refused_before_it_fills_memory() {
        let mut decoder = Decoder::default();
        let chunk = vec![b'x'; 1 << 20];
        let outcome = (0..9).map(|_| decoder.push(&chunk)).find(Result::is_err);
        assert_eq!(outcome, Some(Err(SseError::TooLarge)));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            text in "(data: ?[a-z✓]{0,4}|: c|\r|\n|\r\n){0,20}",
            at in 0_usize..100,
        ) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let mut decoder = Decoder::default();
            let mut split = decoder.push(&bytes[..at]).unwrap();
            split.extend(decoder.push(&bytes[at..]).unwrap());
            prop_assert_eq!(split, events(bytes));
        }
    }
}
