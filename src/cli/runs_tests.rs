use super::*;
use crate::protocol::stop::StopReason;

fn run(id: &str, state: RunState) -> RunSummary {
    RunSummary {
        run: RunId::new(id),
        state,
        command: "exec".into(),
        task: "python3 train.py\u{1b}[2J".into(),
        policy: "offline-train".into(),
        workspace: "/w".into(),
        model: None,
        started: "2026-11-25T03:17:43.123Z".into(),
        last: "2026-11-25T03:17:45.623Z".into(),
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_table_is_aligned_and_ids_are_unique() {
    let ended = |exit_code| RunState::Finished {
        stop: StopReason::Finished,
        exit_code,
    };
    let runs = [
        run("0192aaaabbbb1111", RunState::Running { pid: Some(42) }),
        run("0192aaaabbbb2222", ended(0)),
        run("0192cccc00000000", ended(3)),
    ];
    assert_eq!(
        plain(&table(&runs)),
        "\
RUN            STARTED (UTC)     STATE                 POLICY         WHAT
0192aaaabbbb1  2026-11-25 03:17  running (process 42)  offline-train  exec: python3 train.py\\u{1b}[2J
0192aaaabbbb2  2026-11-25 03:17  finished              offline-train  exec: python3 train.py\\u{1b}[2J
0192cccc00000  2026-11-25 03:17  ended with 3          offline-train  exec: python3 train.py\\u{1b}[2J"
    );
}

#[test]
fn a_header_says_how_long_it_took() {
    let state = RunState::Finished {
        stop: StopReason::Finished,
        exit_code: 0,
    };
    let text = plain(&header(&run("0192aaaabbbb1111", state)));
    assert!(text.contains("state      finished, 2.5 s\n"), "{text}");
    assert!(!text.contains("model"), "{text}");
}
