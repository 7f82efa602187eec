//! What an archive of an image holds: its configuration, and where its layers lie.
//!
//! Read are `docker save`'s form, an OCI layout in one tar archive, and a root file system itself. The
//! archive is taken as hostile: bounded numbers and sizes, and every part is held against the digest
//! that names it before it counts.

use super::error::ImageError;
use super::name::hex;
use super::rootfs::to_hex;
use super::section::{Part, Section};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest document: configurations of large images take some 100 KiB.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Most parts that are looked at; a root file system has more files, and is none of them.
const MAX_PARTS: usize = 8192;
/// Most layers: an engine takes 127.
const MAX_LAYERS: usize = 256;
/// Longest word that a header may put before an entry.
const MAX_WORD: u64 = 64 * 1024;

/// A layer, and what it must be when it is unpacked; `None` where nothing says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) part: Part,
    pub(super) diff_id: Option<String>,
}

/// What is in an archive.
#[derive(Debug)]
pub(super) struct Layout {
    /// `None` for a root file system: its configuration is ours.
    pub(super) id: Option<String>,
    pub(super) layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct SavedImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// How images name this machine's processors.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Looks into an archive.
pub(super) fn read(file: &File, path: &Path) -> Result<Layout, ImageError> {
    let parts = Parts::scan(file, path)?;
    if parts.known.contains_key("manifest.json") {
        return saved(&parts);
    }
    if parts.known.contains_key("index.json") {
        return oci(&parts);
    }
    let size = file
        .metadata()
        .map_err(ImageError::io("look at", path))?
        .len();
    let whole = Layer {
        part: Part { at: 0, size },
        diff_id: None,
    };
    Ok(Layout {
        id: None,
        layers: vec![whole],
    })
}

fn saved(parts: &Parts<'_>) -> Result<Layout, ImageError> {
    let images: Vec<SavedImage> = parts.document("manifest.json")?.1;
    let [image] = &images[..] else {
        return Err(parts.wrong(format!("it holds {} images: save one", images.len())));
    };
    let config = parts.bytes(&image.config)?;
    let layers = image.layers.iter().map(|name| parts.part(name));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    parts.layout(&config, layers)
}

fn oci(parts: &Parts<'_>) -> Result<Layout, ImageError> {
    let index: Index = parts.document("index.json")?.1;
    let mut chosen = parts.choose(&index)?;
    if chosen.media_type.contains("index") || chosen.media_type.contains("manifest.list") {
        let inner: Index = parts.blob(&chosen.digest)?.1;
        chosen = Descriptor {
            digest: parts.choose(&inner)?.digest.clone(),
            media_type: String::new(),
            platform: None,
        };
        return oci_manifest(parts, &chosen);
    }
    oci_manifest(parts, &chosen)
}

fn oci_manifest(parts: &Parts<'_>, chosen: &Descriptor) -> Result<Layout, ImageError> {
    let manifest: Manifest = parts.blob(&chosen.digest)?.1;
    let (config, _) = parts.blob::<serde_json::Value>(&manifest.config.digest)?;
    let layers = manifest.layers.iter().map(|layer| {
        let name = blob_name(&layer.digest).ok_or_else(|| parts.unnamed(&layer.digest))?;
        parts.part(&name)
    });
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    parts.layout(&config, layers)
}

fn blob_name(digest: &str) -> Option<String> {
    hex(digest).map(|hex| format!("blobs/sha256/{hex}"))
}

/// Files of an archive by name; only those that may matter.
struct Parts<'a> {
    file: &'a File,
    path: &'a Path,
    known: HashMap<String, Part>,
    /// Names that stand for others: `docker save` links layers that are the same.
    links: HashMap<String, String>,
}

impl<'a> Parts<'a> {
    /// Walks over the headers, without reading what lies between.
    fn scan(file: &'a File, path: &'a Path) -> Result<Self, ImageError> {
        let end = file
            .metadata()
            .map_err(ImageError::io("look at", path))?
            .len();
        let mut parts = Self {
            file,
            path,
            known: HashMap::new(),
            links: HashMap::new(),
        };
        let (mut at, mut nameless) = (0u64, false);
        let mut header = tar::Header::new_old();
        while at + 512 <= end {
            file.read_exact_at(header.as_mut_bytes(), at)
                .map_err(ImageError::io("read", path))?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                break;
            }
            // What is packed as a whole has no headers here, and is looked at as it is unpacked.
            let Some(size) = checked_size(&header) else {
                break;
            };
            at += 512;
            let kind = header.entry_type();
            let is_word = kind.is_gnu_longname() || kind.is_gnu_longlink();
            if is_word || kind.is_pax_local_extensions() {
                // What is renamed by a word is no part of an image.
                nameless |= is_word || parts.renames(Part { at, size })?;
            } else if !kind.is_pax_global_extensions() {
                if !nameless {
                    parts.take(&header, Part { at, size })?;
                }
                nameless = false;
            }
            let padded = size.checked_next_multiple_of(512);
            at = padded
                .and_then(|padded| at.checked_add(padded))
                .ok_or_else(|| parts.wrong("a size in it is no size"))?;
        }
        Ok(parts)
    }

    /// Whether a word of pax says something of names or sizes.
    fn renames(&self, part: Part) -> Result<bool, ImageError> {
        if part.size > MAX_WORD {
            return Ok(true);
        }
        let text = self.read(part)?;
        let says = |key: &[u8]| text.windows(key.len()).any(|window| window == key);
        Ok(says(b" path=") || says(b" size=") || says(b" linkpath="))
    }

    fn take(&mut self, header: &tar::Header, part: Part) -> Result<(), ImageError> {
        let Ok(name) = String::from_utf8(header.path_bytes().into_owned()) else {
            return Ok(());
        };
        let name = name.trim_start_matches("./").to_owned();
        let matters = name.ends_with(".json")
            || name.ends_with("/layer.tar")
            || name.ends_with(".tar") && !name.contains('/')
            || name.starts_with("blobs/sha256/");
        if !matters || self.known.len() + self.links.len() >= MAX_PARTS {
            return Ok(());
        }
        let kind = header.entry_type();
        if kind.is_file() {
            let before = self.known.insert(name, part);
            if before.is_some() {
                return Err(self.wrong("it has a part twice"));
            }
        } else if kind.is_symlink()
            && let Some(target) = header.link_name_bytes()
            && let Ok(target) = String::from_utf8(target.into_owned())
        {
            self.links
                .insert(name, target.trim_start_matches("../").to_owned());
        }
        Ok(())
    }

    fn part(&self, name: &str) -> Result<Part, ImageError> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.known
            .get(name)
            .copied()
            .ok_or_else(|| self.unnamed(name))
    }

    fn read(&self, part: Part) -> Result<Vec<u8>, ImageError> {
        if part.size > MAX_DOCUMENT {
            return Err(self.wrong("a document in it is too long"));
        }
        let mut bytes = Vec::new();
        Section::new(self.file, part)
            .read_to_end(&mut bytes)
            .map_err(ImageError::io("read", self.path))?;
        match bytes.len() as u64 == part.size {
            true => Ok(bytes),
            false => Err(self.wrong("it ends in the middle of a part")),
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        self.read(self.part(name)?)
    }

    fn document<T: DeserializeOwned>(&self, name: &str) -> Result<(Vec<u8>, T), ImageError> {
        let bytes = self.bytes(name)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| self.wrong(format!("{name}: {error}")))?;
        Ok((bytes, value))
    }

    /// A document by its digest, which it has.
    fn blob<T: DeserializeOwned>(&self, digest: &str) -> Result<(Vec<u8>, T), ImageError> {
        let name = blob_name(digest).ok_or_else(|| self.unnamed(digest))?;
        let (bytes, value) = self.document(&name)?;
        match id_of(&bytes) == digest {
            true => Ok((bytes, value)),
            false => Err(self.wrong(format!("{digest} is not what its name says"))),
        }
    }

    /// The one for this machine, or the only one.
    fn choose<'i>(&self, index: &'i Index) -> Result<Descriptor, ImageError> {
        let fits = |one: &&'i Descriptor| match &one.platform {
            Some(platform) => platform.os == "linux" && platform.architecture == architecture(),
            None => true,
        };
        let mut fitting = index.manifests.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(Descriptor {
                digest: one.digest.clone(),
                media_type: one.media_type.clone(),
                platform: None,
            }),
            (None, _) => Err(self.wrong(format!("it holds no image for linux/{}", architecture()))),
            (Some(_), Some(_)) => Err(self.wrong("it holds several images: save one")),
        }
    }

    fn layout(&self, config: &[u8], parts: Vec<Part>) -> Result<Layout, ImageError> {
        let read: Config = serde_json::from_slice(config)
            .map_err(|error| self.wrong(format!("its configuration: {error}")))?;
        if (read.os.as_str(), read.architecture.as_str()) != ("linux", architecture()) {
            let (os, arch) = (read.os, read.architecture);
            return Err(self.wrong(format!(
                "it is made for {os}/{arch}, this machine runs linux/{}",
                architecture()
            )));
        }
        let diff_ids = read.rootfs.diff_ids;
        if diff_ids.len() != parts.len() || parts.is_empty() || parts.len() > MAX_LAYERS {
            return Err(self.wrong(format!(
                "its configuration names {} layers, and it has {}",
                diff_ids.len(),
                parts.len()
            )));
        }
        let layers = parts.into_iter().zip(diff_ids);
        Ok(Layout {
            id: Some(id_of(config)),
            layers: layers
                .map(|(part, diff_id)| Layer {
                    part,
                    diff_id: Some(diff_id),
                })
                .collect(),
        })
    }

    fn unnamed(&self, name: &str) -> ImageError {
        let name: String = name.chars().take(100).collect();
        self.wrong(format!("it names {name:?}, which it does not have"))
    }

    fn wrong(&self, why: impl Into<String>) -> ImageError {
        ImageError::damaged(self.path, why)
    }
}

/// The size of an entry, where this is a header of one.
fn checked_size(header: &tar::Header) -> Option<u64> {
    let field = 148..156;
    let sum: u32 = header
        .as_bytes()
        .iter()
        .enumerate()
        .fold(0, |sum, (at, byte)| {
            sum + u32::from(if field.contains(&at) { b' ' } else { *byte })
        });
    (header.cksum().ok()? == sum).then(|| header.entry_size().ok())?
}

/// The digest by which something is named.
pub(super) fn id_of(bytes: &[u8]) -> String {
    format!("sha256:{}", to_hex(&Sha256::digest(bytes)))
}
