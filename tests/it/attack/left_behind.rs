//! Against the workspace a run leaves behind, and what the person keeps in it.

use super::user::{Run, asks_never};
use fumehood::protocol::event::Event;
use fumehood::protocol::spec::BackendKind;
use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Everything a program outside would trip over, at several depths.
const TRAPS: &str = include_str!("probes/traps.py");

/// What is left that should not be.
fn traps_beneath(workspace: &Path) -> Vec<String> {
    let names = [
        ".git", ".hg", ".envrc", ".vscode", ".idea", ".claude", "bare",
    ];
    let mut left = Vec::new();
    for entry in walkdir::WalkDir::new(workspace) {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        let kind = found.file_type();
        let out = kind.is_symlink()
            && !fs::canonicalize(entry.path()).is_ok_and(|to| to.starts_with(workspace));
        let special =
            kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device();
        let set_id = kind.is_file() && found.permissions().mode() & 0o6000 != 0;
        let named = names.iter().any(|name| entry.file_name() == *name);
        if out || special || set_id || named {
            left.push(entry.path().display().to_string());
        }
    }
    left
}

pub(crate) async fn traps_left_in_the_workspace(kind: BackendKind) {
    let Some(run) = Run::open(kind, asks_never(), |_| {}).await else {
        return;
    };
    let ran = run.python(TRAPS).await;
    assert!(ran.ok, "{ran:?}");
    let workspace = run.workspace.clone();
    let before = traps_beneath(&workspace);
    assert!(before.len() > 20, "the traps were not laid: {before:?}");
    let closed = run.close().await;
    assert_eq!(traps_beneath(&workspace), [""; 0]);
    let named: Vec<_> = closed
        .seen
        .iter()
        .filter_map(|event| match event {
            Event::Quarantined { paths } => Some(paths.join("\n")),
            _ => None,
        })
        .collect();
    let named = named.join("\n");
    for path in before {
        // A link to a link that was moved is moved with it; what lies in a moved folder is not named.
        let relative = Path::new(&path).strip_prefix(&workspace).unwrap();
        let told = relative.ancestors().any(|part| {
            let part = part.display().to_string();
            !part.is_empty()
                && named
                    .lines()
                    .any(|line| line.starts_with(&format!("{part}:")))
        });
        assert!(told, "{path} went unnamed: {named}");
    }
    assert!(!named.contains("STILL THERE"), "{named}");
}

/// What stood there before belongs to the person: it is not written, moved, or replaced.
pub(crate) async fn what_was_protected_stays_as_it_was(kind: BackendKind) {
    let lay = |at: &Path| {
        for folder in [".git/hooks", "sub/.git/hooks", ".vscode"] {
            fs::create_dir_all(at.join(folder)).unwrap();
            fs::write(at.join(folder).join("mine"), "mine").unwrap();
        }
        fs::write(at.join(".envrc"), "mine").unwrap();
        symlink("sub", at.join("link")).unwrap();
    };
    let Some(run) = Run::open(kind, asks_never(), lay).await else {
        return;
    };
    let attack = include_str!("probes/protected.py");
    let ran = run.python(attack).await;
    assert!(ran.ok && ran.text.contains("DONE []"), "{ran:?}");
    let workspace = run.workspace.clone();
    let _closed = run.close().await;
    let mut mine = 0;
    for entry in walkdir::WalkDir::new(&workspace) {
        let path = entry.unwrap().into_path();
        assert!(!path.ends_with("evil"), "{path:?}");
        if path.is_file() && (path.ends_with("mine") || path.ends_with(".envrc")) {
            mine += 1;
            assert_eq!(fs::read_to_string(&path).unwrap(), "mine", "{path:?}");
        }
    }
    assert_eq!(mine, 4);
}

/// Who listens there is outside, and read-only is no matter to a socket.
pub(crate) async fn sockets_of_the_host_in_the_workspace(kind: BackendKind) {
    let mut listeners = Vec::new();
    let lay = |at: &Path| {
        fs::create_dir_all(at.join(".git")).unwrap();
        fs::create_dir_all(at.join("sub")).unwrap();
        for name in ["ipc", ".git/daemon", "sub/agent"] {
            listeners.push(UnixListener::bind(at.join(name)).unwrap());
            fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        nix::unistd::mkfifo(
            &at.join("fifo"),
            nix::sys::stat::Mode::from_bits_truncate(0o666),
        )
        .unwrap();
    };
    let Some(run) = Run::open(kind, asks_never(), lay).await else {
        return;
    };
    let pipe = fs::File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(run.workspace.join("fifo"));
    let _reader = pipe.unwrap();
    let attack = include_str!("probes/sockets.py");
    let ran = run.python(attack).await;
    assert!(ran.ok && ran.text.contains("DONE []"), "{ran:?}");
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody called");
        // Outside it is what it was.
        let address = listener.local_addr().unwrap();
        std::os::unix::net::UnixStream::connect(address.as_pathname().unwrap()).unwrap();
    }
    let seen = run.close().await.seen;
    let told = |event: &Event| matches!(event, Event::Notice { text } if text.contains("covered"));
    assert!(seen.iter().any(told), "{seen:?}");
    let moved = |event: &Event| matches!(event, Event::Quarantined { .. });
    assert!(!seen.iter().any(moved), "{seen:?}");
}
