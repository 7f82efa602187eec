//! Notices a model that goes in circles: the same call with the same result three times running, or a
//! cycle of two to five calls. The first time it is told so; the second time the run stops.
//!
//! What is compared is the call *and* its result, so polling something that moves is no loop. Only the
//! clock is taken out of results (durations, times of day, addresses): a loop that differs in nothing
//! else is still one.

use regex::Regex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Longest cycle looked for.
const LONGEST: usize = 5;

/// One call needs this many repetitions, as does a pair; longer cycles need two.
const SHORT_REPEATS: usize = 3;
const LONG_REPEATS: usize = 2;

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    GoOn,
    /// Tell the model, once.
    Nudge {
        text: String,
    },
    /// It was told and goes on: stop.
    Stop {
        pattern: String,
    },
}

/// The trail of one task's calls.
#[derive(Debug)]
pub struct DoomLoop {
    trail: VecDeque<(String, [u8; 32])>,
    nudged: bool,
    clock: Regex,
}

impl Default for DoomLoop {
    fn default() -> Self {
        Self::new()
    }
}

impl DoomLoop {
    pub fn new() -> Self {
        let clock = r"(?i)0x[0-9a-f]+|\d{4}-\d\d-\d\d|\d{1,2}:\d\d(:\d\d)?([.,]\d+)?|\d+([.,]\d+)?\s?(ns|µs|us|ms|s|secs?|seconds?|minutes?)\b|\bsteps?[/_-]\d+";
        Self {
            trail: VecDeque::new(),
            nudged: false,
            clock: Regex::new(clock).expect("a constant that compiles"),
        }
    }

    /// A call was answered.
    pub fn note(&mut self, name: &str, arguments: &str, result: &str) {
        let mut hash = Sha256::new();
        for part in [
            name,
            &normalised(arguments),
            &self.clock.replace_all(result, "·"),
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        if self.trail.len() == LONGEST * SHORT_REPEATS {
            self.trail.pop_front();
        }
        self.trail
            .push_back((name.to_owned(), hash.finalize().into()));
    }

    /// Looks at the trail; forgets it when it has spoken, so that only repetition after a nudge stops.
    pub fn advise(&mut self) -> Advice {
        let Some(length) = (1..=LONGEST).find(|&length| self.repeats(length)) else {
            return Advice::GoOn;
        };
        let pattern = self.describe(length);
        self.trail.clear();
        if std::mem::replace(&mut self.nudged, true) {
            return Advice::Stop { pattern };
        }
        Advice::Nudge {
            text: format!(
                "You are repeating yourself: {pattern}, each time with the same result. Doing it again will change nothing. Find out why it fails, try something else, or say in your final answer what stands in the way."
            ),
        }
    }

    fn repeats(&self, length: usize) -> bool {
        let times = if length <= 2 {
            SHORT_REPEATS
        } else {
            LONG_REPEATS
        };
        let Some(start) = self.trail.len().checked_sub(length * times) else {
            return false;
        };
        (start..self.trail.len() - length).all(|at| self.trail[at].1 == self.trail[at + length].1)
    }

    fn describe(&self, length: usize) -> String {
        let mut text = String::new();
        for (name, _) in self.trail.range(self.trail.len() - length..) {
            let arrow = if text.is_empty() { "" } else { " → " };
            let _ = write!(text, "{arrow}{}", super::sanitise::visible(name));
        }
        match length {
            1 => format!("the same call of {text} {SHORT_REPEATS} times"),
            _ => format!("the same calls in a circle ({text})"),
        }
    }
}

/// Arguments that mean the same are the same: keys sorted, spaces gone. What is no JSON stays as it is.
fn normalised(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            value.to_string()
        }
        Err(_) => arguments.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn advise(calls: &[(&str, &str, &str)]) -> Vec<Advice> {
        let mut detector = DoomLoop::new();
        calls
            .iter()
            .map(|(name, arguments, result)| {
                detector.note(name, arguments, result);
                detector.advise()
            })
            .filter(|advice| *advice != Advice::GoOn)
            .collect()
    }

    #[test]
    fn the_third_identical_call_is_a_nudge_and_three_more_are_a_stop() {
        let call = ("exec", "{\"command\":\"make\"}", "exit code 2");
        assert_eq!(advise(&[call; 2]), []);
        assert!(matches!(advise(&[call; 3])[..], [Advice::Nudge { .. }]));
        let found = advise(&[call; 6]);
        assert!(
            matches!(&found[..], [Advice::Nudge { text }, Advice::Stop { pattern }]
                if text.contains("exec") && pattern.contains("exec")),
            "{found:?}"
        );
    }

    #[test]
    fn polling_something_that_moves_is_no_loop() {
        let results: Vec<_> = (0..20).map(|n| format!("epoch {n} done")).collect();
        let calls: Vec<_> = results.iter().map(|r| ("exec", "{}", r.as_str())).collect();
        assert_eq!(advise(&calls), []);
    }

    #[test]
    fn results_that_differ_only_in_the_clock_are_the_same() {
        let results: Vec<_> = (0..3)
            .map(|n| {
                format!(
                    "failed, see steps/1{n}.log, after 0.{n}2 s at 12:00:0{n}, object at 0x7f{n}a"
                )
            })
            .collect();
        let calls: Vec<_> = results.iter().map(|r| ("exec", "{}", r.as_str())).collect();
        assert!(matches!(advise(&calls)[..], [Advice::Nudge { .. }]));
    }

    #[test]
    fn spelling_arguments_differently_does_not_hide_a_loop() {
        let found = advise(&[
            ("exec", r#"{"a":1,"b":{"c":2,"d":3}}"#, "x"),
            ("exec", r#"{ "b": {"d":3,"c":2}, "a": 1 }"#, "x"),
            ("exec", r#"{"b":{"c":2,"d":3},"a":1}"#, "x"),
        ]);
        assert!(matches!(found[..], [Advice::Nudge { .. }]));
    }

    #[test]
    fn cycles_of_two_to_five_calls_are_found_and_of_six_are_not() {
        for length in 2..=6 {
            let names: Vec<_> = (0..length).map(|n| format!("tool{n}")).collect();
            let cycle: Vec<_> = names.iter().map(|n| (n.as_str(), "{}", "same")).collect();
            let found = advise(&cycle.repeat(3));
            let expected = usize::from(length <= 5);
            assert_eq!(found.len(), expected, "cycle of {length}: {found:?}");
        }
    }

    #[test]
    fn one_nudge_is_all_a_task_gets() {
        let first = [("exec", "{}", "a"); 3];
        let honest: Vec<_> = (0..9).map(|n| format!("file{n}")).collect();
        let middle: Vec<_> = honest
            .iter()
            .map(|f| ("read", f.as_str(), "text"))
            .collect();
        let second = [("list", "{}", "b"); 3];
        let found = advise(&[&first[..], &middle, &second].concat());
        assert!(matches!(
            found[..],
            [Advice::Nudge { .. }, Advice::Stop { .. }]
        ));
    }

    proptest! {
        #[test]
        fn calls_that_never_repeat_are_never_a_loop(count in 0_usize..200) {
            let arguments: Vec<_> = (0..count).map(|n| format!("{{\"n\":{n}}}")).collect();
            let calls: Vec<_> = arguments.iter().map(|a| ("exec", a.as_str(), "same")).collect();
            prop_assert_eq!(advise(&calls), vec![]);
        }
    }
}
