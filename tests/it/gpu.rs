//! GPUs end to end, on both backends: a fake driver beneath a root of its own, with harmless devices
//! (1:3 and 1:5) under the names of NVIDIA's. What a kernel driver does is not shown here.

use crate::docker::IMAGE;
use crate::env::TestEnv;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::Pid;
use predicates::prelude::*;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Waiting for a state, not for a time.
const PATIENCE: Duration = Duration::from_secs(60);

const LIB: &str = "usr/lib/x86_64-linux-gnu";

/// A user with two GPUs.
pub(crate) struct Gpus {
    pub(crate) env: TestEnv,
    root: PathBuf,
    uuids: [String; 2],
}

impl Gpus {
    /// `None` where nodes cannot be made.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root makes device nodes");
            return None;
        }
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let env = TestEnv::new();
        let root = env.path("driver");
        let gpus = Self {
            uuids: [0, 1].map(|gpu| format!("GPU-{pid:08x}-{n:04x}-{gpu:04x}")),
            root,
            env,
        };
        gpus.node("nvidia0", 3, 0o666);
        gpus.node("nvidia1", 5, 0o666);
        gpus.node("nvidiactl", 3, 0o666);
        gpus.node("nvidia-uvm", 3, 0o666);
        for (gpu, uuid) in gpus.uuids.iter().enumerate() {
            let text =
                format!("Model: \t\t Fake H{gpu}00\nGPU UUID: \t {uuid}\nDevice Minor: \t {gpu}\n");
            gpus.write(
                &format!("proc/driver/nvidia/gpus/0000:0{gpu}:00.0/information"),
                &text,
            );
        }
        gpus.write(
            "proc/driver/nvidia/params",
            "ModifyDeviceFiles: 1\nOther: 2\n",
        );
        gpus.write(
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue\n",
        );
        // Something that can be loaded.
        let real = format!("{LIB}/libcuda.so.570.86.15");
        gpus.write(&real, "");
        let libm = [
            "/lib/x86_64-linux-gnu/libm.so.6",
            "/usr/lib64/libm.so.6",
            "/lib/aarch64-linux-gnu/libm.so.6",
        ];
        fs::copy(
            libm.iter().find(|path| Path::new(path).exists()).unwrap(),
            gpus.root.join(&real),
        )
        .unwrap();
        symlink(
            "libcuda.so.570.86.15",
            gpus.root.join(LIB).join("libcuda.so.1"),
        )
        .unwrap();
        gpus.write(&format!("{LIB}/libnvidia-ml.so.1"), "not a library");
        gpus.write(&format!("{LIB}/libGLX_nvidia.so.0"), "for drawing");
        gpus.write("usr/bin/nvidia-smi", "#!/bin/sh\necho fake smi\n");
        fs::set_permissions(
            gpus.root.join("usr/bin/nvidia-smi"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        Some(gpus)
    }

    fn node(&self, name: &str, minor: u64, mode: u32) {
        let path = self.root.join("dev").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        mknod(
            &path,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(mode),
            makedev(1, minor),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn surroundings(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("FUMEHOOD_DRIVER_ROOT", self.root.clone()),
            ("FUMEHOOD_CDI_DIRS", self.root.join("cdi")),
        ]
    }

    fn exec(&self, backend: &[&str], gpus: &str, command: &[&str]) -> assert_cmd::Command {
        let mut fumehood = self.env.fumehood();
        fumehood
            .envs(self.surroundings())
            .args([
                "exec",
                "--policy",
                "dev-loop",
                "--set",
                &format!("gpu.devices={gpus}"),
            ])
            .args(backend)
            .arg("--")
            .args(command);
        fumehood
    }

    /// One that goes on, with its output.
    fn start(&self, gpus: &str, command: &[&str]) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_fumehood"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.env.path("home"))
            .env("FUMEHOOD_HOME", self.env.state())
            .envs(self.surroundings())
            .current_dir(self.env.path("work"))
            .args([
                "exec",
                "--policy",
                "dev-loop",
                "--set",
                &format!("gpu.devices={gpus}"),
                "--",
            ])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running(child)
    }

    fn out(&self, backend: &[&str], gpus: &str, script: &str) -> String {
        let output = self
            .exec(backend, gpus, &["sh", "-c", script])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Leases are the machine's: what stays of them would stay for good.
impl Drop for Gpus {
    fn drop(&mut self) {
        for uuid in &self.uuids {
            let name = uuid.to_ascii_lowercase();
            let _ = fs::remove_file(Path::new(fumehood::sandbox::gpu::MACHINE).join(name));
        }
    }
}

/// Ended with the test, whatever becomes of it.
struct Running(Child);

impl Running {
    fn line_of_output(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        line
    }

    fn line_of_errors(&mut self) -> String {
        let mut line = String::new();
        let mut errors = BufReader::new(self.0.stderr.take().unwrap());
        errors.read_line(&mut line).unwrap();
        self.0.stderr = Some(errors.into_inner());
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Each claim, on each backend.
macro_rules! on_both {
    ($($name:ident($gpus:ident, $on:ident) $body:block)+) => {
        $(fn $name($gpus: &Gpus, $on: &[&str]) $body)+

        mod namespace {
            use super::*;
            $(#[test] fn $name() {
                if let Some(gpus) = Gpus::new() {
                    super::$name(&gpus, &["--backend", "namespace"]);
                }
            })+
        }

        mod docker {
            use super::*;
            $(#[test] fn $name() {
                if !crate::docker::there() {
                    return;
                }
                if let Some(gpus) = Gpus::new() {
                    super::$name(&gpus, &["--backend", "docker", "--image", IMAGE]);
                }
            })+
        }
    };
}

on_both! {
    the_listed_gpu_is_there_and_nothing_of_another(gpus, on) {
        let nodes = gpus.out(on, "[1]", "cd /dev; echo nvidia*; head -c 3 nvidia1 | od -An -tx1; echo written > nvidia1");
        assert_eq!(nodes, "nvidia-uvm nvidia1 nvidiactl\n 00 00 00\n");
        // Nor can it be had otherwise.
        gpus.exec(on, "[1]", &["mknod", "/tmp/nvidia0", "c", "1", "3"]).assert().failure();
        gpus.exec(on, "[1]", &["sh", "-c", "cat /dev/nvidia0"]).assert().failure();
        gpus.exec(on, "[1]", &["sh", "-c", "rm /dev/nvidia1 || ln -s null /dev/nvidia0"]).assert().failure();
    }

    the_drivers_libraries_load_and_are_read_only(gpus, on) {
        let script = "echo $LD_LIBRARY_PATH; ls $LD_LIBRARY_PATH; nvidia-smi; \
            python3 -c 'import ctypes; print(ctypes.CDLL(\"libcuda.so.1\").cos is not None)'";
        let said = gpus.out(on, "any:1", script);
        assert_eq!(
            said,
            "/opt/fumehood/driver/lib\nlibcuda.so.1\nlibcuda.so.570.86.15\nlibnvidia-ml.so.1\nfake smi\nTrue\n"
        );
        let write = "echo x > $LD_LIBRARY_PATH/libcuda.so.1";
        gpus.exec(on, "any:1", &["sh", "-c", write]).assert().failure();
    }

    what_computing_needs_of_a_node_and_of_the_kernel_is_allowed(gpus, on) {
        // The request of NVIDIA's driver that asks for its version: no such thing here, and not refused.
        let script = "import ctypes, errno, fcntl, mmap, os, select, socket\n\
            node = os.open('/dev/nvidia1', os.O_RDWR)\n\
            try: fcntl.ioctl(node, 0xc04846d2, bytearray(72))\n\
            except OSError as error: print(errno.errorcode[error.errno])\n\
            print(mmap.mmap(node, 4096, mmap.MAP_PRIVATE)[:2], mmap.mmap(node, 4096, mmap.MAP_SHARED)[:2])\n\
            code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n\
            libc = ctypes.CDLL(None)\n\
            print(libc.eventfd(0, 0) > 0, len(select.select([node], [], [], 0)[0]))\n\
            os.memfd_create('x'); os.sched_getaffinity(0); socket.socketpair()\n\
            print(open('/proc/self/task/%d/comm' % os.getpid(), 'w').write('cuda'))";
        let output = gpus.exec(on, "[1]", &["python3", "-c", script]).output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, "ENOTTY\nb'\\x00\\x00' b'\\x00\\x00'\nTrue 1\n4\n", "{errors}");
    }

    capabilities_leave_out_what_they_do_not_name(gpus, on) {
        let command = gpus.exec(on, "any:1", &["sh", "-c", "ls $LD_LIBRARY_PATH; ls /opt/fumehood/driver"]);
        let command = command.get_args().map(|word| word.to_owned()).collect::<Vec<_>>();
        let at = command.iter().position(|word| word == "--").unwrap();
        let mut fumehood = gpus.env.fumehood();
        fumehood
            .envs(gpus.surroundings())
            .args(&command[..at])
            .args(["--set", "gpu.capabilities=[\"compute\"]"])
            .args(&command[at..])
            .assert()
            .success()
            .stdout("libcuda.so.1\nlibcuda.so.570.86.15\nlib\n");
    }

    programs_are_told_which_gpus_they_have(gpus, on) {
        let said = gpus.out(on, "[0, 1]", "echo $NVIDIA_VISIBLE_DEVICES $NVIDIA_DRIVER_CAPABILITIES");
        let [first, second] = &gpus.uuids;
        assert_eq!(said, format!("{first},{second} compute,utility\n"));
    }

    without_a_word_in_the_policy_there_is_none(gpus, on) {
        let said = gpus.out(on, "none", "echo /dev/nvidia*; ls /opt/fumehood; echo .$LD_LIBRARY_PATH.$NVIDIA_VISIBLE_DEVICES.; true");
        assert_eq!(said, "/dev/nvidia*\n...\n");
    }

    a_cdi_file_says_what_a_gpu_is(gpus, on) {
        // Only the second GPU, under another index, and one library under its full name.
        gpus.write("cdi/nvidia.yaml", &format!(
            "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"7\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia1\n\
             containerEdits:\n  deviceNodes:\n  - path: /dev/nvidiactl\n  mounts:\n  - hostPath: /{LIB}/libcuda.so.570.86.15\n    containerPath: /x\n  \
             hooks:\n  - hookName: createContainer\n    path: /bin/false\n    args: [nvidia-cdi-hook, create-symlinks, --link, \"libcuda.so.1::/x/libcuda.so\"]\n"
        ));
        let said = gpus.out(on, "[7]", "echo /dev/nvidia*; ls $LD_LIBRARY_PATH");
        assert_eq!(said, "/dev/nvidia1 /dev/nvidiactl\nlibcuda.so\nlibcuda.so.1\nlibcuda.so.570.86.15\n");
        gpus.exec(on, "[0]", &["true"]).assert().code(125).stderr(predicate::str::contains("only GPU 7 Fake H100"));
    }

    a_node_of_a_group_can_be_used_by_its_group(gpus, on) {
        gpus.node("nvidia0", 3, 0o660);
        chown(gpus.root.join("dev/nvidia0"), Some(0), Some(4711)).unwrap();
        let said = gpus.out(on, "[0]", "echo x > /dev/nvidia0 && echo written");
        assert_eq!(said, "written\n");
    }

    a_node_that_only_its_owner_may_use_is_refused(gpus, on) {
        gpus.node("nvidia0", 3, 0o600);
        gpus.exec(on, "[0]", &["true"])
            .assert()
            .code(125)
            .stderr(predicate::str::contains("only its owner may use it"));
    }
}

#[test]
fn what_the_driver_says_is_shown_for_the_gpus_of_the_sandbox_only() {
    let Some(gpus) = Gpus::new() else { return };
    let on = &["--backend", "namespace"];
    let said = gpus.out(
        on,
        "[1]",
        "cd /proc/driver; ls . nvidia/gpus; cat nvidia/params",
    );
    assert_eq!(
        said,
        ".:\nnvidia\n\nnvidia/gpus:\n0000:01:00.0\nOther: 2\nModifyDeviceFiles: 0\n"
    );
    gpus.exec(
        on,
        "[1]",
        &["sh", "-c", "echo x > /proc/driver/nvidia/params"],
    )
    .assert()
    .failure();
}

#[test]
fn the_time_that_a_run_has_gpus_for_is_one_for_all_its_steps() {
    let Some(gpus) = Gpus::new() else { return };
    let fumehood = |words: &[&str]| {
        let mut fumehood = gpus.env.fumehood();
        fumehood.envs(gpus.surroundings()).args(["box"]).args(words);
        fumehood
    };
    fumehood(&["open", "--name", "timed", "--policy", "dev-loop"])
        .args(["--set", "gpu.devices=[0,1]", "--set", "limits.gpu_time=2s"])
        .assert()
        .success();
    // A second of two GPUs.
    fumehood(&["exec", "timed", "--", "sleep", "600"])
        .assert()
        .code(124)
        .stderr(predicate::str::contains("limits.gpu_time = 2s"));
    fumehood(&["exec", "timed", "--", "true"])
        .assert()
        .code(126)
        .stderr(predicate::str::contains("limits.gpu_time"));
    fumehood(&["close", "timed"]).assert().success();
}

#[test]
fn without_a_gpu_nothing_is_begun_and_the_remedy_is_said() {
    let env = TestEnv::new();
    env.fumehood()
        .env("FUMEHOOD_DRIVER_ROOT", env.path("nowhere"))
        .env("FUMEHOOD_CDI_DIRS", env.path("nowhere"))
        .args(["exec", "--set", "gpu.devices=any:1", "--", "true"])
        .assert()
        .code(125)
        .stderr(
            predicate::str::contains("asks for a GPU")
                .and(predicate::str::contains("fumehood doctor")),
        );
    let runs = fs::read_dir(env.state().join("runs"))
        .into_iter()
        .flatten()
        .count();
    assert_eq!(runs, 0);
}

#[test]
fn a_cdi_file_that_cannot_be_used_is_named_with_its_line() {
    let Some(gpus) = Gpus::new() else { return };
    let begin = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n";
    for (text, says) in [
        (format!("{begin}devices: [\n"), "nvidia.yaml: line"),
        (
            format!(
                "{begin}devices:\n- name: \"0\"\n  containerEdits: {{deviceNodes: [{{path: /dev/vda}}]}}\n"
            ),
            "no node of an NVIDIA GPU",
        ),
        (
            format!(
                "{begin}devices:\n- name: \"0\"\n  containerEdits: {{hooks: [{{hookName: x, path: /bin/rm, args: [rm, -rf]}}]}}\n"
            ),
            "run as root",
        ),
    ] {
        gpus.write("cdi/nvidia.yaml", &text);
        gpus.exec(&[], "any:1", &["true"])
            .assert()
            .code(125)
            .stderr(predicate::str::contains(says).and(predicate::str::contains("help")));
    }
}

#[test]
fn two_runs_never_share_a_gpu_and_the_second_says_why_it_waits() {
    let Some(gpus) = Gpus::new() else { return };
    let hold = ["sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES; cat"];
    let mut first = gpus.start("any:1", &hold);
    assert_eq!(first.line_of_output().trim(), gpus.uuids[0]);
    // There is a second one.
    let mut second = gpus.start("any:1", &hold);
    assert_eq!(second.line_of_output().trim(), gpus.uuids[1]);
    let mut third = gpus.start("[0]", &["echo", "mine"]);
    let said = third.line_of_errors();
    let holder = format!("(process {}) has it", first.0.id());
    assert!(
        said.contains("waiting for a GPU: GPU 0 Fake H000") && said.contains(&holder),
        "{said}"
    );
    let mut fourth = gpus.start("any:2", &["true"]);
    assert!(fourth.line_of_errors().contains("waiting for a GPU"));
    fourth.signal(Signal::SIGINT);
    assert_eq!(fourth.code(), Some(130));
    // However a run ends, what it had is free.
    first.signal(Signal::SIGKILL);
    assert_eq!(third.line_of_output(), "mine\n");
    assert_eq!(third.code(), Some(0));
    let shown = gpus
        .env
        .fumehood()
        .args(["runs", "show", "last"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("waiting for a GPU") && shown.contains("GPU 0 Fake H000"),
        "{shown}"
    );
}

#[test]
fn runs_share_a_gpu_where_both_policies_say_so() {
    let Some(gpus) = Gpus::new() else { return };
    let shared = |command: &[&str]| {
        let mut fumehood = Command::new(env!("CARGO_BIN_EXE_fumehood"));
        fumehood
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", gpus.env.path("home"))
            .env("FUMEHOOD_HOME", gpus.env.state())
            .envs(gpus.surroundings())
            .current_dir(gpus.env.path("work"))
            .args([
                "exec",
                "--policy",
                "dev-loop",
                "--set",
                "gpu.devices=[0]",
                "--set",
                "gpu.exclusive=false",
                "--",
            ])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running(fumehood.spawn().unwrap())
    };
    let mut first = shared(&["sh", "-c", "echo up; cat"]);
    assert_eq!(first.line_of_output(), "up\n");
    let mut second = shared(&["echo", "beside"]);
    assert_eq!(second.line_of_output(), "beside\n");
    let mut alone = gpus.start("[0]", &["true"]);
    assert!(alone.line_of_errors().contains("waiting for a GPU"));
}

#[test]
fn an_ordinary_user_gets_a_gpu_without_any_engine() {
    let Some(gpus) = Gpus::new() else { return };
    const USER: u32 = 1000;
    let binary = gpus.env.path("fumehood");
    fs::copy(env!("CARGO_BIN_EXE_fumehood"), &binary).unwrap();
    for folder in ["home", "state", "work"] {
        crate::env::give(&gpus.env.path(folder), USER);
    }
    let output = Command::new(binary)
        .uid(USER)
        .gid(USER)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", gpus.env.path("home"))
        .env("FUMEHOOD_HOME", gpus.env.state())
        .envs(gpus.surroundings())
        .current_dir(gpus.env.path("work"))
        .args(["exec", "--set", "gpu.devices=[1]", "--", "sh", "-c"])
        .arg("echo /dev/nvidia*; head -c 2 /dev/nvidia1 | od -An -tx1; cat /proc/driver/nvidia/version")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("/dev/nvidia-uvm /dev/nvidia1 /dev/nvidiactl\n 00 00\nNVRM"),
        "{said}{errors}"
    );
}

/// What of NVIDIA's library is called, as its header declares it.
const NVML: &str = r#"
#include <string.h>
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned int f) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int e) { return "x"; }
int nvmlSystemGetDriverVersion(char *to, unsigned int n) { strncpy(to, "570.86.15", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { *d = (void *)(long)(i + 1); return 0; }
int nvmlDeviceGetHandleByUUID(const char *u, void **d) { *d = (void *)(long)(u[strlen(u) - 1] - '0' + 1); return 0; }
int nvmlDeviceGetUUID(void *d, char *to, unsigned int n) { strncpy(to, "GPU-00000000-0000", n); to[16] = '0' + (long)d - 1; return 0; }
int nvmlDeviceGetName(void *d, char *to, unsigned int n) { strncpy(to, "Fake", n); return 0; }
int nvmlDeviceGetMinorNumber(void *d, unsigned int *m) { *m = (long)d - 1; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *d, memory_t *m) { m->total = 80ull << 30; m->used = (long)d * (1ull << 30); m->free = m->total - m->used; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, utilization_t *u) { u->gpu = 70 + (long)d; u->memory = 1; return 0; }
"#;

#[test]
fn the_drivers_library_tells_memory_and_how_busy_a_gpu_was() {
    let Some(gpus) = Gpus::new() else { return };
    gpus.write("nvml.c", NVML);
    let library = gpus.root.join(LIB).join("libnvidia-ml.so.1");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &gpus.root.join("nvml.c")])
        .status()
        .unwrap();
    assert!(built.success());
    let mut doctor = gpus.env.fumehood();
    doctor.envs(gpus.surroundings()).arg("doctor");
    let expected = format!("GPU 1 Fake H100 ({}), 80GiB", gpus.uuids[1]);
    doctor.assert().stdout(
        predicate::str::contains("driver 570.86.15").and(predicate::str::contains(expected)),
    );
    let shown = || {
        let mut show = gpus.env.fumehood();
        let shown = show.args(["runs", "show", "last"]).output().unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    let mut step = gpus.start("[1]", &["cat"]);
    let start = Instant::now();
    while !shown().contains("% busy") {
        assert!(start.elapsed() < PATIENCE, "{}", shown());
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(step.0.stdin.take());
    assert_eq!(step.code(), Some(0));
    let shown = shown();
    for words in [
        "GPU 1 72% busy, 2048 of 81920 MiB in use",
        "GPU 1 72% busy, 2048 MiB of its memory at most",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn the_policy_for_it_gives_one_gpu() {
    let Some(gpus) = Gpus::new() else { return };
    let mut fumehood = gpus.env.fumehood();
    fumehood
        .envs(gpus.surroundings())
        .args([
            "exec",
            "--policy",
            "gpu-train",
            "--",
            "sh",
            "-c",
            "echo /dev/nvidia?",
        ])
        .assert()
        .success()
        .stdout("/dev/nvidia0\n");
}

#[test]
fn doctor_says_which_there_are_and_what_is_missing() {
    let Some(gpus) = Gpus::new() else { return };
    let mut doctor = gpus.env.fumehood();
    doctor.envs(gpus.surroundings()).args(["doctor", "--json"]);
    let output = doctor.output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["gpus"]["gpus"], "found");
    assert_eq!(report["gpus"]["cards"][1]["gpu"]["uuid"], gpus.uuids[1]);
    gpus.node("nvidia1", 5, 0o600);
    let mut closed = gpus.env.fumehood();
    closed.envs(gpus.surroundings()).arg("doctor");
    closed.assert().stdout(
        predicate::str::contains("cannot have them yet")
            .and(predicate::str::contains("NVreg_DeviceFileMode")),
    );
    let mut none = gpus.env.fumehood();
    none.envs([("FUMEHOOD_DRIVER_ROOT", gpus.env.path("work"))])
        .arg("doctor");
    none.assert().stdout(predicate::str::contains("none: "));
}

#[test]
fn errors_go_to_nobody_who_did_not_ask_for_a_gpu() {
    let Some(gpus) = Gpus::new() else { return };
    gpus.write("cdi/nvidia.yaml", "[");
    gpus.exec(&[], "none", &["true"])
        .assert()
        .success()
        .stderr(predicate::str::contains("cdi").not());
    let mut line = String::new();
    let mut child = gpus.start("none", &["echo", "fine"]);
    child
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut line)
        .unwrap();
    assert_eq!(line, "fine\n");
}

/// A context and some memory of it, by the driver's own library: to list a GPU is no proof.
const CUDA: &str = "
import ctypes
cuda = ctypes.CDLL('libcuda.so.1')
def call(name, *args):
    code = getattr(cuda, name)(*args)
    assert code == 0, (name, code)
count, device = ctypes.c_int(), ctypes.c_int()
context, memory = ctypes.c_void_p(), ctypes.c_uint64()
call('cuInit', 0)
call('cuDeviceGetCount', ctypes.byref(count))
call('cuDeviceGet', ctypes.byref(device), 0)
call('cuCtxCreate_v2', ctypes.byref(context), 0, device)
call('cuMemAlloc_v2', ctypes.byref(memory), ctypes.c_size_t(1 << 20))
print('GPUs:', count.value)
";

/// Where there is one. On a machine without, it says that it was left out.
#[test]
fn a_real_gpu_computes_in_a_sandbox() {
    if !Path::new("/dev/nvidia0").exists() {
        println!("skipped: no NVIDIA GPU here");
        return;
    }
    let env = TestEnv::new();
    env.fumehood()
        .args([
            "exec",
            "--policy",
            "gpu-train",
            "--backend",
            "namespace",
            "--",
        ])
        .args(["/usr/bin/python3", "-c", CUDA])
        .assert()
        .success()
        .stdout("GPUs: 1\n");
    if crate::docker::there() {
        env.fumehood()
            .args([
                "exec",
                "--policy",
                "gpu-train",
                "--backend",
                "docker",
                "--image",
                IMAGE,
                "--",
            ])
            .args(["python3", "-c", CUDA])
            .assert()
            .success()
            .stdout("GPUs: 1\n");
    }
}
