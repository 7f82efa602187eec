use super::super::chain::{self, Verified};
use super::super::stored::RunState;
use super::*;
use crate::protocol::event::Event;
use crate::protocol::stop::StopReason;
use std::fs::File;
use std::io::Write;

fn store() -> (tempfile::TempDir, RunStore) {
    let home = tempfile::tempdir().unwrap();
    let at: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let store = RunStore::open(&home.path().join("state")).with_clock(Arc::new(move || at));
    (home, store)
}

fn started(run: &RunId) -> Event {
    Event::RunStarted {
        run: run.clone(),
        version: "0.1.0".into(),
        command: "exec".into(),
        task: "python train.py".into(),
        policy: "offline-train".into(),
        policy_digest: chain::genesis(),
        workspace: "/home/me/project".into(),
        model: None,
    }
}

fn ended() -> Event {
    Event::RunEnded {
        stop: StopReason::Finished,
        exit_code: 3,
        text: "x".repeat(200_000),
    }
}

#[test]
fn a_run_is_running_until_it_ends() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    let found = store.find(id.as_str()).unwrap();
    assert!(found.is_running().unwrap());
    let pid = Some(std::process::id());
    assert_eq!(found.summary().state, RunState::Running { pid });
    record.append(&ended()).unwrap();
    drop(record);
    let summary = found.summary();
    assert_eq!(
        summary.state,
        RunState::Finished {
            stop: StopReason::Finished,
            exit_code: 3
        }
    );
    assert_eq!(summary.task, "python train.py");
    assert_eq!(summary.started, "2026-01-02T03:04:05.678Z");
    assert!(!found.is_running().unwrap());
}

#[test]
fn a_run_without_an_end_and_without_a_process_crashed() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    let head = record.head();
    drop(record);
    let found = store.find(id.as_str()).unwrap();
    assert_eq!(found.summary().state, RunState::Crashed);
    let mut file = File::options()
        .append(true)
        .open(found.events_path())
        .unwrap();
    file.write_all(b"{\"v\":1,\"seq\":2,").unwrap();
    assert_eq!(found.summary().state, RunState::Crashed);
    assert_eq!(found.verify().unwrap(), Verified::Torn { records: 1, head });
    assert_eq!(found.events().unwrap().count(), 1);
}

#[test]
fn a_finished_record_verifies_and_a_cut_one_does_not() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    record
        .append(&Event::TextDelta { text: "…".into() })
        .unwrap();
    record.append(&ended()).unwrap();
    let head = record.head();
    drop(record);
    let found = store.newest().unwrap();
    assert_eq!(
        found.verify().unwrap(),
        Verified::Intact { records: 2, head }
    );
    let bytes = fs::read(found.events_path()).unwrap();
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    fs::write(found.events_path(), &bytes[..=first]).unwrap();
    let why = chain::Fault::Missing { told: 2 };
    assert_eq!(found.verify().unwrap(), Verified::Broken { line: 2, why });
    fs::write(found.events_path(), &bytes).unwrap();
    fs::write(found.dir().join("head"), "nonsense").unwrap();
    assert!(matches!(found.verify().unwrap(), Verified::Broken { .. }));
}

#[test]
fn a_record_is_made_once() {
    let (_home, store) = store();
    let id = new_run_id();
    let _record = store.create(&id).unwrap();
    assert!(matches!(store.create(&id), Err(RecordError::Exists { .. })));
}

#[test]
fn runs_are_found_by_a_unique_beginning() {
    let (_home, store) = store();
    for id in ["aa00", "aa11", "bb22"] {
        let id = RunId::new(format!("{id}{}", "0".repeat(28)));
        store.create(&id).unwrap();
    }
    assert!(store.find("b").unwrap().id().as_str().starts_with("bb22"));
    assert!(store.find("AA1").unwrap().id().as_str().starts_with("aa11"));
    assert!(matches!(
        store.find("aa"),
        Err(RecordError::Ambiguous { matches, .. }) if matches.len() == 2
    ));
    for nobody in ["", "c", "../x"] {
        assert!(matches!(
            store.find(nobody),
            Err(RecordError::NoSuchRun { .. })
        ));
    }
    let order: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|run| run.run)
        .collect();
    assert!(order.is_sorted_by(|a, b| a > b));
}

#[test]
fn no_state_folder_is_no_runs() {
    let (_home, store) = store();
    assert!(store.list().unwrap().is_empty());
    assert!(matches!(store.newest(), Err(RecordError::NoRuns)));
}

#[test]
fn nothing_is_appended_after_a_failed_write() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    let huge = Event::Notice {
        text: "x".repeat(chain::MAX_LINE),
    };
    assert!(matches!(
        record.append(&huge),
        Err(RecordError::TooLarge { .. })
    ));
    assert!(matches!(
        record.append(&ended()),
        Err(RecordError::Closed { .. })
    ));
    assert!(matches!(
        store.newest().unwrap().verify().unwrap(),
        Verified::Intact { records: 1, .. }
    ));
}

#[test]
fn a_state_folder_that_others_write_in_is_refused_with_the_command() {
    let (_home, store) = store();
    fs::create_dir(store.home()).unwrap();
    fs::set_permissions(store.home(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = store.create(&new_run_id()).unwrap_err();
    assert!(error.remedy().unwrap().starts_with("chmod 700 /"));
}

#[test]
fn workspaces_past_their_time_and_homes_of_the_dead_are_named() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.keep_workspace_for(Some(1000)).unwrap();
    for name in ["home", "workspace"] {
        fs::create_dir(record.dir().join(name)).unwrap();
    }
    let dir = record.dir().to_owned();
    let at = |text: &str| {
        let at: Timestamp = text.parse().unwrap();
        let store = store.clone().with_clock(Arc::new(move || at));
        store.past_its_time().unwrap()
    };
    assert!(at("2999-01-01T00:00:00Z").is_empty(), "it lives");
    drop(record);
    assert_eq!(at("2000-01-01T00:00:00Z"), [dir.join("home")]);
    let both = [dir.join("home"), dir.join("workspace")];
    assert_eq!(at("2999-01-01T00:00:00Z"), both);
    let other_run = File::open(dir.join("workspace")).unwrap();
    other_run.lock().unwrap();
    assert_eq!(at("2999-01-01T00:00:00Z"), [dir.join("home")]);
    drop(other_run);
    fs::remove_dir(dir.join("home")).unwrap();
    fs::remove_file(dir.join("keep")).unwrap();
    assert!(at("2999-01-01T00:00:00Z").is_empty(), "kept for ever");
}

#[test]
fn a_run_that_was_killed_before_its_first_record_is_no_run() {
    let (_home, store) = store();
    let record = store.create(&new_run_id()).unwrap();
    let dir = record.dir().to_owned();
    let past = || store.past_its_time().unwrap();
    assert!(past().is_empty(), "it lives");
    drop(record);
    assert!(past().is_empty(), "its process lives");
    fs::write(dir.join("owner"), "1 1\n").unwrap();
    assert_eq!(past(), std::slice::from_ref(&dir));
    fs::write(dir.join("head"), "7 told of a record").unwrap();
    assert!(past().is_empty(), "a loss is to be told");
    fs::write(dir.join("head"), "").unwrap();
    for name in ["events.jsonl", "owner"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert!(past().is_empty(), "it may be about to begin");
}

/// A fetch that was under way, and a socket that nobody listens at.
#[test]
fn what_a_killed_run_held_is_named() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    let dir = record.dir().to_owned();
    fs::create_dir(dir.join("scratch")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap());
    assert!(store.past_its_time().unwrap().is_empty(), "it lives");
    drop(record);
    let past = store.past_its_time().unwrap();
    assert_eq!(past, [dir.join("scratch"), dir.join("socket")]);
}

#[test]
fn a_record_that_is_gone_altogether_is_broken_and_not_merely_missing() {
    let (_home, store) = store();
    let id = new_run_id();
    let record = store.create(&id).unwrap();
    record.append(&started(&id)).unwrap();
    fs::remove_file(record.events_path()).unwrap();
    drop(record);
    let found = store.find(id.as_str()).unwrap().verify().unwrap();
    let why = chain::Fault::Missing { told: 1 };
    assert_eq!(found, Verified::Broken { line: 1, why });
}
