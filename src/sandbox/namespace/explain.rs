//! Why a sandbox cannot be built here, in words, with what would mend it. Pure.

use super::host::HostFacts;
use crate::protocol::spec::BackendKind;
use crate::sandbox::backend::SandboxError;
use crate::sandbox::wire::{EnterError, Stage};
use nix::errno::Errno;

/// The first kernel that can change the flags of a mount that is attached nowhere.
const NEEDS: (u32, u32) = (5, 12);

const CONTAINER: &str = "start the container so that namespaces can be made in it (docker: `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`), run Fumehood on the machine itself, or use `--backend docker` with the machine's engine";

/// A failure of `init enter` as an error of ours.
pub(super) fn explain(error: &EnterError, facts: &HostFacts) -> SandboxError {
    match error.stage {
        // About this one sandbox, not about the machine.
        Stage::Mounts => SandboxError::Refused {
            what: "mount".to_owned(),
            why: error.detail.clone(),
            remedy: mount_remedy(Errno::from_raw(error.errno), facts).to_owned(),
        },
        Stage::Read => SandboxError::Refused {
            what: "sandbox".to_owned(),
            why: error.detail.clone(),
            remedy: "start as the owner of the workspace, or as root".to_owned(),
        },
        _ => SandboxError::Unavailable {
            backend: BackendKind::Namespace,
            why: format!("{}: {}", stage(error.stage), error.detail),
            remedy: remedy(error, facts),
        },
    }
}

/// Root that may not mount takes everything on as the sandbox's user, whom its own folders are closed to.
pub(super) const POWERLESS: &str = "start the container as an ordinary user (docker: `--user 1000:1000`), or let its root mount (`--cap-add SYS_ADMIN`)";

fn mount_remedy(errno: Errno, facts: &HostFacts) -> &'static str {
    match errno {
        Errno::EACCES if facts.is_powerless_root => POWERLESS,
        Errno::EACCES => {
            "a folder above it is closed to the sandbox's user: open it to others (`chmod o+x`), or use one elsewhere (`--workspace`, FUMEHOOD_HOME)"
        }
        _ => "look at what is there now, and start again",
    }
}

/// What was being done, in the words of someone who waits for it.
pub(super) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Read => "reading the world",
        Stage::Cgroup => "joining cgroups",
        Stage::Drop => "becoming an unprivileged user",
        Stage::Namespaces => "making namespaces",
        Stage::Maps => "mapping the user",
        Stage::Sources => "opening what is mounted",
        Stage::Root => "making an empty root",
        Stage::System => "mounting the system",
        Stage::Dev => "making /dev",
        Stage::Proc => "making /proc",
        Stage::Mounts => "mounting the workspace and the rest",
        Stage::Pivot => "leaving the host's root",
        Stage::Network => "setting up the empty network",
        Stage::Lock => "giving up privileges",
        Stage::Landlock => "entering the Landlock domain",
        Stage::Filter => "loading the system-call filter",
        Stage::Run => "running a first program",
    }
}

fn remedy(error: &EnterError, facts: &HostFacts) -> String {
    let denied = matches!(Errno::from_raw(error.errno), Errno::EPERM | Errno::EACCES);
    let too_old = matches!(Errno::from_raw(error.errno), Errno::ENOSYS)
        && facts.kernel_version().is_none_or(|version| version < NEEDS);
    // From the namespaces on, a host that restricts them refuses whatever comes first.
    let in_namespace = !matches!(
        error.stage,
        Stage::Cgroup | Stage::Drop | Stage::Lock | Stage::Landlock | Stage::Filter | Stage::Run
    );
    match () {
        () if too_old => format!(
            "use Linux {}.{} or newer (this is {}), or `--backend docker`",
            NEEDS.0, NEEDS.1, facts.kernel
        ),
        () if in_namespace && switched_off(facts) => {
            "allow user namespaces: `sudo sysctl kernel.unprivileged_userns_clone=1`, or start as root".to_owned()
        }
        () if in_namespace && facts.max_user_namespaces == Some(0) => {
            "allow user namespaces: `sudo sysctl user.max_user_namespaces=10000`".to_owned()
        }
        () if in_namespace && denied && facts.apparmor_restricts && facts.container.is_none() => format!(
            "let init make user namespaces with this AppArmor profile (or start as root):\n{}",
            facts.apparmor_profile()
        ),
        () if in_namespace && facts.container.is_some() => CONTAINER.to_owned(),
        () => by_stage(error, facts),
    }
}

fn switched_off(facts: &HostFacts) -> bool {
    !facts.is_root && facts.userns_allowed == Some(false)
}

fn by_stage(error: &EnterError, facts: &HostFacts) -> String {
    match (error.stage, Errno::from_raw(error.errno)) {
        (Stage::Namespaces, Errno::ENOSPC) => {
            "too many namespaces exist: raise `user.max_user_namespaces` and the other `user.max_*_namespaces`".to_owned()
        }
        (Stage::Namespaces | Stage::Drop, Errno::EAGAIN) => {
            "too many processes run as this user: end some, or raise its limit (`ulimit -u`)".to_owned()
        }
        (Stage::Namespaces, Errno::EINVAL) => {
            format!("the kernel ({}) lacks a kind of namespace: use one with user, pid, net, ipc, uts and cgroup namespaces", facts.kernel)
        }
        (Stage::Namespaces | Stage::Maps, _) => {
            "something forbids user namespaces here (a security module, a filter of whoever started this): see `fumehood doctor`, or use `--backend docker`".to_owned()
        }
        (Stage::Proc, _) => {
            "a part of /proc is covered here, so no new one may be mounted: run on the machine itself, or use `--backend docker`".to_owned()
        }
        (Stage::Pivot, _) => {
            "the root here is an initial RAM disk, which cannot be left: start from a system on a disk".to_owned()
        }
        (Stage::Cgroup, _) => "start again: the cgroup was taken away".to_owned(),
        (Stage::Landlock | Stage::Filter, _) => {
            format!("use a kernel with seccomp filters, and Landlock as it says it has (this is {})", facts.kernel)
        }
        (Stage::Run, _) => "the host's own /bin/true does not run in an empty world: is /usr complete?".to_owned(),
        _ => "use `--backend docker`, and report this with the output of `fumehood doctor`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::plain;
    use super::*;

    fn remedy_for(stage: Stage, errno: Errno, facts: &HostFacts) -> String {
        let error = EnterError {
            stage,
            detail: "x".into(),
            errno: errno as i32,
        };
        explain(&error, facts).remedy().unwrap().to_owned()
    }

    #[test]
    fn each_way_to_forbid_namespaces_has_its_own_remedy() {
        let clone = |facts: &HostFacts| remedy_for(Stage::Namespaces, Errno::EPERM, facts);
        let debian = HostFacts {
            userns_allowed: Some(false),
            ..plain()
        };
        assert!(clone(&debian).contains("unprivileged_userns_clone=1"));
        let zero = HostFacts {
            max_user_namespaces: Some(0),
            ..plain()
        };
        assert!(
            remedy_for(Stage::Namespaces, Errno::ENOSPC, &zero)
                .contains("max_user_namespaces=10000")
        );
        let rented = HostFacts {
            container: Some("docker"),
            is_root: true,
            ..plain()
        };
        assert!(clone(&rented).contains("--security-opt"));
        assert!(remedy_for(Stage::Proc, Errno::EPERM, &rented).contains("systempaths=unconfined"));
        assert!(clone(&plain()).contains("fumehood doctor"));
    }

    #[test]
    fn ubuntu_s_restriction_shows_as_a_refused_mount_and_brings_the_profile() {
        let ubuntu = HostFacts {
            apparmor_restricts: true,
            ..plain()
        };
        for stage in [Stage::Namespaces, Stage::Maps, Stage::Root] {
            let remedy = remedy_for(stage, Errno::EACCES, &ubuntu);
            assert!(
                remedy.contains("profile fumehood-init"),
                "{stage:?}: {remedy}"
            );
        }
    }

    #[test]
    fn an_old_kernel_is_named_with_what_is_needed() {
        let old = HostFacts {
            kernel: "5.10.0-28-amd64".into(),
            ..plain()
        };
        let remedy = remedy_for(Stage::Sources, Errno::ENOSYS, &old);
        assert!(
            remedy.contains("5.12") && remedy.contains("5.10.0-28"),
            "{remedy}"
        );
    }

    #[test]
    fn a_mount_behind_a_closed_folder_says_so() {
        let remedy = remedy_for(Stage::Mounts, Errno::EACCES, &plain());
        assert!(remedy.contains("chmod o+x"), "{remedy}");
        let rented = HostFacts {
            is_root: true,
            is_powerless_root: true,
            ..plain()
        };
        assert_eq!(remedy_for(Stage::Mounts, Errno::EACCES, &rented), POWERLESS);
    }

    #[test]
    fn a_mount_that_changed_is_refused_and_not_the_machine_s_fault() {
        let error = EnterError {
            stage: Stage::Mounts,
            detail: "/srv/x: not what it was when it was checked".into(),
            errno: 0,
        };
        let refused = explain(&error, &plain());
        assert!(matches!(&refused, SandboxError::Refused { why, .. } if why.contains("/srv/x")));
    }
}
