//! Bytes of a whole run, both ways.

use std::sync::atomic::{AtomicU64, Ordering};

/// A direction, as the sandbox sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Way {
    /// The key that limits it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Up => "network.upload_bytes",
            Self::Down => "network.download_bytes",
        }
    }
}

/// What is left; `u64::MAX` is unlimited, which nobody uses up.
pub(super) struct Budget {
    up: AtomicU64,
    down: AtomicU64,
}

impl Budget {
    pub(super) fn new(up: Option<u64>, down: Option<u64>) -> Self {
        Self {
            up: AtomicU64::new(up.unwrap_or(u64::MAX)),
            down: AtomicU64::new(down.unwrap_or(u64::MAX)),
        }
    }

    /// Takes so many bytes, all or none.
    pub(super) fn take(&self, way: Way, bytes: usize) -> Result<(), Way> {
        let bytes = bytes as u64;
        self.left(way)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .map(drop)
            .map_err(|_| way)
    }

    /// The direction in which nothing is left.
    pub(super) fn spent(&self) -> Option<Way> {
        [Way::Up, Way::Down]
            .into_iter()
            .find(|way| self.left(*way).load(Ordering::Relaxed) == 0)
    }

    /// Nothing goes that way any more.
    pub(super) fn exhaust(&self, way: Way) {
        self.left(way).store(0, Ordering::Relaxed);
    }

    fn left(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let budget = Budget::new(Some(10), None);
        assert_eq!(budget.take(Way::Up, 8), Ok(()));
        assert_eq!(budget.take(Way::Up, 3), Err(Way::Up));
        assert_eq!(budget.take(Way::Up, 2), Ok(()));
        assert_eq!(budget.spent(), Some(Way::Up));
        assert_eq!(budget.take(Way::Down, usize::MAX), Ok(()));
    }
}
