//! The first message of TLS, as far as it says for whom it is. Pure.
//!
//! [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446#section-4.1.2), and the server name of
//! [RFC 6066](https://www.rfc-editor.org/rfc/rfc6066#section-3). What comes after it is not looked at.

/// First byte of a handshake record.
pub(super) const HANDSHAKE: u8 = 22;

/// Longest greeting that is waited for: a big key share and a session ticket fit several times.
pub(super) const MAX_HELLO: usize = 64 * 1024;

/// Most records it may be cut into. Each read starts from the first: thousands would be a way to have
/// the host compute.
const MAX_RECORDS: usize = 32;

const CLIENT_HELLO: u8 = 1;
const MAX_RECORD: usize = 16 * 1024 + 256;
const SERVER_NAME: u16 = 0;
/// [Encrypted client hello](https://www.iana.org/assignments/tls-extensiontype-values/), and its
/// ancestor for names.
const ENCRYPTED: [u16; 2] = [0xfe0d, 0xffce];

/// What a greeting says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// It is not all here.
    More,
    /// Lower case, as a host is written.
    For(String),
    Nameless,
    /// Whom it is for is hidden.
    Encrypted,
    /// It is no greeting, or could be read in two ways.
    Nonsense,
}

/// Reads the beginning of a connection.
pub(super) fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    for _ in 0..=MAX_RECORDS {
        let whole = message.get(1..4).map(|length: &[u8]| 4 + number(length));
        if whole.is_some_and(|whole| whole > MAX_HELLO) {
            return Hello::Nonsense;
        }
        if let Some(body) = whole.and_then(|whole| message.get(4..whole)) {
            // What else is in that record belongs to no greeting.
            let exact = whole == Some(message.len());
            return match exact {
                true => body_of(body).unwrap_or(Hello::Nonsense),
                false => Hello::Nonsense,
            };
        }
        let Some((&[kind, major, _, high, low], tail)) = rest.split_first_chunk::<5>() else {
            return Hello::More;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length == 0 || length > MAX_RECORD {
            return Hello::Nonsense;
        }
        let Some((payload, after)) = tail.split_at_checked(length) else {
            return Hello::More;
        };
        if message.is_empty() && payload[0] != CLIENT_HELLO {
            return Hello::Nonsense;
        }
        message.extend_from_slice(payload);
        rest = after;
    }
    Hello::Nonsense
}

/// `None` is nonsense.
fn body_of(body: &[u8]) -> Option<Hello> {
    let mut body = Slice(body);
    body.take(2 + 32)?;
    body.vector(1)?;
    body.vector(2)?;
    body.vector(1)?;
    if body.0.is_empty() {
        return Some(Hello::Nameless);
    }
    let mut extensions = Slice(body.vector(2)?);
    if !body.0.is_empty() {
        return None;
    }
    let mut name = None;
    let mut encrypted = false;
    while !extensions.0.is_empty() {
        let kind = number(extensions.take(2)?) as u16;
        let data = extensions.vector(2)?;
        encrypted |= ENCRYPTED.contains(&kind);
        if kind == SERVER_NAME && name.replace(server_name(data)?).is_some() {
            return None;
        }
    }
    Some(match (encrypted, name) {
        (true, _) => Hello::Encrypted,
        (false, Some(name)) => Hello::For(name),
        (false, None) => Hello::Nameless,
    })
}

/// Exactly one, a host's.
fn server_name(data: &[u8]) -> Option<String> {
    let mut data = Slice(data);
    let mut list = Slice(data.vector(2)?);
    let kind = list.take(1)?;
    let name = list.vector(2)?;
    let alone = kind == [0] && data.0.is_empty() && list.0.is_empty();
    let text = std::str::from_utf8(name).ok()?;
    (alone && !text.is_empty() && text.is_ascii()).then(|| text.to_ascii_lowercase())
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}

struct Slice<'a>(&'a [u8]);

impl<'a> Slice<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// With its length in front, in so many bytes.
    fn vector(&mut self, length: usize) -> Option<&'a [u8]> {
        let length = number(self.take(length)?);
        self.take(length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector(length: usize, bytes: &[u8]) -> Vec<u8> {
        let size = (bytes.len() as u32).to_be_bytes();
        [&size[4 - length..], bytes].concat()
    }

    pub(crate) fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, data)| [kind.to_be_bytes().to_vec(), vector(2, data)].concat())
            .collect();
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 1]),
            &vector(1, &[0]),
            &vector(2, &extensions),
        ]
        .concat();
        [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
    }

    pub(crate) fn record(message: &[u8]) -> Vec<u8> {
        [&[HANDSHAKE, 3, 1][..], &vector(2, message)].concat()
    }

    pub(crate) fn name(host: &str) -> (u16, Vec<u8>) {
        let entry = [&[0][..], &vector(2, host.as_bytes())].concat();
        (SERVER_NAME, vector(2, &entry))
    }

    #[test]
    fn a_greeting_says_for_whom_it_is() {
        let whole = record(&hello(&[(10, vec![0, 0]), name("PyPI.org")]));
        assert_eq!(read(&whole), Hello::For("pypi.org".to_owned()));
        assert_eq!(read(&record(&hello(&[]))), Hello::Nameless);
        let hidden = hello(&[name("front.org"), (0xfe0d, vec![0; 40])]);
        assert_eq!(read(&record(&hidden)), Hello::Encrypted);
    }

    #[test]
    fn a_greeting_in_pieces_is_waited_for() {
        let message = hello(&[name("pypi.org")]);
        let (a, b) = message.split_at(30);
        let pieces = [record(a), record(b)].concat();
        assert_eq!(read(&pieces), Hello::For("pypi.org".to_owned()));
        for length in 0..pieces.len() {
            assert_eq!(read(&pieces[..length]), Hello::More, "{length}");
        }
    }

    #[test]
    fn a_greeting_in_crumbs_is_not_put_together_for_ever() {
        let message = hello(&[name("pypi.org")]);
        let cut = |count: usize| {
            let (crumbs, rest) = message.split_at(count - 1);
            let crumbs = crumbs.iter().flat_map(|byte| record(&[*byte]));
            crumbs.chain(record(rest)).collect::<Vec<u8>>()
        };
        assert_eq!(read(&cut(MAX_RECORDS)), Hello::For("pypi.org".to_owned()));
        assert_eq!(read(&cut(MAX_RECORDS + 1)), Hello::Nonsense);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_nonsense() {
        let twice = hello(&[name("a.org"), name("b.org")]);
        let two = [0, 0, 1, b'a', 0, 0, 1, b'b'];
        let two_in_one = hello(&[(SERVER_NAME, vector(2, &two))]);
        let mut longer = hello(&[name("a.org")]);
        longer.push(0);
        for bad in [twice, two_in_one, longer] {
            assert_eq!(read(&record(&bad)), Hello::Nonsense);
        }
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Hello::Nonsense);
        assert_eq!(read(&[22, 3, 1, 0xff, 0xff]), Hello::Nonsense);
        assert_eq!(read(&record(&[2, 0, 0, 0])), Hello::Nonsense);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&record(&[&[CLIENT_HELLO, 0, 1, 0][..], &bytes].concat()));
        }
    }
}
