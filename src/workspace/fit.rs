//! Which folders are fit to be a workspace, and opening one without a link on the way.

use super::beneath;
use super::error::WorkspaceError;
use super::place::Opening;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Folders that are never a workspace themselves.
const NEVER: [&str; 21] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
];

/// Folders in which nothing is a workspace.
const NEVER_BENEATH: [&str; 5] = ["/boot", "/dev", "/etc", "/proc", "/sys"];

/// Folders of a home that hold keys and programs' own state.
const PRIVATE_OF_HOME: [&str; 12] = [
    ".ssh",
    ".aws",
    ".azure",
    ".config",
    ".docker",
    ".gnupg",
    ".kube",
    ".local",
    ".mozilla",
    ".netrc",
    ".password-store",
    ".cache",
];

/// The folder's path without any link; a link itself is refused.
pub(super) fn resolve(dir: &Path) -> Result<PathBuf, WorkspaceError> {
    // Without a trailing slash, which would follow the link.
    let named: PathBuf = dir.components().collect();
    let found = fs::symlink_metadata(&named).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => WorkspaceError::unfit(
            dir,
            "there is no such folder",
            format!("mkdir -p {}", quoted(dir)),
        ),
        _ => WorkspaceError::io("look at", dir)(error),
    })?;
    if found.is_symlink() {
        let target = fs::canonicalize(&named);
        let remedy = match target {
            Ok(target) => format!("name the folder itself: --workspace {}", quoted(&target)),
            Err(_) => "name the folder itself".to_owned(),
        };
        return Err(WorkspaceError::unfit(dir, "it is a link", remedy));
    }
    if !found.is_dir() {
        return Err(WorkspaceError::unfit(
            dir,
            "it is no folder",
            "name a folder",
        ));
    }
    let path = fs::canonicalize(&named).map_err(WorkspaceError::io("resolve", dir))?;
    if path.to_str().is_none() {
        return Err(WorkspaceError::unfit(
            &path,
            "its path is not UTF-8",
            "rename it",
        ));
    }
    Ok(path)
}

/// Opens a path that holds no link, and makes sure that this is still so.
pub(super) fn open_checked(path: &Path) -> Result<(OwnedFd, FileStat), WorkspaceError> {
    let root = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(WorkspaceError::io("open", path))?;
    let below: PathBuf = path
        .components()
        .filter(|part| *part != Component::RootDir)
        .collect();
    let fd = beneath::open_folder(&root, &below).map_err(WorkspaceError::io("open", path))?;
    let stat = nix::sys::stat::fstat(&fd).map_err(WorkspaceError::io("look at", path))?;
    Ok((fd, stat))
}

pub(super) fn check_place(path: &Path, opening: &Opening<'_>) -> Result<(), WorkspaceError> {
    let refuse = |why: &str| {
        Err(WorkspaceError::unfit(
            path,
            why,
            "choose a folder of its own for the work, or leave out --workspace for a fresh one",
        ))
    };
    if NEVER.iter().any(|name| path == Path::new(name)) {
        return refuse("it is a folder of the system");
    }
    if NEVER_BENEATH.iter().any(|name| path.starts_with(name)) && !path.starts_with("/dev/shm") {
        return refuse("it lies in a folder of the system");
    }
    let state = fs::canonicalize(opening.state).unwrap_or_else(|_| opening.state.to_owned());
    if state.starts_with(path) {
        return refuse("it holds Fumehood's own state");
    }
    if let Ok(within) = path.strip_prefix(&state)
        && !is_workspace_of_a_run(within)
    {
        return refuse("it lies in Fumehood's own state");
    }
    let Some(home) = opening.user_home else {
        return Ok(());
    };
    let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    if home.starts_with(path) {
        return refuse("it holds your whole home folder");
    }
    let private = PRIVATE_OF_HOME.iter().any(|name| {
        path == home.join(name)
            || (*name != ".cache" && *name != ".local" && path.starts_with(home.join(name)))
    });
    match private {
        true => refuse("it holds keys and settings of yours"),
        false => Ok(()),
    }
}

/// An earlier run's workspace may be worked on again.
fn is_workspace_of_a_run(within: &Path) -> bool {
    let parts: Vec<_> = within.iter().collect();
    parts.len() >= 3 && parts[0] == "runs" && parts[2] == "workspace"
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
