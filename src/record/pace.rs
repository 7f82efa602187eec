//! How many runs were begun lately. Told by their names, which are made from the time; those that were
//! cleared away count, too.

use super::error::RecordError;
use super::store::RunStore;
use crate::protocol::ids::RunId;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;

/// Hexadecimal digits of a run's name that are milliseconds since 1970, and the one that says so.
const TIME: usize = 12;
const VERSION: &str = "7";

impl RunStore {
    /// How long another run has to wait where `most` may begin in an hour; `None` is not at all. Of
    /// `own`, which may be there already, only those before it count: of two that begin at the same time,
    /// one is the first.
    pub fn pace(&self, most: u64, own: Option<&RunId>) -> Result<Option<Duration>, RecordError> {
        let now = u64::try_from((self.clock)().as_millisecond()).unwrap_or(0);
        let mut runs = self.ids()?;
        runs.extend(self.gone("").into_iter().map(|gone| gone.run));
        runs.sort_unstable();
        runs.dedup();
        let begun: Vec<u64> = runs
            .iter()
            .filter(|run| own.is_none_or(|own| *run < own))
            .filter_map(begun_ms)
            .collect();
        Ok(wait(&begun, most, now).map(Duration::from_millis))
    }
}

fn begun_ms(run: &RunId) -> Option<u64> {
    let (time, rest) = run.as_str().split_at_checked(TIME)?;
    rest.starts_with(VERSION)
        .then(|| u64::from_str_radix(time, 16).ok())?
}

/// Milliseconds until fewer than `most` lie within an hour. Pure. A moment of the future (the clock was
/// set back) counts as now.
fn wait(begun: &[u64], most: u64, now: u64) -> Option<u64> {
    let mut ages: Vec<u64> = begun
        .iter()
        .map(|begun| now.saturating_sub(*begun))
        .filter(|age| *age < HOUR_MS)
        .collect();
    ages.sort_unstable();
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if ages.len() < most {
        return None;
    }
    // The youngest that has to be over an hour old before there is room; of none there never is.
    let last = most.checked_sub(1).and_then(|at| ages.get(at));
    Some(last.map_or(HOUR_MS, |age| HOUR_MS - age))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::new_run_id;
    use std::sync::Arc;

    const NOW: u64 = 1_700_000_000_000;

    fn named(ms: u64, last: &str) -> RunId {
        RunId::new(format!("{ms:012x}7{last:0>19}"))
    }

    #[test]
    fn there_is_room_as_soon_as_one_is_an_hour_old() {
        let ago = |minutes: u64| NOW - minutes * 60_000;
        assert_eq!(wait(&[], 1, NOW), None);
        assert_eq!(wait(&[ago(61)], 1, NOW), None);
        assert_eq!(wait(&[ago(45)], 1, NOW), Some(15 * 60_000));
        assert_eq!(wait(&[ago(45), ago(10)], 3, NOW), None);
        assert_eq!(wait(&[ago(45), ago(10)], 2, NOW), Some(15 * 60_000));
        assert_eq!(wait(&[ago(45), ago(10)], 1, NOW), Some(50 * 60_000));
        assert_eq!(wait(&[NOW + 5], 1, NOW), Some(HOUR_MS));
        assert_eq!(wait(&[], 0, NOW), Some(HOUR_MS));
    }

    #[test]
    fn runs_are_counted_by_their_names_and_removed_ones_with_them() {
        let home = tempfile::tempdir().unwrap();
        let at = jiff::Timestamp::from_millisecond(NOW as i64).unwrap();
        let store = RunStore::open(home.path()).with_clock(Arc::new(move || at));
        let (old, young) = (named(NOW - HOUR_MS, "1"), named(NOW - 60_000, "2"));
        for run in [&old, &young] {
            drop(store.create(run).unwrap());
        }
        assert_eq!(store.pace(2, None).unwrap(), None);
        let wait = Duration::from_millis(HOUR_MS - 60_000);
        assert_eq!(store.pace(1, None).unwrap(), Some(wait));
        // Of two that begin at once the first by name goes on.
        assert_eq!(store.pace(1, Some(&young)).unwrap(), None);
        let later = named(NOW - 60_000, "3");
        assert_eq!(store.pace(1, Some(&later)).unwrap(), Some(wait));
        std::fs::remove_dir_all(home.path().join("runs").join(young.as_str())).unwrap();
        assert_eq!(store.pace(1, None).unwrap(), None);
        let gone = format!(
            "{{\"run\":\"{young}\",\"removed\":\"\",\"command\":\"\",\"task\":\"\",\"started\":\"\",\"records\":1,\"head\":\"\",\"verdict\":\"\"}}\n"
        );
        std::fs::write(home.path().join("heads.jsonl"), gone).unwrap();
        assert_eq!(store.pace(1, None).unwrap(), Some(wait));
    }

    #[test]
    fn a_new_name_tells_the_time() {
        let before = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        let told = begun_ms(&new_run_id()).unwrap();
        assert!(told >= before && told < before + HOUR_MS, "{told} {before}");
        assert_eq!(begun_ms(&RunId::new("0".repeat(32))), None);
    }
}
