//! Container Device Interface files, read: which device nodes and files make up each GPU. Pure but for
//! [`read_folders`].
//!
//! A file is data to us. Nothing in it is run: of the programs it wants a runtime to run as root
//! (hooks), those of NVIDIA's toolkit are known by their effect, which is had without them, and any
//! other makes the file unusable. It hands out nodes of NVIDIA's GPUs or is refused; nodes and files
//! for drawing are left out. ([CDI specification](https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md))

use super::error::{CdiError, GpuError};
use super::yaml;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The kind of device we know.
const KIND: &str = "nvidia.com/gpu";

/// Bytes of one file; a machine with eight GPUs has some 60 KiB.
const LARGEST: u64 = 1 << 20;

/// What a device, or all of a file, adds to a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Path on the host, path inside.
    pub(super) nodes: Vec<(PathBuf, String)>,
    pub(super) files: Vec<PathBuf>,
    /// Name of a link, name of what it leads to.
    pub(super) links: Vec<(String, String)>,
}

impl Parts {
    pub(super) fn add(&mut self, other: &Self) {
        fn add<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
            for one in from {
                if !to.contains(one) {
                    to.push(one.clone());
                }
            }
        }
        add(&mut self.nodes, &other.nodes);
        add(&mut self.files, &other.files);
        add(&mut self.links, &other.links);
    }
}

/// A device of a file, with what the file gives to all of its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) parts: Parts,
    pub(super) file: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    cdi_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Device {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<Hook>,
    additional_gids: Vec<u32>,
    intel_rdt: Option<Value>,
    net_devices: Option<Value>,
}

/// Numbers and modes are the node's own, on this machine: they are looked at there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Whatever its options say, what we mount of it is read-only.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bind {
    host_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    path: String,
    #[serde(default)]
    args: Vec<String>,
}

/// Every GPU that the files of these folders describe; of one name, the later folder's.
pub(super) fn read_folders(folders: &[PathBuf]) -> Result<Vec<Described>, GpuError> {
    let mut all: Vec<Described> = Vec::new();
    for folder in folders {
        let mut here: Vec<Described> = Vec::new();
        for file in files(folder)? {
            let wrong = |error| GpuError::Cdi {
                file: file.clone(),
                error,
            };
            for device in read(&file).map_err(wrong)? {
                if here.iter().any(|other| other.name == device.name) {
                    return Err(wrong(CdiError::Twice(device.name)));
                }
                here.push(device);
            }
        }
        all.retain(|old| !here.iter().any(|new| new.name == old.name));
        all.extend(here);
    }
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, GpuError> {
    let unreadable = |error: std::io::Error| GpuError::Cdi {
        file: folder.to_owned(),
        error: CdiError::Unreadable(error.to_string()),
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|end| end == "json" || end == "yaml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<Described>, CdiError> {
    let unreadable = |error: std::io::Error| CdiError::Unreadable(error.to_string());
    let found = fs::metadata(file).map_err(unreadable)?;
    if !found.is_file() || found.len() > LARGEST {
        return Err(CdiError::Unreadable(
            "it is no file of at most 1 MiB".to_owned(),
        ));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    parse(&text, file)
}

/// The GPUs in one file; none where it is about other devices.
pub(super) fn parse(text: &str, file: &Path) -> Result<Vec<Described>, CdiError> {
    // YAML is what generators write; JSON is YAML, but for what it says about mistakes.
    let whole: Value = match file.extension().is_some_and(|end| end == "json") {
        true => serde_json::from_str(text).map_err(|error| CdiError::Shape(error.to_string()))?,
        false => yaml::parse(text)?,
    };
    let Some(kind) = whole.get("kind").and_then(Value::as_str) else {
        return Err(CdiError::Shape("it has no kind".to_owned()));
    };
    if kind != KIND {
        return Ok(Vec::new());
    }
    let shaped: File =
        serde_json::from_value(whole).map_err(|error| CdiError::Shape(error.to_string()))?;
    if !(shaped.cdi_version.starts_with("0.") || shaped.cdi_version.starts_with("1.")) {
        return Err(CdiError::Version(shaped.cdi_version));
    }
    let common = judge("the whole file", &shaped.container_edits)?;
    let mut devices: Vec<Described> = Vec::new();
    for device in &shaped.devices {
        let mut parts = judge(&device.name, &device.container_edits)?;
        parts.add(&common);
        if devices.iter().any(|other| other.name == device.name) {
            return Err(CdiError::Twice(device.name.clone()));
        }
        devices.push(Described {
            name: device.name.clone(),
            parts,
            file: file.to_owned(),
        });
    }
    Ok(devices)
}

fn judge(device: &str, edits: &Edits) -> Result<Parts, CdiError> {
    let device = device.to_owned();
    let wants = |what| CdiError::Wants {
        device: device.clone(),
        what,
    };
    if edits.intel_rdt.is_some() {
        return Err(wants("a cache class (intelRdt)"));
    }
    if edits.net_devices.is_some() {
        return Err(wants("a network device"));
    }
    // Any other group is had where the node wants it.
    if edits.additional_gids.contains(&0) {
        return Err(wants("the group root"));
    }
    // The driver's own are said by the sandbox itself, for what it really has.
    for variable in &edits.env {
        let name = variable.split('=').next().unwrap_or_default();
        if !name.starts_with("NVIDIA_") {
            let name = name.to_owned();
            return Err(CdiError::Env { device, name });
        }
    }
    let mut parts = Parts::default();
    for node in &edits.device_nodes {
        parts.nodes.extend(self::node(&device, node)?);
    }
    for bind in &edits.mounts {
        parts.files.push(plain(&device, &bind.host_path)?);
    }
    for hook in &edits.hooks {
        parts.links.extend(effect(&device, hook)?);
    }
    Ok(parts)
}

/// `None` for one that is for drawing.
fn node(device: &str, node: &Node) -> Result<Option<(PathBuf, String)>, CdiError> {
    let refused = || CdiError::Node {
        device: device.to_owned(),
        path: node.path.clone(),
    };
    let host = plain(device, node.host_path.as_ref().unwrap_or(&node.path))?;
    plain(device, &node.path)?;
    if node
        .kind
        .as_deref()
        .is_some_and(|kind| !matches!(kind, "c" | "u" | ""))
    {
        return Err(refused());
    }
    if node.path.starts_with("/dev/dri/") || node.path == "/dev/nvidia-modeset" {
        return Ok(None);
    }
    match is_gpu_node(&node.path) {
        true => Ok(Some((host, node.path.clone()))),
        false => Err(refused()),
    }
}

/// Nodes that computing on a GPU takes.
fn is_gpu_node(path: &str) -> bool {
    let Some(name) = path.strip_prefix("/dev/") else {
        return false;
    };
    let capability = name
        .strip_prefix("nvidia-caps/nvidia-cap")
        .is_some_and(is_number);
    capability
        || gpu_number(path).is_some()
        || matches!(name, "nvidiactl" | "nvidia-uvm" | "nvidia-uvm-tools")
}

/// The number of a GPU's own node.
pub(super) fn gpu_number(path: &str) -> Option<u32> {
    let number = path.strip_prefix("/dev/nvidia")?;
    is_number(number).then(|| number.parse().ok())?
}

fn is_number(text: &str) -> bool {
    (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a hook would do, of which only the links are more than a sandbox has anyway.
fn effect(device: &str, hook: &Hook) -> Result<Vec<(String, String)>, CdiError> {
    let mut words = hook.args.iter().skip(1).map(String::as_str);
    let verb = match words.next() {
        Some("hook") => words.next(),
        verb => verb,
    };
    match verb {
        Some("create-symlinks") => {
            let words: Vec<&str> = words.collect();
            let named = words
                .windows(2)
                .filter(|pair| matches!(pair[0], "--link" | "-link"));
            Ok(named
                .filter_map(|pair| pair[1].split_once("::"))
                .map(|(target, link)| (base(link), base(target)))
                .collect())
        }
        // Libraries are found without the loader's cache, nobody makes device nodes, folders of
        // nodes are ours, and an image's own newer libraries are not taken for the driver's.
        Some(
            "update-ldcache" | "chmod" | "enable-cuda-compat" | "disable-device-node-modification",
        ) => Ok(Vec::new()),
        _ => Err(CdiError::Hook {
            device: device.to_owned(),
            hook: format!("{} {}", hook.path, verb.unwrap_or_default()),
        }),
    }
}

fn base(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn plain(device: &str, path: &str) -> Result<PathBuf, CdiError> {
    let found = Path::new(path);
    let good = found.is_absolute()
        && !path.contains('\0')
        && found
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match good {
        true => Ok(found.to_owned()),
        false => Err(CdiError::Path {
            device: device.to_owned(),
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
#[path = "cdi_tests.rs"]
mod tests;
