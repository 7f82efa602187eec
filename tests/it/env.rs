//! A user's surroundings for tests of the command: a home of their own, a cleared environment.

use assert_cmd::Command;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One user. Their folders go with the value.
pub(crate) struct TestEnv {
    dir: TempDir,
}

impl TestEnv {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("fumehood-test-")
            .tempdir()
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "state", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The command, in this user's surroundings.
    pub(crate) fn fumehood(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fumehood"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("FUMEHOOD_HOME", self.state())
            .current_dir(self.path("work"))
            .timeout(std::time::Duration::from_secs(120));
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// A folder with these files, as a workspace that a sandbox may write to: where the tests run as
    /// root it belongs to somebody else.
    pub(crate) fn workspace(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        if nix::unistd::geteuid().is_root() {
            give(&folder, 4242);
        }
        folder
    }
}

/// Gives a tree to a user.
pub(crate) fn give(folder: &Path, id: u32) {
    for entry in walkdir::WalkDir::new(folder) {
        std::os::unix::fs::lchown(entry.unwrap().path(), Some(id), Some(id)).unwrap();
    }
}
