//! From a specification to the one request that makes the container. Pure: a reviewer who reads this
//! file and its snapshot knows what the engine is told.
//!
//! The container starts empty: no network, no capability, no new privilege, read-only root, an
//! unprivileged user, our own init instead of anything the image names. The specification adds.
//! What cannot be honoured exactly is refused here, before the engine hears of it.

use super::door;
use super::engine::{Cgroups, EngineFacts, UserMapping};
use super::image::Image;
use super::masks::{MASKED_PATHS, READONLY_PATHS};
use super::seccomp;
use crate::protocol::device::DeviceNode;
use crate::protocol::spec::{Access, BackendKind, Mount, SECRETS_TARGET, SandboxSpec};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::owner::Owner;
use crate::sandbox::wire::SECRETS_ROOM;
use bollard::models as api;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path};

/// Where init is mounted inside.
pub(super) const INIT_TARGET: &str = "/.fumehood/init";

/// Labels by which the sweep knows what is ours.
pub(super) const LABEL_NAME: &str = "fumehood.name";
pub(super) const LABEL_OWNER: &str = "fumehood.owner";
pub(super) const LABEL_PID_NAMESPACE: &str = "fumehood.pid-namespace";

/// Bytes and files of the tmpfs that covers a volume an image declares.
const VOLUME_COVER: &str = "rw,nosuid,nodev,noexec,size=16777216,nr_inodes=1024,mode=1777";

/// Files in `/dev/shm`.
const SHM_INODES: u64 = 16_384;

/// Preferred over the user's own programs when memory of the machine runs out.
const OOM_SCORE_ADJ: i64 = 500;

/// Everything a container is planned from.
pub(super) struct Plan<'a> {
    pub(super) spec: &'a SandboxSpec,
    pub(super) name: &'a str,
    pub(super) image: &'a Image,
    pub(super) engine: &'a EngineFacts,
    /// Init on this machine.
    pub(super) init: &'a Path,
    /// The folder with the door to us, where there is one.
    pub(super) door: Option<&'a Path>,
    pub(super) owner: Owner,
    pub(super) pid_namespace: u64,
}

/// The request body of `POST /containers/create`.
pub(super) fn create_body(plan: &Plan<'_>) -> Result<api::ContainerCreateBody, SandboxError> {
    let spec = plan.spec;
    if spec.backend != BackendKind::Docker {
        return Err(refused(
            "backend",
            "the specification is for another backend",
        ));
    }
    check_targets(spec)?;
    Ok(api::ContainerCreateBody {
        image: Some(plan.image.id.clone()),
        // Nothing of the image runs: not its entrypoint, command, shell or health check.
        entrypoint: Some(strings(match plan.door {
            Some(_) => &[INIT_TARGET, "serve", "door"],
            None => &[INIT_TARGET, "serve"],
        })),
        cmd: Some(Vec::new()),
        healthcheck: Some(api::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        user: Some(user(spec, plan.engine)?),
        working_dir: Some("/".to_owned()),
        env: Some(environment(plan.image)),
        hostname: Some(spec.hostname.clone()),
        domainname: Some(String::new()),
        labels: Some(labels(plan)),
        stop_signal: Some("SIGTERM".to_owned()),
        stop_timeout: Some(5),
        // The one channel, or where a door is the other the life line: init's stdin and stdout.
        // `stdin_once` closes it when we are gone.
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        host_config: Some(host_config(plan)?),
        ..Default::default()
    })
}

fn host_config(plan: &Plan<'_>) -> Result<api::HostConfig, SandboxError> {
    let Plan { spec, engine, .. } = plan;
    Ok(api::HostConfig {
        network_mode: Some("none".to_owned()),
        // Init answers for names on the loopback, whose low ports have no owner.
        sysctls: spec.network.as_ref().map(|_| {
            let low_ports = "net.ipv4.ip_unprivileged_port_start".to_owned();
            HashMap::from([(low_ports, "0".to_owned())])
        }),
        // Else a copy of the machine's resolv.conf, with its addresses, would lie inside.
        dns: Some(vec!["127.0.0.1".to_owned()]),
        dns_search: Some(vec![".".to_owned()]),
        extra_hosts: Some(vec![format!("{}:127.0.0.1", spec.hostname)]),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        privileged: Some(false),
        security_opt: Some(vec![
            "no-new-privileges".to_owned(),
            format!("seccomp={}", seccomp::PROFILE),
        ]),
        masked_paths: Some(strings(MASKED_PATHS)),
        readonly_paths: Some(strings(READONLY_PATHS)),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(api::HostConfigCgroupnsModeEnum::PRIVATE),
        // The engine's own remapping would give the files in the workspace to a stranger.
        userns_mode: (engine.users == UserMapping::Remapped).then(|| "host".to_owned()),
        runtime: Some(engine.runtime.clone()),
        init: Some(false),
        auto_remove: Some(true),
        restart_policy: Some(api::RestartPolicy {
            name: Some(api::RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(api::HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        }),
        oom_score_adj: Some(OOM_SCORE_ADJ),
        mounts: Some(mounts(plan)?),
        tmpfs: Some(tmpfs(plan)?),
        devices: Some(devices(spec)?),
        group_add: Some(spec.devices.groups().iter().map(u32::to_string).collect()),
        device_requests: Some(Vec::new()),
        ..limits(spec, engine)
    })
}

/// Nodes by their own paths: no program of a GPU toolkit has a part in it, and what was shown is what
/// there is.
fn devices(spec: &SandboxSpec) -> Result<Vec<api::DeviceMapping>, SandboxError> {
    let one = |node: &DeviceNode| match is_plain(Path::new(&node.target))
        && node.target.starts_with("/dev/nvidia")
    {
        true => Ok(api::DeviceMapping {
            path_on_host: Some(node.source.clone()),
            path_in_container: Some(node.target.clone()),
            // Read and write; not `m`, to make more.
            cgroup_permissions: Some("rw".to_owned()),
        }),
        false => Err(refused(
            &format!("device at {}", node.target),
            "it is no place for the node of a GPU",
        )),
    };
    spec.devices.nodes.iter().map(one).collect()
}

/// Memory, CPU, processes, descriptors, file size.
fn limits(spec: &SandboxSpec, engine: &EngineFacts) -> api::HostConfig {
    let limits = &spec.limits;
    let ulimit = |name: &str, value: u64| api::ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(signed(value)),
        hard: Some(signed(value)),
    };
    // The one value at which nobody on the host is handed a dump; init keeps it.
    let mut ulimits = vec![ulimit("core", 1)];
    ulimits.extend(limits.open_files.map(|n| ulimit("nofile", n)));
    ulimits.extend(limits.file_size.map(|n| ulimit("fsize", n)));
    api::HostConfig {
        memory: limits.memory.map(signed),
        // Unset it would mean as much swap again as memory.
        memory_swap: limits
            .memory
            .map(|memory| signed(memory.saturating_add(limits.swap.unwrap_or(0)))),
        // A v1 kernel that does not count swap would let memory flow out into it, uncounted.
        memory_swappiness: (engine.cgroups == Cgroups::V1
            && !engine.swap_limit
            && limits.memory.is_some())
        .then_some(0),
        // An engine refuses more cores than it has.
        nano_cpus: limits.cpus.map(|cpus| {
            let most = if engine.cpus == 0 {
                f64::MAX
            } else {
                f64::from(engine.cpus)
            };
            (cpus.min(most) * 1e9).round() as i64
        }),
        pids_limit: limits.pids.map(signed),
        ulimits: Some(ulimits),
        ..Default::default()
    }
}

/// Mapped so that files in the workspace are the workspace owner's on this machine.
fn user(spec: &SandboxSpec, engine: &EngineFacts) -> Result<String, SandboxError> {
    if spec.uid == 0 || spec.gid == 0 {
        return Err(refused(
            "user",
            "a sandbox never runs as the machine's root",
        ));
    }
    match engine.users {
        UserMapping::Same | UserMapping::Remapped => Ok(format!("{}:{}", spec.uid, spec.gid)),
        // Inside a rootless engine its owner is 0, and no other uid of the machine exists.
        UserMapping::Rootless { owner } if owner == spec.uid => Ok("0:0".to_owned()),
        UserMapping::Rootless { owner } => Err(SandboxError::Refused {
            what: "user".to_owned(),
            why: format!(
                "the rootless engine of uid {owner} cannot make files of uid {}",
                spec.uid
            ),
            remedy: "run Fumehood as the user whose engine it is".to_owned(),
        }),
    }
}

/// Init starts each step with exactly the step's own environment; this one reaches nobody but the
/// engine's hooks, which have been steered by an image's variables before. A bare name takes the
/// image's variable away.
fn environment(image: &Image) -> Vec<String> {
    const OURS: &[&str] = &["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_DRIVER_CAPABILITIES="];
    let ours = |name: &str| OURS.iter().any(|pair| pair.split('=').next() == Some(name));
    let mut env = strings(OURS);
    env.extend(image.env_names.iter().filter(|name| !ours(name)).cloned());
    env
}

fn labels(plan: &Plan<'_>) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_NAME.to_owned(), plan.name.to_owned()),
        (LABEL_OWNER.to_owned(), plan.owner.to_string()),
        (
            LABEL_PID_NAMESPACE.to_owned(),
            plan.pid_namespace.to_string(),
        ),
    ])
}

fn mounts(plan: &Plan<'_>) -> Result<Vec<api::Mount>, SandboxError> {
    let init = bind(
        text(plan.init)?,
        INIT_TARGET.to_owned(),
        Access::ReadOnly,
        plan.engine,
    );
    let mut all = vec![init];
    if let Some(door) = plan.door {
        let target = door::TARGET.to_owned();
        all.push(bind(text(door)?, target, Access::ReadOnly, plan.engine));
    }
    for mount in &plan.spec.mounts {
        let (source, target) = (text(&mount.source)?, text(&mount.target)?);
        all.push(bind(source, target, mount.access, plan.engine));
    }
    Ok(all)
}

fn bind(source: String, target: String, access: Access, engine: &EngineFacts) -> api::Mount {
    let read_only = access == Access::ReadOnly;
    // Read-only reaches mounts below the source only on newer engines, which then insist on it; on
    // older ones what is mounted below stays out.
    let recursive_read_only = engine.api >= (1, 44);
    api::Mount {
        typ: Some(api::MountType::BIND),
        source: Some(source),
        target: Some(target),
        read_only: Some(read_only),
        bind_options: Some(api::MountBindOptions {
            propagation: Some(api::MountBindOptionsPropagationEnum::RPRIVATE),
            non_recursive: Some(read_only && !recursive_read_only),
            read_only_force_recursive: (read_only && recursive_read_only).then_some(true),
            // A source that is not there is an error, never a new folder of root's.
            create_mountpoint: recursive_read_only.then_some(false),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `/tmp`, `/dev/shm`, a place for secrets, and a cover on each volume that the image declares.
fn tmpfs(plan: &Plan<'_>) -> Result<HashMap<String, String>, SandboxError> {
    let spec = plan.spec;
    let exec = if spec.tmp.exec { "exec" } else { "noexec" };
    // A runtime may give it the mode that the image's own folder has there: so the step's user owns it.
    let owner = user(spec, plan.engine)?.replacen(':', ",gid=", 1);
    let mut all = HashMap::from([
        (
            "/tmp".to_owned(),
            format!(
                "rw,nosuid,nodev,{exec},size={},nr_inodes={},mode=1777,uid={owner}",
                spec.tmp.size, spec.tmp.inodes
            ),
        ),
        (
            "/dev/shm".to_owned(),
            format!(
                "rw,nosuid,nodev,noexec,size={},nr_inodes={SHM_INODES},mode=1777",
                spec.shm
            ),
        ),
    ]);
    if !spec.secrets.is_empty() {
        let (size, inodes) = SECRETS_ROOM;
        let room = format!("rw,nosuid,nodev,noexec,size={size},nr_inodes={inodes},mode=0700");
        all.insert(SECRETS_TARGET.to_owned(), format!("{room},uid={owner}"));
    }
    let mounted: BTreeSet<_> = spec.mounts.iter().map(|m| m.target.as_path()).collect();
    for volume in &plan.image.volumes {
        let path = Path::new(volume);
        if !is_plain(path) || path == Path::new("/") || path.starts_with("/.fumehood") {
            return Err(SandboxError::Refused {
                what: format!("image {}", plan.image.reference),
                why: format!("it declares the volume {volume:?}, which cannot be covered"),
                remedy: "use an image without that VOLUME line".to_owned(),
            });
        }
        if !mounted.contains(path) {
            all.entry(volume.clone())
                .or_insert_with(|| VOLUME_COVER.to_owned());
        }
    }
    Ok(all)
}

/// Places that a mount may not take: they are the kernel's, the engine's or init's.
fn check_targets(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let mut seen = BTreeSet::new();
    for Mount { target, .. } in &spec.mounts {
        let what = format!("mount at {}", target.display());
        if !is_plain(target) || target == Path::new("/") {
            return Err(refused(&what, "the target is not a plain absolute path"));
        }
        let taken = ["/proc", "/sys", "/dev", "/.fumehood"];
        if taken.iter().any(|place| target.starts_with(place)) || target == Path::new("/tmp") {
            return Err(refused(&what, "that place is taken"));
        }
        if !seen.insert(target) {
            return Err(refused(&what, "two mounts have this target"));
        }
    }
    Ok(())
}

/// Absolute, without `.` and `..`.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn text(path: &Path) -> Result<String, SandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        refused(
            &format!("mount of {}", path.display()),
            "an engine takes paths in UTF-8 only",
        )
    })
}

fn refused(what: &str, why: &str) -> SandboxError {
    SandboxError::Refused {
        what: what.to_owned(),
        why: why.to_owned(),
        remedy: "change the mounts or the policy, or use the namespace backend".to_owned(),
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The API's numbers are signed; nothing here is near the end of either range.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
