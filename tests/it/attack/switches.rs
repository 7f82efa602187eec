//! `tests/controls/off.toml`: how each control is taken out of a copy, and which tests notice. Taking
//! them out costs minutes; that the table still fits the sources, and leaves nothing out, is seen here:
//! no attempt of the suite, and no test about repositories and their URLs.

use super::{ATTEMPTS, PROBES};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where hostile repositories, servers and URLs are tried: files and folders, with all tests of theirs.
const HOSTILE: &[&str] = &[
    "tests/it/repo.rs",
    "tests/it/repo_servers.rs",
    "tests/it/repo_trees.rs",
    "src/repo",
    "src/policy/git_url_tests.rs",
];

#[derive(Deserialize)]
struct Table {
    control: Vec<Control>,
    /// Attempts that no control of a world's was seen to hold, and why.
    unseen: BTreeMap<String, Unseen>,
    honest: Honest,
}

/// Tests at [`HOSTILE`] places in which nothing hostile is tried.
#[derive(Deserialize)]
struct Honest {
    tests: Vec<String>,
}

#[derive(Deserialize)]
struct Unseen {
    worlds: Vec<String>,
    why: String,
}

#[derive(Deserialize)]
struct Control {
    name: String,
    edits: Vec<Edit>,
    #[serde(default)]
    root: Vec<String>,
    #[serde(default)]
    user: Vec<String>,
    #[serde(default)]
    docker: Vec<String>,
    #[serde(default)]
    other: Vec<String>,
    /// Of the library's own tests.
    #[serde(default)]
    lib: Vec<String>,
}

#[derive(Deserialize)]
struct Edit {
    file: String,
    from: String,
    to: String,
}

impl Control {
    fn noticed_in(&self, world: &str) -> &[String] {
        match world {
            "root" => &self.root,
            "user" => &self.user,
            "docker" => &self.docker,
            other => panic!("{other}"),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn table() -> Table {
    let path = root().join("tests/controls/off.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The tests in these files and folders, as their programs call them.
fn tests_in(places: &[&str]) -> BTreeSet<String> {
    let files = |place: &&str| walkdir::WalkDir::new(root().join(place));
    let all = places
        .iter()
        .flat_map(files)
        .map(|entry| entry.unwrap().into_path());
    all.filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .flat_map(|path| tests_of(&path))
        .collect()
}

fn tests_of(file: &Path) -> Vec<String> {
    let module = module_of(file.strip_prefix(root()).unwrap());
    let text = fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while lines.any(|line| line == "#[test]" || line.starts_with("#[tokio::test")) {
        let name = lines.find_map(|line| line.split_once("fn ")?.1.split('(').next());
        found.push(format!("{module}::{}", name.unwrap()));
    }
    found
}

/// `src/a/b_tests.rs` and the tests within `src/a/b.rs` are `a::b::tests`.
fn module_of(file: &Path) -> String {
    let (top, library) = match file.strip_prefix("src") {
        Ok(below) => (below, true),
        Err(_) => (file.strip_prefix("tests/it").unwrap(), false),
    };
    let path: PathBuf = match top.file_stem().unwrap().to_str().unwrap() {
        "mod" => top.parent().unwrap().to_owned(),
        name => top.with_file_name(name.strip_suffix("_tests").unwrap_or(name)),
    };
    let mut names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
    names.extend(library.then_some("tests"));
    names.join("::")
}

#[test]
fn every_switch_still_fits_its_source() {
    for control in table().control {
        for Edit { file, from, to } in &control.edits {
            let text = fs::read_to_string(root().join(file)).unwrap();
            let found = text.matches(from).count();
            assert_eq!(found, 1, "{}: in {file}: {from}", control.name);
            assert_ne!(from, to, "{}", control.name);
        }
        let noticed = [
            &control.root,
            &control.user,
            &control.docker,
            &control.other,
            &control.lib,
        ];
        assert!(
            noticed.iter().any(|names| !names.is_empty()),
            "nothing was seen to notice that {} is gone",
            control.name
        );
    }
}

#[test]
fn every_attempt_was_seen_to_fail_without_its_control() {
    let Table {
        control, unseen, ..
    } = table();
    let mut blind = Vec::new();
    for world in ["root", "user", "docker"] {
        for attempt in ATTEMPTS {
            let seen = control
                .iter()
                .any(|control| control.noticed_in(world).iter().any(|name| name == attempt));
            let said = unseen
                .get(*attempt)
                .is_some_and(|unseen| unseen.worlds.iter().any(|of| of == world));
            assert!(!(seen && said), "{attempt} was seen as {world} after all");
            if !seen && !said {
                blind.push(format!("{world}: {attempt}"));
            }
        }
    }
    assert!(blind.is_empty(), "{blind:#?}");
    for (name, Unseen { why, .. }) in &unseen {
        let tried = ATTEMPTS.contains(&name.as_str()) || tests_in(HOSTILE).contains(name);
        assert!(tried && why.len() > 20, "{name}: {why}");
    }
    assert!(PROBES.iter().all(|probe| ATTEMPTS.contains(probe)));
}

#[test]
fn every_hostile_repository_and_url_was_seen_to_get_through_without_its_control() {
    let Table {
        control,
        unseen,
        honest,
    } = table();
    let seen: BTreeSet<_> = control
        .iter()
        .flat_map(|control| control.other.iter().chain(&control.lib))
        .collect();
    let tests = tests_in(HOSTILE);
    assert!(tests.len() > 80, "{tests:#?}");
    for name in &honest.tests {
        assert!(tests.contains(name), "{name} is no such test any more");
        assert!(!seen.contains(name), "{name} holds something after all");
    }
    for name in unseen.keys().filter(|name| tests.contains(*name)) {
        assert!(!seen.contains(name), "{name} was seen after all");
    }
    let blind: Vec<_> = tests
        .iter()
        .filter(|name| !seen.contains(name))
        .filter(|name| !unseen.contains_key(*name) && !honest.tests.contains(name))
        .collect();
    assert!(
        blind.is_empty(),
        "no control, not honest either: {blind:#?}"
    );
}

#[test]
fn whatever_notices_is_a_test() {
    let listed = Command::new(std::env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let here: BTreeSet<_> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let library = tests_in(&["src"]);
    for control in table().control {
        for name in &control.other {
            assert!(here.contains(name.as_str()), "{}: {name}", control.name);
        }
        for name in &control.lib {
            assert!(library.contains(name), "{}: {name}", control.name);
        }
        for world in ["root", "user", "docker"] {
            for name in control.noticed_in(world) {
                assert!(
                    ATTEMPTS.contains(&name.as_str()),
                    "{}: {name}",
                    control.name
                );
            }
        }
    }
}
