//! Against whoever unpacks: archives that a run's workspace is filled from.

use super::results::{is_untouched, outside};
use super::user::{User, asks_never};
use crate::archives::packed;
use fumehood::policy::model::Policy;
use fumehood::protocol::spec::BackendKind;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::EntryType as T;

/// What an archive left in a workspace that no archive may.
fn wrong_beneath(workspace: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in walkdir::WalkDir::new(workspace) {
        let entry = entry.unwrap();
        let found = fs::symlink_metadata(entry.path()).unwrap();
        let plain = found.is_dir() || found.is_file();
        if !plain || found.mode() & 0o7022 != 0 || found.is_file() && found.nlink() > 1 {
            wrong.push(format!("{} {:o}", entry.path().display(), found.mode()));
        }
    }
    wrong
}

fn traces(of: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(of).into_iter();
    let paths = entries.map(|entry| entry.unwrap().into_path());
    let named = paths.filter(|path| path.ends_with("escaped"));
    named.map(|path| path.display().to_string()).collect()
}

/// Entries as a header has them: name, kind, and what a link names.
type Entries<'a> = Vec<(&'a str, T, &'a str)>;

/// To a folder, a file in it, and a file that is not there.
fn leading_out<'a>(out: &'a str, file: &'a str, far: &'a str) -> Vec<Entries<'a>> {
    vec![
        vec![("../../../../escaped", T::Regular, "x")],
        vec![("a/../../../../../escaped", T::Regular, "x")],
        vec![("./..//../../../outside/escaped", T::Regular, "x")],
        vec![(far, T::Regular, "x")],
        vec![("../../../../escaped/", T::Directory, "")],
        vec![("out", T::Symlink, out), ("out/escaped", T::Regular, "x")],
        vec![
            ("out", T::Symlink, "../../../../outside"),
            ("out/escaped", T::Regular, "x"),
        ],
        vec![
            ("a/out", T::Symlink, out),
            ("a/out", T::Directory, ""),
            ("a/out/escaped", T::Regular, "x"),
        ],
        vec![
            ("one", T::Symlink, "two"),
            ("two", T::Symlink, out),
            ("one/escaped", T::Regular, "x"),
        ],
        vec![
            ("file", T::Symlink, file),
            ("file", T::Regular, "overwritten"),
        ],
        vec![("file", T::Link, file), ("file", T::Regular, "overwritten")],
        vec![("file", T::Link, "../../../../outside/file")],
        vec![
            ("node", T::Char, ""),
            ("block", T::Block, ""),
            ("pipe", T::Fifo, ""),
        ],
        vec![
            ("set", T::Regular, "#!/bin/sh\n"),
            ("folder/", T::Directory, ""),
        ],
        vec![
            (".git/hooks/post-checkout", T::Regular, "x"),
            (".envrc", T::Regular, "x"),
            (".fumehood/policy.toml", T::Regular, "x"),
        ],
    ]
}

/// Up, to the root, through links, by second names, over what is there, as devices.
pub(crate) async fn archives_that_lead_out(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let outside = outside(&user);
    let at = |name: &str| outside.join(name).display().to_string();
    let (far, file) = (at("escaped"), at("file"));
    let out = outside.display().to_string();
    let archives = leading_out(&out, &file, &far);
    let mut through = Vec::new();
    let count = archives.len();
    let mut opened = 0;
    for (n, entries) in archives.iter().enumerate() {
        let archive = packed(&user.env, &format!("{n}.tar.gz"), entries);
        let run = user.opens(asks_never(), None, |ask| ask.unpack = Some(archive));
        // Refused, or unpacked without it.
        if let Ok(run) = run.await {
            opened += 1;
            let workspace = run.workspace.clone();
            through.extend(wrong_beneath(&workspace));
            let traps = [".git", ".envrc", ".fumehood"].map(|name| workspace.join(name));
            through.extend(
                traps
                    .iter()
                    .filter(|path| path.exists())
                    .map(|path| path.display().to_string()),
            );
            let _closed = run.close().await;
        }
        let everywhere = user.env.path("");
        through.extend(
            traces(&outside)
                .into_iter()
                .chain(traces(&everywhere))
                .filter(|path| !path.contains("/workspace/")),
        );
    }
    assert!(through.is_empty(), "{through:#?}");
    assert!(
        (2..count).contains(&opened),
        "{opened} of {count} were unpacked"
    );
    is_untouched(&outside);
}

/// Small where they come from.
pub(crate) async fn archives_that_swell(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let large = "x".repeat(24 << 20);
    let small = "x".repeat(1 << 20);
    let names: Vec<String> = (0..1000).map(|n| format!("f{n}")).collect();
    let deep = "d/".repeat(45);
    let many = |text: &'static str| {
        names
            .iter()
            .map(move |name| (name.as_str(), T::Regular, text))
    };
    let mut each_fits: Vec<_> = names
        .iter()
        .take(24)
        .map(|name| (name.as_str(), T::Regular, small.as_str()))
        .collect();
    each_fits.push(("last", T::Regular, "x"));
    let archives = [
        vec![("one", T::Regular, large.as_str())],
        each_fits,
        many("").collect(),
        many("x").collect(),
        vec![(deep.as_str(), T::Directory, "")],
        vec![("twice", T::Regular, "x"), ("twice", T::Regular, "y")],
        vec![("a", T::Regular, "x"), ("a/b", T::Regular, "y")],
    ];
    let bounds = |policy: &mut Policy| {
        policy.workspace.size = Some(8 << 20);
        policy.workspace.inodes = Some(500);
    };
    for (n, entries) in archives.iter().enumerate() {
        let archive = packed(&user.env, &format!("{n}.tar.gz"), entries);
        let mut policy = asks_never();
        bounds(&mut policy);
        let run = user
            .opens(policy, None, |ask| ask.unpack = Some(archive))
            .await;
        assert!(run.is_err(), "archive {n} was unpacked");
        let runs = user.env.state().join("runs");
        let left = fs::read_dir(runs).map_or(0, |runs| runs.count());
        assert_eq!(left, 0, "of archive {n} something is left");
    }
    let archive = packed(&user.env, "fine.tar.gz", &[("one", T::Regular, &small)]);
    let mut policy = asks_never();
    bounds(&mut policy);
    let run = user
        .opens(policy, None, |ask| ask.unpack = Some(archive))
        .await;
    let _closed = run.unwrap().close().await;
}
