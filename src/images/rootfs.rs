//! A root file system from the packages of this machine's own distribution, and an image of it.
//!
//! The image is written by ourselves: one layer, and a configuration with nothing of the day in it. So
//! its id depends on the layer's bytes alone, and those on the packages.

use super::error::ImageError;
use super::layout::id_of;
use super::recipe;
use crate::sandbox::docker::Hears;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// Where two makings of the same packages must not differ.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Longest line that is handed on.
const LINE: u64 = 4096;

/// Scripts of packages run in there, as root: none of them is to read a key of the user's.
const FORGET: &str = r#"exec 2>&1
for name in $(compgen -e); do
    case "${name^^}" in
        *KEY | *TOKEN | *SECRET | *PASSWORD | *PASSWD | *PASSPHRASE | *SSHPASS | *_PWD | *CREDENTIALS) unset "$name" ;;
    esac
done
"#;

/// Runs the script that comes with Fumehood. Gives what it made, in words.
pub(super) async fn make(out: &Path, hears: Hears<'_>) -> Result<String, ImageError> {
    let failed = |why: String| {
        ImageError::Tool {
        what: "making the root file system",
        why,
        remedy: "it needs mmdebstrap (`apt install mmdebstrap`) on Debian or Ubuntu, and root, or (`apt install uidmap`) a range of your own in /etc/subuid and /etc/subgid; or begin with an image: --base REF".to_owned(),
    }
    };
    let mut child = Command::new("bash")
        .args(["-c", &format!("{FORGET}{}", recipe::ROOTFS), "rootfs"])
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("bash: {error}")))?;
    let Some(output) = child.stdout.take() else {
        return Err(failed("it has no output".to_owned()));
    };
    let mut output = BufReader::new(output);
    let mut first = None;
    let mut last = String::new();
    loop {
        let mut line = Vec::new();
        let count = (&mut output).take(LINE).read_until(b'\n', &mut line).await;
        if count.map_err(|error| failed(error.to_string()))? == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        hears(&line);
        first.get_or_insert_with(|| line.clone());
        last = line;
    }
    let status = child
        .wait()
        .await
        .map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(first.unwrap_or_default()),
        false => Err(failed(format!("{status}: {last}"))),
    }
}

/// The configuration of an image of one layer. Any change makes other ids of the same packages.
pub(super) fn config(layer: &str, arch: &str) -> Vec<u8> {
    let config = json!({
        "architecture": arch,
        "config": {},
        "created": CREATED,
        "history": [{ "created": CREATED, "created_by": "fumehood" }],
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    config.to_string().into_bytes()
}

/// An image of one layer.
pub(super) struct Packed {
    pub(super) id: String,
    config: Vec<u8>,
    digest: String,
}

impl Packed {
    /// Of a root file system in one tar archive.
    pub(super) fn of(root: &Path, arch: &str) -> Result<Self, ImageError> {
        let digest = digest_of(root).map_err(ImageError::io("read", root))?;
        let config = config(&format!("sha256:{digest}"), arch);
        Ok(Self {
            id: id_of(&config),
            config,
            digest,
        })
    }

    /// Writes it as `docker save` does.
    pub(super) fn archive(&self, root: &Path, out: &Path, tag: &str) -> Result<(), ImageError> {
        let write = || -> io::Result<()> {
            let id = self.id.trim_start_matches("sha256:");
            let (config, layer) = (format!("{id}.json"), format!("{}/layer.tar", self.digest));
            let manifest = json!([{ "Config": config, "RepoTags": [tag], "Layers": [layer] }]);
            let mut archive = tar::Builder::new(File::create_new(out)?);
            let root = File::open(root)?;
            let size = root.metadata()?.len();
            append(
                &mut archive,
                &config,
                (&self.config[..], self.config.len() as u64),
            )?;
            append(&mut archive, &layer, (root, size))?;
            let manifest = manifest.to_string();
            append(
                &mut archive,
                "manifest.json",
                (manifest.as_bytes(), manifest.len() as u64),
            )?;
            archive.into_inner()?.sync_all()
        };
        write().map_err(ImageError::io("write", out))
    }
}

fn append<R: Read>(
    archive: &mut tar::Builder<File>,
    name: &str,
    (body, size): (R, u64),
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, body)
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(to_hex(&hash.finalize())),
            count => hash.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_give_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["one.tar", "two.tar"] {
            std::fs::write(at(name), vec![0; 2048]).unwrap();
        }
        let one = Packed::of(&at("one.tar"), "amd64").unwrap();
        let two = Packed::of(&at("two.tar"), "amd64").unwrap();
        assert_eq!(one.id, two.id);
        one.archive(&at("one.tar"), &at("a"), "fumehood/x:latest")
            .unwrap();
        two.archive(&at("two.tar"), &at("b"), "fumehood/x:latest")
            .unwrap();
        assert_eq!(
            std::fs::read(at("a")).unwrap(),
            std::fs::read(at("b")).unwrap()
        );
        std::fs::write(at("two.tar"), vec![1; 2048]).unwrap();
        assert_ne!(one.id, Packed::of(&at("two.tar"), "amd64").unwrap().id);
        assert_ne!(one.id, Packed::of(&at("one.tar"), "arm64").unwrap().id);
    }
}
