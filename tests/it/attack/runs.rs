//! Against what is around a sandbox: the approval, and the record.

use super::user::{Closed, Run, asks_each_time, asks_never};
use fumehood::protocol::event::Event;
use fumehood::protocol::spec::BackendKind;
use fumehood::record::RunStore;
use std::fs;
use std::path::Path;

pub(crate) async fn a_file_swapped_between_yes_and_start(kind: BackendKind) {
    type Swap = fn(&Path);
    let swaps: [(&str, Swap); 5] = [
        ("written over", |at| {
            fs::write(at.join("main.py"), "print('SWAPPED')").unwrap();
        }),
        ("the same size, the old time", |at| {
            let path = at.join("main.py");
            let before = fs::metadata(&path).unwrap();
            fs::write(
                &path,
                "import part # SWAPPED\nprint(part.WORD)                    "
                    .get(..before.len() as usize)
                    .unwrap(),
            )
            .unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }),
        ("another put in its place", |at| {
            fs::write(at.join("new.py"), "print('SWAPPED')").unwrap();
            fs::rename(at.join("new.py"), at.join("main.py")).unwrap();
        }),
        ("what it imports", |at| {
            fs::write(at.join("part.py"), "WORD = 'SWAPPED'").unwrap();
        }),
        ("something found before the library's", |at| {
            fs::write(at.join("json.py"), "print('SWAPPED')").unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let lay = |at: &Path| {
            fs::write(
                at.join("main.py"),
                "import part, json\nprint(part.WORD)         ",
            )
            .unwrap();
            fs::write(at.join("part.py"), "WORD = 'approved'").unwrap();
        };
        let Some(run) = Run::open(kind, asks_each_time(), lay).await else {
            return;
        };
        // Without a swap, the yes is one.
        let fine = run.exec(&["/usr/bin/python3", "main.py"]).await;
        assert!(fine.ok && fine.text.contains("approved"), "{fine:?}");
        let at = run.workspace.clone();
        *run.person.meddle.lock().unwrap() = Some(Box::new(move || swap(&at)));
        let ran = run.exec(&["/usr/bin/python3", "main.py", "again"]).await;
        assert_eq!(run.person.asked.lock().unwrap().len(), 2, "{what}: {ran:?}");
        assert!(
            !ran.ok && ran.text.contains("not what I read"),
            "{what}: {ran:?}"
        );
        let closed = run.close().await;
        let started = |event: &&Event| matches!(event, Event::StepStarted { .. });
        assert_eq!(closed.seen.iter().filter(started).count(), 1, "{what}");
    }
}

/// Bytes that would hide, fake, or act, were they to reach a terminal, a model or the record as such.
pub(crate) const LIES: &str = include_str!("probes/lies.py");

/// Whether a terminal shows it and does nothing else.
pub(crate) fn is_plain(text: &str) -> bool {
    text.chars().all(|c| {
        let acts = c.is_control() && !matches!(c, '\n' | '\t');
        let deceives = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        !acts && !deceives
    })
}

pub(crate) async fn words_that_lie(kind: BackendKind) {
    let Some(run) = Run::open(kind, asks_never(), |_| {}).await else {
        return;
    };
    let ran = run.python(LIES).await;
    assert!(ran.ok, "{ran:?}");
    assert!(is_plain(&ran.text), "the model reads {:?}", ran.text);
    assert!(
        ran.text.contains("FORGED") && ran.text.contains("cleared"),
        "{ran:?}"
    );
    // In names, too: of arguments, of files, of folders.
    let named = "import os\nfor n in ('\\x1b]52;c;AA\\x07', 'a\\nrun-ended', '\\u202egpj', 'x\\ry'): open(n, 'w').close(); os.mkdir(n + 'd')\nos.symlink('/etc/passwd', '\\x1b[2Jlink')";
    let ran = run.python(named).await;
    assert!(is_plain(&ran.text), "{:?}", ran.text);
    let ran = run
        .exec(&["/bin/echo", "\u{1b}]52;c;AA\u{7}", "\r\nforged"])
        .await;
    assert!(is_plain(&ran.text), "{:?}", ran.text);
    let Closed {
        env, record, seen, ..
    } = run.close().await;
    for event in &seen {
        for text in texts(&serde_json::to_value(event).unwrap()) {
            assert!(is_plain(&text), "{event:?}");
        }
        // One line of `--json`, whatever it holds.
        let line = serde_json::to_string(event).unwrap();
        assert!(!line.contains('\n') && is_plain(&line), "{line}");
    }
    let ends = |event: &&Event| matches!(event, Event::RunEnded { .. });
    assert_eq!(seen.iter().filter(ends).count(), 1);
    let written = fs::read_to_string(record.join("events.jsonl")).unwrap();
    let types = written.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["event"]["type"].as_str().unwrap().to_owned()
    });
    assert_eq!(types.filter(|kind| kind == "run-ended").count(), 1);
    let id = record.file_name().unwrap().to_str().unwrap();
    let stored = RunStore::open(&env.state()).find(id).unwrap();
    let verified = stored.verify().unwrap();
    assert!(
        format!("{verified:?}").starts_with("Intact"),
        "{verified:?}"
    );
}

/// Every string in it.
fn texts(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(all) => all.iter().flat_map(texts).collect(),
        serde_json::Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

pub(crate) async fn a_flood_of_log(kind: BackendKind) {
    let flood = "head -c 64M /dev/zero | tr '\\0' x; echo; yes | head -c 64M >&2; echo the end; echo the end >&2";
    flooded(kind, flood, 120 << 20).await;
}

/// Each is an event to whoever thinks in lines.
pub(crate) async fn a_million_lines_of_log(kind: BackendKind) {
    let flood =
        "yes '' | head -n 4000000; yes ab | head -n 1000000 >&2; echo the end; echo the end >&2";
    flooded(kind, flood, 4 << 20).await;
}

/// What is kept and shown of it is bounded, and what was dropped is told.
async fn flooded(kind: BackendKind, flood: &str, most: u64) {
    const KEPT: u64 = 1 << 20;
    let mut policy = asks_never();
    policy.limits.log_bytes = Some(KEPT);
    let Some(run) = Run::open(kind, policy, |_| {}).await else {
        return;
    };
    let ran = run.exec(&["/bin/sh", "-c", flood]).await;
    assert!(ran.ok && ran.text.contains("the end"), "{ran:?}");
    assert!(
        ran.text.len() < 64 << 10,
        "the model reads {} bytes",
        ran.text.len()
    );
    let closed = run.close().await;
    let shown: usize = closed
        .seen
        .iter()
        .map(|event| match event {
            Event::Output { text, .. } => text.len(),
            _ => 0,
        })
        .sum();
    assert!(shown < 8 << 20, "{shown} bytes were shown");
    let files = walkdir::WalkDir::new(&closed.record);
    let stored: u64 = files
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|found| found.is_file())
        .map(|found| found.len())
        .sum();
    assert!(stored < 3 * KEPT, "{stored} bytes are kept");
    let dropped = closed.seen.iter().find_map(|event| match event {
        Event::StepEnded { log_dropped, .. } => Some(*log_dropped),
        _ => None,
    });
    assert!(dropped.unwrap() > most, "{dropped:?}");
    let events = closed.seen.len();
    assert!(events < 20_000, "{events} events");
}
