//! What comes with GPUs: files of their driver in a folder of their own, and variables that say so.
//!
//! Where the sandbox shows the host's own system, what of the driver is part of it is there already,
//! and the loader's cache knows it.

use super::{PlanInput, Source};
use crate::protocol::device::DRIVER_TARGET;
use crate::protocol::spec::{Access, Mount, MountKind, RootFs};
use crate::sandbox::gpu::{DriverFile, FileKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Where files of that kind are inside.
fn folder(kind: FileKind) -> String {
    match kind {
        FileKind::Library => format!("{DRIVER_TARGET}/lib"),
        FileKind::Program => format!("{DRIVER_TARGET}/bin"),
    }
}

fn missing<'a>(input: &PlanInput<'a>) -> impl Iterator<Item = &'a DriverFile> {
    let shows_system = input.root == RootFs::HostSystem;
    let files = input.gpus.map_or(&[][..], |gpus| gpus.files);
    files
        .iter()
        .filter(move |file| !(shows_system && file.in_system))
}

pub(super) fn mounts(input: &PlanInput<'_>) -> Vec<Mount> {
    missing(input)
        .map(|file| {
            let source = Source {
                path: file.path.clone(),
                device: file.device,
                inode: file.inode,
            };
            let target = Path::new(&folder(file.kind)).join(&file.name);
            super::mounts::mount(MountKind::Driver, &source, target, Access::ReadOnly)
        })
        .collect()
}

/// Variables, and the folder of programs, where there is one.
pub(super) fn env(input: &PlanInput<'_>) -> (BTreeMap<String, String>, Option<String>) {
    let Some(gpus) = input.gpus else {
        return (BTreeMap::new(), None);
    };
    let visible: Vec<String> = gpus
        .devices
        .gpus
        .iter()
        .map(|gpu| gpu.uuid.clone().unwrap_or_else(|| gpu.index.to_string()))
        .collect();
    let mut env = BTreeMap::from([
        ("NVIDIA_VISIBLE_DEVICES".to_owned(), visible.join(",")),
        (
            "NVIDIA_DRIVER_CAPABILITIES".to_owned(),
            input.policy.gpu.capabilities.join(","),
        ),
    ]);
    let has = |kind| missing(input).any(|file| file.kind == kind);
    if has(FileKind::Library) {
        env.insert("LD_LIBRARY_PATH".to_owned(), folder(FileKind::Library));
    }
    (
        env,
        has(FileKind::Program).then(|| folder(FileKind::Program)),
    )
}
