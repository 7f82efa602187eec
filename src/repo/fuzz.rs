//! What holds of what git servers send and of trees, whatever is in them.

use super::judge::{Step, judge};
use super::pack::{PackBounds, Scanner};
use super::pkt::{Advert, Piece, PktReader};
use super::write::Place;
use crate::policy::model::GitPolicy;
use git2::{ObjectType, Odb, Oid};
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const BOUNDS: PackBounds = PackBounds {
    objects: 1000,
    object: 1 << 20,
    total: 4 << 20,
};

/// The first byte says where the rest is cut in two. It is read as lines, then as a pack without lines.
pub(crate) fn git_stream(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let cut = usize::from(first) % (bytes.len() + 1);
    let (before, after) = bytes.split_at(cut);
    let whole = Heard::of(&[bytes]);
    assert_eq!(Heard::of(&[before, after]), whole);
    let mut advert = Advert::default();
    for text in &whole.texts {
        // A list that makes no sense ends the conversation.
        if advert.line(text).is_err() {
            break;
        }
    }
    assert!(advert.heads.iter().all(|head| !head.id.is_zero()));
    assert_eq!(scan(&[before, after]), scan(&[bytes]));
    scan(&[&whole.pack]);
}

/// What was heard, up to a fault.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    texts: Vec<Vec<u8>>,
    flushes: usize,
    pack: Vec<u8>,
    fault: Option<&'static str>,
}

impl Heard {
    fn of(pieces: &[&[u8]]) -> Self {
        let mut heard = Self::default();
        let mut reader = PktReader::default();
        for bytes in pieces {
            let read = reader.push(bytes, |piece| {
                match piece {
                    Piece::Flush => heard.flushes += 1,
                    Piece::Text(text) => heard.texts.push(text.to_vec()),
                    Piece::Pack(some) => heard.pack.extend_from_slice(some),
                }
                Ok(())
            });
            if let Err(why) = read {
                heard.fault = Some(why);
                break;
            }
        }
        heard
    }
}

/// Whether a pack passes to its end. What is wrong with one may be noticed earlier in small pieces.
fn scan(pieces: &[&[u8]]) -> bool {
    let mut scanner = Scanner::new(BOUNDS);
    let passes = pieces.iter().all(|bytes| scanner.push(bytes).is_ok());
    assert!(!passes || scanner.unfolded() <= BOUNDS.total);
    passes && scanner.is_over()
}

/// Entries of a tree. Each is a byte for its kind, one for the length of its name, and the name.
pub(crate) fn git_tree(data: &[u8]) {
    super::set_up().expect("libgit2 can be set up");
    let odb = Odb::new().expect("a store of objects");
    let _memory = odb.add_new_mempack_backend(1).expect("a store in memory");
    let root = match data.split_first() {
        Some((0xff, raw)) => odb.write(ObjectType::Tree, raw).expect("it is written"),
        _ => Maker::new(&odb, data).tree(),
    };
    let policy = GitPolicy {
        hosts: Vec::new(),
        remotes: Vec::new(),
        max_bytes: 1 << 20,
        max_files: 200,
    };
    let Ok(judged) = judge(&odb, root, &policy, &|| Ok(())) else {
        return;
    };
    let files = judged
        .steps
        .iter()
        .filter(|step| matches!(step, Step::File { .. }))
        .count();
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("ws")).expect("a folder");
    fs::write(at("beside"), "as it was").expect("a file");
    let workspace = File::open(at("ws")).expect("a folder");
    let place = Place::open(workspace.as_fd(), Path::new("a/into"), None).expect("it is free");
    let written = place.write(&odb, &judged, &mut |_| Ok(()));
    assert_eq!(names_in(dir.path()), ["beside", "ws"]);
    assert_eq!(fs::read(at("beside")).expect("it stands"), b"as it was");
    match written {
        Ok(_) => {
            assert_eq!(names_in(&at("ws")), ["a"]);
            assert_eq!(names_in(&at("ws/a")), ["into"]);
            assert_eq!(plain_files(&at("ws/a/into")), files);
        }
        Err(_) => assert!(names_in(&at("ws")).is_empty()),
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// How many there are: nothing but files and folders, no mode but the two, no `.git`.
fn plain_files(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().to_lowercase();
        assert!(
            name != ".git" && !name.chars().any(char::is_control),
            "{name:?}"
        );
        let meta = entry.metadata().expect("it stands");
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            assert_eq!(mode, 0o755);
            files += plain_files(&entry.path());
        } else {
            assert!(
                meta.is_file() && matches!(mode, 0o644 | 0o755),
                "{name:?} {mode:o}"
            );
            files += 1;
        }
    }
    files
}

/// Makes trees in memory, as no git would.
struct Maker<'a> {
    odb: &'a Odb<'a>,
    rest: &'a [u8],
}

impl<'a> Maker<'a> {
    fn new(odb: &'a Odb<'a>, rest: &'a [u8]) -> Self {
        Self { odb, rest }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn tree(&mut self) -> Oid {
        let mut tree = Vec::new();
        while let Some(kind) = self.byte() {
            if kind % 8 == 7 {
                break;
            }
            let length = usize::from(self.byte().unwrap_or(0));
            let (name, rest) = self.rest.split_at(length.min(self.rest.len()));
            self.rest = rest;
            let (mode, id) = match kind % 8 {
                0 => ("40000", self.tree()),
                1 => ("100755", self.blob(name)),
                2 => ("120000", self.blob(b"../../beside")),
                3 => ("160000", self.blob(b"x")),
                // Of no kind that git knows, or of the wrong one.
                4 => ("104755", self.blob(name)),
                5 => ("100644", self.tree()),
                _ => ("100644", self.blob(name)),
            };
            tree.extend_from_slice(mode.as_bytes());
            tree.push(b' ');
            tree.extend_from_slice(name);
            tree.push(0);
            tree.extend_from_slice(id.as_bytes());
        }
        self.odb
            .write(ObjectType::Tree, &tree)
            .expect("it is written")
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.odb
            .write(ObjectType::Blob, content)
            .expect("it is written")
    }
}
