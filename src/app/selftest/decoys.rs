//! What the host lays out to be found: a file, services and sockets that no sandbox may reach. All of
//! it may be used by everybody here: only a sandbox is in the way.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// In the file that is to be read.
const WORD: &str = "what-no-sandbox-may-read";

/// A bit of the capability sets in `/proc/PID/status`.
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// Gone when dropped.
pub struct Decoys {
    dir: TempDir,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    shm: NamedTempFile,
    abstract_name: String,
    home: PathBuf,
    _sockets: (UnixListener, UnixListener, UnixDatagram),
}

impl Decoys {
    /// `home` is the home of whoever asks.
    ///
    /// # Errors
    /// When `/tmp`, `/dev/shm` or the network stack refuses.
    pub fn lay_out(home: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("fumehood-decoy-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in("/tmp")?;
        fs::write(dir.path().join("canary"), WORD)?;
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket)?;
        let open = || Permissions::from_mode(0o777);
        fs::set_permissions(&socket, open())?;
        let abstract_name = format!("fumehood-decoy-{}", std::process::id());
        let stream = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name)?)?;
        let datagram = format!("{abstract_name}-datagram");
        let datagram = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&datagram)?)?;
        let shm = tempfile::Builder::new()
            .prefix("fumehood-decoy-")
            .permissions(open())
            .tempfile_in("/dev/shm")?;
        Ok(Self {
            dir,
            tcp: TcpListener::bind("0.0.0.0:0")?,
            tcp6: TcpListener::bind("[::1]:0").ok(),
            shm,
            abstract_name,
            home: home.to_owned(),
            _sockets: (listener, stream, datagram),
        })
    }

    /// What a probe is told; `workspace` is where the host has it.
    pub fn told(&self, workspace: &Path) -> Value {
        // A listener that has no address is not there: nothing listens at port 1.
        let port = |listener: &TcpListener| listener.local_addr().map_or(1, |at| at.port());
        let path = |name: &str| self.dir.path().join(name);
        json!({
            "free": false,
            "word": WORD,
            "canary": path("canary"),
            "socket": path("socket"),
            "abstract": self.abstract_name,
            "port": port(&self.tcp),
            "port6": self.tcp6.as_ref().map_or(1, port),
            "name": fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
            "addresses": own_address().into_iter().collect::<Vec<_>>(),
            "shm": self.shm.path(),
            "home": self.home,
            "workspace": workspace,
            "folders": folders(),
            "scores_hold": holds_scores(),
        })
    }

    /// For a probe that nothing confines: it breaks nothing then.
    pub fn told_free(&self) -> Value {
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

/// Whether an engine on this machine can set a score that is not to be undercut.
fn holds_scores() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    bounds
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & CAP_SYS_RESOURCE != 0)
}
