use super::env::threads;
use super::mounts::mount;
use super::*;
use crate::policy::model::*;
use crate::policy::names;
use crate::protocol::device::{DRIVER_TARGET, DeviceNode, Gpu};
use crate::protocol::spec::{Access, HOME_TARGET, MountKind, Tmp};
use crate::sandbox::gpu::FileKind;
use proptest::prelude::*;
use std::path::Path;

fn some_limits() -> Limits {
    Limits {
        wall_ms: Some(1_800_000),
        cpus: Some(2.0),
        memory: Some(4 << 30),
        swap: Some(0),
        pids: Some(256),
        open_files: Some(4096),
        file_size: Some(5 << 30),
        log_bytes: Some(32 << 20),
        log_line: Some(64 << 10),
        workspace_size: None,
        workspace_inodes: None,
    }
}

fn policy() -> Policy {
    Policy {
        secrets: Vec::new(),
        name: "offline-train".into(),
        description: String::new(),
        executor: Executor {
            backend: BackendChoice::Auto,
            runtime: RuntimeChoice::Default,
            require: BTreeMap::new(),
        },
        image: ImagePolicy {
            allow: Vec::new(),
            require_digest: true,
            pull: PullChoice::Never,
        },
        workspace: WorkspacePolicy {
            size: Some(10 << 30),
            inodes: Some(200_000),
            keep_ms: None,
        },
        tmp: Tmp {
            size: 1 << 30,
            inodes: 10_000,
            exec: false,
        },
        shm: 64 << 20,
        mounts: Vec::new(),
        gpu: crate::policy::defaults::policy().gpu,
        network: crate::policy::defaults::policy().network,
        limits: some_limits(),
        watch: Default::default(),
        process: ProcessPolicy {
            user: None,
            stop_grace_ms: 5000,
        },
        env: EnvPolicy {
            set: BTreeMap::from([("PYTHONHASHSEED".into(), "0".into())]),
            pass: Vec::new(),
        },
        git: GitPolicy {
            hosts: Vec::new(),
            remotes: Vec::new(),
            max_bytes: 0,
            max_files: 0,
        },
        artifacts: crate::policy::defaults::policy().artifacts,
        approval: ApprovalPolicy {
            default: Decision::Ask,
            contained: Contained::Ask,
            typed: Decision::Allow,
            alone: false,
            timeout_ms: None,
            remember: Remember::ExactHash,
            rules: Vec::new(),
        },
        lifecycle: LifecyclePolicy {
            on_disconnect: OnDisconnect::Stop,
            runs_per_hour: None,
        },
        audit: AuditPolicy { fail_closed: true },
    }
}

fn source(path: &str, inode: u64) -> Source {
    Source {
        path: path.into(),
        device: 7,
        inode,
    }
}

fn input_mount(source: &str, target: &str, access: Access) -> Mount {
    mount(
        MountKind::Input,
        &self::source(source, 50),
        target.into(),
        access,
    )
}

/// Owns what a [`PlanInput`] borrows.
struct Given {
    policy: Policy,
    workspace: WorkspaceFacts,
    home: Source,
    inputs: Vec<Mount>,
    python: Option<PythonEnv>,
    gpus: Option<(Devices, Vec<DriverFile>)>,
    root: RootFs,
    passed: BTreeMap<String, String>,
    typed: BTreeMap<String, String>,
    uid: u32,
    cores: u32,
}

impl Given {
    fn plain() -> Self {
        Self {
            policy: policy(),
            workspace: WorkspaceFacts {
                root: source("/home/ada/proj", 1),
                protected: vec![source("/home/ada/proj/.git", 2)],
                covered: Vec::new(),
            },
            home: source("/state/runs/1/home", 3),
            inputs: Vec::new(),
            python: None,
            gpus: None,
            root: RootFs::HostSystem,
            passed: BTreeMap::new(),
            typed: BTreeMap::new(),
            uid: 1000,
            cores: 8,
        }
    }

    fn with_venv(path: &str) -> Self {
        let own = |path: &str, inode| {
            mount(
                MountKind::Environment,
                &source(path, inode),
                path.into(),
                Access::ReadOnly,
            )
        };
        Self {
            python: Some(PythonEnv {
                mounts: vec![own(path, 10), own("/home/ada/.pyenv/versions/3.12.1", 11)],
                env: BTreeMap::from([("VIRTUAL_ENV".into(), path.into())]),
                path: vec![format!("{path}/bin")],
                editable: Vec::new(),
                notes: Vec::new(),
            }),
            ..Self::plain()
        }
    }

    fn plan(&self) -> Result<SandboxSpec, PlanError> {
        plan(&PlanInput {
            secrets: &[],
            policy: &self.policy,
            backend: BackendKind::Namespace,
            root: self.root.clone(),
            uid: self.uid,
            gid: 1000,
            workspace: &self.workspace,
            home: &self.home,
            inputs: &self.inputs,
            python: self.python.as_ref(),
            gpus: self
                .gpus
                .as_ref()
                .map(|(devices, files)| GpuFacts { devices, files }),
            passed: &self.passed,
            network: None,
            typed: &self.typed,
            hostname: "fumehood",
            cores: self.cores,
        })
    }
}

fn targets(spec: &SandboxSpec) -> Vec<&str> {
    let text = |mount: &'_ Mount| mount.target.to_str().map(str::len);
    assert!(spec.mounts.iter().all(|mount| text(mount).is_some()));
    spec.mounts
        .iter()
        .filter_map(|mount| mount.target.to_str())
        .collect()
}

#[test]
fn one_of_everything() {
    let mut given = Given::with_venv("/home/ada/venv");
    given.inputs = vec![input_mount(
        "/srv/cifar10",
        "/data/cifar10",
        Access::ReadOnly,
    )];
    given.typed = BTreeMap::from([("SEED".into(), "7".into())]);
    insta::assert_json_snapshot!(given.plan().unwrap());
}

#[test]
fn threads_follow_the_cpu_limit_and_never_exceed_the_machine() {
    for (cpus, cores, expected) in [
        (Some(0.5), 8, Some(1)),
        (Some(1.5), 8, Some(2)),
        (Some(64.0), 8, Some(8)),
        (Some(0.0), 8, Some(1)),
        (Some(f64::INFINITY), 4, Some(4)),
        (None, 8, None),
    ] {
        assert_eq!(threads(cpus, cores), expected, "{cpus:?} of {cores}");
    }
}

#[test]
fn typed_variables_win_over_the_policy_s_and_neither_over_the_sandbox_s() {
    let mut given = Given::plain();
    given.typed.insert("PYTHONHASHSEED".into(), "9".into());
    assert_eq!(given.plan().unwrap().env["PYTHONHASHSEED"], "9");
    given.typed.insert("HOME".into(), "/root".into());
    assert!(matches!(
        given.plan(),
        Err(PlanError::Typed(EnvError::Own { .. }))
    ));
    given.typed.clear();
    given.policy.env.set.insert("LD_PRELOAD".into(), "x".into());
    let error = given.plan().unwrap_err();
    assert!(matches!(
        error,
        PlanError::Policy(EnvError::Steering { .. })
    ));
    assert!(error.remedy().contains("leave it out"));
}

#[test]
fn an_environment_in_the_workspace_is_read_only_at_both_its_places() {
    let spec = Given::with_venv("/home/ada/proj/.venv").plan().unwrap();
    for target in ["/workspace/.venv", "/home/ada/proj/.venv"] {
        let mount = spec
            .mounts
            .iter()
            .find(|mount| mount.target == Path::new(target))
            .unwrap();
        assert_eq!(mount.access, Access::ReadOnly, "{target}");
    }
}

#[test]
fn what_is_installed_editable_from_the_workspace_is_seen_where_the_environment_points() {
    let mut given = Given::with_venv("/home/ada/proj/.venv");
    let python = given.python.as_mut().unwrap();
    python.editable = vec![
        Editable {
            name: "proj".into(),
            folder: source("/home/ada/proj", 1),
        },
        Editable {
            name: "other".into(),
            folder: source("/home/ada/other", 9),
        },
    ];
    let spec = given.plan().unwrap();
    let targets = targets(&spec);
    assert!(targets.contains(&"/home/ada/proj"));
    assert!(!targets.contains(&"/home/ada/other"));
    // The folder first, then the environment in it.
    let place = |target| targets.iter().position(|one| *one == target).unwrap();
    assert!(place("/home/ada/proj") < place("/home/ada/proj/.venv"));
}

#[test]
fn a_workspace_that_is_at_its_own_place_is_mounted_once() {
    let mut given = Given::with_venv("/workspace/.venv");
    given.workspace.root = source("/workspace", 1);
    given.workspace.protected.clear();
    let spec = given.plan().unwrap();
    let there = targets(&spec)
        .iter()
        .filter(|target| **target == "/workspace/.venv")
        .count();
    assert_eq!(there, 1);
}

#[test]
fn an_environment_never_covers_what_the_sandbox_makes() {
    for path in [
        "/etc/venv",
        "/proc/venv",
        "/tmp",
        "/home",
        "/home/fumehood/x",
        "/",
        "/workspace",
    ] {
        let refused = Given::with_venv(path).plan();
        assert!(
            matches!(refused, Err(PlanError::EnvironmentPlace { .. })),
            "{path}: {refused:?}"
        );
    }
}

#[test]
fn an_input_never_makes_the_protected_writable() {
    let mut given = Given::plain();
    for source in [
        "/home/ada/proj",
        "/home/ada/proj/.git",
        "/home/ada/proj/.git/hooks",
        "/home/ada",
    ] {
        given.inputs = vec![input_mount(source, "/data/x", Access::ReadWrite)];
        assert!(
            matches!(given.plan(), Err(PlanError::Unprotected { .. })),
            "{source}"
        );
        given.inputs[0].access = Access::ReadOnly;
        given.plan().unwrap();
    }
}

#[test]
fn two_mounts_never_share_a_place() {
    let mut given = Given::plain();
    for (first, second) in [("/data/x", "/data/x"), ("/workspace/.git", "/data/y")] {
        given.inputs = vec![
            input_mount("/srv/a", first, Access::ReadOnly),
            input_mount("/srv/b", second, Access::ReadOnly),
        ];
        assert!(
            matches!(given.plan(), Err(PlanError::Overlap { .. })),
            "{first} {second}"
        );
    }
    given.inputs = vec![
        input_mount("/srv/b", "/data/x/y", Access::ReadOnly),
        input_mount("/srv/a", "/data/x", Access::ReadOnly),
    ];
    let spec = given.plan().unwrap();
    assert!(targets(&spec).ends_with(&["/data/x", "/data/x/y"]));
}

#[test]
fn nothing_runs_as_root() {
    let given = Given {
        uid: 0,
        ..Given::plain()
    };
    assert!(matches!(given.plan(), Err(PlanError::Root { .. })));
    let policy = policy();
    let (docker, namespace) = (BackendKind::Docker, BackendKind::Namespace);
    for (backend, owner, caller, expected) in [
        (namespace, (1000, 1000), (0, 0), (1000, 1000)),
        (namespace, (0, 0), (0, 0), (UNPRIVILEGED, UNPRIVILEGED)),
        (namespace, (1000, 0), (0, 0), (1000, UNPRIVILEGED)),
        (namespace, (1001, 50), (1000, 1000), (1000, 1000)),
        (docker, (1001, 50), (1000, 1000), (1001, 50)),
        (docker, (0, 0), (1000, 1000), (UNPRIVILEGED, UNPRIVILEGED)),
    ] {
        assert_eq!(run_as(&policy, backend, owner, caller), expected);
    }
}

#[test]
fn host_names_are_plain() {
    for bad in ["", "-a", "a b", "a.b\n", "ä", &"a".repeat(64)] {
        assert!(check_hostname(bad).is_err(), "{bad:?}");
    }
    check_hostname("fumehood-1").unwrap();
}

proptest! {
    /// Whatever names and places come in: a plan either is refused, or holds these.
    #[test]
    fn a_plan_keeps_its_promises(
        variables in proptest::collection::btree_map("[A-Z_]{0,6}[A-Z0-9_=]{0,8}", ".{0,12}", 0..6),
        places in proptest::collection::vec(("/(data|models|cache|workspace|etc|tmp)(/[a-z.]{1,4}){0,3}", any::<bool>()), 0..5),
        cpus in proptest::option::of(0.0f64..512.0),
        cores in 0u32..256,
    ) {
        let mut given = Given::with_venv("/home/ada/proj/.venv");
        given.typed = variables;
        given.policy.limits.cpus = cpus;
        given.cores = cores;
        given.inputs = places
            .iter()
            .enumerate()
            .map(|(n, (target, writable))| {
                let access = if *writable { Access::ReadWrite } else { Access::ReadOnly };
                input_mount(&format!("/srv/{n}"), target, access)
            })
            .collect();
        let Ok(spec) = given.plan() else { return Ok(()) };
        prop_assert_eq!(&spec.env["HOME"], HOME_TARGET);
        prop_assert!(spec.env["PATH"].starts_with("/home/ada/proj/.venv/bin:/usr/local/sbin:"));
        prop_assert!(!spec.env.keys().any(|name| name.starts_with("LD_") || name.starts_with("CUDA_")));
        for (n, mount) in spec.mounts.iter().enumerate() {
            let covers = spec.mounts[..n].iter().any(|other| other.target.starts_with(&mount.target));
            prop_assert!(!covers, "{:?}", mount);
            if mount.kind == MountKind::Input {
                prop_assert!(names::MOUNT_ROOTS.iter().any(|root| mount.target.starts_with(root)));
            }
        }
        if let Some(threads) = spec.env.get("OMP_NUM_THREADS") {
            let threads: u32 = threads.parse().unwrap();
            prop_assert!(threads >= 1 && threads <= cores.max(1));
        }
    }
}

fn with_gpu(root: RootFs) -> Given {
    let file = |kind, name: &str, in_system| DriverFile {
        kind,
        name: name.into(),
        path: format!("/usr/lib/nvidia/{name}.570").into(),
        device: 9,
        inode: 9,
        in_system,
    };
    let gpu = Gpu {
        index: 1,
        uuid: Some("GPU-0000aaaa".into()),
        name: "X".into(),
    };
    let node = DeviceNode {
        source: "/dev/nvidia1".into(),
        target: "/dev/nvidia1".into(),
        major: 195,
        minor: 1,
        group: None,
    };
    let devices = Devices {
        gpus: vec![gpu],
        exclusive: true,
        nodes: vec![node],
        proc: BTreeMap::new(),
        origin: "the driver itself".into(),
    };
    let files = vec![
        file(FileKind::Library, "libcuda.so.1", true),
        file(FileKind::Program, "nvidia-smi", true),
        file(FileKind::Library, "libnvidia-ml.so.1", false),
    ];
    Given {
        gpus: Some((devices, files)),
        root,
        ..Given::plain()
    }
}

#[test]
fn in_an_image_the_drivers_files_lie_in_a_folder_of_their_own() {
    let image = RootFs::Image {
        reference: "r".into(),
        id: "i".into(),
    };
    let spec = with_gpu(image).plan().unwrap();
    let found: Vec<&str> = targets(&spec)
        .into_iter()
        .filter(|target| target.starts_with(DRIVER_TARGET))
        .collect();
    assert_eq!(
        found,
        [
            "/opt/fumehood/driver/lib/libcuda.so.1",
            "/opt/fumehood/driver/bin/nvidia-smi",
            "/opt/fumehood/driver/lib/libnvidia-ml.so.1"
        ]
    );
    assert_eq!(spec.env["LD_LIBRARY_PATH"], "/opt/fumehood/driver/lib");
    assert!(spec.env["PATH"].ends_with(":/opt/fumehood/driver/bin"));
    assert_eq!(spec.env["NVIDIA_VISIBLE_DEVICES"], "GPU-0000aaaa");
    assert_eq!(spec.devices.nodes.len(), 1);
    let driver = |mount: &&Mount| mount.kind == MountKind::Driver;
    assert!(
        spec.mounts
            .iter()
            .filter(driver)
            .all(|one| one.access == Access::ReadOnly)
    );
}

#[test]
fn of_the_hosts_own_system_only_what_it_lacks_is_mounted() {
    let spec = with_gpu(RootFs::HostSystem).plan().unwrap();
    let driver = |mount: &&Mount| mount.kind == MountKind::Driver;
    assert_eq!(spec.mounts.iter().filter(driver).count(), 1);
    let plain = Given::plain().plan().unwrap();
    assert!(plain.devices.is_empty());
    assert!(!plain.env.contains_key("LD_LIBRARY_PATH"));
    assert!(!plain.env.contains_key("NVIDIA_VISIBLE_DEVICES"));
}

#[test]
fn the_unprivileged_user_is_in_no_range_that_anyone_hands_out() {
    // https://systemd.io/UIDS-GIDS and Debian Policy 9.2.2.
    for (range, whose) in [
        (0..=999, "the system's"),
        (1000..=60_000, "people's"),
        (60_000..=64_999, "Debian's packages'"),
        (60_001..=60_577, "systemd's homes and mapped hosts'"),
        (61_184..=65_519, "systemd's dynamic services'"),
        (65_534..=65_535, "nobody's"),
        (65_536..=u32::MAX, "not mapped where 65536 ids are"),
    ] {
        assert!(!range.contains(&UNPRIVILEGED), "{UNPRIVILEGED} is {whose}");
    }
}
