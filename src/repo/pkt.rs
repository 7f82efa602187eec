//! Git's pkt-lines, and the list of references that a server sends in them. Pure.
//!
//! Read beside libgit2, from the same bytes: what is counted, chosen and bounded is decided here.

use git2::Oid;

/// Bytes of a pkt-line, its length included.
const MAX_LINE: usize = 65_520;

/// What a line holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Flush,
    /// A line of the conversation.
    Text(&'a [u8]),
    /// Some of a pack.
    Pack(&'a [u8]),
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(super) struct PktReader {
    /// The line so far, its length included.
    line: Vec<u8>,
    /// A pack without lines around it has begun.
    raw: bool,
}

impl PktReader {
    /// Gives `each` the pieces that are complete with these bytes.
    pub(super) fn push<E: From<&'static str>>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.raw {
                return each(Piece::Pack(bytes));
            }
            let wanted = match self.line.get(..4) {
                None => 4 - self.line.len(),
                Some(head) => length(head)?.max(4) - self.line.len(),
            };
            let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.line.extend_from_slice(taken);
            bytes = rest;
            if self.line == b"PACK" {
                self.raw = true;
                each(Piece::Pack(b"PACK"))?;
            } else if let Some((head, content)) = self.line.split_at_checked(4) {
                let length = length(head)?;
                if length == 0 {
                    each(Piece::Flush)?;
                } else if length == self.line.len() {
                    each(classify(content)?)?;
                } else {
                    continue;
                }
                self.line.clear();
            }
        }
        Ok(())
    }
}

fn length(head: &[u8]) -> Result<usize, &'static str> {
    let length = std::str::from_utf8(head)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|text| usize::from_str_radix(text, 16).ok());
    match length {
        Some(length @ (0 | 4..=MAX_LINE)) => Ok(length),
        _ => Err("it sends lines of impossible length"),
    }
}

fn classify(content: &[u8]) -> Result<Piece<'_>, &'static str> {
    match content.split_first() {
        Some((1, pack)) => Ok(Piece::Pack(pack)),
        // Progress and complaints of the other side.
        Some((2 | 3, words)) => Ok(Piece::Text(words)),
        _ => Ok(Piece::Text(content)),
    }
}

/// A branch, tag or `HEAD` of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) id: Oid,
}

/// What a server says it has and can.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Advert {
    pub(super) heads: Vec<Head>,
    /// The branch that `HEAD` is.
    pub(super) default: Option<String>,
    capabilities: Vec<String>,
}

impl Advert {
    /// Reads a line of the list. Names that are not UTF-8 are names that nobody can ask for.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(b"#") || line.starts_with(b"shallow ") || line.starts_with(b"ERR ") {
            return Ok(());
        }
        let (line, capabilities) = match line.iter().position(|&b| b == 0) {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        self.capabilities(capabilities);
        if self.has("object-format=sha256") {
            return Err("it names objects by SHA-256, which is not supported in this version");
        }
        let words = line.split_at_checked(40).and_then(|(id, name)| {
            let id = Oid::from_str(std::str::from_utf8(id).ok()?).ok()?;
            Some((id, name.strip_prefix(b" ")?))
        });
        let Some((id, name)) = words else {
            return Err("its list of branches and tags does not parse");
        };
        if let Ok(name) = std::str::from_utf8(name)
            && !id.is_zero()
        {
            self.heads.push(Head {
                name: name.to_owned(),
                id,
            });
        }
        Ok(())
    }

    fn capabilities(&mut self, text: &[u8]) {
        // Sent once, with the first line; a server that repeats them changes nothing.
        if !self.capabilities.is_empty() {
            return;
        }
        self.capabilities = String::from_utf8_lossy(text)
            .split_ascii_whitespace()
            .map(ToOwned::to_owned)
            .collect();
        self.default = self
            .capabilities
            .iter()
            .find_map(|word| word.strip_prefix("symref=HEAD:"))
            .map(ToOwned::to_owned);
    }

    pub(super) fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|word| word == capability)
    }

    /// Whether commits can be asked for by id.
    pub(super) fn gives_ids(&self) -> bool {
        self.has("allow-tip-sha1-in-want") || self.has("allow-reachable-sha1-in-want")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Wrong(&'static str);
    impl From<&'static str> for Wrong {
        fn from(why: &'static str) -> Self {
            Self(why)
        }
    }

    /// The pieces, joined where they continue each other.
    fn read(chunks: &[&[u8]]) -> Result<Vec<String>, Wrong> {
        let mut reader = PktReader::default();
        let mut seen: Vec<String> = Vec::new();
        for chunk in chunks {
            reader.push(chunk, |piece| {
                match piece {
                    Piece::Flush => seen.push("flush".into()),
                    Piece::Text(text) => seen.push(format!("text {}", text.escape_ascii())),
                    Piece::Pack(pack) => match seen.last_mut() {
                        Some(last) if last.starts_with("pack") => {
                            last.push_str(&pack.escape_ascii().to_string());
                        }
                        _ => seen.push(format!("pack {}", pack.escape_ascii())),
                    },
                }
                Ok::<(), Wrong>(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn lines_packs_and_progress_are_told_apart() {
        assert_eq!(
            read(&[b"0008NAK\n0007\x01PA0006\x02x0007\x01CK0000"]).unwrap(),
            ["text NAK\\n", "pack PA", "text x", "pack CK", "flush"]
        );
        assert_eq!(
            read(&[b"0008NAK\n", b"PACKxyz", b"0008NAK\n"]).unwrap(),
            ["text NAK\\n", "pack PACKxyz0008NAK\\n"]
        );
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for bad in [
            "0001", "0002", "0003", "fff1", "ffff", "-001", "+004", " 4  ", "<htm", "00g0",
        ] {
            assert!(read(&[bad.as_bytes()]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn where_chunks_end_makes_no_difference(cuts in prop::collection::vec(0usize..40, 0..6)) {
            let stream = b"0008NAK\n0007\x01PA0006\x02x0007\x01CK0000";
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            prop_assert_eq!(read(&chunks), read(&[stream]));
        }

        #[test]
        fn no_stream_makes_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let _either = read(&chunks);
        }
    }

    #[test]
    fn a_list_of_references_is_read() {
        let id = "a".repeat(40);
        let mut advert = Advert::default();
        for line in [
            b"# service=git-upload-pack\n".to_vec(),
            format!("{id} HEAD\0shallow side-band-64k symref=HEAD:refs/heads/main agent=x\n")
                .into_bytes(),
            format!("{id} refs/heads/main\n").into_bytes(),
            [format!("{id} refs/heads/").as_bytes(), b"gr\xfc\xdfe\n"].concat(),
            format!("{id} refs/tags/v1^{{}}\n").into_bytes(),
        ] {
            advert.line(&line).unwrap();
        }
        let names: Vec<_> = advert.heads.iter().map(|head| head.name.as_str()).collect();
        assert_eq!(names, ["HEAD", "refs/heads/main", "refs/tags/v1^{}"]);
        assert_eq!(advert.default.as_deref(), Some("refs/heads/main"));
        assert!(advert.has("shallow") && !advert.gives_ids());
    }

    #[test]
    fn an_empty_repository_has_no_heads() {
        let mut advert = Advert::default();
        let line = format!("{} capabilities^{{}}\0shallow\n", "0".repeat(40));
        advert.line(line.as_bytes()).unwrap();
        assert_eq!(advert.heads, []);
    }

    #[test]
    fn lists_of_something_else_are_refused() {
        for bad in ["<html>", "", "abc refs/heads/x", &"a".repeat(41)] {
            assert!(Advert::default().line(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let sha256 = format!("{} HEAD\0object-format=sha256\n", "a".repeat(64));
        assert!(Advert::default().line(sha256.as_bytes()).is_err());
    }
}
