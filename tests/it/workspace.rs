//! Workspaces on a real disk, with what hostile programs leave in them.

use fumehood::protocol::ids::RunId;
use fumehood::protocol::question::FileChange;
use fumehood::workspace::{
    Artifacts, Beneath, Done, ListedKind, Opening, Snapshot, SnapshotRequest, Texts, ViewRequest,
    Why, Workspace, WorkspaceError, changes, code_tree, remove_tree,
};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A state folder, a workspace beside it, and a run that works on it.
struct Bench {
    home: tempfile::TempDir,
    run: RunId,
}

impl Bench {
    fn new() -> Self {
        Self::beneath(&std::env::temp_dir())
    }

    /// In memory where that can be: thousands of folders within each other cost a disk seconds.
    fn for_deep_trees() -> Self {
        let memory = Path::new("/dev/shm");
        match memory.is_dir() {
            true => Self::beneath(memory),
            false => Self::new(),
        }
    }

    fn beneath(folder: &Path) -> Self {
        let home = tempfile::tempdir_in(folder).unwrap();
        for name in ["state", "work", "record", "outside"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        fs::write(home.path().join("outside/secret"), "secret").unwrap();
        Self {
            home,
            run: RunId::new("0192aaaabbbb7cccddddeeeeffff0000"),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.at("work").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn try_open(&self, dir: &Path) -> Result<Workspace, WorkspaceError> {
        let state = self.at("state");
        let opening = Opening {
            state: &state,
            user_home: None,
            run: &self.run,
        };
        Workspace::in_place(dir, &opening)
    }

    fn open(&self) -> Workspace {
        self.try_open(&self.at("work")).unwrap()
    }
}

fn path(text: &str) -> Beneath {
    Beneath::parse(Path::new(text)).unwrap()
}

fn snapshot(workspace: &Workspace, previous: Option<&Snapshot>) -> Snapshot {
    let request = SnapshotRequest {
        artifacts: &outputs(),
        previous,
        texts: None,
    };
    workspace.snapshot(&request).unwrap()
}

fn outputs() -> Artifacts {
    Artifacts::new(&["outputs/**".to_owned()]).unwrap()
}

fn code(workspace: &Workspace) -> String {
    code_tree(&snapshot(workspace, None), &outputs())
        .unwrap()
        .to_string()
}

fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A chain of folders, deeper than any path can name.
pub(crate) fn nest(top: &Path, depth: usize) {
    let script = "import os,sys\nos.makedirs(sys.argv[1])\nos.chdir(sys.argv[1])\n\
                  for _ in range(int(sys.argv[2])):\n os.mkdir('d')\n os.chdir('d')\n\
                  open('end','w').close()\n";
    let status = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(top)
        .arg(depth.to_string())
        .status();
    assert!(status.unwrap().success());
}

fn unfit(result: Result<Workspace, WorkspaceError>) -> (String, String) {
    let error = result.unwrap_err();
    assert!(matches!(error, WorkspaceError::Unfit { .. }), "{error}");
    (error.to_string(), error.remedy().unwrap())
}

#[test]
fn a_link_is_no_workspace_with_or_without_a_slash() {
    let bench = Bench::new();
    symlink(bench.at("work"), bench.at("link")).unwrap();
    for dir in ["link", "link/", "link/."] {
        let (error, remedy) = unfit(bench.try_open(&bench.at(dir)));
        assert!(error.ends_with("it is a link"), "{error}");
        assert!(remedy.contains("/work"), "{remedy}");
    }
}

#[test]
fn folders_of_the_system_and_of_ours_are_no_workspace() {
    let bench = Bench::new();
    for dir in ["/", "/usr", "/etc", "/proc/self", "/tmp", "/home"] {
        unfit(bench.try_open(Path::new(dir)));
    }
    unfit(bench.try_open(bench.home.path()));
    unfit(bench.try_open(&bench.at("state")));
    unfit(bench.try_open(&bench.at("gone")));
    fs::write(bench.at("file"), "").unwrap();
    unfit(bench.try_open(&bench.at("file")));
}

#[test]
fn a_home_and_its_keys_are_no_workspace() {
    let bench = Bench::new();
    let home = bench.at("outside");
    fs::create_dir_all(home.join(".ssh/deep")).unwrap();
    fs::create_dir_all(home.join("project")).unwrap();
    let state = bench.at("state");
    let opening = Opening {
        state: &state,
        user_home: Some(&home),
        run: &bench.run,
    };
    for dir in ["", ".ssh", ".ssh/deep"] {
        unfit(Workspace::in_place(&home.join(dir), &opening));
    }
    Workspace::in_place(&home.join("project"), &opening).unwrap();
}

#[test]
fn two_runs_on_one_workspace_are_refused_by_name() {
    let bench = Bench::new();
    fs::create_dir(bench.at("work/inner")).unwrap();
    let first = bench.open();
    for dir in ["work", "work/inner", "work/../work"] {
        let error = bench.try_open(&bench.at(dir)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(bench.run.as_str()), "{text}");
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
    }
    // Another state folder knows no name, and the folder itself is locked all the same.
    fs::create_dir(bench.at("other")).unwrap();
    let state = bench.at("other");
    let opening = Opening {
        state: &state,
        user_home: None,
        run: &bench.run,
    };
    let second = Workspace::in_place(&bench.at("work"), &opening);
    assert!(matches!(second, Err(WorkspaceError::Busy { .. })));
    drop(first);
    bench.open();
    assert_eq!(fs::read_dir(bench.at("work")).unwrap().count(), 1);
}

#[test]
fn what_root_starts_works_as_someone_else() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let bench = Bench::new();
    let mut empty = bench.open();
    empty.work_as(64_000, 64_001).unwrap();
    let mode = fs::metadata(bench.at("work")).unwrap();
    assert_eq!((mode.uid(), mode.gid()), (64_000, 64_001));
    empty.write(&path("a/b.py"), b"x").unwrap();
    for name in ["work/a", "work/a/b.py"] {
        assert_eq!(fs::metadata(bench.at(name)).unwrap().uid(), 64_000);
    }
    drop(empty);
    let mut theirs = bench.open();
    assert_eq!(theirs.owner(), (64_000, 64_001));
    let error = theirs.work_as(1000, 1000).unwrap_err();
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("chown -R 1000:1000 /"), "{remedy}");
}

#[test]
fn reading_and_writing_stay_within_and_follow_no_link() {
    let bench = Bench::new();
    let workspace = bench.open();
    symlink(bench.at("outside"), bench.at("work/out")).unwrap();
    symlink(bench.at("outside/secret"), bench.at("work/secret")).unwrap();
    for name in ["out/secret", "secret"] {
        let error = workspace.read(&path(name), 100).unwrap_err();
        assert!(error.to_string().contains("a link"), "{error}");
        assert!(workspace.write(&path(name), b"changed").is_err());
        assert!(workspace.edited(&path(name), "secret", "changed").is_err());
    }
    assert!(workspace.write(&path("out/new"), b"x").is_err());
    assert!(workspace.list(&path("out"), 1, 10).is_err());
    assert_eq!(
        fs::read_to_string(bench.at("outside/secret")).unwrap(),
        "secret"
    );
    assert_eq!(fs::read_dir(bench.at("outside")).unwrap().count(), 1);
}

#[test]
fn a_pipe_does_not_hang_and_a_folder_is_no_file() {
    let bench = Bench::new();
    let workspace = bench.open();
    mkfifo(&bench.at("work/pipe"));
    fs::create_dir(bench.at("work/folder")).unwrap();
    for name in ["pipe", "folder", "."] {
        assert!(matches!(
            workspace.read(&path(name), 10),
            Err(WorkspaceError::Kind { .. })
        ));
        assert!(matches!(
            workspace.write(&path(name), b"x"),
            Err(WorkspaceError::Kind { .. })
        ));
    }
    assert!(matches!(
        workspace.write(&path("pipe/x"), b""),
        Err(WorkspaceError::Kind { .. })
    ));
}

#[test]
fn a_write_makes_folders_and_leaves_nothing_else() {
    let bench = Bench::new();
    let workspace = bench.open();
    workspace.write(&path("deep/er/train.py"), b"one").unwrap();
    workspace.write(&path("deep/er/train.py"), b"two").unwrap();
    let file = bench.at("work/deep/er/train.py");
    assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o644);
    let folder = fs::metadata(bench.at("work/deep")).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o755);
    assert_eq!(fs::read_dir(bench.at("work/deep/er")).unwrap().count(), 1);
}

#[test]
fn a_rewritten_file_keeps_its_mode_but_for_set_uid() {
    let bench = Bench::new();
    let workspace = bench.open();
    bench.put("run.sh", "echo one\n");
    fs::set_permissions(bench.at("work/run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    let edited = workspace.edited(&path("run.sh"), "one", "two").unwrap();
    assert_eq!((edited.line, edited.after.as_str()), (1, "echo two\n"));
    workspace
        .write(&path("run.sh"), edited.after.as_bytes())
        .unwrap();
    assert_eq!(
        fs::read_to_string(bench.at("work/run.sh")).unwrap(),
        "echo two\n"
    );
    let mode = fs::metadata(bench.at("work/run.sh")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn an_edit_wants_exactly_one_match_and_says_what_is_near() {
    let bench = Bench::new();
    let workspace = bench.open();
    bench.put("a.py", "x = 1\nlearning_rate = 0.1\nx = 1\n");
    let edit = |old: &str| workspace.edited(&path("a.py"), old, "new").unwrap_err();
    assert!(matches!(
        edit("x = 1"),
        WorkspaceError::ManyMatches { count: 2, .. }
    ));
    let error = edit("learning_rate=0.1");
    assert_eq!(
        error.remedy().unwrap(),
        "line 2 comes closest: learning_rate = 0.1"
    );
    assert!(matches!(edit(""), WorkspaceError::BadEdit { .. }));
    assert!(matches!(
        workspace.edited(&path("gone"), "a", "b"),
        Err(WorkspaceError::Io { .. })
    ));
}

#[test]
fn what_programs_outside_act_upon_is_not_written() {
    let bench = Bench::new();
    let workspace = bench.open();
    for name in [".git/config", "a/.envrc", ".vscode/tasks.json", ".claude"] {
        assert!(matches!(
            workspace.write(&path(name), b"x"),
            Err(WorkspaceError::Protected { .. })
        ));
    }
    workspace.write(&path(".gitignore"), b"x").unwrap();
}

#[test]
fn reads_are_bounded() {
    let bench = Bench::new();
    let workspace = bench.open();
    let file = File::create(bench.at("work/huge")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(
        workspace.read(&path("huge"), 1000),
        Err(WorkspaceError::TooLarge { bytes, .. }) if bytes == 1 << 40
    ));
}

#[test]
fn a_listing_is_sorted_bounded_and_shows_links_as_links() {
    let bench = Bench::new();
    let workspace = bench.open();
    bench.put("b/inner.py", "12345");
    bench.put("a.py", "");
    symlink("/etc", bench.at("work/c")).unwrap();
    let names = |depth, max| {
        let listing = workspace.list(&path("."), depth, max).unwrap();
        let names: Vec<_> = listing
            .entries
            .iter()
            .map(|entry| entry.path.display().to_string())
            .collect();
        (names.join(" "), listing.cut)
    };
    assert_eq!(names(1, 10), ("a.py b c".into(), false));
    assert_eq!(names(3, 10), ("a.py b b/inner.py c".into(), false));
    assert_eq!(names(1, 2), ("a.py b".into(), true));
    let listing = workspace.list(&path("."), 1, 10).unwrap();
    let target = PathBuf::from("/etc");
    assert_eq!(listing.entries[2].kind, ListedKind::Link { target });
}

#[test]
fn a_race_against_a_swapped_folder_never_reads_or_writes_outside() {
    let bench = Bench::new();
    let workspace = bench.open();
    bench.put("swap/secret", "inside");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, link) = (bench.at("work/swap"), bench.at("work/link"));
            symlink(bench.at("outside"), &link).unwrap();
            while !stop.load(Ordering::Relaxed) {
                nix::fcntl::renameat2(
                    nix::fcntl::AT_FDCWD,
                    &real,
                    nix::fcntl::AT_FDCWD,
                    &link,
                    nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            }
        });
        let end = Instant::now() + Duration::from_millis(700);
        let (mut read, mut refused) = (0, 0);
        while Instant::now() < end {
            match workspace.read_text(&path("swap/secret"), 100) {
                Ok(text) => {
                    assert_ne!(text, "secret");
                    read += 1;
                }
                Err(_) => refused += 1,
            }
            let _ = workspace.write(&path("swap/new"), b"x");
            let _ = workspace.list(&path("swap"), 1, 10);
            snapshot(&workspace, None);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(read > 0 && refused > 0, "no race: {read} {refused}");
    });
    assert_eq!(fs::read_dir(bench.at("outside")).unwrap().count(), 1);
    assert_eq!(
        fs::read_to_string(bench.at("outside/secret")).unwrap(),
        "secret"
    );
}

#[test]
fn the_code_tree_changes_with_code_and_not_with_results() {
    let bench = Bench::new();
    let workspace = bench.open();
    bench.put("train.py", "one");
    bench.put("outputs/model.bin", "one");
    let first = code(&workspace);
    bench.put("outputs/model.bin", "two");
    bench.put("outputs/more.py", "two");
    assert_eq!(code(&workspace), first);
    bench.put("train.py", "two");
    let second = code(&workspace);
    assert_ne!(second, first);
    bench.put("train.py", "one");
    assert_eq!(code(&workspace), first, "the same bytes are the same code");
    fs::set_permissions(bench.at("work/train.py"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(code(&workspace), first, "executable");
    fs::set_permissions(bench.at("work/train.py"), fs::Permissions::from_mode(0o644)).unwrap();
    symlink("train.py", bench.at("work/link.py")).unwrap();
    let linked = code(&workspace);
    assert_ne!(linked, first, "a link");
    fs::remove_file(bench.at("work/link.py")).unwrap();
    symlink("outputs/more.py", bench.at("work/link.py")).unwrap();
    assert_ne!(code(&workspace), linked, "what a link names");
    fs::remove_file(bench.at("work/link.py")).unwrap();
    bench.put("__pycache__/x.pyc", "");
    assert_ne!(code(&workspace), first, "a bytecode cache counts as code");
}

#[test]
fn a_file_changed_within_a_tick_is_seen() {
    let bench = Bench::new();
    let workspace = bench.open();
    for round in 0..50 {
        bench.put("a.py", &format!("{round:03}"));
        let before = snapshot(&workspace, None);
        let file = File::options()
            .write(true)
            .open(bench.at("work/a.py"))
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"xxx", 0).unwrap();
        let after = snapshot(&workspace, Some(&before));
        assert_eq!(changes(&before, &after).len(), 1, "round {round}");
    }
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let bench = Bench::new();
    let workspace = bench.open();
    let file = File::create(bench.at("work/data.bin")).unwrap();
    file.set_len(512 * 1024 * 1024).unwrap();
    std::thread::sleep(Duration::from_millis(80));
    let start = Instant::now();
    let before = snapshot(&workspace, None);
    let reading = start.elapsed();
    let start = Instant::now();
    let after = snapshot(&workspace, Some(&before));
    assert!(
        start.elapsed() < reading / 4,
        "{:?} after {reading:?}",
        start.elapsed()
    );
    assert_eq!(changes(&before, &after), []);
    // Another run on the same folder knows it as well.
    drop(workspace);
    let workspace = bench.open();
    let start = Instant::now();
    assert_eq!(changes(&before, &snapshot(&workspace, None)), []);
    assert!(
        start.elapsed() < reading / 4,
        "{:?} after {reading:?}",
        start.elapsed()
    );
}

#[test]
fn hashes_of_many_small_files_are_kept_and_of_a_few_are_not() {
    for (count, kept) in [(20, false), (2100, true)] {
        let bench = Bench::new();
        for n in 0..count {
            bench.put(&format!("f{n}"), "small");
        }
        std::thread::sleep(Duration::from_millis(80));
        snapshot(&bench.open(), None);
        let stored = walkdir::WalkDir::new(bench.at("state"))
            .into_iter()
            .any(|entry| entry.unwrap().path().to_string_lossy().ends_with("hashes"));
        assert_eq!(stored, kept, "{count} files");
    }
}

#[test]
fn stock_is_taken_of_doors_in_a_git_folder_too_and_of_nothing_else_in_it() {
    let bench = Bench::new();
    bench.put("src/.git/config", "");
    bench.put("src/.git/objects/.vscode/settings.json", "");
    for door in ["pipe", "src/.git/pipe", "src/.git/objects/pipe"] {
        mkfifo(&bench.at("work").join(door));
    }
    let stock = bench.open().take_stock().unwrap();
    let work = bench.at("work");
    let protected: Vec<_> = stock.protected.iter().map(|place| &place.path).collect();
    assert_eq!(protected, [&work.join("src/.git")]);
    let mut doors = stock.doors.clone();
    doors.sort();
    assert_eq!(
        doors,
        ["pipe", "src/.git/objects/pipe", "src/.git/pipe"].map(|door| work.join(door))
    );
}

#[test]
fn holes_without_end_are_not_read() {
    let bench = Bench::new();
    let workspace = bench.open();
    let file = File::create(bench.at("work/holes")).unwrap();
    file.set_len(1 << 42).unwrap();
    let start = Instant::now();
    let first = code(&workspace);
    assert!(start.elapsed() < Duration::from_secs(30));
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1 << 41).unwrap();
    assert_ne!(code(&workspace), first);
}

#[test]
fn odd_names_and_odd_things_are_part_of_a_snapshot() {
    let bench = Bench::new();
    let workspace = bench.open();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\n\x1b[31m.py");
    fs::write(bench.at("work").join(odd), "x").unwrap();
    mkfifo(&bench.at("work/pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(bench.at("work/socket")).unwrap();
    fs::write(bench.at("work").join("n".repeat(255)), "x").unwrap();
    let snapshot = snapshot(&workspace, None);
    assert_eq!(snapshot.entries().count(), 4);
    assert!(snapshot.get(Path::new(odd)).unwrap().hash.is_some());
    code_tree(&snapshot, &outputs()).unwrap();
}

#[test]
fn what_is_too_deep_is_an_error_in_code_and_not_among_results() {
    let bench = Bench::for_deep_trees();
    let workspace = bench.open();
    nest(&bench.at("work/outputs/deep"), 3000);
    code(&workspace);
    fs::rename(bench.at("work/outputs/deep"), bench.at("work/deep")).unwrap();
    let error = code_tree(&snapshot(&workspace, None), &outputs()).unwrap_err();
    assert!(matches!(error, WorkspaceError::TooDeep { .. }), "{error}");
}

#[test]
fn existing_git_folders_are_known_by_themselves() {
    let bench = Bench::new();
    bench.put(".git/config", "mine");
    bench.put("sub/.vscode/tasks.json", "mine");
    let mut workspace = bench.open();
    let stock = workspace.take_stock().unwrap();
    let paths: Vec<_> = stock
        .protected
        .iter()
        .map(|place| place.path.strip_prefix(workspace.path()).unwrap())
        .collect();
    assert_eq!(paths, [Path::new(".git"), Path::new("sub/.vscode")]);
    let first = code(&workspace);
    bench.put(".git/index", "what the user's own git does meanwhile");
    assert_eq!(code(&workspace), first);
}

#[test]
fn files_shared_with_the_outside_are_told() {
    let bench = Bench::new();
    fs::hard_link(bench.at("outside/secret"), bench.at("work/shared")).unwrap();
    let stock = bench.open().take_stock().unwrap();
    assert_eq!(stock.shared, [PathBuf::from("shared")]);
}

#[test]
fn a_question_shows_the_script_then_only_what_changed() {
    let bench = Bench::new();
    let workspace = bench.open();
    let texts = Texts::create(&bench.at("record")).unwrap();
    let artifacts = outputs();
    let take = |previous| {
        workspace
            .snapshot(&SnapshotRequest {
                artifacts: &artifacts,
                previous,
                texts: Some(&texts),
            })
            .unwrap()
    };
    let argv: Vec<Vec<u8>> = vec![b"python3".to_vec(), b"train.py".to_vec()];
    let views = |approved, now: &Snapshot| {
        workspace.file_views(&ViewRequest {
            argv: &argv,
            cwd: "/workspace",
            artifacts: &artifacts,
            approved,
            now,
            texts: &texts,
        })
    };
    bench.put("train.py", "import model\nlr = 0.1\n");
    bench.put("model.py", "x = 1\n");
    let first = take(None);
    let shown = views(None, &first);
    assert_eq!(shown.files.len(), 1);
    assert_eq!(shown.files[0].path, "train.py");
    let text = "import model\nlr = 0.1\n".to_owned();
    assert_eq!(shown.files[0].change, FileChange::New { text });

    bench.put("train.py", "import model\nlr = 0.2\n");
    bench.put("weights.py", "\u{0}binary");
    bench.put("outputs/log.txt", "result");
    fs::remove_file(bench.at("work/model.py")).unwrap();
    let second = take(Some(&first));
    let shown = views(Some(&first), &second);
    let of = |path: &str| {
        let view = shown.files.iter().find(|view| view.path == path);
        view.map(|view| view.change.clone())
    };
    let FileChange::Changed { diff } = of("train.py").unwrap() else {
        panic!("{shown:?}");
    };
    assert!(diff.contains("-lr = 0.1\n+lr = 0.2\n"), "{diff}");
    assert_eq!(of("model.py"), Some(FileChange::Removed));
    assert!(matches!(
        of("weights.py"),
        Some(FileChange::Opaque { size: 7, .. })
    ));
    assert_eq!(of("outputs/log.txt"), None);

    let shown = views(Some(&second), &take(Some(&second)));
    assert_eq!(shown.files[0].change, FileChange::Unchanged);
    assert_eq!(shown.files.len(), 1);
}

/// One of each kind of thing that may not stay, and one that may.
fn set_traps(bench: &Bench) {
    bench.put("sub/.git/config", "[core] fsmonitor = evil");
    bench.put("bare/HEAD", "ref: refs/heads/main");
    fs::create_dir_all(bench.at("work/bare/objects")).unwrap();
    fs::create_dir_all(bench.at("work/bare/refs")).unwrap();
    bench.put("tool", "x");
    fs::set_permissions(bench.at("work/tool"), fs::Permissions::from_mode(0o6755)).unwrap();
    symlink(bench.at("outside/secret"), bench.at("work/out")).unwrap();
    symlink("tool", bench.at("work/in")).unwrap();
    mkfifo(&bench.at("work/pipe"));
    nest(&bench.at("work/deep"), 3000);
    bench.put("locked/.envrc", "evil");
    fs::set_permissions(bench.at("work/locked"), fs::Permissions::from_mode(0o500)).unwrap();
}

#[test]
fn what_may_not_stay_is_moved_and_named_and_the_users_own_stays() {
    let bench = Bench::for_deep_trees();
    bench.put(".git/config", "mine");
    symlink("/etc/hostname", bench.at("work/mine")).unwrap();
    let mut workspace = bench.open();
    workspace.take_stock().unwrap();
    set_traps(&bench);

    let found = workspace.quarantine(&bench.at("record")).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.path.iter().take(2).collect::<PathBuf>(), one.why))
        .collect();
    let expected = [
        ("bare", Why::BareRepository),
        ("deep/d", Why::TooDeep),
        ("locked/.envrc", Why::Trap),
        ("out", Why::LinkOut),
        ("pipe", Why::Special("a named pipe")),
        ("sub/.git", Why::Trap),
        ("tool", Why::SetId),
    ]
    .map(|(path, why)| (PathBuf::from(path), why));
    assert_eq!(told, expected);
    assert!(
        !found.iter().any(|one| matches!(one.done, Done::Failed(_))),
        "{found:?}"
    );
    assert_eq!(
        fs::metadata(bench.at("work/tool")).unwrap().mode() & 0o7777,
        0o755
    );
    for (path, there) in [
        ("work/.git/config", true),
        ("work/mine", true),
        ("work/in", true),
        ("work/tool", true),
        ("work/out", false),
        ("work/pipe", false),
        ("work/sub/.git", false),
        ("work/locked/.envrc", false),
        ("work/bare", false),
    ] {
        let found = fs::symlink_metadata(bench.at(path)).is_ok();
        assert_eq!(found, there, "{path}");
    }
    assert_eq!(
        fs::read_to_string(bench.at("outside/secret")).unwrap(),
        "secret"
    );
    assert_eq!(fs::read_dir(bench.at("record")).unwrap().count(), 6);
    assert_eq!(workspace.quarantine(&bench.at("record")).unwrap(), []);
    remove_tree(&bench.at("work")).unwrap();
    remove_tree(&bench.at("record")).unwrap();
}

#[test]
fn what_a_killed_run_left_is_told_to_the_next() {
    let bench = Bench::new();
    bench.put("own/.git/config", "mine");
    let mut killed = bench.open();
    assert_eq!(killed.take_stock().unwrap().left, []);
    snapshot(&killed, None);
    bench.put("sub/.git/config", "evil");
    drop(killed);
    let mut next = bench.open();
    let left = next.take_stock().unwrap().left;
    assert_eq!(left, [(PathBuf::from("sub/.git"), Why::Trap)]);
    assert_eq!(next.quarantine(&bench.at("record")).unwrap(), []);
    drop(next);
    assert_eq!(bench.open().take_stock().unwrap().left, [], "told once");
    assert!(bench.at("work/sub/.git/config").exists());
}

#[test]
fn quarantine_crosses_file_systems() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let bench = Bench::beneath(Path::new("/var/tmp"));
    let mut workspace = bench.open();
    workspace.take_stock().unwrap();
    bench.put("a/.git/hooks/post-checkout", "evil");
    symlink("/etc", bench.at("work/a/.git/link")).unwrap();
    mkfifo(&bench.at("work/a/.git/pipe"));
    let found = workspace.quarantine(other.path()).unwrap();
    let Done::Moved(name) = &found[0].done else {
        panic!("{found:?}");
    };
    let hook = other.path().join(name).join("hooks/post-checkout");
    assert_eq!(fs::read_to_string(hook).unwrap(), "evil");
    assert!(!bench.at("work/a/.git").exists());
    assert!(bench.at("work/a").exists());
}

#[test]
fn a_tree_is_removed_whatever_was_made_of_it() {
    let bench = Bench::for_deep_trees();
    nest(&bench.at("work/deep"), 3000);
    nest(&bench.at("work/deep2/x"), 3000);
    for name in ["work/a/b", "work/a/b2"] {
        fs::create_dir_all(bench.at(name).join("c/d")).unwrap();
        fs::set_permissions(bench.at(name).join("c"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(bench.at(name), fs::Permissions::from_mode(0o500)).unwrap();
    }
    symlink(bench.at("outside"), bench.at("work/out")).unwrap();
    mkfifo(&bench.at("work/pipe"));
    remove_tree(&bench.at("work")).unwrap();
    assert!(!bench.at("work").exists());
    assert_eq!(
        fs::read_to_string(bench.at("outside/secret")).unwrap(),
        "secret"
    );
    remove_tree(&bench.at("work")).unwrap();
    symlink(bench.at("outside"), bench.at("link")).unwrap();
    remove_tree(&bench.at("link")).unwrap();
    assert!(bench.at("outside/secret").exists());
}

#[test]
fn use_counts_what_is_on_disk_and_each_file_once() {
    let bench = Bench::new();
    let workspace = bench.open();
    let (empty, _) = workspace.usage().unwrap();
    bench.put("a", &"x".repeat(100_000));
    fs::hard_link(bench.at("work/a"), bench.at("work/b")).unwrap();
    let holes = File::create(bench.at("work/holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    let (bytes, files) = workspace.usage().unwrap();
    assert_eq!(files, 3);
    assert!((100_000..200_000).contains(&(bytes - empty)), "{bytes}");
}
