//! The engine at the other end of a socket: reaching it, what it can do, and what its errors mean.
//!
//! ```text
//!   socket ── connect ── version + info (30 s at most) ──▶ EngineFacts (pure from here on)
//! ```
//!
//! Only unix sockets: the folders of a specification are this machine's, and so must the engine be.

use crate::policy::model::RuntimeChoice;
use crate::protocol::control::{Control, Controls, Strength};
use crate::protocol::spec::BackendKind;
use crate::sandbox::backend::SandboxError;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum, SystemVersion};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an engine may take to say what it is, one that starts fifty containers meanwhile too.
const ANSWER: Duration = Duration::from_secs(30);

/// Seconds until the headers of an answer; a start under load takes its time.
const CLIENT_TIMEOUT_S: u64 = 120;

/// Characters of an engine's message that are passed on.
const MAX_WORDS: usize = 600;

/// The oldest API this backend speaks: Engine 20.10.
const OLDEST_API: (u32, u32) = (1, 41);

/// Runtimes that are trusted to build the container, in order of preference. Named explicitly with
/// each container: a default runtime of `nvidia` hands out GPUs by an image's own variables.
const RUNTIMES: &[&str] = &["runc", "crun"];

/// A reachable engine.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) client: Docker,
    pub(super) facts: EngineFacts,
    pub(super) version: SystemVersion,
    pub(super) info: SystemInfo,
}

/// Which cgroup hierarchy the engine limits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    V1,
    V2,
    Unknown,
}

/// Whose uids a container's uids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserMapping {
    /// Uid N inside is uid N of the machine.
    Same,
    /// The engine maps uids (`userns-remap`); a container can be told to keep the machine's.
    Remapped,
    /// Rootless engine of this uid, which is 0 inside.
    Rootless { owner: u32 },
}

/// All that the plan of a container depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Engine version as it names itself.
    pub version: String,
    pub api: (u32, u32),
    /// `amd64`, `arm64`.
    pub arch: String,
    /// The OCI runtime to name.
    pub runtime: String,
    pub users: UserMapping,
    pub cgroups: Cgroups,
    pub cpus: u32,
    pub seccomp: bool,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub pids_limit: bool,
    pub cpu_quota: bool,
}

impl Engine {
    /// Reaches the engine at `host` (a path or `unix://` address), or at the usual sockets.
    pub(super) async fn reach(host: Option<&str>) -> Result<Self, SandboxError> {
        let socket = match host {
            Some(host) => socket_path(host)?,
            None => usual_socket(),
        };
        let owner = std::fs::metadata(&socket)
            .map_err(|error| unreachable(&socket, &error.to_string()))?
            .uid();
        let address = socket.display().to_string();
        let client =
            Docker::connect_with_unix(&address, CLIENT_TIMEOUT_S, bollard::API_DEFAULT_VERSION)
                .map_err(|error| unreachable(&socket, &error.to_string()))?;
        let asked = async { tokio::try_join!(client.version(), client.info()) };
        let (version, info) = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => return Err(unreachable(&socket, &words(&error))),
            Err(_) => return Err(unreachable(&socket, "it does not answer")),
        };
        let facts = EngineFacts::from_answers(&version, &info, owner)?;
        Ok(Self {
            client,
            facts,
            version,
            info,
        })
    }
}

impl EngineFacts {
    /// Pure: what the two answers of an engine come to. `socket_owner` is the uid of its socket.
    pub fn from_answers(
        version: &SystemVersion,
        info: &SystemInfo,
        socket_owner: u32,
    ) -> Result<Self, SandboxError> {
        let name = version.version.clone().unwrap_or_default();
        refuse_podman(version)?;
        let api = parse_api(version.api_version.as_deref().unwrap_or_default());
        if api < OLDEST_API {
            return Err(unavailable(
                format!(
                    "engine {name} speaks API {}.{}, at least 1.41 is needed",
                    api.0, api.1
                ),
                "update the engine to 20.10 or newer".to_owned(),
            ));
        }
        let os = info.os_type.as_deref().unwrap_or("linux");
        if os != "linux" {
            return Err(unavailable(
                format!("the engine runs {os} containers"),
                "switch it to Linux containers".to_owned(),
            ));
        }
        Ok(Self {
            version: name,
            api,
            arch: version.arch.clone().unwrap_or_default(),
            runtime: choose_runtime(info)?,
            users: user_mapping(info, socket_owner),
            cgroups: match info.cgroup_version {
                Some(SystemInfoCgroupVersionEnum::_1) => Cgroups::V1,
                Some(SystemInfoCgroupVersionEnum::_2) => Cgroups::V2,
                _ => Cgroups::Unknown,
            },
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            seccomp: has_option(info, "seccomp"),
            memory_limit: info.memory_limit == Some(true),
            swap_limit: info.swap_limit == Some(true),
            pids_limit: info.pids_limit == Some(true),
            cpu_quota: info.cpu_cfs_quota == Some(true),
        })
    }

    /// Pure: a word for each control.
    pub fn controls(&self) -> Controls {
        let held = |by_kernel: bool| match by_kernel {
            true => Strength::Enforced,
            false => Strength::Absent,
        };
        Control::ALL
            .iter()
            .map(|&control| {
                let word = match control {
                    Control::Seccomp => held(self.seccomp),
                    Control::Memory => held(self.memory_limit),
                    Control::Pids => held(self.pids_limit),
                    Control::Cpu => held(self.cpu_quota),
                    // No engine offers it, and a second wall is not needed to keep the first.
                    Control::Landlock => Strength::Absent,
                    Control::WallTime | Control::WorkspaceSize | Control::WorkspaceInodes => {
                        Strength::Watched
                    }
                    Control::NetworkNone
                    | Control::Filesystem
                    | Control::User
                    | Control::Capabilities
                    | Control::NoNewPrivileges
                    | Control::TmpSize
                    | Control::ShmSize
                    | Control::FileSize
                    | Control::OpenFiles
                    | Control::KillAll => Strength::Enforced,
                };
                (control, word)
            })
            .collect()
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            version: "20.10.24".to_owned(),
            api: (1, 41),
            arch: "amd64".to_owned(),
            runtime: "runc".to_owned(),
            users: UserMapping::Same,
            cgroups: Cgroups::V1,
            cpus: 8,
            seccomp: true,
            memory_limit: true,
            swap_limit: true,
            pids_limit: true,
            cpu_quota: true,
        }
    }
}

/// It speaks the same API and means something else by it: the filter is a path there, files of a tmpfs
/// cannot be counted, and runtimes are listed that are not there. Nothing weaker is started instead.
fn refuse_podman(version: &SystemVersion) -> Result<(), SandboxError> {
    let parts = version.components.iter().flatten();
    match parts.into_iter().find(|part| part.name.starts_with("Podman")) {
        None => Ok(()),
        Some(podman) => Err(unavailable(
            format!(
                "the engine is Podman {}, whose API takes neither our system-call filter nor our bounds on files",
                podman.version
            ),
            "use Docker (DOCKER_HOST=unix:///var/run/docker.sock), or `--backend namespace`, which needs no engine".to_owned(),
        )),
    }
}

fn choose_runtime(info: &SystemInfo) -> Result<String, SandboxError> {
    let known = info.runtimes.clone().unwrap_or_default();
    RUNTIMES
        .iter()
        .find(|name| known.contains_key(**name))
        .map(|name| (*name).to_owned())
        .ok_or_else(|| {
            let mut names: Vec<_> = known.into_keys().collect();
            names.sort();
            unavailable(
                format!(
                    "the engine has no runtime runc or crun, only {}",
                    names.join(", ")
                ),
                "install runc and restart the engine".to_owned(),
            )
        })
}

/// What the engine calls the runtime that is asked for; `None` where none is. Pure.
pub(super) fn named_runtime(
    info: &SystemInfo,
    wanted: RuntimeChoice,
) -> Result<Option<String>, SandboxError> {
    let names: &[&str] = match wanted {
        RuntimeChoice::Default => return Ok(None),
        RuntimeChoice::Runc => &["runc"],
        RuntimeChoice::Runsc => &["runsc"],
        RuntimeChoice::Kata => &["kata", "kata-runtime", "io.containerd.kata.v2"],
    };
    let known = info.runtimes.clone().unwrap_or_default();
    let found = names.iter().find(|name| known.contains_key(**name));
    found.map(|name| Some((*name).to_owned())).ok_or_else(|| {
        let mut has: Vec<_> = known.into_keys().collect();
        has.sort();
        SandboxError::Refused {
            what: format!("executor.runtime = {:?}", wanted.name()),
            why: format!("the engine has only {}", has.join(", ")),
            remedy: format!(
                "install {} and name it in the engine's configuration, or use another policy",
                wanted.name()
            ),
        }
    })
}

fn user_mapping(info: &SystemInfo, socket_owner: u32) -> UserMapping {
    if has_option(info, "rootless") {
        UserMapping::Rootless {
            owner: socket_owner,
        }
    } else if has_option(info, "userns") {
        UserMapping::Remapped
    } else {
        UserMapping::Same
    }
}

/// Options come as `name=seccomp,profile=default`.
pub(super) fn has_option(info: &SystemInfo, name: &str) -> bool {
    info.security_options.iter().flatten().any(|option| {
        option
            .split(',')
            .any(|part| part.strip_prefix("name=") == Some(name))
    })
}

fn parse_api(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn socket_path(host: &str) -> Result<PathBuf, SandboxError> {
    let path = host.strip_prefix("unix://").unwrap_or(host);
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(unavailable(
        format!("the engine at {host:?} may be another machine"),
        "the folders of a sandbox are this machine's: name an engine's unix socket, as in DOCKER_HOST=unix:///var/run/docker.sock".to_owned(),
    ))
}

/// The system's engine, or a rootless one of this user where only that is there.
fn usual_socket() -> PathBuf {
    let system = PathBuf::from("/var/run/docker.sock");
    let own = PathBuf::from(format!("/run/user/{}/docker.sock", nix::unistd::getuid()));
    if !system.exists() && own.exists() {
        own
    } else {
        system
    }
}

fn unavailable(why: String, remedy: String) -> SandboxError {
    SandboxError::Unavailable {
        backend: BackendKind::Docker,
        why,
        remedy,
    }
}

fn unreachable(socket: &Path, why: &str) -> SandboxError {
    let remedy = if !socket.exists() {
        "install and start an engine (`apt install docker.io`), set DOCKER_HOST, or use `--backend namespace`, which needs none"
    } else if why.to_lowercase().contains("permission denied") {
        "this user may not use the engine: join the group `docker` (which is as good as root), use a rootless engine, or `--backend namespace`"
    } else {
        "start the engine (`systemctl start docker`), or use `--backend namespace`, which needs none"
    };
    unavailable(
        format!("no engine answers at {}: {why}", socket.display()),
        remedy.to_owned(),
    )
}

/// The HTTP status an engine answered with.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an error comes to: what the engine said, or the cause beneath the client's own wrappings.
fn words(error: &Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = error {
        // Some say all that they were sent.
        return message.chars().take(MAX_WORDS).collect();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

/// A call that failed, with what to do about it.
pub(super) fn failed(call: &str, error: &Error) -> SandboxError {
    let message = words(error);
    let remedy = if message.contains("executable file not found") || message.contains("/.fumehood")
    {
        "the folder that holds Fumehood's own files must be visible to the engine (a snap or VM engine sees only some): set FUMEHOOD_HOME below your home"
    } else if message.contains("no space left") {
        "free disk space for the engine: `docker system df` shows what it holds"
    } else if message.contains("memory") && message.contains("minimum") {
        "raise limits.memory"
    } else {
        "`docker info` and the engine's log (`journalctl -u docker`) say more"
    };
    SandboxError::Engine {
        call: call.to_owned(),
        message,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> (SystemVersion, SystemInfo) {
        let version = serde_json::from_str(include_str!("testdata/version-20.10.json")).unwrap();
        let info = serde_json::from_str(include_str!("testdata/info-20.10.json")).unwrap();
        (version, info)
    }

    #[test]
    fn an_engine_of_2020_is_understood() {
        let (version, info) = answers();
        let facts = EngineFacts::from_answers(&version, &info, 0).unwrap();
        assert_eq!(facts.api, (1, 41));
        assert_eq!(facts.runtime, "runc");
        assert_eq!(facts.cgroups, Cgroups::V1);
        assert_eq!(facts.users, UserMapping::Same);
        assert_eq!(facts.controls()[&Control::Memory], Strength::Enforced);
        assert_eq!(facts.controls()[&Control::WorkspaceSize], Strength::Watched);
        assert_eq!(facts.controls().len(), Control::ALL.len());
    }

    #[test]
    fn an_older_engine_is_refused_with_a_remedy() {
        let (mut version, info) = answers();
        version.api_version = Some("1.40".to_owned());
        let error = EngineFacts::from_answers(&version, &info, 0).unwrap_err();
        assert!(error.to_string().contains("API 1.40"), "{error}");
        assert!(error.remedy().unwrap().contains("20.10"));
    }

    /// As Podman 4.3 answers.
    #[test]
    fn podman_is_told_apart_and_refused_with_a_remedy() {
        let (mut version, info) = answers();
        version.version = Some("4.3.1".to_owned());
        version.components.as_mut().unwrap()[0].name = "Podman Engine".to_owned();
        version.components.as_mut().unwrap()[0].version = "4.3.1".to_owned();
        let error = EngineFacts::from_answers(&version, &info, 0).unwrap_err();
        assert!(error.to_string().contains("Podman 4.3.1"), "{error}");
        assert!(error.remedy().unwrap().contains("--backend namespace"));
    }

    #[test]
    fn an_nvidia_default_runtime_is_not_used() {
        let (version, mut info) = answers();
        info.default_runtime = Some("nvidia".to_owned());
        let facts = EngineFacts::from_answers(&version, &info, 0).unwrap();
        assert_eq!(facts.runtime, "runc");
        info.runtimes
            .as_mut()
            .unwrap()
            .retain(|name, _| name == "nvidia");
        assert!(EngineFacts::from_answers(&version, &info, 0).is_err());
    }

    #[test]
    fn a_runtime_is_had_by_its_name_or_not_at_all() {
        let (_, mut info) = answers();
        let named = |info: &SystemInfo, wanted| named_runtime(info, wanted);
        assert_eq!(named(&info, RuntimeChoice::Default).unwrap(), None);
        assert_eq!(named(&info, RuntimeChoice::Runc).unwrap().unwrap(), "runc");
        for wanted in [RuntimeChoice::Runsc, RuntimeChoice::Kata] {
            let error = named(&info, wanted).unwrap_err();
            assert!(error.to_string().contains("runc"), "{error}");
            assert!(error.remedy().unwrap().contains(wanted.name()));
        }
        let runtimes = info.runtimes.as_mut().unwrap();
        let one = runtimes["runc"].clone();
        runtimes.insert("kata-runtime".to_owned(), one.clone());
        runtimes.insert("runsc".to_owned(), one);
        assert_eq!(
            named(&info, RuntimeChoice::Kata).unwrap().unwrap(),
            "kata-runtime"
        );
        assert_eq!(
            named(&info, RuntimeChoice::Runsc).unwrap().unwrap(),
            "runsc"
        );
    }

    #[test]
    fn a_rootless_engine_without_controllers_says_absent() {
        let (version, mut info) = answers();
        info.security_options = Some(vec![
            "name=seccomp,profile=default".into(),
            "name=rootless".into(),
        ]);
        (info.memory_limit, info.pids_limit, info.cpu_cfs_quota) = (None, Some(false), Some(false));
        let facts = EngineFacts::from_answers(&version, &info, 1000).unwrap();
        assert_eq!(facts.users, UserMapping::Rootless { owner: 1000 });
        for control in [Control::Memory, Control::Pids, Control::Cpu] {
            assert_eq!(facts.controls()[&control], Strength::Absent);
        }
    }

    #[test]
    fn another_machines_engine_is_refused() {
        for host in ["tcp://10.0.0.1:2375", "ssh://box", "http://127.0.0.1:2375"] {
            let error = socket_path(host).unwrap_err();
            assert!(error.remedy().unwrap().contains("unix socket"), "{host}");
        }
        assert_eq!(
            socket_path("unix:///x/y.sock").unwrap(),
            PathBuf::from("/x/y.sock")
        );
    }

    #[tokio::test]
    async fn an_engine_that_is_down_is_told_apart_from_one_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let host = socket.display().to_string();
        let missing = Engine::reach(Some(&host)).await.err().unwrap();
        assert!(
            missing.remedy().unwrap().contains("install and start"),
            "{missing}"
        );
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let down = Engine::reach(Some(&host)).await.err().unwrap();
        assert!(
            down.remedy().unwrap().contains("start the engine"),
            "{down}"
        );
        assert!(down.to_string().contains("refused"), "{down}");
    }
}
