//! Attempts to leave a sandbox, to harm what is around it, or to lie about it: one list, tried on each
//! backend, and on the namespace backend once more on an unpacked image and as an ordinary user. A test fails when what it
//! attempts succeeds.
//!
//! ```text
//!   probes        those of `fumehood selftest`, by system calls; `control` makes them where nothing confines
//!   floods        too much of everything: bounded, named, and the host goes on
//!   others        what one step does to another
//!   runs          against what is around a sandbox: approval, record
//!   between       against what was said yes to, between two looks at it
//!   egress        against the list of hosts
//!   secrets       against what nobody else may read
//!   results       against whoever collects results
//!   archives      against whoever unpacks
//!   disk          against the disk that everybody shares
//!   images        against whoever starts an image
//!   hands         against what this host does in a workspace itself
//!   left_behind   against the workspace, and what the person keeps in it
//!   terminal      against the person's eyes
//!   switches      what each attempt was seen to be held by (tests/controls)
//! ```

mod archives;
mod between;
mod control;
mod disk;
mod egress;
mod floods;
mod hands;
mod host;
mod images;
mod left_behind;
mod others;
mod probe;
mod results;
mod runs;
mod secrets;
mod switches;
mod terminal;
mod user;

use crate::stage;
use fumehood::app::selftest::attempts;
use fumehood::protocol::spec::BackendKind::{Docker, Namespace};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

/// An ordinary user; no account is needed.
const USER: u32 = 1000;

macro_rules! suite {
    (probes: $($probe:ident)*; floods: $($flood:ident)*; shared: $($in:ident::$shared:ident)*; own: $($room:ident::$own:ident)*;) => {
        /// Every probe.
        const PROBES: &[&str] = &[$(stringify!($probe)),*];
        const FLOODS: &[&str] = &[$(stringify!($flood)),*];
        /// Everything that is tried in each world.
        const ATTEMPTS: &[&str] = &[$(stringify!($probe),)* $(stringify!($flood),)* $(stringify!($shared),)* $(stringify!($own),)*];

        mod namespace {
            use super::*;
            $(#[test] fn $probe() { stage::on_shared(Namespace, async |stage| attempt(stage, stringify!($probe)).await) })*
            $(#[test] fn $flood() { stage::on_own(Namespace, async |kind| floods::flood(kind, stringify!($flood)).await) })*
            $(#[test] fn $shared() { stage::on_shared(Namespace, $in::$shared) })*
            $(#[test] fn $own() { stage::on_own(Namespace, $room::$own) })*
        }
        /// On an unpacked image for a root; what one step does to another has nothing to do with it.
        mod unpacked_image {
            use super::*;
            $(#[test] fn $probe() { stage::on_unpacked(async |stage| attempt(stage, stringify!($probe)).await) })*
        }
        mod ordinary_user {
            $(#[test] fn $probe() { super::as_ordinary_user(stringify!($probe)) })*
            $(#[test] fn $flood() { super::as_ordinary_user(stringify!($flood)) })*
            $(#[test] fn $shared() { super::as_ordinary_user(stringify!($shared)) })*
            $(#[test] fn $own() { super::as_ordinary_user(stringify!($own)) })*
        }
        mod docker {
            use super::*;
            $(#[test] fn $probe() { stage::on_shared(Docker, async |stage| attempt(stage, stringify!($probe)).await) })*
            $(#[test] fn $flood() { stage::on_own(Docker, async |kind| floods::flood(kind, stringify!($flood)).await) })*
            $(#[test] fn $shared() { stage::on_shared(Docker, $in::$shared) })*
            $(#[test] fn $own() { stage::on_own(Docker, $room::$own) })*
        }
    };
}

suite! {
    probes:
        host_files_through_every_proc_path
        host_files_through_every_mount
        host_paths_told_by_mountinfo
        host_files_by_walking
        passwords_keys_and_homes
        descriptors_left_open
        writing_outside_the_listed_places
        writable_proc_sys
        writable_proc
        writable_sys
        secrets_of_the_kernel
        nodes_of_devices
        devices
        files_by_handle
        other_changes_to_files_of_the_system
        programs_that_run_overwritten
        programs_in_temporary_folders
        leases_that_make_the_host_wait
        whole_file_systems
        mounts
        the_new_mount_calls
        other_roots
        new_namespaces
        a_nested_user_namespace
        namespaces_of_others
        keyrings
        bpf
        perf_events
        user_faults
        io_uring
        modules
        another_kernel
        power
        swap_accounting_quotas
        the_kernels_log
        clocks_and_names
        personalities
        secret_and_placed_memory
        ports
        the_other_tables_of_system_calls
        typing_into_the_terminal
        line_disciplines
        a_filter_that_allows_what_another_forbids
        core_dumps_for_the_host
        names_of_the_machine
        memory_merged_with_others
        a_pid_of_choice
        the_random_pool
        signals_at_init_and_keepers
        limits_of_init_and_keepers
        tracing_init_and_keepers
        proc_files_of_init_and_keepers
        the_memory_killers_choice
        another_identity
        privileges_that_can_come_back
        setuid_programs
        setuid_bits_and_file_capabilities
        signals_by_descriptors
        the_pipe_to_the_host
        processor_time_of_others
        groups_of_the_host
        credentials_of_others
        addresses_outside
        the_metadata_service
        gateways_and_addresses_of_the_host
        loopback_services_of_the_host
        ipv6
        names
        sockets_below_ip
        families_no_namespace_holds
        netlink
        unix_sockets_of_the_host
        abstract_sockets_of_the_host
        shared_memory_and_queues_of_the_host
        connections_of_the_host
        protocols_besides_tcp_and_udp
        protocols_on_top_of_tcp
        options_of_sockets
        routes_rules_and_queues;
    floods:
        a_fork_bomb
        a_thread_bomb
        memory_by_one_process
        memory_by_many_processes
        tmp_and_shared_memory
        descriptors;
    shared:
        others::another_step_is_out_of_reach
        others::a_daemon_does_not_outlive_a_timeout
        others::init_goes_on_after_all_that;
    own:
        floods::one_endless_line
        runs::a_file_swapped_between_yes_and_start
        left_behind::traps_left_in_the_workspace
        left_behind::what_was_protected_stays_as_it_was
        left_behind::sockets_of_the_host_in_the_workspace
        runs::words_that_lie
        runs::a_flood_of_log
        runs::a_million_lines_of_log
        between::a_mount_swapped_between_yes_and_start
        between::a_second_run_on_the_same_folder
        between::policies_left_in_the_workspace
        egress::hosts_that_nobody_listed
        egress::addresses_in_every_spelling
        egress::listed_names_that_lead_inside
        egress::tunnels_for_another_host
        egress::requests_within_requests
        egress::more_than_may_be_uploaded
        egress::names_that_carry_data
        secrets::known_values_in_what_is_told
        secrets::a_secret_in_other_places
        secrets::a_secret_that_a_person_refused
        results::results_that_are_no_files
        results::results_beyond_their_bounds
        archives::archives_that_lead_out
        archives::archives_that_swell
        disk::a_workspace_filled_with_bytes
        disk::a_workspace_filled_with_files
        disk::bytes_that_hide_from_being_counted
        hands::links_laid_for_the_models_hands
        hands::code_left_for_whoever_looks
        images::images_that_steer;
}

#[test]
fn every_attempt_of_the_selftest_is_tried_here() {
    let probes: Vec<_> = attempts::PROBES
        .iter()
        .flat_map(|(_, names)| *names)
        .collect();
    assert_eq!(probes, PROBES.iter().collect::<Vec<_>>());
    let floods: Vec<_> = attempts::FLOODS.iter().map(|flood| flood.name).collect();
    assert_eq!(floods, FLOODS);
}

async fn attempt(stage: &stage::Stage, name: &str) {
    probe::must_fail(stage, name, &host::told_in(stage)).await;
}

/// The attempts as an ordinary user: one run of the namespace ones, in a process of that user's.
fn as_ordinary_user(name: &str) {
    static SAID: OnceLock<String> = OnceLock::new();
    if !nix::unistd::geteuid().is_root() {
        println!("the namespace attempts ran as an ordinary user already");
        return;
    }
    let said = SAID.get_or_init(|| {
        let dir = stage::open_dir();
        let copy = dir.path().join("it");
        let own = std::env::current_exe().unwrap();
        std::fs::hard_link(&own, &copy)
            .or_else(|_| std::fs::copy(&own, &copy).map(drop))
            .unwrap();
        let mut command = Command::new(copy);
        command.arg("attack::namespace::").current_dir("/");
        let output = command.uid(USER).gid(USER).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    });
    let passed = format!("test attack::namespace::{name} ... ok");
    assert!(said.contains(&passed), "as uid {USER}:\n{said}");
}
