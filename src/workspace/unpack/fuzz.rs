//! What holds of archives, whatever is in them.

use super::ground::Ground;
use super::{Bounds, Extraction, Shape};
use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    entries: 100,
};

/// The first byte says whether it is a user's archive, or two layers of an image, cut there.
pub(crate) fn archive(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a folder");
    fs::write(dir.path().join("beside"), "as it was").expect("a file");
    let shape = match first {
        0 => Shape::Files,
        _ => Shape::Layers,
    };
    let cut = usize::from(first).saturating_mul(512).min(bytes.len());
    let (under, over) = bytes.split_at(cut);
    let open = OwnedFd::from(File::open(&root).expect("a folder"));
    let mut extraction = Extraction::on(Ground::new(open, shape, None), shape, BOUNDS);
    let whole = extraction
        .add(under, &mut |_| ControlFlow::Continue(()))
        .is_ok()
        && extraction
            .add(over, &mut |_| ControlFlow::Continue(()))
            .is_ok();
    let done = extraction.finish();
    assert!(done.bytes <= BOUNDS.bytes || !whole, "{done:?}");
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["beside", "root"]);
    let beside = fs::read(dir.path().join("beside")).expect("it stands");
    assert_eq!(beside, b"as it was");
    let seen = walk(&root, shape, &mut HashSet::new());
    assert!(seen <= 2 * BOUNDS.bytes, "{seen} bytes stand there");
}

/// Bytes of its files: plain ones and folders, and of an image links too; no mode beyond the usual.
fn walk(folder: &Path, shape: Shape, counted: &mut HashSet<u64>) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("it stands");
        let kind = meta.file_type();
        assert!(
            !kind.is_fifo()
                && !kind.is_socket()
                && !kind.is_block_device()
                && !kind.is_char_device()
        );
        if kind.is_symlink() {
            assert!(shape == Shape::Layers, "{entry:?}");
            continue;
        }
        let mode = meta.permissions().mode() & 0o7777;
        assert!(mode & !0o755 == 0, "{entry:?} {mode:o}");
        bytes += match kind.is_dir() {
            true => walk(&entry.path(), shape, counted),
            // One that is linked to is one.
            false if !counted.insert(meta.ino()) => 0,
            false => meta.len(),
        };
    }
    bytes
}
