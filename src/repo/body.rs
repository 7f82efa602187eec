//! What a server sends: waited for, counted and looked through before libgit2 gets it.

use super::error::{Limit, RepoError};
use super::link::Link;
use super::pack::{Fault, PackBounds, Scanner};
use super::pkt::{Piece, PktReader};
use bytes::Bytes;
use reqwest::Response;
use std::io;
use std::sync::Arc;

/// Bytes of the list of references: several hundred thousand of them.
const MAX_REFS: u64 = 64 << 20;

/// An answer, read piece by piece.
pub(super) struct Body {
    link: Arc<Link>,
    response: Response,
    rest: Bytes,
    left: u64,
    limit: Limit,
    lines: PktReader,
    kind: Kind,
}

enum Kind {
    Refs,
    Pack(Box<Scanner>),
}

impl Body {
    /// The list of references; the link learns them.
    pub(super) fn refs(link: Arc<Link>, response: Response) -> Self {
        let limit = Limit::Refs(MAX_REFS);
        Self::new(link, response, (MAX_REFS, limit), Kind::Refs)
    }

    /// A round of the conversation, of at most this many bytes, which may hold the pack.
    pub(super) fn round(
        link: Arc<Link>,
        response: Response,
        max_bytes: u64,
        bounds: PackBounds,
    ) -> Self {
        let limit = Limit::Received(max_bytes);
        let kind = Kind::Pack(Box::new(Scanner::new(bounds)));
        Self::new(link, response, (max_bytes, limit), kind)
    }

    fn new(link: Arc<Link>, response: Response, (left, limit): (u64, Limit), kind: Kind) -> Self {
        Self {
            link,
            response,
            rest: Bytes::new(),
            left,
            limit,
            lines: PktReader::default(),
            kind,
        }
    }

    /// The next bytes, at most `buffer`; 0 at the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RepoError> {
        while self.rest.is_empty() {
            let Some(chunk) = self.link.next_chunk(&mut self.response)? else {
                return Ok(0);
            };
            let left = self.left.checked_sub(chunk.len() as u64);
            self.left = left.ok_or(RepoError::TooBig { limit: self.limit })?;
            self.look(&chunk).map_err(|fault| match fault {
                Fault::TooBig(limit) => RepoError::TooBig { limit },
                Fault::Wrong(why) => self.link.not_git(why),
            })?;
            self.rest = chunk;
        }
        let taken = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }

    fn look(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        let (link, kind) = (&self.link, &mut self.kind);
        self.lines.push(chunk, |piece| match (&mut *kind, piece) {
            (Kind::Refs, Piece::Text(line)) => Ok(link.learn(line)?),
            (Kind::Refs, Piece::Pack(_)) => {
                Err(Fault::Wrong("it sends a pack that nobody asked for"))
            }
            (Kind::Pack(scanner), Piece::Pack(pack)) => scanner.push(pack),
            (Kind::Pack(_), Piece::Text(_)) | (_, Piece::Flush) => Ok(()),
        })
    }
}

impl io::Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.next(buffer).map_err(|error| {
            self.link.keep(error);
            io::Error::other("the transfer was given up")
        })
    }
}
