//! A connection that was allowed: recorded, made, counted, and recorded again when it is over, however
//! that comes.

use super::budget::{Budget, Way};
use super::chunks::Chunks;
use super::dial::dial;
use super::error::{Broken, Refused};
use super::head::Body;
use super::ledger::Report;
use super::{Egress, IDLE};
use crate::policy::network::{Allowed, joined};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// Bytes in flight of one direction.
const BUFFER: usize = 16 * 1024;

/// Dropped, it is over, and recorded so.
pub(super) struct Passage<'a> {
    egress: &'a Egress,
    connection: u64,
    address: Option<String>,
    meter: Meter<'a>,
    why: String,
}

impl<'a> Passage<'a> {
    pub(super) async fn open(
        egress: &'a Egress,
        allowed: &Allowed,
        port: u16,
        method: Option<&str>,
    ) -> Result<(Self, TcpStream), Broken> {
        let at = joined(&allowed.host, port);
        if let Some(way) = egress.budget.spent() {
            return Err(Refused::Bytes { at, way }.into());
        }
        // Of a pattern the client chooses the name, and whoever answers for the domain reads it.
        if allowed.rule.host != allowed.host
            && egress.budget.take(Way::Up, allowed.host.len()).is_err()
        {
            egress.budget.exhaust(Way::Up);
            return Err(Refused::Bytes { at, way: Way::Up }.into());
        }
        let connection = egress.ledger.opened(allowed, port, method)?;
        let mut passage = Self {
            egress,
            connection,
            address: None,
            meter: Meter::new(&egress.budget, at),
            why: "the sandbox ended".to_owned(),
        };
        match dial(egress, allowed, port).await {
            Ok(dialled) => {
                passage.address = dialled.address.map(|address| address.to_string());
                Ok((passage, dialled.stream))
            }
            Err(broken) => {
                passage.why = broken.to_string();
                Err(broken)
            }
        }
    }

    pub(super) fn meter(&self) -> &Meter<'a> {
        &self.meter
    }

    /// Records how it went.
    pub(super) fn end(mut self, done: &Result<(), Broken>) {
        self.why = match done {
            Ok(()) => String::new(),
            Err(broken) => broken.to_string(),
        };
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.egress.ledger.closed(Report::Closed {
            connection: self.connection,
            address: self.address.take(),
            sent: self.meter.sent.load(Ordering::Relaxed),
            received: self.meter.received.load(Ordering::Relaxed),
            why: std::mem::take(&mut self.why),
        });
    }
}

/// Counts what moves, and notices when nothing does.
pub(super) struct Meter<'a> {
    budget: &'a Budget,
    at: String,
    sent: AtomicU64,
    received: AtomicU64,
    moved: Mutex<Instant>,
}

impl<'a> Meter<'a> {
    fn new(budget: &'a Budget, at: String) -> Self {
        Self {
            budget,
            at,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
        }
    }

    /// Before they are passed on.
    pub(super) fn count(&self, way: Way, bytes: usize) -> Result<(), Refused> {
        if self.budget.take(way, bytes).is_err() {
            self.budget.exhaust(way);
            let at = self.at.clone();
            return Err(Refused::Bytes { at, way });
        }
        let count = match way {
            Way::Up => &self.sent,
            Way::Down => &self.received,
        };
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }

    /// Returns when nothing has moved for too long.
    pub(super) async fn idle(&self) -> Broken {
        loop {
            let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            if moved.elapsed() >= IDLE {
                return Broken::Idle(IDLE.as_secs());
            }
            sleep_until(moved + IDLE).await;
        }
    }

    /// Everything there is, then the end.
    pub(super) async fn pass(
        &self,
        way: Way,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match from.read(&mut buffer).await? {
                0 => break,
                count => self.write(way, to, &buffer[..count]).await?,
            }
        }
        to.shutdown().await?;
        Ok(())
    }

    pub(super) async fn write(
        &self,
        way: Way,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> Result<(), Broken> {
        self.count(way, bytes.len())?;
        to.write_all(bytes).await?;
        to.flush().await?;
        Ok(())
    }

    /// One body, to its end and no further.
    pub(super) async fn pass_body(
        &self,
        way: Way,
        body: Body,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; BUFFER];
        let mut chunks = Chunks::new();
        let mut left = match body {
            Body::Length(length) => length,
            Body::Chunked | Body::ToTheEnd => u64::MAX,
        };
        while left > 0 && !chunks.is_done() {
            let room = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let count = from.read(&mut buffer[..room]).await?;
            if count == 0 {
                return match body {
                    Body::ToTheEnd => Ok(()),
                    Body::Length(_) | Body::Chunked => {
                        Err(Broken::Io(std::io::ErrorKind::UnexpectedEof.into()))
                    }
                };
            }
            let mine = match body {
                Body::Chunked => chunks
                    .follow(&buffer[..count])
                    .map_err(|why| self.nonsense(why))?,
                Body::Length(_) | Body::ToTheEnd => count,
            };
            self.write(way, to, &buffer[..mine]).await?;
            if body != Body::ToTheEnd {
                left -= mine as u64;
            }
        }
        Ok(())
    }

    fn nonsense(&self, why: &'static str) -> Refused {
        Refused::Request {
            at: self.at.clone(),
            why,
        }
    }
}
