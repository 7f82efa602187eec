//! Why a world could not be built.

use crate::wire::{EnterError, Stage};
use nix::errno::Errno;
use std::fmt::Display;
use std::io;

/// What every stage returns.
pub(super) type Result<T> = std::result::Result<T, EnterError>;

/// Gives an error its stage, and the name of what it happened to.
pub(super) trait At<T> {
    /// `detail` names the call or the object, as in "mount /proc".
    fn at(self, stage: Stage, detail: impl Display) -> Result<T>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, stage: Stage, detail: impl Display) -> Result<T> {
        self.map_err(|errno| EnterError {
            stage,
            detail: format!("{detail}: {}", errno.desc()),
            errno: errno as i32,
        })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, stage: Stage, detail: impl Display) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(code) => EnterError {
                stage,
                detail: format!("{detail}: {}", Errno::from_raw(code).desc()),
                errno: code,
            },
            None => refused(stage, format!("{detail}: {error}")),
        })
    }
}

/// An error that no system call reported.
pub(super) fn refused(stage: Stage, detail: impl Display) -> EnterError {
    EnterError {
        stage,
        detail: detail.to_string(),
        errno: 0,
    }
}
