//! An archive unpacked into a root of its own: layer over layer through the workspace's extractor, each held
//! against the digest by which the image names it.

use super::error::ImageError;
use super::layout::{self, Layout, id_of};
use super::name::ImageName;
use super::rootfs::{self, to_hex};
use super::roots::About;
use super::section::Section;
use super::store::{Made, Store};
use crate::workspace::{Bounds, Extraction};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

/// The largest image.
const BOUNDS: Bounds = Bounds {
    bytes: 64 << 30,
    entries: 2_000_000,
};

/// Unpacks an archive and gives it a name; `from` says where it came from. Blocks for as long as it takes.
pub fn import(
    store: &Store,
    archive: &Path,
    (name, from): (&str, &str),
    now: String,
) -> Result<(Made, About), ImageError> {
    let name = ImageName::parse(name)?;
    let about = unpack(store, archive)?;
    let made = Made {
        name: name.as_str().to_owned(),
        id: about.id.clone(),
        made: now,
        from: from.to_owned(),
        pulled: None,
    };
    // What is known of the very same image is worth more.
    let made = match store.get(&name)? {
        Some(before) if before.id == made.id => before,
        _ => made,
    };
    store.replace(&made)?;
    Ok((made, about))
}

/// Unpacks an archive, where it is not there already.
pub(super) fn unpack(store: &Store, archive: &Path) -> Result<About, ImageError> {
    let file = File::open(archive).map_err(ImageError::io("open", archive))?;
    let layout = layout::read(&file, archive)?;
    if let Some(id) = &layout.id
        && let Some(about) = store.unpacked(id)?
    {
        return Ok(about);
    }
    let passing = store.passing()?;
    let making = passing.path().join("making");
    fs::create_dir(&making).map_err(ImageError::io("create", &making))?;
    let about = flatten(&file, &layout, (&making, archive))?;
    store.place(&making, &about)?;
    Ok(about)
}

fn flatten(
    file: &File,
    layout: &Layout,
    (making, archive): (&Path, &Path),
) -> Result<About, ImageError> {
    let root = making.join("root");
    let mut extraction = Extraction::layers(&root, BOUNDS)?;
    let mut digest = String::new();
    for (n, layer) in layout.layers.iter().enumerate() {
        let mut hash = Sha256::new();
        extraction
            .add(Section::new(file, layer.part), &mut |bytes| {
                hash.update(bytes);
                ControlFlow::Continue(())
            })
            .map_err(|error| error.of_archive(archive))?;
        digest = format!("sha256:{}", to_hex(&hash.finalize()));
        if layer.diff_id.as_ref().is_some_and(|named| *named != digest) {
            let why = format!(
                "layer {} is not the one that its configuration names",
                n + 1
            );
            return Err(ImageError::damaged(archive, why));
        }
    }
    let there = |name: &str| root.join(name).symlink_metadata().is_ok();
    if !there("usr") && !there("bin") {
        return Err(ImageError::damaged(
            archive,
            "it holds no root file system (where it is an image packed by gzip, unpack that first)",
        ));
    }
    let done = extraction.finish();
    let id = match &layout.id {
        Some(id) => id.clone(),
        None => id_of(&rootfs::config(&digest, layout::architecture())),
    };
    Ok(About {
        id,
        files: done.files,
        bytes: done.bytes,
        left_out: done.left_out,
    })
}
