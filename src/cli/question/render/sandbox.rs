//! The sandbox of a question: where it is, what it sees, and how each limit holds on this machine.

use super::page::Page;
use super::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::context::sanitise::visible;
use crate::policy::unit;
use crate::protocol::alarm::{Reaction, WatchRules};
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::device::Devices;
use crate::protocol::question::ExecView;
use crate::protocol::spec::{Access, Limits, Mount, MountKind, RootFs, SandboxSpec};
use anstyle::Style;

/// What is there for isolation, and holds no amount.
const WALLS: [Control; 7] = [
    Control::Filesystem,
    Control::User,
    Control::Capabilities,
    Control::NoNewPrivileges,
    Control::Seccomp,
    Control::Landlock,
    Control::KillAll,
];

pub(super) fn sandbox(page: &mut Page, view: &ExecView) {
    let spec = &view.sandbox;
    row(
        page,
        "sandbox",
        &format!(
            "{}, {}, as uid {}",
            spec.backend,
            root(&spec.root),
            spec.uid
        ),
    );
    for (index, mount) in shown(&spec.mounts).enumerate() {
        let name = if index == 0 { "mounts" } else { "" };
        row(page, name, &mount_line(mount));
    }
    let read_only = spec.mounts.iter().filter(|mount| is_detail(mount)).count();
    if read_only > 0 {
        row(
            page,
            "",
            &format!(
                "{DIM}and {read_only} read-only: protected folders, environments, drivers{DIM:#}"
            ),
        );
    }
    gpus(page, &spec.devices);
    network(page, view);
    if !spec.secrets.is_empty() {
        let names: Vec<String> = spec.secrets.iter().map(|one| visible(&one.name)).collect();
        let text = format!("{YELLOW}it can read{YELLOW:#} {}", names.join(", "));
        row(page, "secrets", &text);
    }
    let limits = Limits {
        wall_ms: view.wall_ms.or(spec.limits.wall_ms),
        ..spec.limits.clone()
    };
    for (name, amount, control) in amounts(spec, &limits) {
        limit(page, &view.controls, (name, amount, control));
    }
    for (index, when) in stops(&view.watch).iter().enumerate() {
        let name = if index == 0 { "stopped" } else { "" };
        row(page, name, &format!("when {when}"));
    }
    walls(page, &view.controls);
}

/// What the policy stops it for besides its limits.
fn stops(watch: &WatchRules) -> Vec<String> {
    let time =
        |reaction, limit: Option<u64>| limit.filter(|_| reaction == Reaction::Stop).map(unit::time);
    let plain = |reaction, when: &str| (reaction == Reaction::Stop).then(|| when.to_owned());
    let all = [
        time(watch.on_silence, watch.silence_ms).map(|time| format!("it says nothing for {time}")),
        time(watch.on_gpu_idle, watch.gpu_idle_ms)
            .map(|time| format!("no GPU of it is busy for {time}")),
        plain(watch.loss, "its loss is NaN or infinite"),
        plain(watch.memory, "nine tenths of its memory are in use"),
        plain(watch.disk, "the workspace or its disk is nearly full"),
    ];
    all.into_iter().flatten().collect()
}

/// Each by name, and what can be called through them.
fn gpus(page: &mut Page, devices: &Devices) {
    if devices.is_empty() {
        return;
    }
    let mut line = |name: &str, text: &str, style| {
        page.code(&format!("{name:10} "), &visible(text), style);
    };
    for (index, gpu) in devices.gpus.iter().enumerate() {
        let name = if index == 0 { "gpus" } else { "" };
        line(name, &gpu.to_string(), Style::new());
    }
    let shared = match devices.exclusive {
        true => "no other run has them at the same time",
        false => "other runs may use them at the same time",
    };
    line("", &format!("{shared}; found in {}", devices.origin), DIM);
    let nodes: Vec<String> = devices
        .nodes
        .iter()
        .map(|node| match node.source == node.target {
            true => node.target.clone(),
            false => format!("{} (here {})", node.target, node.source),
        })
        .collect();
    let opens = "the kernel's GPU driver can be called through";
    line("", &format!("{opens} {}", nodes.join(", ")), YELLOW);
}

/// Each host that may be reached, and what that means. Names inside TLS are all that is seen of it.
fn network(page: &mut Page, view: &ExecView) {
    let Some(network) = &view.sandbox.network else {
        let none = ("network", "none".to_owned(), Control::NetworkNone);
        return limit(page, &view.controls, none);
    };
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "unlimited".to_owned(), unit::size);
    let bytes = format!(
        "{YELLOW}only what is listed{YELLOW:#}: {} out, {} in",
        size(network.upload_bytes),
        size(network.download_bytes)
    );
    row(page, "network", &bytes);
    for rule in &network.allow {
        let source = match rule.source {
            Some(source) => format!("  {DIM}({source}){DIM:#}"),
            None => String::new(),
        };
        row(page, "", &format!("{}{source}", visible(&rule.to_string())));
    }
    for granted in &view.granted {
        let text = format!("{}  {DIM}(approved for this run){DIM:#}", visible(granted));
        row(page, "", &text);
    }
    let meaning = "whoever may send to a host may send it anything, under any account there";
    row(page, "", &format!("{DIM}{meaning}{DIM:#}"));
}

fn root(root: &RootFs) -> String {
    match root {
        RootFs::HostSystem => "this system's own programs, read-only".to_owned(),
        RootFs::Image { reference, id } => {
            let id: String = visible(id).chars().take(19).collect();
            format!("image {} ({id})", visible(reference))
        }
    }
}

/// Those a person has to know; the rest only narrows them.
fn shown(mounts: &[Mount]) -> impl Iterator<Item = &Mount> {
    mounts.iter().filter(|mount| !is_detail(mount))
}

fn is_detail(mount: &Mount) -> bool {
    matches!(
        mount.kind,
        MountKind::Protected | MountKind::Environment | MountKind::Driver | MountKind::Authorities
    ) && mount.access == Access::ReadOnly
}

fn mount_line(mount: &Mount) -> String {
    let target = visible(&mount.target.to_string_lossy());
    let access = match mount.access {
        Access::ReadOnly => "read-only".to_owned(),
        Access::ReadWrite if mount.kind == MountKind::Input => {
            format!("{YELLOW}writable{YELLOW:#}")
        }
        Access::ReadWrite => "writable".to_owned(),
    };
    let source = match mount.kind {
        MountKind::Home => "its own home".to_owned(),
        MountKind::Workspace
        | MountKind::Protected
        | MountKind::Input
        | MountKind::Environment
        | MountKind::Driver
        | MountKind::Authorities => visible(&mount.source.to_string_lossy()),
    };
    format!("{target}, {access}: {source}")
}

/// Each limit with its amount, in the order of how often it bites.
fn amounts(spec: &SandboxSpec, limits: &Limits) -> Vec<(&'static str, String, Control)> {
    let unlimited = || "unlimited".to_owned();
    let size = |bytes: Option<u64>| bytes.map_or_else(unlimited, unit::size);
    let count = |count: Option<u64>| count.map_or_else(unlimited, |count| count.to_string());
    let swap = match limits.swap {
        Some(0) => ", no swap".to_owned(),
        swap => format!(", swap {}", size(swap)),
    };
    let cores = limits
        .cpus
        .map_or_else(unlimited, |cores| match cores == 1.0 {
            true => "1 core".to_owned(),
            false => format!("{cores} cores"),
        });
    vec![
        (
            "time",
            limits.wall_ms.map_or_else(unlimited, unit::time),
            Control::WallTime,
        ),
        (
            "memory",
            format!("{}{swap}", size(limits.memory)),
            Control::Memory,
        ),
        ("processor", cores, Control::Cpu),
        ("processes", count(limits.pids), Control::Pids),
        (
            "workspace",
            size(limits.workspace_size),
            Control::WorkspaceSize,
        ),
        (
            "",
            format!("{} files", count(limits.workspace_inodes)),
            Control::WorkspaceInodes,
        ),
        ("one file", size(limits.file_size), Control::FileSize),
        ("open files", count(limits.open_files), Control::OpenFiles),
        ("/tmp", unit::size(spec.tmp.size), Control::TmpSize),
        ("/dev/shm", unit::size(spec.shm), Control::ShmSize),
    ]
}

fn limit(page: &mut Page, controls: &Controls, (name, amount, control): (&str, String, Control)) {
    let word = word(strength(controls, control));
    row(page, name, &format!("{amount:24}  {word}"));
}

/// Walls by their word, the strongest first.
fn walls(page: &mut Page, controls: &Controls) {
    let mut name = "walls";
    for held in [Strength::Enforced, Strength::Watched, Strength::Absent] {
        let names: Vec<&str> = WALLS
            .into_iter()
            .filter(|control| strength(controls, *control) == held)
            .map(Control::name)
            .collect();
        for some in names.chunks(4) {
            row(
                page,
                name,
                &format!("{:48}  {}", some.join(", "), word(held)),
            );
            name = "";
        }
    }
}

fn strength(controls: &Controls, control: Control) -> Strength {
    controls.get(&control).copied().unwrap_or(Strength::Absent)
}

fn word(strength: Strength) -> String {
    match strength {
        Strength::Enforced => format!("{GREEN}enforced{GREEN:#}"),
        Strength::Watched => format!("{YELLOW}watched{YELLOW:#}"),
        Strength::Absent => format!("{RED}absent{RED:#}"),
    }
}

fn row(page: &mut Page, name: &str, text: &str) {
    page.text(&format!("{BOLD}{name:10}{BOLD:#} {text}"));
}
