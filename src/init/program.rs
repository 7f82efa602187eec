//! What is executed: the request, in the shape the kernel takes.

use crate::wire::{StartError, StartStep, StepLimits};
use std::ffi::CString;

/// Where programs are looked up without a `PATH`, as glibc does.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// A request that makes sense, converted before any fork.
pub struct Program {
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub cwd: CString,
    /// What to execute: the first that can be.
    pub candidates: Vec<CString>,
    pub limits: StepLimits,
}

impl Program {
    /// # Errors
    /// An empty argv, a relative folder, a NUL byte, a variable's name that is none.
    pub fn new(start: StartStep) -> Result<Self, StartError> {
        if start.argv.is_empty() {
            return Err(invalid("there is no program to run"));
        }
        if !start.cwd.starts_with(b"/") {
            return Err(invalid("the working directory is not an absolute path"));
        }
        let path = start.env.iter().find(|(name, _)| name == b"PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value.as_slice());
        let candidates = candidates(&start.argv[0], path)?;
        let env = start.env.into_iter().map(|(mut name, value)| {
            if name.is_empty() || name.contains(&b'=') {
                return Err(invalid("an environment variable has no proper name"));
            }
            name.push(b'=');
            name.extend_from_slice(&value);
            c_string(name)
        });
        Ok(Self {
            candidates,
            env: env.collect::<Result<_, _>>()?,
            argv: start
                .argv
                .into_iter()
                .map(c_string)
                .collect::<Result<_, _>>()?,
            cwd: c_string(start.cwd)?,
            limits: start.limits,
        })
    }
}

fn candidates(name: &[u8], path: &[u8]) -> Result<Vec<CString>, StartError> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.contains(&b'/') {
        return Ok(vec![c_string(name.to_vec())?]);
    }
    path.split(|&byte| byte == b':')
        .map(|folder| {
            // An empty entry is the working directory.
            let folder = if folder.is_empty() { b"." } else { folder };
            c_string([folder, name].join(&b'/'))
        })
        .collect()
}

fn c_string(bytes: Vec<u8>) -> Result<CString, StartError> {
    CString::new(bytes).map_err(|_| invalid("a NUL byte in an argument, a variable or a path"))
}

fn invalid(reason: &str) -> StartError {
    StartError::Invalid {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_entry_of_path_is_the_working_directory() {
        let found = candidates(b"x", b"/a::/b").unwrap();
        assert_eq!(found, [c"/a/x", c"./x", c"/b/x"].map(CString::from));
    }

    #[test]
    fn a_name_with_a_slash_is_not_looked_up() {
        assert_eq!(candidates(b"./x", b"/a").unwrap(), [CString::from(c"./x")]);
    }
}
