//! From a specification to the world that init builds. Pure.

use super::cgroup::{Enforced, MadeGroups};
use crate::protocol::device::{DeviceNode, Devices};
use crate::protocol::spec::{Access, BackendKind, Mount, SandboxSpec};
use crate::sandbox::backend::SandboxError;
use crate::sandbox::wire::{
    Purpose, Resolver, StepLimits, World, WorldDevice, WorldMemory, WorldMount, WorldSystem,
};
use std::path::Path;

/// Steps go before init when memory runs out, so that init can say so.
const STEP_OOM_SCORE_ADJ: i32 = 200;

/// The world of a sandbox.
pub(super) fn world(
    spec: &SandboxSpec,
    system: &[WorldSystem],
    groups: &MadeGroups,
) -> Result<World, SandboxError> {
    check(spec)?;
    let mounts = spec.mounts.iter().map(mount).collect::<Result<_, _>>()?;
    Ok(World {
        hostname: spec.hostname.clone(),
        host_uid: spec.uid,
        host_gid: spec.gid,
        groups: spec.devices.groups(),
        system: system.to_vec(),
        mounts,
        devices: spec.devices.nodes.iter().map(device).collect(),
        driver: driver(&spec.devices),
        tmp_size: spec.tmp.size,
        tmp_inodes: spec.tmp.inodes,
        tmp_exec: spec.tmp.exec,
        shm_size: spec.shm,
        secrets: !spec.secrets.is_empty(),
        cgroups: groups.to_join(),
        memory: memory(groups.enforced()),
        resolver: match spec.network {
            Some(_) => Resolver::Init,
            None => Resolver::Nobody,
        },
        purpose: Purpose::Serve,
    })
}

/// The smallest world in which anything can be tried.
pub(super) fn probe(ids: (u32, u32), system: &[WorldSystem], groups: &MadeGroups) -> World {
    World {
        hostname: "fumehood".to_owned(),
        host_uid: ids.0,
        host_gid: ids.1,
        groups: Vec::new(),
        system: system.to_vec(),
        mounts: Vec::new(),
        devices: Vec::new(),
        driver: Vec::new(),
        tmp_size: 1 << 20,
        tmp_inodes: 16,
        tmp_exec: false,
        shm_size: 1 << 20,
        secrets: false,
        cgroups: groups.to_join(),
        memory: memory(groups.enforced()),
        resolver: Resolver::Nobody,
        purpose: Purpose::Probe,
    }
}

/// What the kernel does not hold through a cgroup is set on each step.
pub(super) fn step_limits(spec: &SandboxSpec, enforced: Enforced) -> StepLimits {
    StepLimits {
        open_files: spec.limits.open_files,
        file_size: spec.limits.file_size,
        processes: spec.limits.pids.filter(|_| !enforced.pids),
        cores: spec
            .limits
            .cpus
            .filter(|_| !enforced.cpu)
            // From a float: saturates.
            .map(|cpus| (cpus.ceil() as u32).max(1)),
        oom_score_adj: STEP_OOM_SCORE_ADJ,
    }
}

fn memory(enforced: Enforced) -> WorldMemory {
    match enforced.memory {
        true => WorldMemory::Charged,
        false => WorldMemory::Watched,
    }
}

fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    if spec.backend != BackendKind::Namespace {
        return Err(refused(
            "specification",
            "it is for another backend",
            "make the plan anew",
        ));
    }
    if spec.uid == 0 || spec.gid == 0 {
        return Err(refused(
            "user",
            "a sandbox never runs as root",
            "give the workspace an owner who is not root, or set `[process] user` in the policy",
        ));
    }
    Ok(())
}

fn device(node: &DeviceNode) -> WorldDevice {
    WorldDevice {
        source: node.source.clone(),
        target: node.target.clone(),
        major: node.major,
        minor: node.minor,
    }
}

fn driver(devices: &Devices) -> Vec<(String, String)> {
    let texts = devices.proc.iter();
    texts
        .map(|(path, text)| (format!("nvidia/{path}"), text.clone()))
        .collect()
}

fn mount(mount: &Mount) -> Result<WorldMount, SandboxError> {
    Ok(WorldMount {
        source: text(&mount.source)?,
        target: text(&mount.target)?,
        writable: mount.access == Access::ReadWrite,
        device: mount.device,
        inode: mount.inode,
    })
}

fn text(path: &Path) -> Result<String, SandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        refused(
            &format!("mount of {}", path.display()),
            "its path is not UTF-8",
            "rename it, or mount it from a path that is",
        )
    })
}

fn refused(what: &str, why: &str, remedy: &str) -> SandboxError {
    SandboxError::Refused {
        what: what.to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::spec::{Limits, MountKind, RootFs, Tmp};
    use std::collections::BTreeMap;

    fn spec() -> SandboxSpec {
        SandboxSpec {
            backend: BackendKind::Namespace,
            root: RootFs::HostSystem,
            mounts: vec![Mount {
                kind: MountKind::Workspace,
                source: "/srv/w".into(),
                target: "/workspace".into(),
                access: Access::ReadWrite,
                device: 5,
                inode: 6,
            }],
            tmp: Tmp {
                size: 7,
                inodes: 8,
                exec: true,
            },
            shm: 9,
            uid: 1000,
            gid: 1001,
            hostname: "h".into(),
            limits: Limits {
                wall_ms: None,
                cpus: Some(1.5),
                memory: Some(1 << 30),
                swap: None,
                pids: Some(64),
                open_files: Some(10),
                file_size: Some(11),
                log_bytes: None,
                log_line: None,
                workspace_size: None,
                workspace_inodes: None,
            },
            env: BTreeMap::new(),
            network: None,
            stop_grace_ms: 1,
            secrets: Vec::new(),
            require: BTreeMap::new(),
            devices: Default::default(),
        }
    }

    #[test]
    fn every_value_of_the_specification_reaches_init() {
        let world = world(&spec(), &[], &MadeGroups::none()).unwrap();
        assert_eq!((world.host_uid, world.host_gid), (1000, 1001));
        assert_eq!(
            (world.tmp_size, world.tmp_inodes, world.tmp_exec),
            (7, 8, true)
        );
        assert_eq!(world.shm_size, 9);
        assert_eq!(
            world.mounts,
            [WorldMount {
                source: "/srv/w".into(),
                target: "/workspace".into(),
                writable: true,
                device: 5,
                inode: 6
            }]
        );
        assert_eq!(world.memory, WorldMemory::Watched);
    }

    #[test]
    fn what_no_cgroup_holds_is_set_on_each_step() {
        let none = step_limits(&spec(), Enforced::default());
        assert_eq!((none.processes, none.cores), (Some(64), Some(2)));
        let all = Enforced {
            memory: true,
            pids: true,
            cpu: true,
        };
        let held = step_limits(&spec(), all);
        assert_eq!((held.processes, held.cores), (None, None));
        assert_eq!((held.open_files, held.file_size), (Some(10), Some(11)));
    }

    #[test]
    fn root_and_another_backend_are_refused() {
        let wrong = [
            SandboxSpec { uid: 0, ..spec() },
            SandboxSpec { gid: 0, ..spec() },
            SandboxSpec {
                backend: BackendKind::Docker,
                ..spec()
            },
        ];
        for spec in wrong {
            let refused = world(&spec, &[], &MadeGroups::none());
            assert!(matches!(refused, Err(SandboxError::Refused { .. })));
        }
    }
}
