//! Instead of serving: runs `/bin/true` with all that a step gets, to see that it can be run.

use super::failure::{At, Result, refused};
use super::{FAILED, answer};
use crate::confine::{Confinement, Harden};
use crate::wire::{Entered, Stage};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::execve;
use std::convert::Infallible;
use std::ffi::CStr;
use std::process::ExitCode;

const PROGRAM: &CStr = c"/bin/true";

pub(super) fn run(confinement: &Confinement, standing: &Entered) -> Result<ExitCode> {
    let child = match super::identity::fork_into(None).at(Stage::Run, "fork")? {
        Some(child) => child,
        None => match become_true(confinement)? {},
    };
    match waitpid(child, None).at(Stage::Run, "wait")? {
        WaitStatus::Exited(_, 0) => {
            answer(standing).at(Stage::Run, "answer the host")?;
            Ok(ExitCode::SUCCESS)
        }
        // It has answered already.
        WaitStatus::Exited(_, code) if code == i32::from(FAILED) => Ok(ExitCode::from(FAILED)),
        other => Err(refused(
            Stage::Run,
            format!("/bin/true ended with {other:?}"),
        )),
    }
}

fn become_true(confinement: &Confinement) -> Result<Infallible> {
    confinement
        .apply()
        .at(Stage::Landlock, "enter the Landlock domain")?;
    execve(PROGRAM, &[PROGRAM], &[] as &[&CStr]).at(Stage::Run, "execute /bin/true")
}
