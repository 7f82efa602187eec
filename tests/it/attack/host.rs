//! What the host lays out to be found: files, services, sockets that no sandbox may reach.

use crate::stage::{Stage, open_dir};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::{NamedTempFile, TempDir};

/// One for the whole suite. Everything in it may be used by everybody: only a sandbox is in the way.
pub(crate) struct Host {
    dir: TempDir,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    shm: NamedTempFile,
    abstract_name: String,
    _sockets: (UnixListener, UnixListener, UnixDatagram),
}

const WORD: &str = "what-no-sandbox-may-read";

impl Host {
    pub(crate) fn get() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(Self::lay_out)
    }

    fn lay_out() -> Self {
        let dir = open_dir();
        fs::write(dir.path().join("canary"), WORD).unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let open = || fs::Permissions::from_mode(0o777);
        fs::set_permissions(&socket, open()).unwrap();
        let abstract_name = format!("fumehood-attack-{}", std::process::id());
        let named = |name: &str| SocketAddr::from_abstract_name(name).unwrap();
        let stream = UnixListener::bind_addr(&named(&abstract_name)).unwrap();
        let datagram = format!("{abstract_name}-datagram");
        let datagram = UnixDatagram::bind_addr(&named(&datagram)).unwrap();
        let shm = tempfile::Builder::new()
            .prefix("fumehood-attack-")
            .permissions(open())
            .tempfile_in("/dev/shm")
            .unwrap();
        Self {
            dir,
            tcp: TcpListener::bind("0.0.0.0:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").ok(),
            shm,
            abstract_name,
            _sockets: (listener, stream, datagram),
        }
    }

    /// What a probe is told; `workspace` is where the host has it.
    fn told(&self, workspace: &Path) -> Value {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let path = |name: &str| self.dir.path().join(name);
        json!({
            "free": false,
            "word": WORD,
            "canary": path("canary"),
            "socket": path("socket"),
            "abstract": self.abstract_name,
            "port": port(&self.tcp),
            "port6": self.tcp6.as_ref().map_or(1, port),
            "addresses": own_address().into_iter().collect::<Vec<_>>(),
            "shm": self.shm.path(),
            "home": std::env::var_os("HOME").map_or("/root".into(), PathBuf::from),
            "workspace": workspace,
            "folders": folders(),
            "scores_hold": holds_scores(),
        })
    }

    pub(crate) fn told_in(&self, stage: &Stage) -> Value {
        self.told(&stage.path("workspace"))
    }

    /// For a probe that nothing confines: it breaks nothing then.
    pub(crate) fn told_free(&self) -> Value {
        let mut told = self.told(&self.dir.path().join("workspace"));
        told["free"] = true.into();
        told
    }
}

/// The host's address towards elsewhere; nothing is sent to find it out.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// Folders of the host, by identity: an image has its own of the same names.
fn folders() -> BTreeMap<&'static str, (u64, u64)> {
    let known = [
        "/home", "/root", "/var/log", "/var/lib", "/run", "/boot", "/mnt", "/srv",
    ];
    let found = known.into_iter().filter_map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((path, (found.dev(), found.ino())))
    });
    found.collect()
}

/// Whether an engine on this machine can set a score that is not to be undercut: CAP_SYS_RESOURCE.
fn holds_scores() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    u64::from_str_radix(bounds.unwrap().trim(), 16).unwrap() & (1 << 24) != 0
}
