//! Hostile repositories: each is refused, whichever way it comes, and nothing of it is written.

use crate::git_http::GitServer;
use crate::repo::{Bench, commit, names};
use fumehood::repo::{Limit, RepoError, file_url};
use git2::{ObjectType, Oid, Repository};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A repository whose objects are written raw: git's own tools would refuse to make them.
struct Forge {
    repository: Repository,
    path: PathBuf,
}

impl Forge {
    fn new(at: &Path) -> Self {
        fumehood::repo::set_up().unwrap();
        let repository = Repository::init_bare(at).unwrap();
        repository.set_head("refs/heads/main").unwrap();
        Self {
            repository,
            path: at.to_owned(),
        }
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.repository.blob(content).unwrap()
    }

    fn tree(&self, entries: &[(&str, &[u8], Oid)]) -> Oid {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend_from_slice(id.as_bytes());
        }
        let odb = self.repository.odb().unwrap();
        odb.write(ObjectType::Tree, &raw).unwrap()
    }

    /// Makes the tree what `main` holds.
    fn serve(&self, tree: Oid) {
        let raw = format!("tree {tree}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nx\n");
        let odb = self.repository.odb().unwrap();
        let commit = odb.write(ObjectType::Commit, raw.as_bytes()).unwrap();
        self.repository
            .reference("refs/heads/main", commit, true, "x")
            .unwrap();
    }
}

const FILE: &str = "100644";
const DIR: &str = "40000";
const LINK: &str = "120000";

/// Refused from disk for `what`, and refused over HTTP (some are not even sent by git).
async fn refused(bench: &mut Bench, forge: &Forge, what: &str, is: impl Fn(&RepoError) -> bool) {
    let error = bench.refused(&file_url(&forge.path)).await;
    assert!(is(&error), "{what}: {error:?}");
    let server = GitServer::start(&forge.path);
    let error = bench.refused(&server.url()).await;
    let sent = !matches!(
        error,
        RepoError::NotGit { .. } | RepoError::Damaged { .. } | RepoError::Refused { .. }
    );
    assert!(!sent || is(&error), "{what} over http: {error:?}");
    assert_eq!(names(&bench.scratch()), Vec::<String>::new(), "{what}");
}

#[tokio::test]
async fn trees_with_names_that_no_honest_repository_has_are_refused() {
    let mut bench = Bench::new();
    let long = [b'a'; 256];
    let bad: &[&[u8]] = &[
        b".git",
        b".GIT",
        b".Git",
        b"git~1",
        b"GIT~1",
        b".git ",
        b".git.",
        b".git. .",
        b".git::$INDEX_ALLOCATION",
        b".git\\config",
        b"a\\.git",
        ".g\u{200c}it".as_bytes(),
        "\u{feff}.git".as_bytes(),
        b".",
        b"..",
        b"",
        b"/",
        b"/etc",
        b"a/b",
        b"../../x",
        b".git/hooks/post-checkout",
        b"a\nb",
        b"a\rb",
        b"a\x1b[31mb",
        b"a\x7fb",
        "a\u{85}b".as_bytes(),
        &long,
    ];
    for (n, name) in bad.iter().enumerate() {
        let forge = Forge::new(&bench.repos().join(format!("r{n}")));
        let file = forge.blob(b"[core]\n\tfsmonitor = touch /tmp/fumehood-was-here\n");
        let inner = forge.tree(&[(FILE, b"config", file)]);
        for (mode, id) in [(FILE, file), (DIR, inner), (LINK, file)] {
            let bottom = forge.tree(&[(mode, name, id)]);
            forge.serve(forge.tree(&[(DIR, b"sub", bottom)]));
            let error = bench.refused(&file_url(&forge.path)).await;
            let what = name.escape_ascii();
            assert!(
                matches!(error, RepoError::Hostile { .. }),
                "{what}: {error:?}"
            );
            forge.serve(bottom);
        }
        refused(
            &mut bench,
            &forge,
            &name.escape_ascii().to_string(),
            |error| matches!(error, RepoError::Hostile { .. }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_name_that_is_there_twice_is_refused() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let file = forge.blob(b"x");
    let target = forge.blob(b"/tmp");
    let inner = forge.tree(&[(FILE, b"x", file)]);
    // The link first, then a folder of the same name: what is written "into" it would land outside.
    for entries in [
        [(FILE, &b"a"[..], file), (FILE, b"a", file)],
        [(FILE, b"a", file), (DIR, b"a", inner)],
        [(LINK, b"a", target), (DIR, b"a", inner)],
        [(DIR, b"a", inner), (LINK, b"a", target)],
    ] {
        forge.serve(forge.tree(&entries));
        refused(
            &mut bench,
            &forge,
            "twice",
            |error| matches!(error, RepoError::Hostile { path, .. } if path == "a"),
        )
        .await;
    }
}

#[tokio::test]
async fn entries_of_no_kind_and_objects_of_the_wrong_one_are_refused() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let file = forge.blob(b"x");
    let inner = forge.tree(&[(FILE, b"x", file)]);
    for (mode, id) in [
        ("0", file),
        ("100000", file),
        ("104755", file),
        ("060000", file),
        ("010000", file),
        ("777", file),
        (FILE, inner),
        (DIR, file),
        (FILE, Oid::from_str(&"7".repeat(40)).unwrap()),
        (DIR, Oid::from_str(&"7".repeat(40)).unwrap()),
    ] {
        forge.serve(forge.tree(&[(mode, b"a", id)]));
        refused(&mut bench, &forge, mode, |error| {
            matches!(error, RepoError::Hostile { .. } | RepoError::Damaged { .. })
        })
        .await;
    }
}

#[tokio::test]
async fn links_out_and_link_traps_write_nothing_outside() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let outside = bench.repos().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = |target: &str| forge.blob(target.as_bytes());
    let file = forge.blob(b"planted");
    let nested = forge.tree(&[
        (LINK, b"abs", link("/etc/passwd")),
        (LINK, b"self", link(".")),
        (FILE, b"file", file),
        (LINK, b"up", link("../../..")),
    ]);
    let root = forge.tree(&[
        (LINK, b"loop", link("loop")),
        (DIR, b"nested", nested),
        (LINK, b"out", link(outside.to_str().unwrap())),
    ]);
    forge.serve(root);
    let report = bench.clone_listed(&file_url(&forge.path)).await.unwrap();
    assert_eq!(report.files, 1);
    assert!(
        report.notes[0]
            .to_string()
            .starts_with("left out 5 symbolic links")
    );
    let out = bench.workspace().join("repo");
    assert_eq!(names(&out), ["nested"]);
    assert_eq!(names(&out.join("nested")), ["file"]);
    assert_eq!(names(&outside), Vec::<String>::new());
}

#[tokio::test]
async fn a_blob_bomb_is_refused_before_it_unfolds() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let bomb = forge.blob(&vec![0; 150 << 20]);
    forge.serve(forge.tree(&[(FILE, b"bomb", bomb)]));
    refused(&mut bench, &forge, "over the bound for one file", |error| {
        let limit = Limit::Object(128 << 20);
        matches!(error, RepoError::TooBig { limit: found } if *found == limit)
            && error.to_string().contains("128 MiB")
            && error.remedy().is_some_and(|help| help.contains("--mount"))
    })
    .await;
}

#[tokio::test]
async fn one_blob_under_many_names_counts_each_time() {
    let mut bench = Bench::new();
    bench.policy.git.max_bytes = 32 << 20;
    let forge = Forge::new(&bench.repos().join("r"));
    // A few KiB of repository.
    let blob = forge.blob(&vec![0; 1 << 20]);
    let many: Vec<_> = (0..200).map(|n| format!("f{n:03}").into_bytes()).collect();
    let entries: Vec<_> = many
        .iter()
        .map(|name| (FILE, name.as_slice(), blob))
        .collect();
    forge.serve(forge.tree(&entries));
    refused(&mut bench, &forge, "over max_bytes together", |error| {
        matches!(
            error,
            RepoError::TooBig {
                limit: Limit::Bytes(_)
            }
        ) && error.remedy().unwrap().contains("[git] max_bytes")
    })
    .await;
}

#[tokio::test]
async fn a_tree_bomb_is_refused() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let file = forge.blob(b"x");
    let names: Vec<_> = (0..10).map(|n| format!("d{n}").into_bytes()).collect();
    // Ten to the twelfth files out of thirteen objects; and folders without any file.
    for (mode, bottom) in [(FILE, file), (DIR, forge.tree(&[]))] {
        let mut level = bottom;
        for depth in 0..12 {
            let mode = if depth == 0 { mode } else { DIR };
            let entries: Vec<_> = names.iter().map(|n| (mode, n.as_slice(), level)).collect();
            level = forge.tree(&entries);
        }
        forge.serve(level);
        refused(&mut bench, &forge, "tree bomb", |error| {
            matches!(
                error,
                RepoError::TooBig {
                    limit: Limit::Files(_)
                }
            ) && error.remedy().unwrap().contains("[git] max_files")
        })
        .await;
    }
}

#[tokio::test]
async fn more_files_than_the_policy_says_are_refused() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let file = forge.blob(b"x");
    let names: Vec<_> = (0..100_000)
        .map(|n| format!("f{n:06}").into_bytes())
        .collect();
    for mode in [FILE, LINK, "160000"] {
        let entries: Vec<_> = names.iter().map(|n| (mode, n.as_slice(), file)).collect();
        forge.serve(forge.tree(&entries));
        refused(&mut bench, &forge, mode, |error| {
            matches!(
                error,
                RepoError::TooBig {
                    limit: Limit::Files(_)
                }
            )
        })
        .await;
    }
}

#[tokio::test]
async fn deep_nesting_and_long_paths_are_refused() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    let file = forge.blob(b"x");
    let long = [b'n'; 255];
    for (name, depth, limit) in [
        (&b"d"[..], 500, Limit::Depth(64)),
        (&long, 20, Limit::Path(2048)),
    ] {
        let mut level = forge.tree(&[(FILE, b"x", file)]);
        for _ in 0..depth {
            level = forge.tree(&[(DIR, name, level)]);
        }
        forge.serve(level);
        refused(&mut bench, &forge, "deep", |error| {
            // Over HTTP it may be too many objects already.
            matches!(error, RepoError::TooBig { limit: found } if *found == limit)
        })
        .await;
    }
}

#[tokio::test]
async fn a_tag_of_no_commit_is_not_a_commit() {
    let mut bench = Bench::new();
    let forge = Forge::new(&bench.repos().join("r"));
    forge.serve(forge.tree(&[]));
    let blob = forge.blob(b"x");
    forge
        .repository
        .reference("refs/tags/odd", blob, true, "x")
        .unwrap();
    bench.rev = Some("odd".into());
    refused(&mut bench, &forge, "odd", |error| {
        matches!(error, RepoError::UnknownRev { .. })
    })
    .await;
}

#[tokio::test]
async fn a_local_repository_that_reads_from_elsewhere_is_refused() {
    let mut bench = Bench::new();
    let secret = Forge::new(&bench.repos().join("secret"));
    let blob = secret.blob(b"secret");
    let tree = secret.tree(&[(FILE, b"s", blob)]);
    let id = commit(&secret.repository, "refs/heads/main", tree);
    type Trap = fn(&Path, &Path);
    let traps: &[(&str, Trap)] = &[
        ("alternates", |at, secret| {
            let text = format!("{}\n", secret.join("objects").display());
            fs::write(at.join("objects/info/alternates"), text).unwrap();
        }),
        ("commondir", |at, secret| {
            fs::write(at.join("commondir"), secret.to_str().unwrap()).unwrap();
        }),
        ("objects is a link", |at, secret| {
            fs::remove_dir_all(at.join("objects")).unwrap();
            symlink(secret.join("objects"), at.join("objects")).unwrap();
        }),
        ("refs is a link", |at, secret| {
            fs::remove_dir_all(at.join("refs")).unwrap();
            symlink(secret.join("refs"), at.join("refs")).unwrap();
        }),
        ("packs are a link", |at, secret| {
            fs::remove_dir_all(at.join("objects/pack")).unwrap();
            symlink(secret.join("objects/pack"), at.join("objects/pack")).unwrap();
        }),
        ("one object is a link", |at, secret| {
            fs::create_dir(at.join("objects/aa")).unwrap();
            symlink(secret, at.join("objects/aa").join("b".repeat(38))).unwrap();
        }),
        (".git is a file", |at, secret| {
            fs::write(at.join(".git"), format!("gitdir: {}\n", secret.display())).unwrap();
        }),
        (".git is a link", |at, secret| {
            symlink(secret, at.join(".git")).unwrap();
        }),
        ("it is a link", |at, secret| {
            fs::remove_dir_all(at).unwrap();
            symlink(secret, at).unwrap();
        }),
        ("it is a file", |at, _| {
            fs::remove_dir_all(at).unwrap();
            fs::write(at, "").unwrap();
        }),
    ];
    for (n, (what, trap)) in traps.iter().enumerate() {
        let at = bench.repos().join(format!("t{n}"));
        let forge = Forge::new(&at);
        drop(forge);
        trap(&at, &secret.path);
        bench.rev = Some(id.to_string());
        let error = bench.refused(&file_url(&at)).await;
        assert!(
            matches!(error, RepoError::Local { .. }),
            "{what}: {error:?}"
        );
        assert!(error.remedy().is_some(), "{what}");
    }
}

#[tokio::test]
async fn hooks_filters_and_settings_of_a_local_repository_do_not_run() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let marker = bench.repos().join("marker");
    let run = format!("touch {}", marker.display());
    fumehood::repo::set_up().unwrap();
    let repository = Repository::init(&at).unwrap();
    repository.set_head("refs/heads/main").unwrap();
    let forge = Forge {
        path: at.clone(),
        repository,
    };
    for (key, value) in [
        ("core.fsmonitor", run.as_str()),
        ("core.sshCommand", &run),
        ("core.hooksPath", at.join("hooks").to_str().unwrap()),
        ("filter.x.smudge", &run),
        ("filter.x.process", &run),
        ("uploadpack.packObjectsHook", &run),
        ("url.ext::sh -c id.insteadOf", "file://"),
    ] {
        let mut config = forge.repository.config().unwrap();
        config.set_str(key, value).unwrap();
    }
    for hook in [
        "post-checkout",
        "post-merge",
        "pre-commit",
        "reference-transaction",
    ] {
        for folder in [at.join("hooks"), at.join(".git/hooks")] {
            fs::create_dir_all(&folder).unwrap();
            let script = folder.join(hook);
            fs::write(&script, format!("#!/bin/sh\n{run}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&script, mode).unwrap();
        }
    }
    let attributes = forge.blob(b"* filter=x\n");
    let file = forge.blob(b"plain");
    forge.serve(forge.tree(&[(FILE, b".gitattributes", attributes), (FILE, b"f", file)]));
    bench.clone_listed(&file_url(&at)).await.unwrap();
    assert_eq!(
        fs::read(bench.workspace().join("repo/f")).unwrap(),
        b"plain"
    );
    assert!(!marker.exists());
}

type Trap = fn(&Path, &str);
type Is = fn(&RepoError) -> bool;
const IS_REFUSED: Is = |error| matches!(error, RepoError::Local { .. });
const LEADS_NOWHERE: Is = |error| matches!(error, RepoError::Empty { .. });

/// Each is given the id of a commit that is there: followed, it would lead to something.
const TRAPS: &[(&str, Trap, Is)] = &[
    (
        "HEAD is a link",
        |at, id| {
            fs::remove_file(at.join("HEAD")).unwrap();
            fs::write(at.with_extension("secret"), id).unwrap();
            symlink(at.with_extension("secret"), at.join("HEAD")).unwrap();
        },
        IS_REFUSED,
    ),
    (
        "HEAD is a pipe",
        |at, _| {
            fs::remove_file(at.join("HEAD")).unwrap();
            nix::unistd::mkfifo(&at.join("HEAD"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
        IS_REFUSED,
    ),
    (
        "HEAD leads to itself",
        |at, _| fs::write(at.join("HEAD"), "ref: HEAD\n").unwrap(),
        LEADS_NOWHERE,
    ),
    (
        "HEAD leads out",
        |at, id| {
            fs::write(at.with_extension("secret"), id).unwrap();
            let name = at.with_extension("secret");
            let name = name.file_name().unwrap().to_str().unwrap();
            fs::write(at.join("HEAD"), format!("ref: ../{name}\n")).unwrap();
        },
        LEADS_NOWHERE,
    ),
    (
        "HEAD is big",
        |at, id| fs::write(at.join("HEAD"), format!("{id}{}", " ".repeat(1 << 20))).unwrap(),
        IS_REFUSED,
    ),
    (
        "HEAD is noise",
        |at, _| fs::write(at.join("HEAD"), [0xff; 40]).unwrap(),
        LEADS_NOWHERE,
    ),
    (
        "references are sparse",
        |at, _| {
            fs::remove_dir_all(at.join("refs/heads")).unwrap();
            let file = fs::File::create(at.join("packed-refs")).unwrap();
            file.set_len(1 << 40).unwrap();
        },
        IS_REFUSED,
    ),
];

#[tokio::test]
async fn references_that_are_links_pipes_or_endless_are_refused() {
    let mut bench = Bench::new();
    for (n, (what, trap, is)) in TRAPS.iter().enumerate() {
        let at = bench.repos().join(format!("t{n}"));
        let forge = Forge::new(&at);
        let tree = forge.tree(&[(FILE, b"x", forge.blob(b"x"))]);
        let id = commit(&forge.repository, "refs/heads/main", tree);
        trap(&at, &id.to_string());
        let error = bench.refused(&file_url(&at)).await;
        assert!(is(&error), "{what}: {error:?}");
    }
}
