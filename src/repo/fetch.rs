//! Fetches one commit over the network into a bare repository of our own.
//!
//! ```text
//!   list of references ─┬─ branch, tag or default ─▶ that reference, depth 1
//!                       └─ commit ─┬─ tip of a reference ────────────▶ the same
//!                                  ├─ the server gives it by its id ─▶ depth 1
//!                                  └─ it does not ───────────────────▶ the default branch, whole; is it there?
//! ```

use super::error::{RepoError, brief};
use super::link::{Extent, Link};
use super::objects::commit_of;
use super::pkt::Advert;
use super::report::Progress;
use super::transport::with_link;
use crate::policy::git_url::CheckedUrl;
use git2::{AutotagOption, Direction, FetchOptions, Oid, Remote, RemoteCallbacks};
use git2::{Repository, RepositoryInitOptions};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where the fetched tip is kept in our bare repository.
const TIP: &str = "refs/fumehood/tip";
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
                rev: brief(rev),
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

/// As it was asked for, fit to be shown.
impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("HEAD"),
            Self::Name(name) => f.write_str(&brief(name)),
            Self::Commit(id) => id.fmt(f),
        }
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
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, RepoError> {
    let remote = || {
        repository
            .remote_anonymous(checked.as_str())
            .map_err(|error| RepoError::git(&error))
    };
    let mut connected = remote()?;
    with_link(link, || connected.connect(Direction::Fetch))
        .map_err(|error| said(link, checked, &error))?;
    let advert = link.advert();
    let chosen = choose(&advert, rev).ok_or_else(|| missing(&advert, checked, rev))?;
    let mut extent = match advert.has("shallow") {
        true => Extent::OneCommit,
        false => Extent::WholeHistory,
    };
    let mut take = |remote: &mut Remote<'_>, refspec: &str, extent| {
        link.ask_for(extent);
        with_link(link, || receive(remote, refspec, extent, link, progress))
            .map_err(|error| said(link, checked, &error))
    };
    let by_id = matches!(chosen, Chosen::Id(_));
    let outcome = match by_id && !advert.gives_ids() {
        true => Err(missing(&advert, checked, rev)),
        false => take(&mut connected, &chosen.refspec(), extent),
    };
    match outcome {
        // The server keeps its commits to itself, unless they are tips.
        Err(
            RepoError::UnknownRev { .. } | RepoError::Refused { .. } | RepoError::Damaged { .. },
        ) if by_id => {
            extent = Extent::WholeHistory;
            take(&mut remote()?, &format!("+HEAD:{TIP}"), extent)?;
        }
        done => done?,
    }
    Ok(Found {
        commit: commit(repository, rev)?.ok_or_else(|| missing(&advert, checked, rev))?,
        reference: chosen.reference(),
        whole_history: extent == Extent::WholeHistory,
    })
}

/// What to ask the server for.
#[derive(Debug, PartialEq, Eq)]
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

/// Picks from what the server says it has. Pure.
fn choose(advert: &Advert, rev: &Rev) -> Option<Chosen> {
    let has = |name: &str| advert.heads.iter().any(|head| head.name == name);
    // A server chooses these names, and they become part of what git is asked for.
    let plain = |name: &String| name == "HEAD" || git2::Reference::is_valid_name(name);
    match rev {
        Rev::Default => {
            let target = advert.default.clone().filter(|target| has(target));
            target
                .or_else(|| has("HEAD").then(|| "HEAD".to_owned()))
                .filter(plain)
                .map(Chosen::Reference)
        }
        Rev::Name(name) => Rev::candidates(name)
            .into_iter()
            .find(|candidate| has(candidate))
            .map(Chosen::Reference),
        Rev::Commit(id) => {
            let heads = advert.heads.iter().filter(|head| head.id == *id);
            // An annotated tag is listed twice: itself, and what it is of.
            let mut names = heads.map(|head| head.name.trim_end_matches("^{}").to_owned());
            let tip = names.find(plain);
            Some(tip.map_or(Chosen::Id(*id), Chosen::Reference))
        }
    }
}

/// Runs git's part; its reports come back as progress.
fn receive(
    remote: &mut Remote<'_>,
    refspec: &str,
    extent: Extent,
    link: &Arc<Link>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), git2::Error> {
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|state| {
        progress(Progress::Receiving {
            bytes: link.received(),
            objects: state.received_objects() as u64,
            total: state.total_objects() as u64,
        });
        link.watch()
            .check()
            .map_err(|error| link.keep(error))
            .is_ok()
    });
    let mut options = FetchOptions::new();
    options
        .remote_callbacks(callbacks)
        .depth(match extent {
            Extent::OneCommit => 1,
            Extent::WholeHistory => 0,
        })
        .download_tags(AutotagOption::None)
        .update_fetchhead(false);
    remote.fetch(&[refspec], Some(&mut options), None)
}

/// What the fetched reference, or the id, leads to: a commit, or nothing of use.
fn commit(repository: &Repository, rev: &Rev) -> Result<Option<Oid>, RepoError> {
    let failed = |error: git2::Error| RepoError::git(&error);
    let id = match rev {
        Rev::Commit(id) => Some(*id),
        Rev::Default | Rev::Name(_) => repository.find_reference(TIP).map_err(failed)?.target(),
    };
    let odb = repository.odb().map_err(failed)?;
    Ok(id.and_then(|id| commit_of(&odb, id)))
}

fn missing(advert: &Advert, checked: &CheckedUrl, rev: &Rev) -> RepoError {
    let url = checked.as_str().to_owned();
    if advert.heads.is_empty() {
        return RepoError::Empty { url };
    }
    let rev = rev.to_string();
    RepoError::UnknownRev { url, rev }
}

/// The failure that was kept for us, else libgit2's words, which may be the server's.
fn said(link: &Link, checked: &CheckedUrl, error: &git2::Error) -> RepoError {
    link.take_failure()
        .unwrap_or_else(|| match error.message().strip_prefix("remote error: ") {
            Some(words) => RepoError::Refused {
                url: checked.as_str().to_owned(),
                why: brief(words),
            },
            None => RepoError::git(error),
        })
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
            let judged = Rev::parse(Some(bad));
            assert!(
                matches!(judged, Err(RepoError::Rev { .. })),
                "{bad:?}: {judged:?}"
            );
        }
        assert!(Rev::parse(Some(&"a".repeat(256))).is_err());
    }

    fn advert(names: &[&str], capabilities: &str) -> Advert {
        let mut advert = Advert::default();
        for (n, name) in names.iter().enumerate() {
            let line = format!("{:040x} {name}\0{capabilities}\n", n + 1);
            advert.line(line.as_bytes()).unwrap();
        }
        advert
    }

    #[test]
    fn branches_come_before_tags_and_default_is_what_the_server_says() {
        let advert = advert(
            &["HEAD", "refs/heads/dev", "refs/tags/v1", "refs/heads/v1"],
            "symref=HEAD:refs/heads/dev",
        );
        let chosen = |rev: &str| choose(&advert, &Rev::parse(Some(rev)).unwrap());
        let reference = |name: &str| Some(Chosen::Reference(name.into()));
        assert_eq!(choose(&advert, &Rev::Default), reference("refs/heads/dev"));
        assert_eq!(chosen("v1"), reference("refs/heads/v1"));
        assert_eq!(chosen("refs/tags/v1"), reference("refs/tags/v1"));
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen(&format!("{:040x}", 3)), reference("refs/tags/v1"));
        let other = format!("{:040x}", 99);
        let id = Oid::from_str(&other).unwrap();
        assert_eq!(chosen(&other), Some(Chosen::Id(id)));
    }

    #[test]
    fn names_that_a_server_made_up_do_not_reach_git() {
        let id = format!("{:040x}", 2);
        for bad in ["refs/heads/x:refs/heads/y", "refs/heads/*", "+x", "-x"] {
            let advert = advert(&["HEAD", bad], &format!("symref=HEAD:{bad}"));
            assert_eq!(choose(&advert, &Rev::Default), None, "{bad}");
            let chosen = choose(&advert, &Rev::parse(Some(&id)).unwrap());
            assert!(matches!(chosen, Some(Chosen::Id(_))), "{bad}");
        }
    }
}
