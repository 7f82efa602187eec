//! Against whoever starts an image: a stranger's words about how it is to be run, and what lies where a
//! sandbox has its own.

use super::user::{User, asks_never};
use crate::images::{config_saying, saved, tiny};
use fumehood::app::import_image;
use fumehood::protocol::spec::BackendKind;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Says everything that an image may say, and lies.
fn says() -> serde_json::Value {
    json!({
        "Env": ["LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "PATH=/evil", "ENV=/evil.sh", "BASH_ENV=/evil.sh", "NVIDIA_VISIBLE_DEVICES=all"],
        "Entrypoint": ["/evil"],
        "Cmd": ["/evil"],
        "Shell": ["/evil"],
        "User": "0:0",
        "WorkingDir": "/etc",
        "Volumes": { "/vol": {}, "/workspace": {}, "/tmp": {}, "/etc": {} },
        "Healthcheck": { "Test": ["CMD", "/evil"], "Interval": 1_000_000_000u64 },
        "OnBuild": ["RUN /evil"],
        "StopSignal": "SIGSTOP",
        "ExposedPorts": { "22/tcp": {} },
        "Labels": { "fumehood.name": "evil", "fumehood.run": "evil", "io.docker.server.metadata": "volumes: [/:/host]" },
    })
}

const ACCOUNTS: &str = "evil:x:0:0:evil:/:/evil\nroot:x:0:0::/:/evil\n";

/// Files where a sandbox has its own, and links at the places that are mounted.
fn layers() -> [(&'static str, Vec<Vec<u8>>); 3] {
    let files = tiny(&[
        ("etc/passwd", ACCOUNTS),
        ("etc/group", "evil:x:0:\n"),
        ("etc/hosts", "127.0.0.1 evil\n"),
        ("etc/resolv.conf", "nameserver 198.51.100.1\n"),
        ("etc/nsswitch.conf", "passwd: evil\n"),
        ("evil.sh", "echo evil\n"),
        ("vol/file", "x"),
        (".fumehood/init", "evil"),
        ("workspace/evil", "evil"),
        ("tmp/evil", "evil"),
        ("home/fumehood/evil", "evil"),
        ("proc/self/status", "Uid:\t0\n"),
    ]);
    // Open to everybody, as a volume of it would be.
    let mut open = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o777);
    open.append_data(&mut header, "vol/", &[][..]).unwrap();
    let open = open.into_inner().unwrap();
    let links = |to: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let places = [
            "workspace",
            "tmp",
            "run",
            "home",
            "data",
            "models",
            "cache",
            ".fumehood",
            "sys",
            "opt",
            "var",
        ];
        for place in places {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, place, to).unwrap();
        }
        archive.into_inner().unwrap()
    };
    [
        ("files", vec![files, open]),
        (
            "links to /etc",
            vec![tiny(&[("etc/word", "x")]), links("/etc")],
        ),
        (
            "links upward",
            vec![tiny(&[]), links("../../../../../../etc")],
        ),
    ]
}

/// What of it is felt inside, told by the shell alone.
const FEEL: &str = r#"
felt=
[ -z "$LD_PRELOAD$LD_LIBRARY_PATH$ENV$BASH_ENV$NVIDIA_VISIBLE_DEVICES" ] || felt="$felt env"
case $PATH in *evil*) felt="$felt path";; esac
[ "$PWD" = /workspace ] || felt="$felt folder:$PWD"
while read name uid rest; do case $name in Uid:) [ "$uid" != 0 ] || felt="$felt root";; esac; done </proc/self/status
for file in passwd group hosts resolv.conf nsswitch.conf; do
    if [ -r /etc/$file ]; then while read line; do case $line in *evil*|*198.51*) felt="$felt $file";; esac; done </etc/$file; fi
done
if { echo x >/vol/evil; } 2>/dev/null; then
    while read device place kind rest; do case $place in /vol) [ "$kind" = tmpfs ] || felt="$felt volume";; esac; done </proc/self/mounts
fi
for place in /etc /usr / /usr/bin /.fumehood; do { echo x >$place/evil; } 2>/dev/null && felt="$felt wrote:$place"; done
for place in /workspace /tmp /home/fumehood; do [ ! -e $place/evil ] || felt="$felt there:$place"; done
echo made >/workspace/made
echo "FELT:$felt."
"#;

/// An image of the engine's, until it is dropped.
struct Loaded(String);

impl Loaded {
    fn load(archive: &Path, name: &str) -> Self {
        let loaded = Self(name.to_owned());
        let file = fs::File::open(archive).unwrap();
        let output = Command::new("docker").arg("load").stdin(file).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        loaded
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // What an engine keeps of it is a few files.
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

pub(crate) async fn images_that_steer(kind: BackendKind) {
    for (n, (what, layers)) in layers().into_iter().enumerate() {
        let Some(user) = User::on(kind) else {
            return;
        };
        let name = format!("fumehood-attack-{}-{n}", std::process::id());
        let tag = format!("{name}:latest");
        let archive = user.env.path("image.tar");
        fs::write(
            &archive,
            saved(&config_saying(&layers, says()), &layers, &tag),
        )
        .unwrap();
        let loaded = match kind {
            BackendKind::Docker => Some(Loaded::load(&archive, &tag)),
            BackendKind::Namespace => {
                let source = archive.to_str().unwrap();
                import_image(&user.config(), (source, &name)).await.unwrap();
                None
            }
        };
        let image = loaded.as_ref().map_or(name, |loaded| loaded.0.clone());
        let workspace = user.workspace(|_| {});
        let opened = user.opens(asks_never(), Some(&workspace), |ask| {
            ask.image = Some(image)
        });
        let run = opened
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        // An engine may refuse to start one with links; files it may only cover.
        match run.try_exec(&["/bin/sh", "-c", FEEL]).await {
            Ok(ran) => {
                assert!(ran.ok && ran.text.contains("FELT:."), "{what}: {ran:?}");
                let made = fs::read_to_string(workspace.join("made")).unwrap();
                assert_eq!(made, "made\n", "{what}");
            }
            Err(stop) => assert!(what.starts_with("links"), "{what}: {stop}"),
        }
        let _closed = run.close().await;
    }
}
