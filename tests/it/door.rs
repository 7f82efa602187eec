//! The socket by which init speaks to the host past the engine: that it is used where it can be, that
//! nobody else gets to it, and that without it nothing is different. What it carries is the matter of
//! `conformance` and `attack`, which run over it.

use crate::boxes::{background, eventually};
use crate::docker::{Bench, IMAGE, there};
use crate::env::TestEnv;
use crate::stage::{self, Stage, python};
use bollard::query_parameters::ListContainersOptionsBuilder;
use fumehood::protocol::spec::BackendKind::Docker;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Sockets that the container's init holds; `None` where this user may not look.
async fn sockets(stage: &Stage) -> Option<usize> {
    let engine = bollard::Docker::connect_with_defaults().unwrap();
    let seen = engine.inspect_container(stage.sandbox.name(), None).await;
    let pid = seen.unwrap().state.unwrap().pid.unwrap();
    let Ok(held) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        println!("SKIPPED, only root may look at init's descriptors");
        return None;
    };
    let held = held.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let sockets = held.filter(|to| to.to_string_lossy().starts_with("socket:"));
    Some(sockets.count())
}

fn doors(stage: &Stage) -> PathBuf {
    stage.path("doors")
}

#[test]
fn the_pipe_passes_by_an_engine_of_this_machine() {
    stage::on_own(Docker, async |kind| {
        // An init that a busy machine keeps back for too long speaks over stdio: not each time.
        for _ in 0..5 {
            let Some(stage) = Stage::set(kind, |_| {}).await else {
                return;
            };
            let held = sockets(&stage).await;
            assert_eq!(fs::read_dir(doors(&stage)).unwrap().count(), 0);
            stage.end().await;
            // The pipe, by two numbers.
            if matches!(held, None | Some(2)) {
                return;
            }
        }
        panic!("it never came to the door");
    });
}

#[test]
fn without_a_door_there_is_no_socket() {
    stage::on_own(Docker, async |_| {
        let Some(stage) = Stage::over_stdio().await else {
            return;
        };
        assert!(matches!(sockets(&stage).await, None | Some(0)));
        assert!(!doors(&stage).exists());
        stage.end().await;
    });
}

/// Neither its name nor a way to it, wherever a step looks; and no mount of more than init's own.
const LOOK: &str = r#"
import os, re, socket, stat
said = []
for path in ["/.fumehood/door/host", "/.fumehood/door/../door/host"]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        said.append(f"connected to {path}")
    except OSError:
        pass
try:
    said += os.listdir("/.fumehood/door")
except OSError:
    pass
try:
    open("/.fumehood/door/host", "w")
    said.append("made")
except OSError:
    pass
for folder, _, files in os.walk("/"):
    if not folder.startswith(("/proc", "/sys")):
        for name in files:
            if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode):
                said.append(os.path.join(folder, name))
bound = [line.split()[7] for line in open("/proc/net/unix").read().splitlines()[1:] if len(line.split()) > 7]
# The host's end is in this list, under a name that leads nowhere and tells a number.
said += [name for name in bound if not re.fullmatch("/proc/self/fd/[0-9]+/host", name)]
mounts = [line.split() for line in open("/proc/self/mountinfo")]
doors = [m for m in mounts if m[4] == "/.fumehood/door"]
assert len(doors) == 1 and "ro" in doors[0][5].split(","), doors
init = [m for m in mounts if m[4] == "/.fumehood/init"][0]
door = doors[0][3].removesuffix("//deleted")
assert door != doors[0][3] and len(os.path.basename(door)) == 6, door
assert os.path.dirname(door) == os.path.join(os.path.dirname(init[3]), "doors"), (door, init)
assert sorted(os.listdir("/proc/self/fd"))[:3] == ["0", "1", "2"] and len(os.listdir("/proc/self/fd")) == 4
print(said)
"#;

#[test]
fn a_step_finds_no_door() {
    stage::on_own(Docker, async |kind| {
        let Some(stage) = Stage::set(kind, |_| {}).await else {
            return;
        };
        assert_eq!(stage.text(python(LOOK)).await, "[]\n");
        stage.end().await;
    });
}

/// Says so, and goes on.
#[tokio::test]
async fn an_init_that_does_not_come_is_heard_over_stdio() {
    let Some(bench) = Bench::with("print('+', end='', flush=True)\nserve()\n").await else {
        return;
    };
    let mut inside = bench.start().await;
    assert_eq!(inside.ask("1 + 1").await, 2);
    let refused = inside.ask("knock()[0]").await;
    assert!(
        refused == "ENOENT" || refused == "ECONNREFUSED",
        "{refused}"
    );
    inside.end().await;
}

/// It is waited for, and not for ever.
#[tokio::test]
async fn an_init_that_says_nothing_for_long_is_heard_over_stdio() {
    let late = "import time\ntime.sleep(8)\nprint('+', end='', flush=True)\nserve()\n";
    let Some(bench) = Bench::with(late).await else {
        return;
    };
    let mut inside = bench.start().await;
    assert_eq!(inside.ask("1 + 1").await, 2);
    inside.end().await;
}

#[tokio::test]
async fn a_process_that_comes_in_inits_place_is_shut_out() {
    let child = "
r, w = os.pipe()
if os.fork() == 0:
    os.write(w, repr(knock()[0]).encode())
    os._exit(0)
said = os.read(r, 100).decode()
print('+', end='', flush=True)
serve()
";
    let Some(bench) = Bench::with(child).await else {
        return;
    };
    let mut inside = bench.start().await;
    let said = inside.ask("said").await;
    assert!(said == "''" || said == "'ECONNRESET'", "{said}");
    inside.end().await;
}

/// The engine still carries stdout; it must be silent.
#[tokio::test]
async fn an_init_that_came_and_speaks_on_stdout_is_hostile() {
    let both = "
word, door = knock()
door.sendall(word.encode())
door.recv(1)
print('more', flush=True)
door.recv(1)
";
    let Some(bench) = Bench::with(both).await else {
        return;
    };
    let mut started = bench.try_start().await.unwrap();
    assert_eq!(started.from_init.read_u8().await.unwrap(), b'+');
    let go = tokio::io::AsyncWriteExt::write_all(&mut started.to_init, b"x");
    go.await.unwrap();
    let error = started.from_init.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    drop((started.from_init, started.to_init));
    started.lease.end().await.unwrap();
}

/// Killed at any moment of a start, the next start leaves nothing of it.
#[test]
fn a_start_that_is_killed_leaves_no_door() {
    if !there() {
        return;
    }
    let env = TestEnv::new();
    let exec = ["exec", "--backend", "docker", "--image", IMAGE, "--"];
    let mut killed = Vec::new();
    for moment in [10, 30, 50, 70, 90, 120, 150, 200, 300] {
        let mut child = background(&env, &[&exec[..], &["sleep", "60"]].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        killed.push(format!("fumehood-{}-", child.id()));
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let again = || {
        let mut command = background(&env, &[&exec[..], &["true"]].concat());
        assert!(command.status().unwrap().success());
        let left = fs::read_dir(env.state().join("init/doors")).unwrap();
        left.count() == 0 && containers(&killed) == 0
    };
    // What the engine was asked for before, it may make only now.
    eventually("nothing is left", again);
}

fn containers(of: &[String]) -> usize {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = bollard::Docker::connect_with_defaults().unwrap();
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let found = engine.list_containers(Some(all)).await.unwrap();
        let names = found.into_iter().flat_map(|c| c.names.unwrap_or_default());
        let ours = |name: &String| of.iter().any(|prefix| name.contains(prefix));
        names.filter(ours).count()
    })
}
