//! One integration-test binary: linking is what costs on few cores.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy knows tests by #[test], and not what they share"
)]

mod agent_finish;
mod archives;
mod artifacts;
mod attack;
mod bad_input;
mod boundaries;
mod boxes;
mod conformance;
mod crash;
mod crowd;
mod docker;
mod door;
mod egress;
mod env;
mod exec;
mod fake_llm;
mod file_tools;
mod first_hour;
mod git_http;
mod gpu;
mod images;
mod init;
mod lifecycle;
mod llm;
mod namespace;
mod packages;
mod policies;
mod pull;
mod record;
mod redaction;
mod refused;
mod repo;
mod repo_servers;
mod repo_trees;
mod run;
mod secrets;
mod selftest;
mod stage;
mod turn;
mod watches;
mod workspace;
