//! When a failed attempt is made again. Pure: the delays are a function of what happened.

use std::time::Duration;

/// Why an attempt failed, as far as trying again goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing listens: a server that restarts is back soon, a missing one is to be said soon.
    Unreachable,
    /// 429 or 503, with the seconds the server asked to wait.
    Busy { retry_after: Option<Duration> },
    /// The server failed (5xx).
    Server,
    /// The stream ended early.
    CutOff,
    /// The stream fell silent: each attempt costs the whole patience.
    Stalled,
}

/// Longest wait that is still waited.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait before the next attempt, after `failed` attempts (from 1); `None`: no more.
pub(super) fn wait(failed: u32, cause: Cause) -> Option<Duration> {
    let (attempts, first) = match cause {
        Cause::Unreachable => (3, 200),
        Cause::Busy { .. } => (6, 1000),
        Cause::Server | Cause::CutOff => (4, 500),
        Cause::Stalled => (2, 500),
    };
    if failed >= attempts {
        return None;
    }
    let doubling = Duration::from_millis(first << (failed - 1).min(16));
    match cause {
        // Earlier than asked would be refused again; much later is not worth a person's time.
        Cause::Busy {
            retry_after: Some(asked),
        } => (asked <= LONGEST).then_some(asked),
        _ => Some(doubling.min(LONGEST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cause: Cause) -> Vec<u128> {
        (1..)
            .map_while(|failed| wait(failed, cause))
            .map(|wait| wait.as_millis())
            .collect()
    }

    #[test]
    fn delays_double_and_end() {
        assert_eq!(all(Cause::Unreachable), [200, 400]);
        assert_eq!(all(Cause::Server), [500, 1000, 2000]);
        assert_eq!(all(Cause::CutOff), [500, 1000, 2000]);
        assert_eq!(all(Cause::Stalled), [500]);
        let busy = Cause::Busy { retry_after: None };
        assert_eq!(all(busy), [1000, 2000, 4000, 8000, 16000]);
    }

    #[test]
    fn a_server_that_says_when_is_believed_within_reason() {
        let asked = |seconds| Cause::Busy {
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(wait(1, asked(7)), Some(Duration::from_secs(7)));
        assert_eq!(wait(1, asked(0)), Some(Duration::ZERO));
        assert_eq!(wait(1, asked(3600)), None);
        assert_eq!(wait(6, asked(1)), None, "not for ever");
    }
}
