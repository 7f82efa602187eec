//! The time that the steps of a run may have its GPUs: one account for the run, whatever sandboxes it has.
//!
//! ```text
//!   take ─ what a step could use at most ─▶ Taken ─ watch ─▶ the step is stopped when it is used up
//!                                             └ dropped: what was not used is given back
//! ```
//!
//! Taken before it is used, so that steps beside each other never have more together than the policy says.

use crate::policy::model::Policy;
use crate::policy::permit::Denial;
use crate::policy::unit;
use crate::protocol::limit::{Evidence, Limit, Reached};
use crate::protocol::outcome::{Exit, Outcome};
use crate::protocol::spec::SandboxSpec;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The key of the policy.
const KEY: &str = "limits.gpu_time";

/// Milliseconds of one GPU that are left. Without a limit, or without GPUs, everything is.
pub(super) struct GpuTime(Option<Account>);

struct Account {
    most: u64,
    gpus: u64,
    left: Mutex<u64>,
}

/// What one step may use.
pub(super) struct Taken<'a> {
    account: Option<&'a Account>,
    /// Milliseconds of one GPU.
    taken: u64,
    began: Instant,
    /// Where it has less than the time it asked for.
    most: Option<Duration>,
}

impl GpuTime {
    pub(super) fn new(policy: &Policy, spec: &SandboxSpec) -> Self {
        let gpus = spec.devices.gpus.len() as u64;
        Self(policy.gpu.time_ms.filter(|_| gpus > 0).map(|most| Account {
            most,
            gpus,
            left: Mutex::new(most),
        }))
    }

    /// For a step that takes no longer than `wall_ms`.
    ///
    /// # Errors
    /// Where nothing is left.
    pub(super) fn take(&self, wall_ms: Option<u64>) -> Result<Taken<'_>, Denial> {
        let Some(account) = &self.0 else {
            return Ok(Taken {
                account: None,
                taken: 0,
                began: Instant::now(),
                most: None,
            });
        };
        let mut left = account.left();
        let each = *left / account.gpus;
        if each == 0 {
            return Err(account.used_up());
        }
        let whole = wall_ms.filter(|wall| *wall <= each);
        let taken = match whole {
            Some(wall) => wall.saturating_mul(account.gpus),
            None => *left,
        };
        *left -= taken;
        Ok(Taken {
            account: Some(account),
            taken,
            began: Instant::now(),
            most: whole.is_none().then(|| Duration::from_millis(each)),
        })
    }
}

impl Account {
    fn left(&self) -> std::sync::MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used_up(&self) -> Denial {
        Denial {
            rule: KEY.to_owned(),
            why: format!(
                "the steps of this run have had its GPUs for {}, or have it to themselves until they end",
                unit::time(self.most)
            ),
        }
    }
}

impl Taken<'_> {
    /// Cancels `stop` when it is used up.
    pub(super) async fn watch(&self, stop: &CancellationToken) -> Infallible {
        match self.most {
            Some(most) => sleep((self.began + most).duration_since(Instant::now())).await,
            None => std::future::pending().await,
        }
        stop.cancel();
        std::future::pending().await
    }

    /// A step that was stopped for it ended by that, unless a person stopped it as well.
    pub(super) fn add(&self, exit: &mut Exit, cancel: &CancellationToken) {
        let used_up = self.most.is_some_and(|most| self.began.elapsed() >= most);
        if let Some(account) = self.account
            && used_up
            && exit.outcome == Outcome::Cancelled
            && !cancel.is_cancelled()
        {
            exit.outcome = Outcome::TimedOut;
            exit.reached.push(Reached {
                limit: Limit::GpuTime,
                evidence: Evidence::Seen,
                text: format!(
                    "{KEY} = {}: it was still running when the run had used that up",
                    unit::time(account.most)
                ),
            });
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.account {
            let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let used = took.saturating_mul(account.gpus);
            *account.left() += self.taken.saturating_sub(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn account(most: u64, gpus: u64) -> GpuTime {
        let left = Mutex::new(most);
        GpuTime(Some(Account { most, gpus, left }))
    }

    fn left(time: &GpuTime) -> u64 {
        *time.0.as_ref().unwrap().left()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_step_does_not_use_is_there_for_the_next() {
        let time = account(10_000, 2);
        let first = time.take(Some(3_000)).unwrap();
        assert_eq!((left(&time), first.most), (4_000, None));
        advance(Duration::from_secs(1)).await;
        drop(first);
        assert_eq!(left(&time), 8_000);
    }

    #[tokio::test(start_paused = true)]
    async fn steps_beside_each_other_have_no_more_together() {
        let time = account(10_000, 2);
        let first = time.take(None).unwrap();
        assert_eq!(first.most, Some(Duration::from_secs(5)));
        let denied = time.take(Some(1)).err().unwrap();
        assert!(denied.to_string().contains(KEY), "{denied}");
        advance(Duration::from_secs(9)).await;
        drop(first);
        // Never less than nothing.
        assert_eq!(left(&time), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_stopped_when_it_is_used_up_and_not_for_a_person_s_stop() {
        let time = account(4_000, 2);
        let taken = time.take(Some(3_000)).unwrap();
        let stop = CancellationToken::new();
        tokio::select! {
            never = taken.watch(&stop) => match never {},
            () = stop.cancelled() => {}
        }
        assert_eq!(taken.began.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn without_a_limit_everything_is_left() {
        let time = GpuTime(None);
        assert_eq!(time.take(None).unwrap().most, None);
    }
}
