//! Runs an attempt somewhere, and reads what came of it. The attempts themselves are the library's:
//! `fumehood selftest` makes them on a user's machine.

use crate::stage::{Ask, Stage, argv};
use fumehood::app::selftest::attempts::{Report, program};
use std::collections::BTreeMap;

/// The interpreter of both worlds.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Turned away by the sandbox's filter itself: EPERM. ENOSYS would be the word of a kernel that lacks the
/// call, which holds as well, and shows nothing of the sandbox.
const BY_THE_FILTER: &[&str] = &["modules", "another_kernel"];

pub(crate) fn ask(name: &str, told: &serde_json::Value) -> Ask {
    let mut ask = argv(&[PYTHON, "-c", &program(), name]);
    ask.env = BTreeMap::from([("ATTACK".to_owned(), told.to_string())]);
    ask
}

pub(crate) fn reports(stdout: &[u8]) -> BTreeMap<String, Report> {
    serde_json::from_slice(stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(stdout)))
}

/// The attempt, inside: nothing of it may succeed, and it must have tried.
pub(crate) async fn must_fail(stage: &Stage, name: &str, told: &serde_json::Value) {
    let ran = stage.run(ask(name, told)).await;
    let all = reports(ran.text().as_bytes());
    let Report { done, refused } = &all[name];
    assert!(
        done.is_empty(),
        "succeeded: {done:#?}\nrefused: {refused:#?}"
    );
    assert!(!refused.is_empty(), "nothing was tried");
    let ours = refused.values().all(|why| why == "EPERM");
    assert!(
        ours || !BY_THE_FILTER.contains(&name),
        "not by the sandbox: {refused:#?}"
    );
}
