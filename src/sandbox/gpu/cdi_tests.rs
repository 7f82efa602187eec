use super::*;
use proptest::prelude::*;

/// As `nvidia-ctk cdi generate` writes it, shortened.
const GENERATED: &str = include_str!("testdata/nvidia.yaml");

fn yaml(text: &str) -> Result<Vec<Described>, CdiError> {
    parse(text, Path::new("nvidia.yaml"))
}

fn with(edits: &str) -> Result<Vec<Described>, CdiError> {
    yaml(&format!(
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits: {edits}\n"
    ))
}

#[test]
fn each_gpu_has_its_nodes_and_what_the_file_gives_to_all() {
    let devices = yaml(GENERATED).unwrap();
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(
        names,
        ["0", "1", "GPU-0a1b2c3d-1111-2222-3333-444455556666", "all"]
    );
    let targets: Vec<&str> = devices[1]
        .parts
        .nodes
        .iter()
        .map(|(_, at)| at.as_str())
        .collect();
    // Not the nodes for drawing.
    assert_eq!(
        targets,
        [
            "/dev/nvidia1",
            "/dev/nvidia-uvm",
            "/dev/nvidia-uvm-tools",
            "/dev/nvidiactl"
        ]
    );
    let links = &devices[0].parts.links;
    assert!(
        links.contains(&("libcuda.so".into(), "libcuda.so.1".into())),
        "{links:?}"
    );
    assert!(
        devices[0]
            .parts
            .files
            .contains(&"/usr/bin/nvidia-smi".into())
    );
}

#[test]
fn json_says_the_same_as_yaml() {
    let value = yaml::parse(GENERATED).unwrap();
    let json = parse(&value.to_string(), Path::new("nvidia.json")).unwrap();
    let names = |all: &[Described]| all.iter().map(|one| one.parts.clone()).collect::<Vec<_>>();
    assert_eq!(names(&json), names(&yaml(GENERATED).unwrap()));
}

#[test]
fn what_is_no_gpus_is_refused_by_name() {
    for (edits, says) in [
        (
            "{deviceNodes: [{path: /dev/sda}]}",
            "\"/dev/sda\", which is no node",
        ),
        ("{deviceNodes: [{path: /dev/nvidia0, type: b}]}", "no node"),
        (
            "{deviceNodes: [{path: /dev/nvidia0/../sda}]}",
            "no plain absolute path",
        ),
        (
            "{deviceNodes: [{path: /dev/nvidia0, hostPath: dev/sda}]}",
            "no plain absolute path",
        ),
        (
            "{mounts: [{hostPath: ../x, containerPath: /x}]}",
            "no plain absolute path",
        ),
        ("{env: [LD_PRELOAD=/x.so]}", "sets LD_PRELOAD"),
        (
            "{hooks: [{hookName: createContainer, path: /usr/bin/mine, args: [mine, go]}]}",
            "\"/usr/bin/mine go\" run as root",
        ),
        ("{hooks: [{hookName: poststop, path: /x}]}", "run as root"),
        ("{additionalGids: [0]}", "the group root"),
        ("{intelRdt: {closID: x}}", "intelRdt"),
        (
            "{netDevices: [{hostInterfaceName: eth0, name: x}]}",
            "network device",
        ),
        ("{surprise: 1}", "surprise"),
        ("{deviceNodes: 3}", "not a CDI specification"),
    ] {
        let error = with(edits).unwrap_err().to_string();
        assert!(error.contains(says), "{edits}: {error}");
    }
}

#[test]
fn a_file_that_is_none_is_an_error_and_other_kinds_are_let_be() {
    for (text, says) in [
        ("cdiVersion: 0.6.0\ndevices: []\n", "no kind"),
        (
            "cdiVersion: 9.0.0\nkind: nvidia.com/gpu\ndevices: []\n",
            "\"9.0.0\"",
        ),
        ("kind: nvidia.com/gpu\ndevices: []\n", "cdiVersion"),
        ("kind: [\n", "line 2"),
        ("", "empty"),
    ] {
        let error = yaml(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
    let twice =
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices: [{name: \"0\"}, {name: \"0\"}]\n";
    assert_eq!(yaml(twice), Err(CdiError::Twice("0".into())));
    let other = "cdiVersion: 0.6.0\nkind: vendor.com/net\nsurprise: 1\n";
    assert_eq!(yaml(other), Ok(Vec::new()));
}

#[test]
fn the_later_folder_wins_and_two_of_one_folder_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["etc", "run"].map(|name| dir.path().join(name));
    let file = |node: &str| {
        format!(
            "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices: [{{name: \"0\", containerEdits: {{deviceNodes: [{{path: {node}}}]}}}}]\n"
        )
    };
    for folder in [&first, &second] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(first.join("a.yaml"), file("/dev/nvidia0")).unwrap();
    fs::write(second.join("a.yaml"), file("/dev/nvidia1")).unwrap();
    fs::write(second.join("notes.txt"), "not read").unwrap();
    let folders = [first.clone(), second, dir.path().join("absent")];
    let found = read_folders(&folders).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].parts.nodes[0].1, "/dev/nvidia1");
    fs::write(first.join("b.yaml"), file("/dev/nvidia2")).unwrap();
    let error = read_folders(&folders).unwrap_err();
    assert!(error.to_string().contains("b.yaml: two files"), "{error}");
    assert!(error.remedy().contains("nvidia-ctk cdi generate"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(at in 0..GENERATED.len(), length in 0usize..40, put in "[ -~\n]{0,12}") {
        let bytes = GENERATED.as_bytes();
        let end = (at + length).min(bytes.len());
        let mut changed = bytes[..at].to_vec();
        changed.extend(put.as_bytes());
        changed.extend(&bytes[end..]);
        let text = String::from_utf8_lossy(&changed);
        // Whatever comes of it, no node of another device does.
        if let Ok(devices) = yaml(&text) {
            for (_, target) in devices.iter().flat_map(|device| &device.parts.nodes) {
                prop_assert!(target.starts_with("/dev/nvidia") && !target.contains(".."));
            }
        }
    }
}
