use super::seen::mount_points;
use super::*;
use std::os::unix::fs::{MetadataExt, symlink};
use tempfile::TempDir;

/// A machine with a home, state in it, and data beside it.
struct Machine {
    dir: TempDir,
    judge: MountJudge,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in [
            "home/.ssh",
            "home/.config/x",
            "home/.odd/data",
            "home/.cache/huggingface/hub/models",
            "home/.local/state/fumehood/runs",
            "home/.pyenv/versions/3.12.1",
            "home/projects/data",
            "srv/state/runs",
            "data",
        ] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("home/.cache/huggingface/token"), "secret").unwrap();
        let judge = MountJudge::new(&dir.path().join("home"), &dir.path().join("srv/state"));
        Self { dir, judge }
    }

    fn judge(&self, source: &str) -> Result<Mount, MountError> {
        self.judge_as(source, Access::ReadOnly)
    }

    fn judge_as(&self, source: &str, access: Access) -> Result<Mount, MountError> {
        let request = MountRequest {
            source: source.into(),
            target: "/data/x".into(),
            access,
        };
        self.judge.judge(&request, self.dir.path())
    }
}

#[test]
fn a_folder_of_data_is_mounted_as_what_it_was_when_it_was_judged() {
    let machine = Machine::new();
    let there = fs::metadata(machine.dir.path().join("data")).unwrap();
    for spelled in ["data", "./data", "home/../data"] {
        let mount = machine.judge(spelled).unwrap();
        assert_eq!(
            mount.source,
            fs::canonicalize(machine.dir.path()).unwrap().join("data")
        );
        assert_eq!((mount.device, mount.inode), (there.dev(), there.ino()));
        assert_eq!(mount.kind, MountKind::Input);
    }
    machine.judge("home/projects/data").unwrap();
    machine
        .judge_as("home/projects", Access::ReadWrite)
        .unwrap();
}

#[test]
fn the_system_s_own_places_are_refused_with_all_that_is_in_them() {
    let machine = Machine::new();
    for path in [
        "/proc",
        "/proc/1",
        "/sys/kernel",
        "/dev",
        "/dev/pts",
        "/etc",
        "/etc/ssl",
        "/run",
    ] {
        let refused = machine.judge(path);
        assert!(
            matches!(refused, Err(MountError::Denied { .. })),
            "{path}: {refused:?}"
        );
    }
    for path in ["/", "/var", "/home", "/usr"] {
        let refused = machine.judge(path);
        let word = matches!(
            refused,
            Err(MountError::Denied { .. } | MountError::Holds { .. })
        );
        assert!(word, "{path}: {refused:?}");
    }
}

#[test]
fn a_home_is_refused_and_so_is_whatever_holds_it() {
    let machine = Machine::new();
    assert!(matches!(
        machine.judge("home"),
        Err(MountError::Denied { .. })
    ));
    assert!(matches!(machine.judge("."), Err(MountError::Holds { .. })));
}

#[test]
fn hidden_folders_of_a_home_are_refused_but_for_caches() {
    let machine = Machine::new();
    for path in [
        "home/.ssh",
        "home/.config/x",
        "home/.cache/huggingface/token",
        "home/.odd/data",
        "home/.cache",
    ] {
        let refused = machine.judge(path);
        let word = matches!(refused, Err(MountError::Hidden { .. }));
        assert!(word, "{path}: {refused:?}");
    }
    machine.judge("home/.cache/huggingface/hub").unwrap();
    machine.judge("home/.cache/huggingface/hub/models").unwrap();
    let writable = machine.judge_as("home/.cache/huggingface/hub", Access::ReadWrite);
    assert!(matches!(writable, Err(MountError::WritableCache { .. })));
}

#[test]
fn our_own_state_is_refused_with_all_that_is_in_it() {
    let machine = Machine::new();
    assert!(matches!(
        machine.judge("srv/state/runs"),
        Err(MountError::Denied { .. })
    ));
    assert!(matches!(
        machine.judge("srv"),
        Err(MountError::Holds { .. })
    ));
}

#[test]
fn a_secret_that_lives_elsewhere_is_refused_there_too() {
    let machine = Machine::new();
    let home = machine.dir.path().join("home");
    fs::create_dir_all(machine.dir.path().join("vault/keys")).unwrap();
    symlink(machine.dir.path().join("vault"), home.join(".aws")).unwrap();
    assert!(matches!(
        machine.judge("vault/keys"),
        Err(MountError::Denied { .. })
    ));
}

#[test]
fn a_link_on_the_way_is_refused_and_the_real_place_named() {
    let machine = Machine::new();
    symlink("data", machine.dir.path().join("link")).unwrap();
    let error = machine.judge("link").unwrap_err();
    assert!(matches!(error, MountError::Link { .. }), "{error:?}");
    assert!(error.remedy().ends_with("/data"), "{}", error.remedy());
}

#[test]
fn what_is_neither_file_nor_folder_is_refused_by_its_kind() {
    let machine = Machine::new();
    let at = |name: &str| machine.dir.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, kind) in [
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
        ("/dev/null", "a device"),
    ] {
        let error = machine.judge(name).unwrap_err();
        assert!(error.to_string().contains(kind), "{name}: {error}");
    }
}

#[test]
fn what_is_not_there_has_a_remedy() {
    let error = Machine::new().judge("nowhere").unwrap_err();
    assert!(error.remedy().starts_with("check the path"));
}

#[test]
fn an_interpreter_may_be_in_a_hidden_folder_but_not_among_secrets() {
    let machine = Machine::new();
    let at = |name: &str| machine.dir.path().join(name);
    machine
        .judge
        .judge_environment(&at("home/.pyenv/versions/3.12.1"))
        .unwrap();
    for path in ["home/.config/x", "home/.ssh", "home"] {
        assert!(
            machine.judge.judge_environment(&at(path)).is_err(),
            "{path}"
        );
    }
}

#[test]
fn targets_are_judged_too() {
    let machine = Machine::new();
    let request = MountRequest::parse("src=data,dst=/etc/x").unwrap();
    let refused = machine.judge.judge(&request, machine.dir.path());
    assert!(matches!(refused, Err(MountError::Target { .. })));
}

#[test]
fn what_is_typed_is_read_whole_or_refused() {
    let read = |spec: &str| MountRequest::parse(spec);
    let good = read("src=a b,dst=/data/x,rw").unwrap();
    assert_eq!(good.source, Path::new("a b"));
    assert_eq!(good.access, Access::ReadWrite);
    assert_eq!(read("dst=/data/x,src=y").unwrap().access, Access::ReadOnly);
    for bad in [
        "",
        "src=a",
        "dst=/data/x",
        "src=,dst=/data/x",
        "src=a,src=b,dst=/data/x",
        "src=a,dst=/data/x,RW",
        "a:/data/x",
        "src=a,dst=/data/x,rw,ro",
        "src=a,dst=/data/x,z",
    ] {
        let error = read(bad).unwrap_err();
        assert!(error.remedy().contains("src=PATH"), "{bad}");
    }
}

#[test]
fn mount_points_with_blanks_are_read_as_they_are() {
    let table = b"1 2 0:3 / /mnt/my\\040disk rw - ext4 x rw\n4 1 0:5 / /a\\ rw - tmpfs x rw\n";
    let points: Vec<PathBuf> = mount_points(table).collect();
    assert_eq!(points, [Path::new("/mnt/my disk"), Path::new("/a\\")]);
}

#[test]
fn another_file_system_below_is_named() {
    // Every machine that runs this has something mounted beneath /dev or /sys; the rule is the same.
    let error = check_below(Path::new("/sys")).unwrap_err();
    assert!(error.remedy().contains("by name"), "{error}");
}
