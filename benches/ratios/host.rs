//! What the figures were measured on.

use super::peer::Engine;
use std::fs;
use std::path::{Path, PathBuf};

/// A few words on the machine, before the table.
pub(super) fn describe(engine: Option<&Engine>) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let engine = match engine {
        Some(engine) => engine.describe(),
        None => "no engine answers or it lacks the image: start one with `make setup`".to_owned(),
    };
    format!(
        "machine   {cores} cores, Linux {}, load {load} at the start\nengine    {engine}\nfigures   median (minimum)",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// A program of the user's, or nothing.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A figure of `/proc/PID/status`, in MiB.
pub(super) fn memory_mib(pid: u32, key: &str) -> Option<f64> {
    let status =
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line
        .trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kib / 1024.0)
}
