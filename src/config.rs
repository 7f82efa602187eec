//! What the user's environment says. The only reader of environment variables in the house.

use crate::sandbox::gpu::{self, GpuHost};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where an administrator puts a policy that holds for everybody.
const SYSTEM_POLICY: &str = "/etc/fumehood/policy.toml";

/// Everything that is taken from the environment, read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Fumehood's state: `FUMEHOOD_HOME`, else `$XDG_STATE_HOME/fumehood`, else
    /// `~/.local/state/fumehood` ([XDG Base Directory Specification](https://specifications.freedesktop.org/basedir-spec/latest/)).
    pub state: PathBuf,
    /// The user's policies: `$XDG_CONFIG_HOME/fumehood/policies`, else `~/.config/fumehood/policies`.
    pub policies: PathBuf,
    /// The policy of the machine's administrator: a ceiling over every other. No variable moves it.
    pub system_policy: PathBuf,
    /// The user's home; `/` where there is none.
    pub user_home: PathBuf,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// A bundle of certificate authorities for clones and models: `SSL_CERT_FILE`, else
    /// `REQUESTS_CA_BUNDLE`, else `CURL_CA_BUNDLE`.
    pub ca_bundle: Option<PathBuf>,
    /// Where the GPU driver is: `FUMEHOOD_DRIVER_ROOT`, else `/`; CDI files in the folders of
    /// `FUMEHOOD_CDI_DIRS` (with `:` between them), else in `/etc/cdi` and `/var/run/cdi`.
    pub gpus: GpuHost,
    /// The UTF-8 part of the environment, for what a policy passes on by name, for the addresses and
    /// keys of models, and for proxies.
    pub environment: BTreeMap<String, String>,
}

/// An environment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{variable} is {value:?}, which is not an absolute path")]
    NotAbsolute { variable: String, value: String },
    #[error("there is no home to keep state in: HOME is not set")]
    NoHome,
}

impl ConfigError {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAbsolute { .. } => "set it to an absolute path",
            Self::NoHome => "set FUMEHOOD_HOME to a folder for Fumehood's state",
        }
    }
}

impl Config {
    /// Reads this process's environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::from(std::env::vars_os())
    }

    /// Reads the given variables.
    pub fn from(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let raw: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        let get = |name: &str| {
            raw.get(Path::new(name).as_os_str())
                .filter(|v| !v.is_empty())
        };
        let absolute = |name: &str| match get(name).map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(ConfigError::NotAbsolute {
                variable: name.to_owned(),
                value: path.display().to_string(),
            }),
            path => Ok(path),
        };
        // The specification says to ignore relative paths in its own variables.
        let home = absolute("HOME").ok().flatten();
        let below_home = |variable: &str, rest: &str| {
            absolute(variable)
                .ok()
                .flatten()
                .or_else(|| home.as_ref().map(|home| home.join(rest)))
                .map(|base| base.join("fumehood"))
        };
        let state = absolute("FUMEHOOD_HOME")?
            .or_else(|| below_home("XDG_STATE_HOME", ".local/state"))
            .ok_or(ConfigError::NoHome)?;
        let policies = below_home("XDG_CONFIG_HOME", ".config")
            .map_or_else(|| state.join("policies"), |base| base.join("policies"));
        let ca_bundle = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
            .into_iter()
            .find_map(|name| get(name).map(PathBuf::from));
        let gpus = GpuHost {
            root: absolute("FUMEHOOD_DRIVER_ROOT")?.unwrap_or_else(|| PathBuf::from("/")),
            cdi: match get("FUMEHOOD_CDI_DIRS") {
                Some(list) => std::env::split_paths(list).collect(),
                None => vec![PathBuf::from("/etc/cdi"), PathBuf::from("/var/run/cdi")],
            },
            leases: vec![PathBuf::from(gpu::MACHINE), state.join("gpus")],
        };
        let docker_host = get("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned());
        Ok(Self {
            state,
            policies,
            system_policy: PathBuf::from(SYSTEM_POLICY),
            user_home: home.unwrap_or_else(|| PathBuf::from("/")),
            docker_host,
            gpus,
            ca_bundle,
            environment: raw
                .into_iter()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from(variables.iter().map(|(n, v)| (n.into(), v.into())))
    }

    #[test]
    fn state_is_where_the_base_directory_specification_says() {
        let plain = config(&[("HOME", "/home/ada")]).unwrap();
        assert_eq!(plain.state, Path::new("/home/ada/.local/state/fumehood"));
        assert_eq!(
            plain.policies,
            Path::new("/home/ada/.config/fumehood/policies")
        );
        let moved = config(&[("HOME", "/home/ada"), ("XDG_STATE_HOME", "/s")]).unwrap();
        assert_eq!(moved.state, Path::new("/s/fumehood"));
        let relative = config(&[("HOME", "/home/ada"), ("XDG_STATE_HOME", "s")]).unwrap();
        assert_eq!(relative.state, plain.state);
    }

    #[test]
    fn our_own_variable_wins_and_must_be_absolute() {
        let own = config(&[("HOME", "/home/ada"), ("FUMEHOOD_HOME", "/f")]).unwrap();
        assert_eq!(own.state, Path::new("/f"));
        let relative = config(&[("HOME", "/home/ada"), ("FUMEHOOD_HOME", "f")]);
        assert!(matches!(relative, Err(ConfigError::NotAbsolute { .. })));
    }

    #[test]
    fn without_any_home_there_is_a_remedy() {
        assert_eq!(
            config(&[]).unwrap_err().remedy(),
            ConfigError::NoHome.remedy()
        );
    }
}
