use super::super::fixture;
use super::*;
use crate::protocol::device::{DeviceNode, Gpu};
use proptest::prelude::*;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[test]
fn the_same_act_gives_the_same_bytes_and_any_change_others() {
    let policy = fixture::policy();
    let act = fixture::exec(&policy, "python train.py");
    assert_eq!(act.canonical(), act.clone().canonical());
    let mut changed: Vec<ExecAction> = vec![act.clone(); 15];
    changed[0].argv = fixture::argv("python train.py x");
    changed[1].argv = vec![b"python train.py".to_vec()];
    changed[2].cwd = "/workspace/x".into();
    changed[3].env.insert("SEED".into(), "1".into());
    changed[4].stdin = true;
    changed[5].wall_ms = Some(1);
    changed[6].code = Digest::new("other");
    changed[7].policy = Digest::new("other");
    changed[8].sandbox.mounts[0].inode = 3;
    changed[9].sandbox.limits.memory = None;
    changed[10].origin = Origin::Typed;
    changed[11].run = RunId::new("0191");
    let gpu = |index| Gpu {
        index,
        uuid: None,
        name: "X".into(),
    };
    let node = |minor| DeviceNode {
        source: "/dev/nvidia0".into(),
        target: "/dev/nvidia0".into(),
        major: 195,
        minor,
        group: None,
    };
    for (at, index, minor) in [(12, 0, 0), (13, 1, 0), (14, 0, 1)] {
        changed[at].sandbox.devices.gpus = vec![gpu(index)];
        changed[at].sandbox.devices.nodes = vec![node(minor)];
    }
    let mut seen: Vec<Vec<u8>> = changed.iter().map(Act::canonical).collect();
    seen.push(act.canonical());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 16);
}

#[test]
fn canonical_bytes_are_json_with_raw_arguments() {
    let policy = fixture::policy();
    let mut act = fixture::exec(&policy, "x");
    act.argv = vec![b"x".to_vec(), vec![0xff, 0x0a]];
    let value: serde_json::Value = serde_json::from_slice(&act.canonical()).unwrap();
    assert_eq!(value["action"], "exec");
    assert_eq!(value["act"]["argv"], serde_json::json!([[120], [255, 10]]));
}

#[test]
fn acts_of_different_kinds_never_share_bytes() {
    let policy = fixture::policy();
    let read = FileAction::Read { path: "a".into() };
    let list = FileAction::List { path: "a".into() };
    let clone = fixture::clone(&policy, "https://example.org/a");
    assert_ne!(read.canonical(), list.canonical());
    assert!(clone.canonical().starts_with(br#"{"action":"clone""#));
}

#[test]
fn summaries_are_printable() {
    let policy = fixture::policy();
    let mut clone = fixture::clone(&policy, "https://example.org/a\u{1b}[2J");
    clone.rev = Some("v1\n".into());
    assert_eq!(
        clone.summary(),
        r#"clone "https://example.org/a\u{1b}[2J" at "v1\n" into repo"#
    );
    let write = FileAction::Write {
        path: "a b".into(),
        content: Digest::new("0"),
    };
    assert_eq!(write.summary(), r#"write "a b""#);
}

proptest! {
    #[test]
    fn no_two_paths_are_the_same_text(a: Vec<u8>, b: Vec<u8>) {
        prop_assume!(a != b);
        let text = |bytes| text_path(Path::new(&OsString::from_vec(bytes)));
        let (a, b) = (text(a), text(b));
        prop_assert!(a.to_str().is_some());
        prop_assert_ne!(a, b);
    }
}
