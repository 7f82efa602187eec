//! Guards of the house: arrows point down, foreign crates stay in their rooms, no file sprawls, no
//! test file is forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Each room's floor; a room may use rooms on lower floors, and itself. Rooms of one floor are
/// adapters side by side: they may use each other only where `BESIDE` says so.
const FLOORS: &[(&str, u8)] = &[
    ("protocol", 0),
    ("policy", 1),
    ("context", 1),
    ("llm", 2),
    ("workspace", 2),
    ("repo", 2),
    ("sandbox", 2),
    ("record", 2),
    ("images", 3),
    ("tools", 3),
    ("agent", 4),
    ("app", 5),
    ("config", 5),
    ("holder", 6),
    ("cli", 7),
];

/// Foreign crates and the only paths (prefixes below `src/`) that may name them.
const CONFINED: &[(&str, &[&str])] = &[
    ("bollard", &["sandbox/docker"]),
    ("git2", &["repo"]),
    ("aho_corasick", &["context"]),
    ("reqwest", &["llm", "repo"]),
    ("clap", &["cli", "main.rs"]),
    ("anstream", &["cli", "main.rs"]),
    ("nvml_wrapper", &["sandbox/gpu"]),
    ("yaml_rust2", &["sandbox/gpu"]),
    ("yamux", &["sandbox/channel", "init"]),
    (
        "nix",
        &["sandbox", "workspace", "record", "repo", "cli", "init"],
    ),
];

/// Non-test lines a file may have.
const MAX_LINES: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    WalkDir::new(root().join("src"))
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "rs"))
        .map(|entry| {
            let name = entry
                .path()
                .strip_prefix(root().join("src"))
                .unwrap()
                .display()
                .to_string();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn room(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// The code above the inline tests, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn dependencies_point_down() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let here = room(&path);
        let Some(&floor) = floors.get(here) else {
            continue;
        };
        for line in code_lines(&text) {
            for part in line.split("crate::").skip(1) {
                let there = part
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or("");
                if floors.get(there).is_some_and(|&other| other > floor) {
                    wrong.push(format!("src/{path}: {here} uses {there}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that point up:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn foreign_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (name, rooms) in CONFINED {
            let used = code_lines(&text).any(|line| {
                line.contains(&format!("{name}::"))
                    && !line.contains(&format!("crate::{name}::"))
                    && line
                        .split(&format!("{name}::"))
                        .next()
                        .is_none_or(|before| {
                            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                        })
            });
            if used && !rooms.iter().any(|room| path.starts_with(room)) {
                wrong.push(format!("src/{path} uses {name}, which lives in {rooms:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_library_neither_prints_nor_reads_the_environment() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if ["cli", "main", "config", "init"].contains(&room(&path)) {
            continue;
        }
        for line in code_lines(&text) {
            let bad = [
                "println!",
                "eprintln!",
                "std::env::var",
                "env::var(",
                "env::vars",
                "process::exit",
            ];
            if bad.iter().any(|word| line.contains(word)) {
                wrong.push(format!("src/{path}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_sprawls() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !path.ends_with("_tests.rs"))
        .map(|(path, text)| {
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .count();
            (path, lines)
        })
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(
        long.is_empty(),
        "files over {MAX_LINES} lines of code: {long:?}"
    );
}

#[test]
fn no_test_file_is_forgotten() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    let forgotten: Vec<_> = fs::read_dir(root().join("tests/it"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path != &root().join("tests/it/main.rs"))
        .filter_map(|path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .filter(|stem| !main.contains(&format!("mod {stem};")))
        .collect();
    assert!(
        forgotten.is_empty(),
        "not declared in tests/it/main.rs: {forgotten:?}"
    );
}

#[test]
fn there_is_one_integration_test_binary() {
    let others: Vec<_> = fs::read_dir(root().join("tests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| Path::new(path).extension().is_some())
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
