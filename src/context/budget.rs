//! How many tokens a conversation has, as well as one can know without the model's tokenizer.

/// Bytes per token before a server has counted anything: code and logs have fewer than prose.
const GUESS: f64 = 3.0;

/// A ratio outside these is a server's mistake.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 1.0..=8.0;

/// Bytes that were added, and what the server last counted of them.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    bytes: u64,
    bytes_per_token: f64,
    /// Tokens at a number of bytes, as the server counted them.
    anchor: (u64, u64),
}

impl Measure {
    pub(super) fn new(overhead: u64) -> Self {
        Self {
            bytes: overhead,
            bytes_per_token: GUESS,
            anchor: (0, 0),
        }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// All bytes so far were counted as so many tokens. A count that cannot be is ignored.
    pub(super) fn counted(&mut self, tokens: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a ratio of sizes that fit a machine's memory"
        )]
        let ratio = self.bytes as f64 / tokens as f64;
        if PLAUSIBLE.contains(&ratio) {
            self.bytes_per_token = ratio;
            self.anchor = (tokens, self.bytes);
        }
    }

    pub(super) fn tokens(&self) -> u64 {
        let (tokens, bytes) = self.anchor;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate: a positive number far below 2^53"
        )]
        let since = ((self.bytes - bytes) as f64 / self.bytes_per_token).ceil() as u64;
        tokens + since
    }
}

/// Tokens to leave for the model's answer.
pub fn reserve(window: u64) -> u64 {
    (window / 8).min(4096)
}
