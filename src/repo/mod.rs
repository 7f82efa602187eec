//! Clones: a repository's files are taken, its history, hooks and settings are not.
//!
//! ```text
//!   Permit ─ URL checked again ─┬─ file:   read where it lies, if it points nowhere else
//!                               └─ http(s) fetched bare into a scratch folder, depth 1
//!                                    │  name resolved once · bytes, objects, time bounded as they come
//!                                    ▼
//!          judge (names, kinds, depth, number, size) ─▶ steps ─▶ written by ourselves, all or nothing
//! ```
//!
//! What comes in is hostile: no checkout by git happens, no link is written, no `.git` reaches the
//! workspace. This room does not decide whether a clone may happen (`policy`), keeps no record, and
//! does not read the environment. Private repositories, LFS content and submodules are not fetched.

mod address;
mod body;
mod client;
mod error;
mod fetch;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod judge;
mod lay_down;
mod link;
mod local;
mod net;
mod objects;
mod pack;
mod pkt;
mod report;
mod transport;
mod write;

pub use crate::policy::git_url::{CheckedUrl, Listing, UrlError, check_url, file_url};
pub use error::{Limit, RepoError};
pub use lay_down::lay_down;
pub use net::{NetConfig, ProxyConfig};
pub use report::{CloneReport, Listed, Note, Progress};
pub use transport::set_up;
pub use write::Owner;

use crate::policy::action::CloneAction;
use crate::policy::git_url::Scheme;
use crate::policy::model::{GitPolicy, Policy};
use crate::policy::permit::Permit;
use fetch::{Found, Rev};
use git2::Odb;
use judge::Judged;
use local::Local;
use net::Watch;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch as latest;
use tokio_util::sync::CancellationToken;
use write::Place;

/// Time for a cancelled transfer to notice; after it, its thread is left to end by itself, in a
/// scratch folder of its own.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a clone happens.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The policy that the permit was decided under.
    pub policy: &'a Policy,
    /// The workspace's folder, open.
    pub workspace: BorrowedFd<'a>,
    /// Who gets the files.
    pub owner: Owner,
    /// A folder of ours, outside the workspace, for what is fetched.
    pub scratch: &'a Path,
}

/// Clones repositories.
#[derive(Debug)]
pub struct RepoClient {
    config: NetConfig,
}

impl RepoClient {
    /// Sets libgit2 up, see [`set_up`].
    pub fn new(config: NetConfig) -> Result<Self, RepoError> {
        set_up()?;
        Ok(Self { config })
    }

    /// Spends the permit: the files of the repository are in the workspace, or nothing is.
    pub async fn clone_repo(
        &self,
        permit: Permit<CloneAction>,
        ground: Ground<'_>,
        progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &CancellationToken,
    ) -> Result<CloneReport, RepoError> {
        let act = permit.into_act();
        if act.policy != ground.policy.digest() {
            return Err(RepoError::OtherPolicy);
        }
        let workspace = ground
            .workspace
            .try_clone_to_owned()
            .map_err(RepoError::io("open the workspace for", &act.into))?;
        // Nobody waits any more: then nothing is to be written any more, either.
        let stop = cancel.child_token();
        let _stopped_when_dropped = stop.clone().drop_guard();
        // Whatever the permit says, these forms of URL and revision are never used.
        let job = Job {
            checked: check_url(&act.url, &ground.policy.git)?,
            rev: Rev::parse(act.rev.as_deref())?,
            into: act.into,
            policy: ground.policy.git.clone(),
            workspace,
            owner: ground.owner,
            scratch: ground.scratch.to_owned(),
            config: self.config.clone(),
            watch: Watch::new(&self.config, stop.clone()),
        };
        write::check_into(&job.into)?;
        let (told, mut seen) = latest::channel(None);
        let work = run(job, told, cancel);
        tokio::pin!(work);
        loop {
            // The last step is told, too, before the end.
            tokio::select! {
                biased;
                Ok(()) = seen.changed() => {
                    if let Some(step) = *seen.borrow_and_update() {
                        progress(step);
                    }
                }
                done = &mut work => return done,
            }
        }
    }
}

/// One clone, ready to go.
struct Job {
    checked: CheckedUrl,
    rev: Rev,
    into: PathBuf,
    policy: GitPolicy,
    workspace: OwnedFd,
    owner: Owner,
    scratch: PathBuf,
    config: NetConfig,
    watch: Watch,
}

/// Objects at hand, and what of them will be written.
struct Taken {
    odb: Odb<'static>,
    found: Found,
    judged: Judged,
    received: u64,
    not_a_tip: bool,
    moved_to: Option<String>,
    /// Holds the objects, where it was fetched; goes after it.
    _scratch: Option<TempDir>,
}

type Told = latest::Sender<Option<Progress>>;

async fn run(job: Job, told: Told, cancel: &CancellationToken) -> Result<CloneReport, RepoError> {
    let teller = told.clone();
    let taking = tokio::task::spawn_blocking(move || {
        // Before anything is fetched: is there room for it? Nothing is left behind by looking.
        drop(job.place()?);
        let taken = job.take(&mut |step| {
            let _nobody_looks = teller.send(Some(step));
        })?;
        Ok((job, taken))
    });
    // Nothing of the workspace is touched in this phase: a thread that is stuck may be left alone.
    let (job, taken) = tokio::select! {
        taken = taking => joined(taken)?,
        () = async { cancel.cancelled().await; tokio::time::sleep(PATIENCE).await } => {
            return Err(RepoError::Cancelled);
        }
    };
    let writing = tokio::task::spawn_blocking(move || {
        job.write(&taken, &mut |step| {
            let _nobody_looks = told.send(Some(step));
        })
    });
    joined(writing.await)
}

fn joined<T>(
    outcome: Result<Result<T, RepoError>, tokio::task::JoinError>,
) -> Result<T, RepoError> {
    outcome.unwrap_or_else(|error| {
        Err(RepoError::Damaged {
            why: error::brief(&error.to_string()),
        })
    })
}

impl Job {
    fn place(&self) -> Result<Place, RepoError> {
        Place::open(self.workspace.as_fd(), &self.into, self.owner)
    }

    fn take(&self, progress: &mut dyn FnMut(Progress)) -> Result<Taken, RepoError> {
        if self.checked.scheme() == Scheme::File {
            let local = Local::open(&self.checked)?;
            let found = local.find(&self.checked, &self.rev)?;
            return self.judged(local.odb, found);
        }
        let scratch = tempfile::Builder::new()
            .prefix("clone-")
            .tempdir_in(&self.scratch)
            .map_err(RepoError::io("make a scratch folder in", &self.scratch))?;
        let repository = fetch::bare(scratch.path())?;
        let link = Arc::new(link::Link::new(
            &self.checked,
            &self.policy,
            &self.config,
            &self.watch,
        )?);
        let found = fetch::fetch(&repository, &self.checked, &self.rev, &link, progress)?;
        drop(repository);
        let mut taken = self.judged(objects::open(&scratch.path().join("objects"))?, found)?;
        taken.received = link.received();
        taken.moved_to = link.moved_to();
        taken.not_a_tip = taken.found.reference.is_none();
        taken._scratch = Some(scratch);
        Ok(taken)
    }

    fn judged(&self, odb: Odb<'static>, found: Found) -> Result<Taken, RepoError> {
        let tree = objects::tree_of(&odb, found.commit)?;
        let judged = judge::judge(&odb, tree, &self.policy, &|| self.watch.check())?;
        Ok(Taken {
            odb,
            found,
            judged,
            received: 0,
            not_a_tip: false,
            moved_to: None,
            _scratch: None,
        })
    }

    fn write(
        &self,
        taken: &Taken,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<CloneReport, RepoError> {
        let total = taken.judged.files;
        let mut notes = self
            .place()?
            .write(&taken.odb, &taken.judged, &mut |files| {
                progress(Progress::Writing { files, total });
                self.watch.check()
            })?;
        if let Some(url) = &taken.moved_to {
            notes.push(Note::Moved(url.clone()));
        }
        if taken.not_a_tip {
            notes.push(Note::NotATip);
        }
        if taken.found.whole_history {
            notes.push(Note::WholeHistory);
        }
        Ok(CloneReport {
            url: self.checked.as_str().to_owned(),
            reference: taken.found.reference.as_deref().map(error::brief),
            commit: taken.found.commit.to_string(),
            files: taken.judged.files,
            bytes: taken.judged.bytes,
            received: taken.received,
            notes,
        })
    }
}
