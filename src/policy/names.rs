//! Names that a policy and a typed flag may use: variables of a sandbox, and places in it. Pure.

use std::path::{Component, Path};

/// Folders beneath which something may be mounted; `/workspace` is the workspace itself.
pub const MOUNT_ROOTS: [&str; 4] = ["/data", "/models", "/cache", "/workspace"];

/// Beginnings of variables that steer loaders, drivers and engines rather than the program.
const STEERING: [&str; 5] = ["LD_", "NVIDIA_", "CUDA_", "DOCKER_", "FUMEHOOD_"];

/// Single variables that do the same.
const STEERING_NAMES: [&str; 5] = [
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "BASH_ENV",
    "PYTHONHOME",
];

/// Variables that say where and who the program is: the sandbox sets them.
const OWN: [&str; 7] = [
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "PWD",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
];

/// Longest value of a variable, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Why a variable is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("{name:?} is not a name of a variable")]
    Name { name: String },
    #[error("{name} steers loaders, drivers or engines and is never passed into a sandbox")]
    Steering { name: String },
    #[error("{name} is set by the sandbox itself")]
    Own { name: String },
    #[error("the value of {name} contains a NUL or is longer than {MAX_VALUE} bytes")]
    Value { name: String },
}

impl EnvError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Name { .. } => {
                "use letters, digits and underscores, not beginning with a digit".to_owned()
            }
            Self::Steering { name } if name.starts_with("CUDA_") => {
                "leave it out: which devices a sandbox sees is the policy's to say".to_owned()
            }
            Self::Steering { .. } => {
                "leave it out, or set it inside: `sh -c 'NAME=… exec program'`".to_owned()
            }
            Self::Own { name } if name == "PATH" => {
                "name the program by its full path, or use `--venv`".to_owned()
            }
            Self::Own { .. } => {
                "leave it out, or set it inside: `sh -c 'NAME=… exec program'`".to_owned()
            }
            Self::Value { .. } => "put long values into a file in the workspace".to_owned(),
        }
    }
}

/// Judges one variable that a policy or a flag wants set.
pub fn check_env(name: &str, value: &str) -> Result<(), EnvError> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let owned = || name.to_owned();
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(letters)
    {
        return Err(EnvError::Name { name: owned() });
    }
    if STEERING.iter().any(|start| name.starts_with(start)) || STEERING_NAMES.contains(&name) {
        return Err(EnvError::Steering { name: owned() });
    }
    if OWN.contains(&name) {
        return Err(EnvError::Own { name: owned() });
    }
    if value.contains('\0') || value.len() > MAX_VALUE {
        return Err(EnvError::Value { name: owned() });
    }
    Ok(())
}

/// Longest name of a secret, in bytes.
const MAX_SECRET_NAME: usize = 64;

/// Judges the name of a secret, which is that of a variable and of a file.
pub fn check_secret(name: &str) -> Result<(), EnvError> {
    check_env(name, "")?;
    match name.len() {
        0..=MAX_SECRET_NAME => Ok(()),
        _ => Err(EnvError::Name {
            name: name.to_owned(),
        }),
    }
}

/// Why something cannot be mounted at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("the target {target:?} is not a plain absolute path")]
    NotPlain { target: String },
    #[error("the target {target:?} is not beneath /data, /models, /cache or /workspace")]
    Place { target: String },
}

impl TargetError {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotPlain { .. } => {
                "write an absolute path of printable characters without `.`, `..` and `//`"
            }
            Self::Place { .. } => "choose a target such as /data/NAME or /models/NAME",
        }
    }
}

/// Judges the place inside a sandbox at which a policy or a flag wants something mounted.
pub fn check_target(target: &Path) -> Result<(), TargetError> {
    let shown = target.display().to_string();
    if !is_plain(target) {
        return Err(TargetError::NotPlain { target: shown });
    }
    // `/data` itself is as good as a folder in it; the workspace is not for covering whole.
    let beneath = MOUNT_ROOTS.iter().any(|root| target.starts_with(root));
    if !beneath || target == Path::new("/workspace") {
        return Err(TargetError::Place { target: shown });
    }
    Ok(())
}

/// Absolute, in normal form, printable.
fn is_plain(path: &Path) -> bool {
    let Some(text) = path.to_str() else {
        return false;
    };
    let normal = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute()
        && normal
        && !text.contains("//")
        && !text.contains("/./")
        && !text.ends_with("/.")
        && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_loaders_and_drivers_is_refused() {
        for name in [
            "LD_PRELOAD",
            "NVIDIA_VISIBLE_DEVICES",
            "DOCKER_HOST",
            "CUDA_VISIBLE_DEVICES",
            "GCONV_PATH",
        ] {
            assert!(
                matches!(check_env(name, "x"), Err(EnvError::Steering { .. })),
                "{name}"
            );
        }
        for name in ["HOME", "PATH", "VIRTUAL_ENV"] {
            assert!(
                matches!(check_env(name, "x"), Err(EnvError::Own { .. })),
                "{name}"
            );
        }
        for name in ["", "1A", "A B", "A=B", "Ä"] {
            assert!(
                matches!(check_env(name, "x"), Err(EnvError::Name { .. })),
                "{name}"
            );
        }
        assert!(matches!(check_env("A", "x\0"), Err(EnvError::Value { .. })));
    }

    #[test]
    fn ordinary_variables_pass() {
        for name in ["PYTHONPATH", "SEED", "OMP_NUM_THREADS", "_x1", "WANDB_MODE"] {
            assert_eq!(check_env(name, "a=b c"), Ok(()), "{name}");
        }
    }

    #[test]
    fn targets_are_beneath_the_four_roots() {
        for good in [
            "/data",
            "/data/cifar10",
            "/models/a/b",
            "/cache/x",
            "/workspace/data",
        ] {
            assert_eq!(check_target(Path::new(good)), Ok(()), "{good}");
        }
        for bad in ["/workspace", "/", "/etc/x", "/database", "/home/fumehood/x"] {
            assert!(
                matches!(check_target(Path::new(bad)), Err(TargetError::Place { .. })),
                "{bad}"
            );
        }
        for bad in [
            "data",
            "/data/../etc",
            "/data//x",
            "/data/./x",
            "/data/a\nb",
            "/data/.",
        ] {
            assert!(
                matches!(
                    check_target(Path::new(bad)),
                    Err(TargetError::NotPlain { .. })
                ),
                "{bad}"
            );
        }
    }
}
