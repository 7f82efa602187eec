//! The system calls that are denied, and why. A table; [`super::filter`] turns it into a program.

use crate::wire::WorldMemory;

/// A call with the conditions under which it is denied: all of them, or always where there are none.
pub(super) struct Denied {
    pub(super) call: i64,
    pub(super) when: Vec<Condition>,
}

/// About one argument, as 32 bits.
#[derive(Clone, Copy)]
pub(super) enum Condition {
    Is(u8, u32),
    IsNot(u8, u32),
    /// All of these bits are set.
    Has(u8, u32),
}
use Condition::{Has, Is, IsNot};

// Calls that the `libc` crate has no name for; the same numbers on both architectures.
const SYS_STATMOUNT: i64 = 457;
const SYS_LISTMOUNT: i64 = 458;
const SYS_LSM_GET_SELF_ATTR: i64 = 459;
const SYS_LSM_SET_SELF_ATTR: i64 = 460;
const SYS_LSM_LIST_MODULES: i64 = 461;

/// Denied whatever the arguments.
const ALWAYS: &[i64] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    SYS_STATMOUNT,
    SYS_LISTMOUNT,
    // Namespaces (`clone` with their flags is further down).
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files by handle: a way around every path.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Device nodes and FIFOs.
    libc::SYS_mknodat,
    // Other processes' memory and descriptors. Debuggers are what this costs.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Keyrings belong to the host's user, not to a namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Large kernel interfaces with a history.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret,
    libc::SYS_lookup_dcookie,
    SYS_LSM_GET_SELF_ATTR,
    SYS_LSM_SET_SELF_ATTR,
    SYS_LSM_LIST_MODULES,
    // The machine: modules, kernels, clocks, names, swap, accounting, quotas, its log.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Placement of memory on nodes the sandbox does not own.
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// What only this architecture still has.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[i64] = &[
    libc::SYS_mknod,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(target_arch = "aarch64")]
const ALWAYS_HERE: &[i64] = &[];

/// Memory that nobody sees in a resident set: denied where memory is only watched.
const UNSEEN: &[i64] = &[libc::SYS_memfd_create, libc::SYS_shmget, libc::SYS_msgget];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Setuid and setgid: a file with one, made in a workspace, would be honoured on the host.
const SET_ID: [u32; 2] = [0o4000, 0o2000];

/// Requests that type into, or reprogram, the terminal.
const TERMINAL: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Every denial.
pub(super) fn denied(memory: WorldMemory) -> Vec<Denied> {
    let mut list = Vec::new();
    let mut deny = |call: i64, when: &[Condition]| {
        list.push(Denied {
            call,
            when: when.to_vec(),
        });
    };
    for &call in ALWAYS.iter().chain(ALWAYS_HERE) {
        deny(call, &[]);
    }
    if memory == WorldMemory::Watched {
        for &call in UNSEEN {
            deny(call, &[]);
        }
    }
    for flag in NAMESPACES {
        deny(libc::SYS_clone, &[Has(0, flag as u32)]);
    }
    for request in TERMINAL {
        deny(libc::SYS_ioctl, &[Is(1, request)]);
    }
    // Linux as it is, or the question what it is.
    deny(libc::SYS_personality, &[IsNot(0, 0), IsNot(0, u32::MAX)]);
    set_id_modes(&mut deny);
    socket_families(&mut deny);
    list
}

/// Only where a new file's mode counts: O_CREAT and O_TMPFILE.
fn set_id_modes(deny: &mut impl FnMut(i64, &[Condition])) {
    const TMPFILE: u32 = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    for bit in SET_ID {
        deny(libc::SYS_fchmod, &[Has(1, bit)]);
        deny(libc::SYS_fchmodat, &[Has(2, bit)]);
        deny(libc::SYS_fchmodat2, &[Has(2, bit)]);
        for made in [libc::O_CREAT as u32, TMPFILE] {
            deny(libc::SYS_openat, &[Has(2, made), Has(3, bit)]);
        }
        #[cfg(target_arch = "x86_64")]
        {
            deny(libc::SYS_chmod, &[Has(1, bit)]);
            deny(libc::SYS_creat, &[Has(1, bit)]);
            for made in [libc::O_CREAT as u32, TMPFILE] {
                deny(libc::SYS_open, &[Has(1, made), Has(2, bit)]);
            }
        }
    }
}

/// Local, IP, and the routing messages by which programs list interfaces. Not AF_VSOCK, which no
/// network namespace holds, nor AF_ALG, AF_PACKET and the other netlink protocols.
fn socket_families(deny: &mut impl FnMut(i64, &[Condition])) {
    let [unix, inet, inet6, netlink] = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ]
    .map(|family| family as u32);
    deny(
        libc::SYS_socket,
        &[
            IsNot(0, unix),
            IsNot(0, inet),
            IsNot(0, inet6),
            IsNot(0, netlink),
        ],
    );
    // Of IP streams and datagrams, TCP and UDP: each other protocol is a driver, loaded for whoever asks.
    for family in [inet, inet6] {
        for raw_and_beyond in [0b11, 0b100, 0b1000] {
            deny(libc::SYS_socket, &[Is(0, family), Has(1, raw_and_beyond)]);
        }
        let others = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP].map(|known| IsNot(2, known as u32));
        let [plain, tcp, udp] = others;
        deny(libc::SYS_socket, &[Is(0, family), plain, tcp, udp]);
    }
    deny(
        libc::SYS_socket,
        &[Is(0, netlink), IsNot(2, libc::NETLINK_ROUTE as u32)],
    );
    deny(libc::SYS_socketpair, &[IsNot(0, unix)]);
}
