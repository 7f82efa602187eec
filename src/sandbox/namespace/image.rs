//! The root of a sandbox: the host's own system, or an unpacked image that this backend was given.

use super::system;
use crate::protocol::spec::{Mount, RootFs, SandboxSpec};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::wire::WorldSystem;
use std::any::Any;
use std::path::{Component, Path, PathBuf};

/// An unpacked image.
pub struct ImageRoot {
    /// `sha256:…`, as a specification names it.
    pub id: String,
    /// Its folder on the host, without a link in the path. Nothing in it changes.
    pub path: PathBuf,
    /// Keeps it there.
    pub hold: Box<dyn Any + Send + Sync>,
}

/// What a specification asks to be shown.
pub(super) fn system_of(
    spec: &SandboxSpec,
    host: &[WorldSystem],
    image: Option<&ImageRoot>,
) -> Result<Vec<WorldSystem>, SandboxError> {
    let RootFs::Image { reference, id } = &spec.root else {
        return Ok(host.to_vec());
    };
    let refused = |why: String, remedy: &str| SandboxError::Refused {
        what: format!("image {reference:?}"),
        why,
        remedy: remedy.to_owned(),
    };
    let Some(image) = image.filter(|image| image.id == *id) else {
        return Err(refused(
            "it is not unpacked for the namespace backend".to_owned(),
            "unpack it with `fumehood images import`, or use `--backend docker`",
        ));
    };
    let shown = system::of_image(&image.path)
        .map_err(|error| refused(error.to_string(), "use `--backend docker`"))?;
    match spec
        .mounts
        .iter()
        .find(|mount| !has_place(mount, &shown, &image.path))
    {
        None => Ok(shown),
        Some(mount) => Err(refused(
            format!(
                "it is read-only and has nothing at {}, where {} belongs",
                mount.target.display(),
                mount.source.display()
            ),
            "leave that mount out, or use an image that has a folder there",
        )),
    }
}

/// Whether a mount finds its place: in what is made for each sandbox, or where the image has it already.
fn has_place(mount: &Mount, shown: &[WorldSystem], root: &Path) -> bool {
    let beneath = shown.iter().any(|entry| match entry {
        WorldSystem::Bind { path, .. } | WorldSystem::Link { path, .. } => {
            mount.target.starts_with(path)
        }
    });
    !beneath || is_there(root, &mount.target)
}

/// Over no link, as init will look.
fn is_there(root: &Path, target: &Path) -> bool {
    let mut at = root.to_owned();
    for part in target.components() {
        if let Component::Normal(name) = part {
            at.push(name);
            let found = std::fs::symlink_metadata(&at);
            if !found.is_ok_and(|found| !found.is_symlink()) {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::spec::{Access, MountKind};

    #[test]
    fn a_mount_needs_a_place_that_the_image_has_or_a_sandbox_makes() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["usr/share", "opt/conda"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("share", dir.path().join("usr/link")).unwrap();
        let shown = system::of_image(dir.path()).unwrap();
        let fits = |target: &str| {
            let mount = Mount {
                kind: MountKind::Environment,
                source: "/x".into(),
                target: target.into(),
                access: Access::ReadOnly,
                device: 0,
                inode: 0,
            };
            has_place(&mount, &shown, dir.path())
        };
        for good in [
            "/data/x",
            "/usr/share",
            "/opt/fumehood/driver/lib",
            "/srv/venv",
            "/root/x",
        ] {
            assert!(fits(good), "{good}");
        }
        for bad in ["/usr/share/x", "/usr/x", "/usr/link", "/opt/conda/envs"] {
            assert!(!fits(bad), "{bad}");
        }
    }
}
