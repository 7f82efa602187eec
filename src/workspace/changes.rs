//! What differs between two snapshots, and what of it a question shows.

use super::artifacts::Artifacts;
use super::beneath::Beneath;
use super::error::WorkspaceError;
use super::hash::Hash;
use super::names;
use super::place::Workspace;
use super::snapshot::{Entry, Snapshot};
use super::texts::{self, MAX_TEXT, Texts};
use super::walk::Kind;
use crate::protocol::question::{FileChange, FileView};
use similar::TextDiff;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files in one question.
const MAX_VIEWS: usize = 200;

/// Bytes of text in one question beyond the files that argv names.
const MAX_VIEW_TEXT: usize = 1024 * 1024;

/// After this long a difference is given less finely.
const DIFF_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Changed,
    Removed,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Changed => '~',
            ChangeKind::Removed => '-',
        };
        write!(f, "{sign} {}", self.path.display())
    }
}

/// Everything but folders that was added, changed or removed, sorted by path.
pub fn changes(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let told = |entry: &Entry| entry.kind != Kind::Folder;
    let mut all: Vec<Change> = Vec::new();
    for (path, entry) in new.entries.iter().filter(|(_, entry)| told(entry)) {
        let kind = match old.entries.get(path) {
            Some(before) if told(before) && same(before, entry) => continue,
            Some(before) if told(before) => ChangeKind::Changed,
            _ => ChangeKind::Added,
        };
        let path = path.clone();
        all.push(Change { path, kind });
    }
    for (path, _) in old.entries.iter().filter(|(_, entry)| told(entry)) {
        if !new.entries.get(path).is_some_and(told) {
            let (path, kind) = (path.clone(), ChangeKind::Removed);
            all.push(Change { path, kind });
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// The same bytes, as far as a snapshot knows.
fn same(a: &Entry, b: &Entry) -> bool {
    if a.kind != b.kind || a.stamp.is_executable() != b.stamp.is_executable() {
        return false;
    }
    match (&a.hash, &b.hash) {
        (Some(a), Some(b)) => a == b,
        _ if matches!(a.kind, Kind::Link(_)) => true,
        _ => a.stamp.is_unchanged(&b.stamp),
    }
}

/// A unified difference of two texts of one file; cut, and said so, above `max` bytes.
pub fn unified(path: &Path, old: &str, new: &str, max: usize) -> String {
    let diff = TextDiff::configure()
        .timeout(DIFF_TIME)
        .diff_lines(old, new);
    let (from, to) = (
        format!("a/{}", path.display()),
        format!("b/{}", path.display()),
    );
    let text = diff
        .unified_diff()
        .context_radius(3)
        .header(&from, &to)
        .to_string();
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = text.len() - end;
    format!("{}\n[{rest} more bytes of difference]\n", &text[..end])
}

/// What a question is about.
#[derive(Debug, Clone, Copy)]
pub struct ViewRequest<'a> {
    pub argv: &'a [Vec<u8>],
    pub cwd: &'a str,
    pub artifacts: &'a Artifacts,
    /// The code as it was at the last yes (or at the start, where there was none).
    pub approved: Option<&'a Snapshot>,
    pub now: &'a Snapshot,
    pub texts: &'a Texts,
}

/// The files a question shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Views {
    /// First those that argv names, then the others that changed.
    pub files: Vec<FileView>,
    /// Changed files that are not listed because there are too many.
    pub omitted: usize,
}

impl Workspace {
    /// The files that argv names, and the code that changed since the last yes.
    pub fn file_views(&self, request: &ViewRequest<'_>) -> Views {
        let named = names::named_files(request.argv, request.cwd, request.now);
        let changed: BTreeSet<PathBuf> = request
            .approved
            .map(|approved| changes(approved, request.now))
            .unwrap_or_default()
            .into_iter()
            .map(|change| change.path)
            .filter(|path| !request.artifacts.matches(path) && !named.contains(path))
            .collect();
        let mut views = Views::default();
        let mut room = MAX_VIEW_TEXT;
        let of_argv = named.len();
        for (index, path) in named.into_iter().chain(changed).enumerate() {
            if views.files.len() >= MAX_VIEWS {
                views.omitted += 1;
                continue;
            }
            let mut change = self.view(request, &path);
            if index >= of_argv {
                change = within(change, &mut room, request.now.get(&path));
            }
            views.files.push(FileView {
                path: path.display().to_string(),
                change,
            });
        }
        views
    }

    fn view(&self, request: &ViewRequest<'_>, path: &Path) -> FileChange {
        let Some(now) = request.now.get(path) else {
            return FileChange::Removed;
        };
        let before = request.approved.and_then(|approved| approved.get(path));
        if before.is_some_and(|before| same(before, now)) && !request.artifacts.matches(path) {
            return FileChange::Unchanged;
        }
        if let Kind::Link(target) = &now.kind {
            let text = format!("(a link to {})\n", target.display());
            return FileChange::New { text };
        }
        let Some(text) = self.text_of(path, now, request.texts) else {
            return self.opaque(path, now);
        };
        let old = before
            .and_then(|before| before.hash)
            .and_then(|hash| request.texts.get(&hash));
        match old {
            Some(old) if old == text => FileChange::Unchanged,
            Some(old) => FileChange::Changed {
                diff: unified(path, &old, &text, MAX_VIEW_TEXT),
            },
            None => FileChange::New { text },
        }
    }

    /// The very bytes of the snapshot, where it hashed them.
    fn text_of(&self, path: &Path, entry: &Entry, kept: &Texts) -> Option<String> {
        if entry.kind != Kind::File || entry.stamp.size > MAX_TEXT {
            return None;
        }
        if let Some(text) = entry.hash.and_then(|hash| kept.get(&hash)) {
            return Some(text);
        }
        let bytes = self.read(&Beneath::parse(path).ok()?, MAX_TEXT).ok()?;
        let is_it = entry.hash.is_none_or(|hash| hash == Hash::of(&bytes));
        is_it
            .then(|| texts::as_text(&bytes).map(str::to_owned))
            .flatten()
    }

    fn opaque(&self, path: &Path, entry: &Entry) -> FileChange {
        let hash = entry.hash.or_else(|| self.hash_now(path).ok());
        FileChange::Opaque {
            size: entry.stamp.size,
            digest: hash.map_or_else(
                || crate::protocol::ids::Digest::new("unreadable"),
                |hash| hash.digest(),
            ),
        }
    }

    fn hash_now(&self, path: &Path) -> Result<Hash, WorkspaceError> {
        let (file, _) = self.open_file(&Beneath::parse(path)?)?;
        Hash::of_reader(file)
            .map(|(hash, _)| hash)
            .map_err(WorkspaceError::io("read", path))
    }
}

/// A text that no longer fits is shown by its size and hash.
fn within(change: FileChange, room: &mut usize, entry: Option<&Entry>) -> FileChange {
    let size = match &change {
        FileChange::New { text } => text.len(),
        FileChange::Changed { diff } => diff.len(),
        FileChange::Unchanged | FileChange::Removed | FileChange::Opaque { .. } => 0,
    };
    match (room.checked_sub(size), entry.and_then(|entry| entry.hash)) {
        (None, Some(hash)) => FileChange::Opaque {
            size: entry.map_or(0, |entry| entry.stamp.size),
            digest: hash.digest(),
        },
        (left, _) => {
            *room = left.unwrap_or(0);
            change
        }
    }
}
