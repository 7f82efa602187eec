use super::*;
use crate::protocol::outcome::Usage;
use std::collections::BTreeSet;

fn ended(outcome: Outcome) -> Exit {
    Exit {
        outcome,
        reached: Vec::new(),
        alarms: Vec::new(),
        usage: Usage::default(),
    }
}

fn judged(report: &str) -> Verdict {
    judge("mounts", &ended(Outcome::Code(0)), report.as_bytes())
}

#[test]
fn one_thing_that_succeeds_is_an_escape_whatever_was_refused() {
    let said = r#"{"mounts": {"done": ["mount tmpfs"], "refused": {"bind /": "EPERM"}}}"#;
    assert_eq!(
        judged(said),
        Verdict::Escaped {
            done: vec!["mount tmpfs".to_owned()]
        }
    );
}

#[test]
fn what_is_refused_is_counted() {
    let said =
        r#"{"mounts": {"done": [], "refused": {"mount tmpfs": "EPERM", "bind /": "EPERM"}}}"#;
    assert_eq!(judged(said), Verdict::Held { tried: 2 });
}

#[test]
fn an_attempt_that_tells_nothing_is_not_held() {
    for said in ["", "{}", r#"{"mounts": {"done": [], "refused": {}}}"#, "ok"] {
        assert!(matches!(judged(said), Verdict::Failed { .. }), "{said:?}");
    }
    let killed = judge("mounts", &ended(Outcome::OutOfMemory), b"{}");
    assert!(matches!(killed, Verdict::Failed { .. }), "{killed:?}");
}

#[test]
fn words_of_a_sandbox_reach_no_terminal_as_they_are() {
    let said = r#"{"mounts": {"done": ["\u001b[2J"], "refused": {}}}"#;
    let Verdict::Escaped { done } = judged(said) else {
        panic!("held");
    };
    assert!(!done[0].contains('\u{1b}'), "{done:?}");
}

#[test]
fn every_probe_is_a_function_of_the_program_and_stands_once() {
    let program = attempts::program();
    let names: Vec<_> = PROBES.iter().flat_map(|(_, names)| *names).collect();
    let once: BTreeSet<_> = names.iter().collect();
    assert_eq!(once.len(), names.len());
    for name in names {
        let function = format!("@attack\ndef {name}():");
        assert!(program.contains(&function), "{name}");
    }
}
