//! `tests/controls/off.toml`: how each control is taken out of a copy, and which attempts notice. Taking
//! them out costs minutes; that the table still fits the sources, and leaves nothing out, is seen here.

use super::{ATTEMPTS, PROBES};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
struct Table {
    control: Vec<Control>,
    /// Attempts that no control of a world's was seen to hold, and why.
    unseen: BTreeMap<String, Unseen>,
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

fn table() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controls/off.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_switch_still_fits_its_source() {
    for control in table().control {
        for Edit { file, from, to } in &control.edits {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let found = fs::read_to_string(path).unwrap().matches(from).count();
            assert_eq!(found, 1, "{}: in {file}: {from}", control.name);
            assert_ne!(from, to, "{}", control.name);
        }
        let noticed = [
            &control.root,
            &control.user,
            &control.docker,
            &control.other,
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
    let Table { control, unseen } = table();
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
        assert!(
            ATTEMPTS.contains(&name.as_str()) && why.len() > 20,
            "{name}: {why}"
        );
    }
    assert!(PROBES.iter().all(|probe| ATTEMPTS.contains(probe)));
}
