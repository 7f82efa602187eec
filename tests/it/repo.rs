//! Clones, from honest and dishonest repositories and servers.

use crate::git_http::{GitServer, HttpServer, begin_git, pkt, reply, upload_pack};
use fumehood::policy::action::CloneAction;
use fumehood::policy::builtin;
use fumehood::policy::gate::decide_clone;
use fumehood::policy::model::Policy;
use fumehood::policy::permit::{Permit, Verdict};
use fumehood::protocol::event::Approver;
use fumehood::protocol::ids::RunId;
use fumehood::repo::{
    CloneReport, Ground, NetConfig, Note, Owner, Progress, ProxyConfig, RepoClient, RepoError,
    file_url, lay_down,
};
use git2::{Oid, Repository, Signature, Time};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A workspace, a scratch folder, a place for repositories, and what is asked for.
pub(crate) struct Bench {
    dir: TempDir,
    pub(crate) policy: Policy,
    pub(crate) net: NetConfig,
    pub(crate) rev: Option<String>,
    pub(crate) into: PathBuf,
    pub(crate) owner: Owner,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Vec<Progress>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["workspace", "scratch", "repos"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self {
            dir,
            policy: builtin::policy("dev-loop").unwrap(),
            net: NetConfig {
                time: Duration::from_secs(60),
                stall: Duration::from_secs(20),
                ..NetConfig::default()
            },
            rev: None,
            into: "repo".into(),
            owner: None,
            cancel: CancellationToken::new(),
            progress: Vec::new(),
        }
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    pub(crate) fn repos(&self) -> PathBuf {
        self.dir.path().join("repos")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn permit(&self, url: &str) -> Permit<CloneAction> {
        let act = CloneAction {
            run: RunId::new("0"),
            url: url.to_owned(),
            rev: self.rev.clone(),
            into: self.into.clone(),
            policy: self.policy.digest(),
        };
        match decide_clone(&self.policy, act) {
            Verdict::Allowed(permit) => permit,
            Verdict::Ask(question) => {
                let digest = question.digest().clone();
                question.grant(&digest, Approver::Person).unwrap()
            }
            Verdict::Denied(denial) => panic!("{denial}"),
        }
    }

    /// Clones from a URL whose folder the policy lists.
    pub(crate) async fn clone_listed(&mut self, url: &str) -> Result<CloneReport, RepoError> {
        if let Some(end) = url.rfind('/') {
            self.policy.git.remotes = vec![url[..=end].to_owned()];
        }
        self.clone_url(url).await
    }

    pub(crate) async fn clone_url(&mut self, url: &str) -> Result<CloneReport, RepoError> {
        let before = names(&self.workspace());
        let permit = self.permit(url);
        let outcome = self.spend(permit).await;
        if outcome.is_err() {
            assert_eq!(names(&self.workspace()), before, "left over");
        }
        outcome
    }

    async fn spend(&mut self, permit: Permit<CloneAction>) -> Result<CloneReport, RepoError> {
        let client = RepoClient::new(self.net.clone()).unwrap();
        let workspace = File::open(self.workspace()).unwrap();
        let scratch = self.scratch();
        let ground = Ground {
            policy: &self.policy,
            workspace: workspace.as_fd(),
            owner: self.owner,
            scratch: &scratch,
        };
        let progress = &mut self.progress;
        client
            .clone_repo(
                permit,
                ground,
                &mut |step| progress.push(step),
                &self.cancel,
            )
            .await
    }

    pub(crate) async fn refused(&mut self, url: &str) -> RepoError {
        let error = match self.clone_listed(url).await {
            Ok(report) => panic!("not refused: {report:?}"),
            Err(error) => error,
        };
        let said = format!("{error} {}", error.remedy().unwrap_or_default());
        assert!(!said.chars().any(char::is_control), "{said:?}");
        error
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const FILES: &[(&str, &[u8])] = &[
    ("README.md", b"# A repository\n"),
    ("src/train.py", b"print('hello')\n"),
    ("data/deep/er/x.bin", b"\0\x01\xff"),
];

/// What is in the workspace's `repo`, by path.
fn written(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let root = bench.workspace().join("repo");
    let mut files: Vec<_> = walkdir::WalkDir::new(&root)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| !entry.file_type().is_dir())
        .map(|entry| {
            let path = entry.path().strip_prefix(&root).unwrap();
            let content = fs::read(entry.path()).unwrap();
            (path.display().to_string(), content)
        })
        .collect();
    files.sort();
    files
}

fn expected(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = files
        .iter()
        .map(|(path, content)| ((*path).to_owned(), content.to_vec()))
        .collect();
    files.sort();
    files
}

/// A commit on `reference` with this tree.
pub(crate) fn commit(repository: &Repository, reference: &str, tree: Oid) -> Oid {
    let author = Signature::new("A", "a@example.invalid", &Time::new(1, 0)).unwrap();
    let tree = repository.find_tree(tree).unwrap();
    let parent = repository.refname_to_id(reference).ok();
    let parent = parent.map(|id| repository.find_commit(id).unwrap());
    let parents: Vec<_> = parent.iter().collect();
    repository
        .commit(Some(reference), &author, &author, "x", &tree, &parents)
        .unwrap()
}

/// A tree with one file.
fn tree_of_one(repository: &Repository, name: &str, content: &[u8]) -> Oid {
    let blob = repository.blob(content).unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    tree.insert(name, blob, 0o100_644).unwrap();
    tree.write().unwrap()
}

/// Two commits on `main`, one on `dev`, an annotated tag on the first.
struct History {
    repository: Repository,
    first: Oid,
    second: Oid,
    dev: Oid,
}

fn history(at: &Path) -> History {
    fumehood::repo::set_up().unwrap();
    let repository = Repository::init_bare(at).unwrap();
    let on = |reference: &str, content: &[u8]| {
        let tree = tree_of_one(&repository, "x", content);
        commit(&repository, reference, tree)
    };
    let first = on("refs/heads/main", b"first");
    let second = on("refs/heads/main", b"second");
    let dev = on("refs/heads/dev", b"dev");
    let author = Signature::new("A", "a@example.invalid", &Time::new(1, 0)).unwrap();
    let object = repository.find_object(first, None).unwrap();
    repository
        .tag("v1", &object, &author, "one", false)
        .unwrap();
    drop(object);
    repository.set_head("refs/heads/main").unwrap();
    History {
        repository,
        first,
        second,
        dev,
    }
}

#[tokio::test]
async fn a_local_repository_is_written_out() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let commit = lay_down(&at, FILES).unwrap();
    let report = bench.clone_listed(&file_url(&at)).await.unwrap();
    assert_eq!(report.commit, commit);
    assert_eq!(report.reference.as_deref(), Some("refs/heads/main"));
    assert_eq!((report.files, report.bytes, report.received), (3, 33, 0));
    assert_eq!(written(&bench), expected(FILES));
}

#[tokio::test]
async fn a_repository_is_cloned_over_smart_http() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let commit = lay_down(&at, FILES).unwrap();
    let server = GitServer::start(&at);
    let report = bench.clone_listed(&server.url()).await.unwrap();
    assert_eq!(report.commit, commit);
    assert_eq!(report.url, server.url());
    assert_eq!((report.files, report.bytes), (3, 33));
    assert!(report.received > 0);
    assert_eq!(report.notes, []);
    assert_eq!(written(&bench), expected(FILES));
    let writing = Progress::Writing { files: 3, total: 3 };
    assert_eq!(bench.progress.last(), Some(&writing));
    assert_eq!(names(&bench.scratch()), Vec::<String>::new());
}

#[tokio::test]
async fn a_branch_a_tag_and_a_commit_can_be_named() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let made = history(&at);
    let server = GitServer::start(&at);
    let (first, dev) = (made.first.to_string(), made.dev.to_string());
    for url in [file_url(&at), server.url()] {
        for (rev, commit, content) in [
            (None, made.second, "second"),
            (Some("dev"), made.dev, "dev"),
            (Some("refs/heads/dev"), made.dev, "dev"),
            (Some("v1"), made.first, "first"),
            (Some(first.as_str()), made.first, "first"),
            (Some(dev.as_str()), made.dev, "dev"),
        ] {
            bench.rev = rev.map(ToOwned::to_owned);
            let report = bench.clone_listed(&url).await.unwrap();
            assert_eq!(report.commit, commit.to_string(), "{url} {rev:?}");
            assert_eq!(report.notes, [], "{url} {rev:?}");
            assert_eq!(written(&bench), expected(&[("x", content.as_bytes())]));
            fs::remove_dir_all(bench.workspace().join("repo")).unwrap();
        }
        bench.rev = Some("nothing".into());
        let error = bench.refused(&url).await;
        assert!(matches!(error, RepoError::UnknownRev { .. }), "{error:?}");
        bench.rev = Some(first[..10].into());
        let error = bench.refused(&url).await;
        assert!(error.remedy().unwrap().contains("40 digits"), "{error:?}");
        bench.rev = Some("1".repeat(40));
        let error = bench.refused(&url).await;
        assert!(matches!(error, RepoError::UnknownRev { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn only_one_commit_comes_over_the_network() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    history(&at);
    let server = GitServer::start(&at);
    bench.clone_listed(&server.url()).await.unwrap();
    let totals = bench.progress.iter().filter_map(|step| match step {
        Progress::Receiving { total, .. } => Some(*total),
        Progress::Writing { .. } => None,
    });
    assert_eq!(totals.max(), Some(3), "a commit, a tree, a blob");
}

#[tokio::test]
async fn a_commit_that_is_no_tip_is_fetched_by_id_and_said_to_be_none() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let made = history(&at);
    let tree = tree_of_one(&made.repository, "x", b"third");
    commit(&made.repository, "refs/heads/main", tree);
    let server = GitServer::start(&at);
    bench.rev = Some(made.second.to_string());
    let report = bench.clone_listed(&server.url()).await.unwrap();
    assert_eq!(report.commit, made.second.to_string());
    assert_eq!(report.notes, [Note::NotATip]);
    assert_eq!(written(&bench), expected(&[("x", b"second")]));
}

#[tokio::test]
async fn where_the_server_keeps_its_commits_to_itself_the_history_is_searched() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let made = history(&at);
    let tree = tree_of_one(&made.repository, "x", b"third");
    commit(&made.repository, "refs/heads/main", tree);
    // One does not offer ids; the other offers them and then refuses.
    let silent = GitServer::with(&at, &[]);
    let second = made.second.to_string();
    let fickle = HttpServer::start(move |request, stream| {
        if String::from_utf8_lossy(&request.body).contains(&second) {
            begin_git(request, stream)?;
            return stream.write_all(&pkt(b"ERR upload-pack: not our ref\n"));
        }
        let settings = ["uploadpack.allowReachableSHA1InWant=true".to_owned()];
        upload_pack(&at, &settings, request, stream)
    });
    for url in [silent.url(), format!("{}repo.git", fickle.url())] {
        bench.rev = Some(made.second.to_string());
        let report = bench.clone_listed(&url).await.unwrap();
        assert_eq!(report.commit, made.second.to_string());
        assert_eq!(report.notes, [Note::NotATip, Note::WholeHistory]);
        fs::remove_dir_all(bench.workspace().join("repo")).unwrap();
        bench.rev = Some("1".repeat(40));
        let error = bench.refused(&url).await;
        assert!(matches!(error, RepoError::UnknownRev { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_empty_repository_is_said_to_be_empty() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    Repository::init_bare(&at).unwrap();
    let server = GitServer::start(&at);
    for url in [file_url(&at), server.url()] {
        let error = bench.refused(&url).await;
        assert!(matches!(error, RepoError::Empty { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn branch_names_that_are_no_utf8_are_no_obstacle() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let made = history(&at);
    let odd = std::ffi::OsStr::from_bytes(b"refs/heads/gr\xfc\xdfe");
    fs::write(at.join(odd), made.first.to_string()).unwrap();
    let server = GitServer::start(&at);
    for url in [file_url(&at), server.url()] {
        bench.clone_listed(&url).await.unwrap();
        fs::remove_dir_all(bench.workspace().join("repo")).unwrap();
    }
}

#[tokio::test]
async fn modes_are_plain_and_files_belong_to_whom_they_should() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    fumehood::repo::set_up().unwrap();
    let repository = Repository::init_bare(&at).unwrap();
    let blob = repository.blob(b"#!/bin/sh\n").unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    tree.insert("run", blob, 0o100_755).unwrap();
    tree.insert("read", blob, 0o100_644).unwrap();
    let inner = tree_of_one(&repository, "f", b"");
    tree.insert("dir", inner, 0o040_000).unwrap();
    commit(&repository, "refs/heads/main", tree.write().unwrap());
    repository.set_head("refs/heads/main").unwrap();
    // Root gives files away; anybody can give them to themselves.
    let us = fs::metadata(bench.workspace()).unwrap();
    let owner = match us.uid() {
        0 => (12_345, 23_456),
        uid => (uid, us.gid()),
    };
    bench.owner = Some(owner);
    bench.into = "third_party/deep/repo".into();
    bench.clone_listed(&file_url(&at)).await.unwrap();
    let top = bench.workspace().join("third_party");
    for (path, mode) in [
        ("", 0o755),
        ("deep", 0o755),
        ("deep/repo", 0o755),
        ("deep/repo/dir", 0o755),
        ("deep/repo/run", 0o755),
        ("deep/repo/read", 0o644),
        ("deep/repo/dir/f", 0o644),
    ] {
        let meta = fs::symlink_metadata(top.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!((meta.uid(), meta.gid()), owner, "{path}");
    }
}

#[tokio::test]
async fn nothing_that_exists_is_overwritten_or_followed() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, FILES).unwrap();
    let url = file_url(&at);
    let work = bench.workspace();
    let outside = bench.repos().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(work.join("full")).unwrap();
    fs::write(work.join("full/mine"), "mine").unwrap();
    fs::write(work.join("file"), "mine").unwrap();
    symlink(&outside, work.join("link")).unwrap();
    symlink(outside.join("none"), work.join("dangling")).unwrap();
    for taken in ["full", "file", "link", "dangling"] {
        bench.into = taken.into();
        let error = bench.refused(&url).await;
        assert!(
            matches!(error, RepoError::Taken { .. }),
            "{taken}: {error:?}"
        );
    }
    for through in ["link/x", "file/x", "dangling/x", "link/a/b"] {
        bench.into = through.into();
        let error = bench.refused(&url).await;
        assert!(
            matches!(error, RepoError::Into { .. }),
            "{through}: {error:?}"
        );
    }
    assert_eq!(names(&outside), Vec::<String>::new());
    assert_eq!(fs::read(work.join("full/mine")).unwrap(), b"mine");
    assert_eq!(fs::read(work.join("file")).unwrap(), b"mine");
    fs::create_dir(work.join("empty")).unwrap();
    bench.into = "empty".into();
    bench.clone_listed(&url).await.unwrap();
    assert_eq!(names(&work.join("empty")), ["README.md", "data", "src"]);
}

#[tokio::test]
async fn folders_made_on_the_way_go_again_when_nothing_comes_of_it() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, FILES).unwrap();
    fs::create_dir(bench.workspace().join("there")).unwrap();
    bench.into = "there/a/b/c".into();
    bench.rev = Some("nothing".into());
    bench.refused(&file_url(&at)).await;
    assert_eq!(
        names(&bench.workspace().join("there")),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_is_left_out_is_named() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    fumehood::repo::set_up().unwrap();
    let repository = Repository::init_bare(&at).unwrap();
    let blob = |content: &str| repository.blob(content.as_bytes()).unwrap();
    let modules = "[submodule \"a\"]\n\tpath = libs/a\n\turl = ext::sh -c \u{1b}[31mid\n[submodule \"b\"]\n\turl = https://example.org/b\n\tpath = b\n";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let mut libs = repository.treebuilder(None).unwrap();
    libs.insert("a", Oid::from_str(&"1".repeat(40)).unwrap(), 0o160_000)
        .unwrap();
    let mut root = repository.treebuilder(None).unwrap();
    root.insert("libs", libs.write().unwrap(), 0o040_000)
        .unwrap();
    root.insert("b", Oid::from_str(&"2".repeat(40)).unwrap(), 0o160_000)
        .unwrap();
    root.insert(".gitmodules", blob(modules), 0o100_644)
        .unwrap();
    root.insert("passwd", blob("/etc/passwd"), 0o120_000)
        .unwrap();
    root.insert("weights.bin", blob(pointer), 0o100_644)
        .unwrap();
    let settings = tree_of_one(&repository, "tasks.json", b"{}");
    root.insert(".vscode", settings, 0o040_000).unwrap();
    root.insert(".envrc", blob("id"), 0o100_644).unwrap();
    commit(&repository, "refs/heads/main", root.write().unwrap());
    repository.set_head("refs/heads/main").unwrap();
    let server = GitServer::start(&at);
    for url in [file_url(&at), server.url()] {
        let report = bench.clone_listed(&url).await.unwrap();
        let said: Vec<_> = report.notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "left out 1 symbolic links: passwd",
                "2 submodules were not fetched: b (from \"https://example.org/b\"), libs/a (from \"ext::sh -c \\u{1b}[31mid\")",
                "left out 2 settings of editors and tools: .envrc, .vscode",
                "1 files are git LFS pointers, their content was not fetched: weights.bin",
            ]
        );
        let out = bench.workspace().join("repo");
        assert_eq!(names(&out), [".gitmodules", "libs", "weights.bin"]);
        fs::remove_dir_all(out).unwrap();
    }
}

#[tokio::test]
async fn a_repository_that_moved_within_its_server_is_followed_and_named() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, FILES).unwrap();
    let server =
        HttpServer::start(
            move |request, stream| match request.target.strip_prefix("/old") {
                Some(rest) => {
                    let to = format!("/repo.git{rest}");
                    reply(stream, "301 Moved", &[("Location", &to)], b"")
                }
                None => upload_pack(&at, &[], request, stream),
            },
        );
    let report = bench.clone_listed(&format!("{}old", server.url())).await;
    let moved = Note::Moved(format!("{}repo.git", server.url()));
    assert_eq!(report.unwrap().notes, [moved]);
    assert_eq!(written(&bench), expected(FILES));
}

#[tokio::test]
async fn a_query_in_the_url_reaches_the_server_as_git_would_send_it() {
    let mut bench = Bench::new();
    let server = HttpServer::start(|_, stream| reply(stream, "404 Not Found", &[], b""));
    bench.refused(&format!("{}r?a=b", server.url())).await;
    let targets: Vec<_> = server.requests().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/r?a=b/info/refs&service=git-upload-pack"]);
}

#[tokio::test]
async fn a_proxy_is_used_and_names_are_left_to_it() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, FILES).unwrap();
    let proxy = HttpServer::start(move |request, stream| {
        let mut request = request.clone();
        match request.target.strip_prefix("http://git.example.invalid") {
            Some(path) => request.target = path.to_owned(),
            None => return reply(stream, "502 Bad Gateway", &[], b""),
        }
        upload_pack(&at, &[], &request, stream)
    });
    bench.net.proxy = ProxyConfig {
        https: Some(proxy.url()),
        http: Some(proxy.url()),
        except: Vec::new(),
    };
    let report = bench.clone_listed("http://git.example.invalid/repo.git");
    assert_eq!(report.await.unwrap().files, 3);
    bench.into = "other".into();
    let error = bench.refused("https://git.example.invalid/repo.git").await;
    assert!(matches!(error, RepoError::Unreachable { .. }), "{error:?}");
    let last = proxy.requests().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.target.as_str()),
        ("CONNECT", "git.example.invalid:443")
    );
}

#[tokio::test]
async fn a_permit_of_another_policy_is_not_spent() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    lay_down(&at, FILES).unwrap();
    bench.policy.git.remotes = vec![file_url(&bench.repos())];
    let permit = bench.permit(&file_url(&at));
    bench.policy.git.max_files += 1;
    let error = bench.spend(permit).await.unwrap_err();
    assert!(matches!(error, RepoError::OtherPolicy), "{error:?}");
}

#[tokio::test]
async fn laying_files_down_gives_the_same_commit_every_time() {
    let bench = Bench::new();
    let one = lay_down(&bench.repos().join("one"), FILES).unwrap();
    let reversed: Vec<_> = FILES.iter().rev().copied().collect();
    let two = lay_down(&bench.repos().join("two"), &reversed).unwrap();
    assert_eq!(one, two);
    assert_eq!(one, "f747bebb2f320b9d528df60c86e7204d3f7ea3d5");
    for bad in [".git/config", "../x", "/x", "a//b", "a/../b", ""] {
        let at = bench.repos().join("bad");
        assert!(lay_down(&at, &[(bad, b"")]).is_err(), "{bad}");
        assert!(!at.exists(), "{bad}");
    }
}

#[tokio::test]
async fn a_repository_that_git_packed_is_read_all_the_same() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let made = history(&at);
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").arg("-C").arg(&at);
        assert!(git.args(arguments).status().unwrap().success());
    };
    git(&["gc", "--quiet", "--aggressive"]);
    git(&["pack-refs", "--all"]);
    let server = GitServer::start(&at);
    for url in [file_url(&at), server.url()] {
        for (rev, id) in [
            (None, made.second),
            (Some("v1"), made.first),
            (Some("dev"), made.dev),
        ] {
            bench.rev = rev.map(ToOwned::to_owned);
            let report = bench.clone_listed(&url).await.unwrap();
            assert_eq!(report.commit, id.to_string(), "{url} {rev:?}");
            fs::remove_dir_all(bench.workspace().join("repo")).unwrap();
        }
    }
}

#[tokio::test]
async fn the_listed_folder_itself_may_be_reached_through_a_link() {
    let mut bench = Bench::new();
    let real = bench.repos().join("real folder");
    lay_down(&real.join("r"), FILES).unwrap();
    let listed = bench.repos().join("listed");
    symlink(&real, &listed).unwrap();
    bench
        .clone_listed(&file_url(&listed.join("r")))
        .await
        .unwrap();
    assert_eq!(written(&bench), expected(FILES));
}

/// Lays down so many files that writing them takes a while.
fn many_files(at: &Path) {
    let many: Vec<_> = (0..15_000).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    lay_down(at, &files).unwrap();
}

/// Waits until a clone has begun to write.
async fn writing_began(workspace: PathBuf) {
    while names(&workspace).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_clone_that_is_cancelled_while_it_writes_leaves_nothing() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    many_files(&at);
    let (workspace, cancel) = (bench.workspace(), bench.cancel.clone());
    tokio::spawn(async move {
        writing_began(workspace).await;
        cancel.cancel();
    });
    // `refused` looks whether anything is left over.
    let error = bench.refused(&file_url(&at)).await;
    assert!(matches!(error, RepoError::Cancelled), "{error:?}");
}

#[tokio::test]
async fn a_clone_that_nobody_waits_for_any_more_stops_and_leaves_nothing() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    many_files(&at);
    let workspace = bench.workspace();
    let url = file_url(&at);
    tokio::select! {
        done = bench.clone_listed(&url) => panic!("too quick for this test: {done:?}"),
        () = writing_began(workspace.clone()) => {}
    }
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!workspace.join("repo").exists());
        if names(&workspace).is_empty() {
            return;
        }
    }
    panic!("left over: {:?}", names(&workspace));
}
