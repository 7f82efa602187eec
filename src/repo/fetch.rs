//! Fetches one commit over the network into a bare repository of our own.
//!
//! ```text
//!   list of references ─┬─ branch, tag or default ─▶ that reference, depth 1
//!                       └─ commit ─┬─ tip of a reference ────────────▶ the same
//!                                  ├─ the server gives it by its id ─▶ depth 1
//!                                  └─ it does not ───────────────────▶ the default branch, whole; is it there?
//! ```

use super::error::{Limit, RepoError};
use super::link::Link;
use super::report::Progress;
use super::transport::with_link;
use crate::policy::git_url::CheckedUrl;
use git2::{AutotagOption, Direction, FetchOptions, ObjectType, Oid, Remote, RemoteCallbacks};
use git2::{Repository, RepositoryInitOptions};
use std::path::Path;
use std::sync::Arc;

/// Where the fetched tip is kept in our bare repository.
const TIP: &str = "refs/fumehood/tip";
/// Objects of a whole history.
const MAX_HISTORY: u64 = 1_000_000;

/// What to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rev {
    Default,
    Name(String),
    Commit(Oid),
}

impl Rev {
    /// Reads what a person or a model asked for. Pure.
    pub(super) fn parse(rev: Option<&str>) -> Result<Self, RepoError> {
        let Some(rev) = rev else {
            return Ok(Self::Default);
        };
        let refuse = |why| {
            Err(RepoError::Rev {
                rev: super::error::brief(rev),
                why,
            })
        };
        if rev.len() == 40 && rev.bytes().all(|b| b.is_ascii_hexdigit()) {
            let id = Oid::from_str(&rev.to_ascii_lowercase());
            return id.map(Self::Commit).map_err(|error| RepoError::git(&error));
        }
        if rev.len() > 255 {
            return refuse("it is longer than 255 bytes");
        }
        if rev.starts_with('-') {
            return refuse("it begins with `-`, like an option");
        }
        if !git2::Reference::is_valid_name(&format!("refs/heads/{rev}")) {
            return refuse("git does not allow such a name");
        }
        Ok(Self::Name(rev.to_owned()))
    }

    /// Full names of references that this may mean, best first.
    pub(super) fn candidates(name: &str) -> Vec<String> {
        let mut names = vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")];
        if name.starts_with("refs/") {
            names.insert(0, name.to_owned());
        }
        names
    }
}

/// The commit that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) commit: Oid,
    /// The branch or tag it was taken from.
    pub(super) reference: Option<String>,
    pub(super) whole_history: bool,
}

/// A bare repository without a single hook, template or setting.
pub(super) fn bare(at: &Path) -> Result<Repository, RepoError> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).no_reinit(true);
    Repository::init_opts(at, &options).map_err(|error| RepoError::git(&error))
}

/// Fetches `rev` from the server behind `link`.
pub(super) fn fetch(
    repository: &Repository,
    checked: &CheckedUrl,
    rev: &Rev,
    link: &Arc<Link>,
    fetching: &mut Fetching<'_>,
) -> Result<Found, RepoError> {
    let outcome = with_link(link, || {
        let mut remote = repository.remote_anonymous(checked.as_str())?;
        remote.connect(Direction::Fetch)?;
        let heads = heads(&remote)?;
        Ok(choose(&heads, rev).map(|chosen| (remote, chosen)))
    });
    let (mut remote, chosen) = match outcome.map_err(|error| said(link, &error))? {
        Some(chosen) => chosen,
        None => return Err(missing(checked, rev)),
    };
    let mut take = |remote: &mut Remote<'_>, chosen: &Chosen, depth| {
        with_link(link, || {
            fetching.run(remote, &chosen.refspec(), depth, link)
        })
        .map_err(|error| said(link, &error))
    };
    let mut whole_history = false;
    match take(&mut remote, &chosen, 1) {
        Ok(()) => {}
        Err(RepoError::Damaged { why }) if why.contains("doesn't support shallow") => {
            whole_history = true;
            take(&mut remote, &chosen, 0)?;
        }
        // The server keeps its commits to itself, unless they are tips.
        Err(RepoError::Damaged { .. }) if matches!(chosen, Chosen::Id(_)) => {
            whole_history = true;
            let mut remote = repository
                .remote_anonymous(checked.as_str())
                .map_err(|error| RepoError::git(&error))?;
            take(&mut remote, &Chosen::Reference("HEAD".to_owned()), 0)?;
        }
        Err(error) => return Err(error),
    }
    let commit = match rev {
        Rev::Commit(id) => has_commit(repository, *id).then_some(*id),
        _ => tip(repository)?,
    };
    Ok(Found {
        commit: commit.ok_or_else(|| missing(checked, rev))?,
        reference: chosen.reference(),
        whole_history,
    })
}

/// What to ask the server for.
#[derive(Debug)]
enum Chosen {
    Reference(String),
    Id(Oid),
}

impl Chosen {
    fn refspec(&self) -> String {
        match self {
            Self::Reference(name) => format!("+{name}:{TIP}"),
            Self::Id(id) => format!("{id}:{TIP}"),
        }
    }

    fn reference(self) -> Option<String> {
        match self {
            Self::Reference(name) => Some(name),
            Self::Id(_) => None,
        }
    }
}

struct Head {
    name: String,
    id: Oid,
    target: Option<String>,
}

/// What the server says it has. Names that are not UTF-8 are names that nobody can ask for.
fn heads(remote: &Remote<'_>) -> Result<Vec<Head>, git2::Error> {
    Ok(remote
        .list()?
        .iter()
        .map(|head| Head {
            name: head.name().to_owned(),
            id: head.oid(),
            target: head.symref_target().map(ToOwned::to_owned),
        })
        .collect())
}

fn choose(heads: &[Head], rev: &Rev) -> Option<Chosen> {
    let has = |name: &str| heads.iter().any(|head| head.name == name);
    match rev {
        Rev::Default => {
            let head = heads.iter().find(|head| head.name == "HEAD")?;
            let target = head.target.clone().filter(|target| has(target));
            Some(Chosen::Reference(
                target.unwrap_or_else(|| "HEAD".to_owned()),
            ))
        }
        Rev::Name(name) => Rev::candidates(name)
            .into_iter()
            .find(|candidate| has(candidate))
            .map(Chosen::Reference),
        Rev::Commit(id) => {
            let tip = heads
                .iter()
                .find(|head| head.id == *id && !head.name.ends_with("^{}"));
            Some(match tip {
                Some(head) => Chosen::Reference(head.name.clone()),
                None => Chosen::Id(*id),
            })
        }
    }
}

/// Counts and reports while git receives.
pub(super) struct Fetching<'a> {
    pub(super) max_files: u64,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Fetching<'_> {
    fn run(
        &mut self,
        remote: &mut Remote<'_>,
        refspec: &str,
        depth: i32,
        link: &Arc<Link>,
    ) -> Result<(), git2::Error> {
        // One commit has its files, their folders, and itself.
        let max_objects = match depth {
            1 => self.max_files.saturating_mul(2).saturating_add(64),
            _ => MAX_HISTORY,
        };
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|state| {
            let total = state.total_objects() as u64;
            let judged = if total > max_objects {
                Err(RepoError::TooBig {
                    limit: Limit::Objects(max_objects),
                })
            } else {
                link.watch().check()
            };
            (self.progress)(Progress::Receiving {
                bytes: link.received(),
                objects: state.received_objects() as u64,
                total,
            });
            judged.map_err(|error| link.keep(error)).is_ok()
        });
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks)
            .depth(depth)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false);
        remote.fetch(&[refspec], Some(&mut options), None)
    }
}

/// The commit behind the fetched reference; a tag of something else has none.
fn tip(repository: &Repository) -> Result<Option<Oid>, RepoError> {
    let reference = repository
        .find_reference(TIP)
        .map_err(|error| RepoError::git(&error))?;
    Ok(reference.peel_to_commit().ok().map(|commit| commit.id()))
}

fn has_commit(repository: &Repository, id: Oid) -> bool {
    repository
        .odb()
        .and_then(|odb| odb.read_header(id))
        .is_ok_and(|(_, kind)| kind == ObjectType::Commit)
}

fn missing(checked: &CheckedUrl, rev: &Rev) -> RepoError {
    let url = checked.as_str().to_owned();
    match rev {
        Rev::Default => RepoError::Empty { url },
        Rev::Name(name) => RepoError::UnknownRev {
            url,
            rev: super::error::brief(name),
        },
        Rev::Commit(id) => RepoError::UnknownRev {
            url,
            rev: id.to_string(),
        },
    }
}

/// The failure that was kept for us, else libgit2's words.
fn said(link: &Link, error: &git2::Error) -> RepoError {
    link.take_failure().unwrap_or_else(|| RepoError::git(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_digits_are_a_commit_and_anything_else_a_name() {
        let id = "0123456789abcdef0123456789ABCDEF01234567";
        assert_eq!(
            Rev::parse(Some(id)).unwrap(),
            Rev::Commit(Oid::from_str(&id.to_ascii_lowercase()).unwrap())
        );
        assert_eq!(Rev::parse(None).unwrap(), Rev::Default);
        for name in [
            "main",
            "v1.0",
            "feature/x",
            "refs/pull/1/head",
            "0123456",
            "größe",
        ] {
            assert_eq!(Rev::parse(Some(name)).unwrap(), Rev::Name(name.into()));
        }
    }

    #[test]
    fn names_that_mean_something_else_to_git_are_refused() {
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a:b",
            "a*b",
            "a..b",
            "a b",
            "a\nb",
            "a\u{1b}b",
            "a^",
            "a~1",
            "@{-1}",
            "a.lock",
            "/a",
            "a/",
            "a//b",
            "a\\b",
            "HEAD:x",
            ".a",
        ] {
            assert!(
                matches!(Rev::parse(Some(bad)), Err(RepoError::Rev { .. })) || bad == "{bad:?}"
            );
        }
        assert!(Rev::parse(Some(&"a".repeat(256))).is_err());
    }
}
