//! What the host lays out to be found: one for the whole suite.

use crate::stage::Stage;
use fumehood::app::selftest::decoys::Decoys;
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub(crate) fn decoys() -> &'static Decoys {
    static DECOYS: OnceLock<(Decoys, Child)> = OnceLock::new();
    let (decoys, _) = DECOYS.get_or_init(|| {
        let home = std::env::var_os("HOME").map_or("/root".into(), PathBuf::from);
        let decoys = Decoys::lay_out(&home).unwrap();
        let clearing = cleared_at_the_end(&decoys.told_free());
        (decoys, clearing)
    });
    decoys
}

/// What is static is never dropped: a process that waits for the end of this one, however it comes.
fn cleared_at_the_end(told: &Value) -> Child {
    let path = |name: &str| Path::new(told[name].as_str().unwrap()).to_owned();
    Command::new("/bin/sh")
        .args(["-c", "read -r _; exec rm -rf \"$@\"", "sh"])
        .arg(path("canary").parent().unwrap())
        .arg(path("shm"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

pub(crate) fn told_in(stage: &Stage) -> Value {
    decoys().told(&stage.path("workspace"))
}
