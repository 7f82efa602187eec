//! What a clone tells while it goes on and when it is done.

use std::fmt;

/// Entries of one kind that are named; the rest is counted.
const NAMED: usize = 10;

/// Where a clone stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Receiving {
        bytes: u64,
        objects: u64,
        /// 0 while unknown.
        total: u64,
    },
    Writing {
        files: u64,
        total: u64,
    },
}

/// What was cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneReport {
    pub url: String,
    /// The branch or tag, where one was taken.
    pub reference: Option<String>,
    /// 40 hex digits.
    pub commit: String,
    pub files: u64,
    /// What the files hold.
    pub bytes: u64,
    /// What came over the network; 0 for a local repository.
    pub received: u64,
    pub notes: Vec<Note>,
}

/// What is not as in the repository, in words that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Symlinks(Listed),
    Submodules(Listed),
    /// Pointers to files kept elsewhere (git LFS).
    LfsPointers(Listed),
    /// Settings of editors and tools, some of which run programs.
    Settings(Listed),
    /// Asked for by id, and the tip of nothing: hosts serve the commits of forks under any name.
    NotATip,
    /// The server sent us on, within itself.
    Moved(String),
    /// The server could not give a single commit.
    WholeHistory,
}

/// The first entries of a kind, escaped, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub first: Vec<String>,
    pub count: u64,
}

impl Listed {
    pub(super) fn add(&mut self, entry: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(entry());
        }
    }

    pub(super) fn into_note(self, note: fn(Self) -> Note) -> Option<Note> {
        (self.count > 0).then(|| note(self))
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first.join(", "))?;
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symlinks(list) => write!(f, "left out {} symbolic links: {list}", list.count),
            Self::Submodules(list) => {
                write!(f, "{} submodules were not fetched: {list}", list.count)
            }
            Self::LfsPointers(list) => write!(
                f,
                "{} files are git LFS pointers, their content was not fetched: {list}",
                list.count
            ),
            Self::Settings(list) => write!(
                f,
                "left out {} settings of editors and tools: {list}",
                list.count
            ),
            Self::NotATip => write!(
                f,
                "the commit is not the tip of a branch or tag; some hosts also serve commits of forks under this URL"
            ),
            Self::Moved(url) => write!(f, "the repository has moved to {url}"),
            Self::WholeHistory => write!(
                f,
                "the server does not give single commits: more history than needed was fetched"
            ),
        }
    }
}
