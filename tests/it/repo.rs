//! Clones, from honest and dishonest repositories and servers.

use crate::git_http::GitServer;
use fumehood::policy::action::CloneAction;
use fumehood::policy::builtin;
use fumehood::policy::gate::decide_clone;
use fumehood::policy::model::Policy;
use fumehood::policy::permit::{Permit, Verdict};
use fumehood::protocol::event::Approver;
use fumehood::protocol::ids::RunId;
use fumehood::repo::{CloneReport, Ground, NetConfig, Progress, RepoClient, RepoError, lay_down};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A workspace, a scratch folder, a place for repositories, and what is asked for.
struct Bench {
    dir: TempDir,
    policy: Policy,
    net: NetConfig,
    rev: Option<String>,
    into: PathBuf,
    cancel: CancellationToken,
    progress: Vec<Progress>,
}

impl Bench {
    fn new() -> Self {
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
            cancel: CancellationToken::new(),
            progress: Vec::new(),
        }
    }

    fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    fn repos(&self) -> PathBuf {
        self.dir.path().join("repos")
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

    async fn clone_listed(&mut self, url: &str) -> Result<CloneReport, RepoError> {
        if let Some(end) = url.rfind('/') {
            self.policy.git.remotes = vec![url[..=end].to_owned()];
        }
        let client = RepoClient::new(self.net.clone()).unwrap();
        let permit = self.permit(url);
        let workspace = File::open(self.workspace()).unwrap();
        let scratch = self.dir.path().join("scratch");
        let ground = Ground {
            policy: &self.policy,
            workspace: workspace.as_fd(),
            owner: None,
            scratch: &scratch,
        };
        let progress = &mut self.progress;
        let outcome = client
            .clone_repo(
                permit,
                ground,
                &mut |step| progress.push(step),
                &self.cancel,
            )
            .await;
        if outcome.is_err() {
            assert_eq!(names(&self.workspace()), Vec::<String>::new(), "left over");
        }
        outcome
    }

    async fn refused(&mut self, url: &str) -> RepoError {
        let error = self.clone_listed(url).await.unwrap_err();
        let said = format!("{error} {}", error.remedy().unwrap_or_default());
        assert!(!said.chars().any(char::is_control), "{said:?}");
        error
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

const FILES: &[(&str, &[u8])] = &[
    ("README.md", b"# A repository\n"),
    ("src/train.py", b"print('hello')\n"),
    ("data/deep/er/x.bin", b"\0\x01\xff"),
];

#[tokio::test]
async fn a_local_repository_is_written_out() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let commit = lay_down(&at, FILES).unwrap();
    let report = bench.clone_listed(&file_url(&at)).await.unwrap();
    assert_eq!(report.commit, commit);
    assert_eq!(report.reference.as_deref(), Some("refs/heads/main"));
    assert_eq!((report.files, report.bytes), (3, 33));
    let out = bench.workspace().join("repo");
    assert_eq!(names(&out), ["README.md", "data", "src"]);
    for (path, content) in FILES {
        assert_eq!(fs::read(out.join(path)).unwrap(), *content, "{path}");
    }
}

#[tokio::test]
async fn a_repository_is_cloned_over_smart_http() {
    let mut bench = Bench::new();
    let at = bench.repos().join("r");
    let commit = lay_down(&at, FILES).unwrap();
    let server = GitServer::start(&at);
    let report = bench.clone_listed(&server.url()).await.unwrap();
    assert_eq!(report.commit, commit);
    assert_eq!((report.files, report.bytes), (3, 33));
    assert!(report.received > 0);
    assert_eq!(report.notes, []);
    for (path, content) in FILES {
        let out = bench.workspace().join("repo").join(path);
        assert_eq!(fs::read(out).unwrap(), *content, "{path}");
    }
    let writing = Progress::Writing { files: 3, total: 3 };
    assert_eq!(bench.progress.last(), Some(&writing));
    assert_eq!(
        names(&bench.dir.path().join("scratch")),
        Vec::<String>::new()
    );
}
