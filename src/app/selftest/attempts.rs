//! The attempts: what each is, and how it is seen that it was refused.
//!
//! A *probe* is a function of `probes/*.py`: it makes system calls and reports what was done and what
//! was refused. A *flood* takes too much of something under small limits: it is held when it ends as
//! those limits say, and the sandbox goes on.

use crate::policy::model::Policy;
use crate::protocol::outcome::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is attacked, and what has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Files,
    Kernel,
    Processes,
    Network,
    Limits,
}

impl Subject {
    /// What has to hold, for whoever looks for the hole.
    pub fn holds(self) -> &'static str {
        match self {
            Self::Files => "mount namespace, read-only root, Landlock",
            Self::Kernel => "seccomp filter, no capabilities, no new privileges",
            Self::Processes => "pid namespace, the filter around each step, no new privileges",
            Self::Network => "network namespace without a way out, abstract sockets scoped",
            Self::Limits => "cgroups where they are enforced, the watch where they are not",
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Kernel => "kernel",
            Self::Processes => "processes",
            Self::Network => "network",
            Self::Limits => "limits",
        })
    }
}

/// Of one probe.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// What succeeded.
    pub done: Vec<String>,
    /// What did not, and why.
    pub refused: BTreeMap<String, String>,
}

/// Every probe, by its subject, in the order of their files.
pub const PROBES: &[(Subject, &[&str])] = &[
    (
        Subject::Files,
        &[
            "host_files_through_every_proc_path",
            "host_files_through_every_mount",
            "host_paths_told_by_mountinfo",
            "host_files_by_walking",
            "passwords_keys_and_homes",
            "descriptors_left_open",
            "writing_outside_the_listed_places",
            "writable_proc_sys",
            "writable_proc",
            "writable_sys",
            "secrets_of_the_kernel",
            "nodes_of_devices",
            "devices",
            "files_by_handle",
            "other_changes_to_files_of_the_system",
            "programs_that_run_overwritten",
            "programs_in_temporary_folders",
            "leases_that_make_the_host_wait",
            "whole_file_systems",
        ],
    ),
    (
        Subject::Kernel,
        &[
            "mounts",
            "the_new_mount_calls",
            "other_roots",
            "new_namespaces",
            "a_nested_user_namespace",
            "namespaces_of_others",
            "keyrings",
            "bpf",
            "perf_events",
            "user_faults",
            "io_uring",
            "modules",
            "another_kernel",
            "power",
            "swap_accounting_quotas",
            "the_kernels_log",
            "clocks_and_names",
            "personalities",
            "secret_and_placed_memory",
            "ports",
            "the_other_tables_of_system_calls",
            "typing_into_the_terminal",
            "line_disciplines",
            "a_filter_that_allows_what_another_forbids",
            "core_dumps_for_the_host",
            "names_of_the_machine",
            "memory_merged_with_others",
            "a_pid_of_choice",
            "the_random_pool",
        ],
    ),
    (
        Subject::Processes,
        &[
            "signals_at_init_and_keepers",
            "limits_of_init_and_keepers",
            "tracing_init_and_keepers",
            "proc_files_of_init_and_keepers",
            "the_memory_killers_choice",
            "another_identity",
            "privileges_that_can_come_back",
            "setuid_programs",
            "setuid_bits_and_file_capabilities",
            "signals_by_descriptors",
            "the_pipe_to_the_host",
            "processor_time_of_others",
            "groups_of_the_host",
            "credentials_of_others",
        ],
    ),
    (
        Subject::Network,
        &[
            "addresses_outside",
            "the_metadata_service",
            "gateways_and_addresses_of_the_host",
            "loopback_services_of_the_host",
            "ipv6",
            "names",
            "sockets_below_ip",
            "families_no_namespace_holds",
            "netlink",
            "unix_sockets_of_the_host",
            "abstract_sockets_of_the_host",
            "shared_memory_and_queues_of_the_host",
            "connections_of_the_host",
            "protocols_besides_tcp_and_udp",
            "protocols_on_top_of_tcp",
            "options_of_sockets",
            "routes_rules_and_queues",
        ],
    ),
];

/// All probes, as one Python program that runs those it is given by name and prints their reports.
pub fn program() -> String {
    [
        include_str!("probes/lib.py"),
        include_str!("probes/files.py"),
        include_str!("probes/kernel.py"),
        include_str!("probes/processes.py"),
        include_str!("probes/network.py"),
        "main()\n",
    ]
    .join("\n")
}

/// Takes too much of something.
pub struct Flood {
    pub name: &'static str,
    /// Run one after the other in one sandbox.
    pub steps: &'static [FloodStep],
}

/// One Python script, and how it must end.
pub struct FloodStep {
    pub script: &'static str,
    pub wall_ms: Option<u64>,
    pub holds: fn(Outcome, &str) -> bool,
}

/// Small, and no flood takes more than a few times as much: every machine can take what goes wrong.
pub fn small(policy: &mut Policy) {
    policy.limits.memory = Some(256 << 20);
    policy.limits.pids = Some(64);
    policy.limits.open_files = Some(512);
    policy.tmp.size = 16 << 20;
    policy.tmp.inodes = 4096;
    policy.shm = 16 << 20;
}

/// Fewer could not have tried; [`small`] allows 64.
fn counted(stdout: &str) -> bool {
    stdout
        .trim()
        .parse::<u32>()
        .is_ok_and(|made| (8..64).contains(&made))
}

/// Under the limits of [`small`].
pub const FLOODS: &[Flood] = &[
    Flood {
        name: "a_fork_bomb",
        steps: &[
            FloodStep {
                // Every process of it begets as long as it may, and then waits.
                script: "\
import mmap, os, time
made = mmap.mmap(-1, 2048)
end = time.monotonic() + 60
while time.monotonic() < end:
    n = made.find(b'\\0')
    if n < 0: break
    try:
        made[n] = 1
        os.fork()
    except OSError: time.sleep(0.01)
time.sleep(60)
",
                wall_ms: Some(2000),
                holds: |outcome, _| outcome == Outcome::TimedOut,
            },
            FloodStep {
                script: "\
import os, time
n = 0
try:
    while n < 200:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError: pass
print(n, flush=True)
os.kill(os.getpid(), 9)
",
                wall_ms: None,
                holds: |_, stdout| counted(stdout),
            },
        ],
    },
    Flood {
        name: "a_thread_bomb",
        steps: &[FloodStep {
            script: "\
import os, threading, time
n = 0
try:
    while n < 200:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        n += 1
except RuntimeError: pass
print(n, flush=True)
os._exit(0)
",
            wall_ms: None,
            holds: |_, stdout| counted(stdout),
        }],
    },
    Flood {
        name: "memory_by_one_process",
        steps: &[FloodStep {
            script: "\
x = []
for n in range(96): x.append(bytearray(b'x' * (8 << 20)))
",
            wall_ms: None,
            holds: |outcome, _| outcome == Outcome::OutOfMemory,
        }],
    },
    Flood {
        name: "memory_by_many_processes",
        steps: &[FloodStep {
            // None of them is large.
            script: "\
import os, time
for n in range(30):
    if os.fork() == 0:
        x = bytearray(b'x' * (24 << 20))
        time.sleep(60)
        os._exit(0)
os.waitpid(-1, 0)
os.kill(os.getpid(), 9)
",
            wall_ms: None,
            holds: |outcome, _| outcome == Outcome::OutOfMemory,
        }],
    },
    Flood {
        name: "tmp_and_shared_memory",
        steps: &[
            FloodStep {
                script: "\
import errno, os
for folder in ('/tmp', '/dev/shm'):
    fd = os.open(folder + '/big', os.O_CREAT | os.O_WRONLY)
    try:
        for n in range(64): os.write(fd, b'x' * (1 << 20))
    except OSError as error: print(errno.errorcode[error.errno])
    print(os.fstat(fd).st_size >> 20)
    os.unlink(folder + '/big')
",
                wall_ms: None,
                holds: |_, stdout| stdout == "ENOSPC\n16\nENOSPC\n16\n",
            },
            FloodStep {
                script: "\
import errno
try:
    for n in range(20_000): open(f'/tmp/{n}', 'w').close()
except OSError as error: print(errno.errorcode[error.errno])
",
                wall_ms: Some(60_000),
                holds: |_, stdout| stdout == "ENOSPC\n",
            },
        ],
    },
    Flood {
        name: "descriptors",
        steps: &[FloodStep {
            script: "\
import errno, os, resource
n = 0
try:
    while n < 100_000: os.dup(0); n += 1
except OSError as error: print(errno.errorcode[error.errno], n < 512)
try: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
except ValueError: print('kept')
",
            wall_ms: None,
            holds: |_, stdout| stdout == "EMFILE True\nkept\n",
        }],
    },
];
