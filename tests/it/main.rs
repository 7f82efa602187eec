//! One integration-test binary: linking is what costs on few cores.

mod boundaries;
mod docker;
mod init;
mod namespace;
