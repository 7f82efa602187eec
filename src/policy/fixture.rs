//! Values for this room's tests.

use super::action::{ActionKind, CloneAction, ExecAction, Origin};
use super::defaults;
use super::model::{Decision, Policy, Rule};
use crate::protocol::ids::{Digest, RunId};
use crate::protocol::spec::{Access, BackendKind, Mount, MountKind, RootFs, SandboxSpec};
use std::collections::BTreeMap;

pub(super) fn policy() -> Policy {
    defaults::policy()
}

pub(super) fn rule(id: &str, decision: Decision, prefix: &[&str]) -> Rule {
    Rule {
        id: id.to_owned(),
        action: ActionKind::Exec,
        decision,
        command_prefix: prefix.iter().map(|word| (*word).to_owned()).collect(),
        max_wall_ms: None,
        max_gpus: None,
        offline: false,
        reason: String::new(),
    }
}

pub(super) fn argv(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

pub(super) fn mount(kind: MountKind, source: &str, target: &str, access: Access) -> Mount {
    Mount {
        kind,
        source: source.into(),
        target: target.into(),
        access,
        device: 1,
        inode: 2,
    }
}

pub(super) fn spec(policy: &Policy) -> SandboxSpec {
    SandboxSpec {
        backend: BackendKind::Namespace,
        root: RootFs::HostSystem,
        mounts: vec![mount(
            MountKind::Workspace,
            "/home/ada/proj",
            "/workspace",
            Access::ReadWrite,
        )],
        tmp: policy.tmp.clone(),
        shm: policy.shm,
        uid: 1000,
        gid: 1000,
        hostname: "fumehood".into(),
        limits: policy.limits.clone(),
        env: BTreeMap::new(),
        network: None,
        secrets: Vec::new(),
        stop_grace_ms: policy.process.stop_grace_ms,
        require: policy.executor.require.clone(),
        devices: Default::default(),
    }
}

pub(super) fn exec(policy: &Policy, line: &str) -> ExecAction {
    ExecAction {
        run: RunId::new("0190"),
        origin: Origin::Model,
        argv: argv(line),
        cwd: "/workspace".into(),
        env: BTreeMap::new(),
        stdin: false,
        wall_ms: None,
        sandbox: spec(policy),
        policy: policy.digest(),
        code: Digest::new("c0de"),
        names_artifact: false,
    }
}

pub(super) fn clone(policy: &Policy, url: &str) -> CloneAction {
    CloneAction {
        run: RunId::new("0190"),
        url: url.to_owned(),
        rev: None,
        into: "repo".into(),
        policy: policy.digest(),
    }
}
