//! That what is mounted is what was shown: each source's device and inode, before the engine hears of
//! it, again after the container is made, and once more from inside it where `/proc` lets us look.
//!
//! The engine opens the paths itself, as root, when the container starts; nothing of the run lives in
//! it yet when the last look is taken, so a source that was swapped in between is found before a
//! step could touch it.

use crate::protocol::device::DeviceNode;
use crate::protocol::spec::Mount;
use crate::sandbox::backend::SandboxError;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Looks at the sources on this machine.
pub(super) async fn check_sources(mounts: &[Mount]) -> Result<(), SandboxError> {
    check(mounts.to_vec(), |mount| fs::symlink_metadata(&mount.source)).await
}

/// Looks at the targets inside the container of that process; silent where this user may not look.
pub(super) async fn check_inside(mounts: &[Mount], pid: i64) -> Result<(), SandboxError> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    if fs::read_dir(&root).is_err() {
        return Ok(());
    }
    check(mounts.to_vec(), move |mount| {
        let beneath = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        fs::symlink_metadata(root.join(beneath))
    })
    .await
}

/// Looks at the nodes of GPUs on this machine.
pub(super) fn check_nodes(nodes: &[DeviceNode]) -> Result<(), SandboxError> {
    nodes
        .iter()
        .try_for_each(|node| compare_node(node, fs::symlink_metadata(&node.source)))
}

/// Looks at them inside the container of that process; silent where this user may not look.
pub(super) fn check_nodes_inside(nodes: &[DeviceNode], pid: i64) -> Result<(), SandboxError> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    if fs::read_dir(&root).is_err() {
        return Ok(());
    }
    nodes.iter().try_for_each(|node| {
        let beneath = node.target.trim_start_matches('/');
        compare_node(node, fs::symlink_metadata(root.join(beneath)))
    })
}

fn compare_node(node: &DeviceNode, found: io::Result<fs::Metadata>) -> Result<(), SandboxError> {
    let source = Path::new(&node.source);
    let found = found.map_err(|error| refused(source, &error.to_string()))?;
    let numbers = (
        nix::sys::stat::major(found.rdev()),
        nix::sys::stat::minor(found.rdev()),
    );
    match found.file_type().is_char_device() && numbers == (node.major, node.minor) {
        true => Ok(()),
        false => Err(refused(source, "it is not the device that was shown")),
    }
}

/// On a thread of its own: a source may lie on a network file system.
async fn check<F>(mounts: Vec<Mount>, look: F) -> Result<(), SandboxError>
where
    F: Fn(&Mount) -> io::Result<fs::Metadata> + Send + 'static,
{
    let checked = tokio::task::spawn_blocking(move || {
        mounts
            .iter()
            .try_for_each(|mount| compare(mount, look(mount)))
    });
    checked.await.map_err(|error| SandboxError::Io {
        context: "failed to check the mounts".to_owned(),
        source: io::Error::other(error),
    })?
}

fn compare(mount: &Mount, found: io::Result<fs::Metadata>) -> Result<(), SandboxError> {
    let found = found.map_err(|error| refused(&mount.source, &error.to_string()))?;
    if (found.dev(), found.ino()) != (mount.device, mount.inode) {
        return Err(refused(
            &mount.source,
            "it is not the file or folder that was shown: something took its place",
        ));
    }
    if !(found.is_dir() || found.is_file()) {
        return Err(refused(&mount.source, "it is neither a file nor a folder"));
    }
    Ok(())
}

fn refused(source: &Path, why: &str) -> SandboxError {
    SandboxError::Refused {
        what: format!("mount of {}", source.display()),
        why: why.to_owned(),
        remedy: "look at what is there now, and start again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::spec::{Access, MountKind};

    fn mount(source: &Path, like: &fs::Metadata) -> Mount {
        Mount {
            kind: MountKind::Input,
            source: source.to_owned(),
            target: "/data".into(),
            access: Access::ReadOnly,
            device: like.dev(),
            inode: like.ino(),
        }
    }

    #[tokio::test]
    async fn a_source_that_was_swapped_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("data");
        fs::create_dir(&source).unwrap();
        let shown = mount(&source, &fs::metadata(&source).unwrap());
        check_sources(std::slice::from_ref(&shown)).await.unwrap();
        fs::rename(&source, dir.path().join("aside")).unwrap();
        assert!(check_sources(std::slice::from_ref(&shown)).await.is_err());
        std::os::unix::fs::symlink(dir.path().join("aside"), &source).unwrap();
        let error = check_sources(&[shown]).await.unwrap_err();
        assert!(error.to_string().contains("took its place"), "{error}");
    }

    #[tokio::test]
    async fn a_link_is_never_a_source() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let shown = mount(&link, &fs::symlink_metadata(&link).unwrap());
        assert!(check_sources(&[shown]).await.is_err());
    }

    #[test]
    fn a_node_that_became_another_device_is_refused() {
        let node = |minor| DeviceNode {
            source: "/dev/zero".into(),
            target: "/dev/nvidia0".into(),
            major: 1,
            minor,
            group: None,
        };
        check_nodes(&[node(5)]).unwrap();
        let error = check_nodes(&[node(3)]).unwrap_err();
        assert!(error.to_string().contains("/dev/zero"), "{error}");
        let file = DeviceNode {
            source: "/etc/passwd".into(),
            ..node(5)
        };
        assert!(check_nodes(&[file]).is_err());
    }
}
