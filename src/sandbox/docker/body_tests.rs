//! What the engine is told, for a specification with one of everything.

use super::*;
use crate::protocol::control::Strength;
use crate::protocol::spec::{Limits, MountKind, RootFs, Tmp};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn mounts() -> Vec<Mount> {
    let mount = |kind, source: &str, target: &str, access| Mount {
        kind,
        source: PathBuf::from(source),
        target: PathBuf::from(target),
        access,
        device: 1,
        inode: 2,
    };
    vec![
        mount(
            MountKind::Workspace,
            "/w/run:1",
            "/workspace",
            Access::ReadWrite,
        ),
        mount(
            MountKind::Protected,
            "/w/run:1/.git",
            "/workspace/.git",
            Access::ReadOnly,
        ),
        mount(
            MountKind::Home,
            "/w/home",
            "/home/fumehood",
            Access::ReadWrite,
        ),
    ]
}

fn spec() -> SandboxSpec {
    SandboxSpec {
        backend: BackendKind::Docker,
        root: RootFs::Image {
            reference: "demo:1".into(),
            id: "sha256:00".into(),
        },
        mounts: mounts(),
        tmp: Tmp {
            size: 1 << 30,
            inodes: 4096,
            exec: false,
        },
        shm: 64 << 20,
        uid: 1000,
        gid: 1001,
        hostname: "fumehood".into(),
        limits: Limits {
            wall_ms: Some(1000),
            cpus: Some(1.5),
            memory: Some(4 << 30),
            swap: Some(0),
            pids: Some(256),
            open_files: Some(4096),
            file_size: Some(5 << 30),
            log_bytes: None,
            log_line: None,
            workspace_size: None,
            workspace_inodes: None,
        },
        env: BTreeMap::from([("SECRET".to_owned(), "only steps see this".to_owned())]),
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: 5000,
        devices: Default::default(),
        require: BTreeMap::from([(
            crate::protocol::control::Control::Memory,
            Strength::Enforced,
        )]),
    }
}

fn image() -> Image {
    Image {
        reference: "demo:1".into(),
        id: "sha256:00".into(),
        volumes: vec!["/data".into(), "/workspace".into()],
        env_names: vec![
            "LD_PRELOAD".into(),
            "NVIDIA_VISIBLE_DEVICES".into(),
            "PATH".into(),
        ],
        os: "linux".into(),
        arch: "amd64".into(),
    }
}

fn body(
    spec: &SandboxSpec,
    image: &Image,
    engine: &EngineFacts,
) -> Result<api::ContainerCreateBody, SandboxError> {
    create_body(&Plan {
        spec,
        name: "fumehood-7-99-run-1",
        image,
        engine,
        init: Path::new("/state/init-abc"),
        door: Some(Path::new("/state/doors/xyz")),
        owner: Owner { pid: 7, start: 99 },
        pid_namespace: 4026531836,
    })
}

fn host(spec: &SandboxSpec, engine: &EngineFacts) -> api::HostConfig {
    body(spec, &image(), engine).unwrap().host_config.unwrap()
}

#[test]
fn the_request_for_one_of_everything() {
    let mut body = body(&spec(), &image(), &EngineFacts::for_tests()).unwrap();
    let options = body
        .host_config
        .as_mut()
        .unwrap()
        .security_opt
        .as_mut()
        .unwrap();
    assert_eq!(options[1], format!("seccomp={}", seccomp::PROFILE));
    options[1] = "seccomp=(the profile)".to_owned();
    let mut value = serde_json::to_value(&body).unwrap();
    value.sort_all_objects();
    insta::assert_json_snapshot!(value);
}

#[test]
fn no_variable_of_a_step_is_in_the_containers_configuration() {
    let body = body(&spec(), &image(), &EngineFacts::for_tests()).unwrap();
    assert!(!serde_json::to_string(&body).unwrap().contains("only steps"));
    let env = body.env.unwrap();
    assert!(
        env.contains(&"LD_PRELOAD".to_owned()),
        "a bare name removes it"
    );
    assert!(env.contains(&"NVIDIA_VISIBLE_DEVICES=void".to_owned()));
    assert!(!env.contains(&"NVIDIA_VISIBLE_DEVICES".to_owned()));
}

#[test]
fn read_only_holds_for_mounts_below_too() {
    let old = host(&spec(), &EngineFacts::for_tests()).mounts.unwrap();
    let new = host(
        &spec(),
        &EngineFacts {
            api: (1, 50),
            ..EngineFacts::for_tests()
        },
    );
    let new = new.mounts.unwrap();
    for (old, new) in old.iter().zip(&new) {
        let (before, after) = (
            old.bind_options.as_ref().unwrap(),
            new.bind_options.as_ref().unwrap(),
        );
        assert_eq!(before.non_recursive, old.read_only);
        assert_eq!(after.non_recursive, Some(false));
        assert_eq!(
            after.read_only_force_recursive.unwrap_or(false),
            new.read_only.unwrap()
        );
    }
}

#[test]
fn the_machines_root_is_refused() {
    let engine = EngineFacts::for_tests();
    for (uid, gid) in [(0, 1000), (1000, 0)] {
        let spec = SandboxSpec { uid, gid, ..spec() };
        assert!(body(&spec, &image(), &engine).is_err());
    }
}

#[test]
fn a_rootless_engine_runs_its_owner_only() {
    let engine = |owner| EngineFacts {
        users: UserMapping::Rootless { owner },
        ..EngineFacts::for_tests()
    };
    assert_eq!(
        body(&spec(), &image(), &engine(1000))
            .unwrap()
            .user
            .unwrap(),
        "0:0"
    );
    assert!(body(&spec(), &image(), &engine(1002)).is_err());
}

#[test]
fn a_remapping_engine_keeps_the_machines_uids() {
    let engine = EngineFacts {
        users: UserMapping::Remapped,
        ..EngineFacts::for_tests()
    };
    assert_eq!(host(&spec(), &engine).userns_mode.unwrap(), "host");
}

#[test]
fn swap_that_is_not_counted_is_not_used() {
    let engine = EngineFacts {
        swap_limit: false,
        ..EngineFacts::for_tests()
    };
    assert_eq!(host(&spec(), &engine).memory_swappiness, Some(0));
    assert_eq!(
        host(&spec(), &EngineFacts::for_tests()).memory_swappiness,
        None
    );
}

#[test]
fn taken_and_odd_targets_are_refused() {
    for target in [
        "/",
        "/proc/x",
        "/sys",
        "/dev/shm",
        "/tmp",
        "/.fumehood/init",
        "/.fumehood/door",
        "rel",
        "/a/../b",
        "/workspace",
    ] {
        let mut spec = spec();
        let mut extra = spec.mounts[0].clone();
        extra.target = PathBuf::from(target);
        spec.mounts.push(extra);
        assert!(
            body(&spec, &image(), &EngineFacts::for_tests()).is_err(),
            "{target}"
        );
    }
}

#[test]
fn volumes_are_covered_or_refused() {
    let covers = host(&spec(), &EngineFacts::for_tests()).tmpfs.unwrap();
    assert_eq!(covers["/data"], VOLUME_COVER);
    assert!(!covers.contains_key("/workspace"), "our mount covers it");
    for volume in ["/", "/.fumehood", "/.fumehood/door", "relative", "/x/.."] {
        let image = Image {
            volumes: vec![volume.to_owned()],
            ..image()
        };
        assert!(
            body(&spec(), &image, &EngineFacts::for_tests()).is_err(),
            "{volume}"
        );
    }
}

#[test]
fn a_gpu_is_its_nodes_and_no_request_to_a_toolkit() {
    let node = |target: &str, group| DeviceNode {
        source: "/srv/dev/nvidia3".into(),
        target: target.into(),
        major: 195,
        minor: 3,
        group,
    };
    let mut spec = spec();
    spec.devices.nodes = vec![node("/dev/nvidia3", Some(44)), node("/dev/nvidiactl", None)];
    let host = host(&spec, &EngineFacts::for_tests());
    let devices = host.devices.unwrap();
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[0].path_on_host.as_deref(), Some("/srv/dev/nvidia3"));
    assert_eq!(devices[0].cgroup_permissions.as_deref(), Some("rw"));
    assert_eq!(host.group_add, Some(vec!["44".to_owned()]));
    assert_eq!(host.device_requests, Some(Vec::new()));
    for target in ["/dev/sda", "/dev/nvidia0/../sda", "/etc/passwd"] {
        spec.devices.nodes = vec![node(target, None)];
        let body = body(&spec, &image(), &EngineFacts::for_tests());
        assert!(body.is_err(), "{target}");
    }
}
