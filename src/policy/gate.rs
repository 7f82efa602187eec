//! The gate: from a policy and an act to a permit, a question or a no. Pure.
//!
//! Before any rule stands a list in code: what no policy can allow.

use super::action::{Act, CloneAction, ExecAction, FileAction, HostAction, Origin, SecretAction};
use super::git_url::check_url;
use super::judge::{self, ExecFacts, Judgement, by};
use super::model::{Decision, Policy, Remember};
use super::network;
use super::permit::{Asking, Denial, Permit, Question, Reach, Verdict, digest_of};
use super::text;
use crate::protocol::event::Approver;
use crate::protocol::ids::Digest;
use crate::protocol::spec::{Access, MountKind, SandboxSpec};
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// Names that configure version control, shells, editors and ourselves on the host: never ours to touch.
pub const PROTECTED: [&str; 7] = [
    ".git",
    ".hg",
    ".envrc",
    ".vscode",
    ".idea",
    ".claude",
    ".fumehood",
];

/// What a run remembers of the answers it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// An execution of this run got a yes.
    pub yes_given: bool,
    /// Digests of the executions that got a "yes for this run".
    pub remembered: BTreeSet<Digest>,
}

/// Decides about an execution.
pub fn decide_exec(policy: &Policy, standing: &Standing, act: ExecAction) -> Verdict<ExecAction> {
    if let Some(why) = never(policy, &act) {
        return denied(by::ALWAYS, why);
    }
    let remembers = policy.approval.remember == Remember::ExactHash;
    let remembered = remembers && standing.remembered.contains(&digest_of(&act));
    let facts = ExecFacts {
        argv: &act.argv,
        origin: act.origin,
        wall_ms: act.wall_ms.or(act.sandbox.limits.wall_ms),
        wall_limit_ms: act.sandbox.limits.wall_ms,
        names_artifact: act.names_artifact,
        writes_outside: writes_outside(&act.sandbox),
        reaches: reaches(&act.sandbox),
        gpus: act.sandbox.devices.gpus.len() as u64,
        secrets: judge::secrets(act.sandbox.secrets.iter().map(|secret| &secret.name)),
        yes_given: standing.yes_given,
        remembered,
    };
    let judgement = judge::exec(policy, &facts);
    // What asks whatever was said before is not offered a yes for the run.
    let asks_again =
        act.names_artifact || act.origin == Origin::Typed || judgement.widens.is_some();
    let reach = match remembers && !asks_again {
        true => Reach::Run,
        false => Reach::Once,
    };
    verdict(act, judgement, reach)
}

/// Decides about a clone. A URL that no policy can allow is denied with what to use instead.
pub fn decide_clone(policy: &Policy, act: CloneAction) -> Verdict<CloneAction> {
    if act.policy != policy.digest() {
        return denied(by::ALWAYS, OTHER_POLICY.to_owned());
    }
    if let Err(why) = beneath(&act.into) {
        return denied(by::WORKSPACE, why);
    }
    let line = match check_url(&act.url, &policy.git) {
        Ok(checked) => checked.widens().map(str::to_owned),
        Err(error) => return denied(by::GIT, format!("{error}; {}", error.remedy())),
    };
    let judgement = judge::clone(policy, line);
    verdict(act, judgement, Reach::Once)
}

/// Decides about a file operation: beneath the workspace, and not in a protected folder.
pub fn decide_file(policy: &Policy, act: FileAction) -> Verdict<FileAction> {
    if let Err(why) = beneath(act.path()) {
        return denied(by::WORKSPACE, why);
    }
    let judgement = judge::file(policy);
    verdict(act, judgement, Reach::Once)
}

/// Decides about one more host. A host that no policy can list is denied; one that is listed needs no
/// question; any other is a person's to allow, and never `--yes`'s.
pub fn decide_host_action(policy: &Policy, act: HostAction) -> Verdict<HostAction> {
    if act.policy != policy.digest() {
        return denied(by::ALWAYS, OTHER_POLICY.to_owned());
    }
    if !network::is_on(&policy.network) {
        let why =
            "this run has no network at all: network.mode = \"proxy\" in the policy gives it one";
        return denied(by::NETWORK, why.to_owned());
    }
    if let Err(error) = network::check_host(&act.host, None) {
        return denied(by::NETWORK, format!("{error}; {}", error.remedy()));
    }
    if act.host.starts_with("*.") || act.port == 0 {
        let why = "one host and one port are asked for at a time";
        return denied(by::NETWORK, why.to_owned());
    }
    let judgement = judge::host(policy, network::line(&act.host, act.port));
    verdict(act, judgement, Reach::Once)
}

/// Decides about secrets: what the policy does not list is denied; what it lists is a person's to hand
/// over, and never `--yes`'s, unless it says `grant = "allow"`.
pub fn decide_secrets(policy: &Policy, act: SecretAction) -> Verdict<SecretAction> {
    if act.policy != policy.digest() {
        return denied(by::ALWAYS, OTHER_POLICY.to_owned());
    }
    let mut asked = Vec::new();
    for secret in &act.secrets {
        match policy.secrets.iter().find(|one| one.name == secret.name) {
            None => {
                let name = text::short(secret.name.as_bytes());
                return denied(by::SECRETS, format!("the policy has no secret {name}"));
            }
            Some(listed) if listed.grant == Decision::Allow => {}
            Some(listed) => asked.push(listed.name.clone()),
        }
    }
    let line = (!asked.is_empty()).then(|| {
        let entries = if asked.len() == 1 { "entry" } else { "entries" };
        let names = asked.join(", ");
        format!("grant = \"allow\" in the [[secrets]] {entries} of {names}")
    });
    let judgement = judge::secret(policy, line);
    verdict(act, judgement, Reach::Once)
}

const OTHER_POLICY: &str = "it was prepared under another policy than the one that decides";

fn denied<A>(rule: &str, why: String) -> Verdict<A> {
    Verdict::Denied(Denial {
        rule: rule.to_owned(),
        why,
    })
}

fn verdict<A: Act>(act: A, judgement: Judgement, reach: Reach) -> Verdict<A> {
    let Judgement {
        decision,
        rule,
        why,
        widens,
        ..
    } = judgement;
    match decision {
        Decision::Allow => {
            let approver = match rule.as_str() {
                by::TYPED => Approver::Typed,
                by::REMEMBER => Approver::Remembered,
                _ => Approver::Policy { rule },
            };
            Verdict::Allowed(Permit::issue(act, approver))
        }
        Decision::Ask => {
            let asking = Asking {
                rule,
                why,
                widens,
                reach,
            };
            Verdict::Ask(Question::new(act, asking))
        }
        Decision::Deny => Verdict::Denied(Denial {
            rule,
            why: match widens {
                Some(line) => format!("{why}; add to it: {line}"),
                None => why,
            },
        }),
    }
}

/// What no policy can allow about an execution.
fn never(policy: &Policy, act: &ExecAction) -> Option<String> {
    let spec = &act.sandbox;
    let program = act.argv.first().map_or(&[][..], Vec::as_slice);
    let engine = |path: &Path| path.extension().is_some_and(|end| end == "sock");
    let hole = spec
        .mounts
        .iter()
        .find(|mount| mount.source == Path::new("/") || engine(&mount.source));
    if act.policy != policy.digest() {
        Some(OTHER_POLICY.to_owned())
    } else if program.is_empty() {
        Some("there is no program to run".to_owned())
    } else if act.argv.iter().any(|argument| argument.contains(&0)) {
        Some("an argument holds a NUL, which no program can be given".to_owned())
    } else if spec.uid == 0 || spec.gid == 0 {
        Some("nothing runs as root".to_owned())
    } else if !act.cwd.starts_with('/') || act.cwd.contains('\0') {
        Some("the working directory is no absolute path inside the sandbox".to_owned())
    } else {
        hole.map(|mount| {
            let source = text::short(mount.source.as_os_str().as_encoded_bytes());
            format!("{source} is never mounted: it opens the host")
        })
    }
}

/// An input that can be written, beyond the workspace and the run's own home.
fn writes_outside(spec: &SandboxSpec) -> Option<String> {
    let writable = |kind, access| kind == MountKind::Input && access == Access::ReadWrite;
    spec.mounts
        .iter()
        .find(|mount| writable(mount.kind, mount.access))
        .map(|mount| text::short(mount.target.as_os_str().as_encoded_bytes()))
}

/// The hosts it may send to.
fn reaches(spec: &SandboxSpec) -> Option<String> {
    const NAMED: usize = 3;
    let allow = &spec.network.as_ref()?.allow;
    let hosts: Vec<&str> = allow.iter().map(|rule| rule.host.as_str()).collect();
    Some(match hosts.len() {
        0 => "nothing yet, and what is approved later".to_owned(),
        1..=NAMED => hosts.join(", "),
        more => format!("{} and {} more", hosts[..NAMED].join(", "), more - NAMED),
    })
}

/// Whether a path stays beneath the workspace and out of the protected folders.
fn beneath(path: &Path) -> Result<(), String> {
    let shown = || text::short(path.as_os_str().as_encoded_bytes());
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                let name = name.to_string_lossy().to_ascii_lowercase();
                if PROTECTED.contains(&name.as_str()) {
                    return Err(format!(
                        "{} lies in {name}, which configures programs of the host and is left alone",
                        shown()
                    ));
                }
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(format!(
                    "{} is not beneath the workspace; give a path relative to it, without `..`",
                    shown()
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
