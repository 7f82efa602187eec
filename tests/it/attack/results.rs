//! Against whoever collects a run's results, who may read more than the program could.

use super::user::{Run, User, asks_never};
use fumehood::protocol::event::Event;
use fumehood::protocol::spec::BackendKind;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What stands in a file of the user's that is none of the sandbox's.
pub(super) const OUTSIDE: &str = "this is outside of the sandbox";

/// A folder of the user's beside the workspace, with a file that everybody may read.
pub(super) fn outside(user: &User) -> PathBuf {
    let folder = user.env.path("outside");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), OUTSIDE).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// It is as it was laid out.
pub(super) fn is_untouched(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["file"], "something came to {}", outside.display());
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), OUTSIDE);
}

/// Runs a script and collects; what was left of it, as the record tells.
async fn collected(user: &User, script: &str, bounds: [u64; 2]) -> (PathBuf, Vec<String>) {
    let workspace = user.workspace(|_| {});
    let results = user.env.path("results");
    let mut policy = asks_never();
    [policy.artifacts.max_bytes, policy.artifacts.max_files] = bounds.map(Some);
    let to = results.clone();
    let opened = user.opens(policy, Some(&workspace), |ask| ask.artifacts = Some(to));
    let run: Run = opened.await.unwrap();
    let ran = run.python(script).await;
    assert!(ran.ok && ran.text.contains("LEFT"), "{ran:?}");
    let closed = run.close().await;
    let left = closed.seen.iter().filter_map(|event| match event {
        Event::ArtifactsCollected { left, .. } => Some(left.clone()),
        _ => None,
    });
    (results, left.flatten().collect())
}

const LINKS: &str = r#"
import os, socket
outside = 'OUTSIDE'
os.makedirs('outputs/deep/er')
open('outputs/model.bin', 'w').write('weights')
def try_(act, *words):
    try: act(*words)
    except OSError: pass
for n, to in enumerate((outside + '/file', '/proc/self/environ', '../../outside/file', outside)): os.symlink(to, f'outputs/link-{n}')
os.symlink('link-0', 'outputs/chain')
os.symlink(outside, 'outputs/deep/er/out')
os.symlink('outputs', 'again')
try_(os.link, outside + '/file', 'outputs/hard')
try_(os.mkfifo, 'outputs/pipe')
try_(os.mknod, 'outputs/node', 0o20666, os.makedev(1, 3))
try_(socket.socket(socket.AF_UNIX).bind, 'outputs/socket')
for name in ('new\nline', '\x1b[2J', '..x', ' ', '\u202egpj.exe', '-rf', 'a' * 255): open('outputs/' + name, 'w').write('odd')
open('outputs/set', 'w').write('x'); try_(os.chmod, 'outputs/set', 0o6755)
open('outputs/closed', 'w').write('mine'); os.chmod('outputs/closed', 0)
os.mkdir('outputs/shut'); open('outputs/shut/in', 'w').write('mine'); os.chmod('outputs/shut', 0)
here = os.getcwd()
os.chdir('outputs')
for n in range(30):
    os.mkdir('d' * 200); os.chdir('d' * 200)
open('bottom', 'w').write('deep'); os.symlink(outside + '/file', 'link')
print('LEFT')
"#;

/// Links, pipes, devices, names, depths: bytes of regular files come out, and nothing else does.
pub(crate) async fn results_that_are_no_files(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let outside = outside(&user);
    let script = LINKS.replace("OUTSIDE", outside.to_str().unwrap());
    let (results, left) = collected(&user, &script, [1 << 20, 1000]).await;
    let mut taken = 0;
    for entry in walkdir::WalkDir::new(&results) {
        let entry = entry.unwrap();
        let path = entry.path();
        let found = fs::symlink_metadata(path).unwrap();
        assert!(found.is_dir() || found.is_file(), "{path:?} is no file");
        assert_eq!(found.mode() & 0o7000, 0, "{path:?}");
        assert_eq!(found.uid(), nix::unistd::geteuid().as_raw(), "{path:?}");
        if found.is_file() {
            taken += 1;
            let text = fs::read_to_string(path).unwrap();
            let own = ["weights", "odd", "x", "mine", "deep"].contains(&text.as_str());
            assert!(own, "{path:?} holds {text:?}");
        }
    }
    assert!(taken > 7, "{taken} of them, and left were {left:#?}");
    let links = left.iter().filter(|why| why.ends_with("a link")).count();
    assert!(links >= 5, "{left:#?}");
    assert!(
        left.iter().all(|why| super::runs::is_plain(why)),
        "{left:?}"
    );
    is_untouched(&outside);
}

const MANY: &str = r#"
import os
os.makedirs('outputs/many')
for n in range(300): open(f'outputs/many/{n}', 'w').write('x' * 100)
open('outputs/sparse', 'w').truncate(48 << 20)
open('outputs/written', 'wb').write(b'x' * (12 << 20))
for n in range(50): os.link('outputs/written', f'outputs/again-{n}')
print('LEFT')
"#;

/// A disk is filled by what takes no room where it was made.
pub(crate) async fn results_beyond_their_bounds(kind: BackendKind) {
    let Some(user) = User::on(kind) else {
        return;
    };
    let (results, left) = collected(&user, MANY, [1 << 20, 200]).await;
    let files = walkdir::WalkDir::new(&results)
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap());
    let sizes: Vec<u64> = files
        .filter(|found| found.is_file())
        .map(|found| found.len())
        .collect();
    let bytes: u64 = sizes.iter().sum();
    assert!(
        bytes <= 1 << 20 && sizes.len() <= 200,
        "{bytes} bytes in {} files",
        sizes.len()
    );
    assert!(
        sizes.len() > 100,
        "{} files, and left were {left:#?}",
        sizes.len()
    );
    assert!(!left.is_empty());
}
