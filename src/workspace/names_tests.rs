use super::super::snapshot::Entry;
use super::super::walk::Stamp;
use super::*;

fn snapshot() -> Snapshot {
    let lines = [
        ("train.py", Kind::File),
        ("lib", Kind::Folder),
        ("lib/model.py", Kind::File),
        ("pkg", Kind::Folder),
        ("pkg/__main__.py", Kind::File),
        ("outputs", Kind::Folder),
        ("outputs/made.py", Kind::File),
        ("results", Kind::Link("outputs".into())),
        ("alias.py", Kind::Link("lib/../outputs/made.py".into())),
        ("absolute.py", Kind::Link("/workspace/train.py".into())),
        ("out.py", Kind::Link("/etc/passwd".into())),
        ("ring", Kind::Link("ring".into())),
    ];
    let entries = lines.into_iter().map(|(path, kind)| {
        let entry = Entry {
            kind,
            stamp: Stamp {
                device: 1,
                inode: 1,
                size: 1,
                mtime: (0, 0),
                ctime: (0, 0),
                mode: 0o644,
                links: 1,
                owner: 1000,
                on_disk: 0,
            },
            hash: None,
            settled: false,
        };
        (PathBuf::from(path), entry)
    });
    Snapshot {
        entries: entries.collect(),
    }
}

fn argv(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn files(words: &[&str], cwd: &str) -> Vec<String> {
    named_files(&argv(words), cwd, &snapshot())
        .into_iter()
        .map(|path| path.display().to_string())
        .collect()
}

#[test]
fn files_are_named_in_many_ways() {
    for (words, cwd, wanted) in [
        (&["python", "train.py"][..], "/workspace", "train.py"),
        (&["python", "./lib/../train.py"], "/workspace", "train.py"),
        (&["python", "../train.py"], "/workspace/lib", "train.py"),
        (&["python", "/workspace/train.py"], "/tmp", "train.py"),
        (&["x", "--config=train.py"], "/workspace", "train.py"),
        (
            &["sh", "-c", "cd x && python train.py; ls"],
            "/workspace",
            "train.py",
        ),
        (&["python", "-m", "lib.model"], "/workspace", "lib/model.py"),
        (&["python", "-m", "pkg"], "/workspace", "pkg/__main__.py"),
        (&["python", "pkg"], "/workspace", "pkg/__main__.py"),
        (&["python", "absolute.py"], "/workspace", "train.py"),
        (
            &["python", "results/made.py"],
            "/workspace",
            "outputs/made.py",
        ),
        (&["python", "alias.py"], "/workspace", "outputs/made.py"),
    ] {
        assert_eq!(files(words, cwd), [wanted], "{words:?}");
    }
}

#[test]
fn what_is_not_there_or_not_inside_is_not_named() {
    for words in [
        &["python", "gone.py"][..],
        &["python", "../train.py"],
        &["python", "/etc/passwd"],
        &["python", "out.py"],
        &["python", "ring"],
        &["", "\u{0}", "lib"],
    ] {
        assert!(files(words, "/workspace").is_empty(), "{words:?}");
    }
    assert!(files(&["python", "train.py"], "/tmp").is_empty());
}

#[test]
fn an_artifact_is_recognised_behind_links_too() {
    let artifacts = Artifacts::new(&["outputs/**".to_owned()]).unwrap();
    let names = |words: &[&str], cwd| names_artifact(&argv(words), cwd, &artifacts, &snapshot());
    for words in [
        &["python", "outputs/made.py"][..],
        &["python", "results/made.py"],
        &["python", "alias.py"],
        &["python", "-m", "outputs.made"],
        &["sh", "-c", "exec python<outputs/made.py"],
    ] {
        assert!(names(words, "/workspace"), "{words:?}");
    }
    assert!(names(&["python", "made.py"], "/workspace/outputs"));
    for words in [
        &["python", "train.py"][..],
        &["python", "train.py", "--out", "outputs"],
        &["python", "train.py", "--save", "outputs/new.pt"],
    ] {
        assert!(!names(words, "/workspace"), "{words:?}");
    }
}

#[test]
fn more_words_than_are_looked_up_count_as_naming_one() {
    let text: String = (0..MAX_WORDS).map(|n| format!("w{n} ")).collect();
    let artifacts = Artifacts::default();
    assert!(names_artifact(
        &argv(&["sh", "-c", &text]),
        "/workspace",
        &artifacts,
        &snapshot()
    ));
}
