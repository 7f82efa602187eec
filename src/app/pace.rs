//! No more runs in an hour than the policy lets begin.

use super::AppError;
use crate::policy::model::Policy;
use crate::protocol::ids::RunId;
use crate::record::RunStore;

/// Whether another run may begin. Of `own`, which may be there already, only those before it count.
pub(super) fn check(
    store: &RunStore,
    policy: &Policy,
    own: Option<&RunId>,
) -> Result<(), AppError> {
    let Some(most) = policy.lifecycle.runs_per_hour else {
        return Ok(());
    };
    match store.pace(most, own)? {
        None => Ok(()),
        Some(wait) => Err(AppError::TooManyRuns { most, wait }),
    }
}
