//! What the targets in `fuzz/` assert of any bytes: one function each. Built for them alone, and for the
//! ordinary tests, which run each over its seeds in `tests/data/fuzz`, so that none of them rots.
//!
//! The properties live in the rooms they are about, where what is private can be reached.

/// Texts of policies: see `policy::file::fuzz`.
pub fn policy(data: &[u8]) {
    crate::policy::file::fuzz::policy(data);
}

/// What comes out of a sandbox's pipe: see `sandbox::channel::fuzz`.
pub fn wire(data: &[u8]) {
    crate::sandbox::fuzz::wire(data);
}

/// What programs print: see `context::fuzz`.
pub fn sanitiser(data: &[u8]) {
    crate::context::fuzz::sanitiser(data);
}

/// Heads and bodies of HTTP, greetings of TLS: see `sandbox::egress::fuzz`.
pub fn heads(data: &[u8]) {
    crate::sandbox::egress::fuzz::heads(data);
}

/// A client of the proxy from its first byte to its last: see `sandbox::egress::fuzz`.
pub fn proxy(data: &[u8]) {
    crate::sandbox::egress::fuzz::proxy(data);
}

/// What a git server sends: see `repo::fuzz`.
pub fn git_stream(data: &[u8]) {
    crate::repo::fuzz::git_stream(data);
}

/// Trees that are judged and written out: see `repo::fuzz`.
pub fn git_tree(data: &[u8]) {
    crate::repo::fuzz::git_tree(data);
}

/// Files of records: see `record::fuzz`.
pub fn record(data: &[u8]) {
    crate::record::fuzz::record(data);
}

/// Archives, as a user's and as layers of an image: see `workspace::unpack::fuzz`.
pub fn archive(data: &[u8]) {
    crate::workspace::fuzz::archive(data);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 9] = [
        ("policy", super::policy),
        ("wire", super::wire),
        ("sanitiser", super::sanitiser),
        ("heads", super::heads),
        ("proxy", super::proxy),
        ("git_stream", super::git_stream),
        ("git_tree", super::git_tree),
        ("record", super::record),
        ("archive", super::archive),
    ];

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    }

    #[test]
    fn every_target_holds_on_its_seeds() {
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for entry in fs::read_dir(here("tests/data/fuzz").join(name)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let holds = |input: &[u8], what: &str| {
                    let held = std::panic::catch_unwind(|| target(input));
                    assert!(held.is_ok(), "{}, {what}", path.display());
                };
                holds(&bytes, "as it is");
                // And on what a cut or a changed byte makes of it.
                for at in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
                    holds(&bytes[..at], &format!("cut at {at}"));
                    let mut changed = bytes.clone();
                    changed[at] ^= 0x5a;
                    holds(&changed, &format!("changed at {at}"));
                }
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no seeds");
        }
    }

    #[test]
    fn every_target_is_listed_and_has_seeds() {
        let listed: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&here("tests/data/fuzz")), listed);
        // Not in the published package.
        if here("fuzz").is_dir() {
            assert_eq!(names(&here("fuzz/fuzz_targets")), listed);
            let manifest = fs::read_to_string(here("fuzz/Cargo.toml")).unwrap();
            for name in &listed {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
                let path = format!("fuzz/fuzz_targets/{name}.rs");
                let text = fs::read_to_string(here(&path)).unwrap();
                assert!(
                    text.contains(&format!("fumehood::fuzz::{name}(data)")),
                    "{path}"
                );
            }
        }
    }
}
