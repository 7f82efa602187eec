//! Why a sandbox gets no GPU.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    #[error("the policy asks for a GPU, and this machine has none that Fumehood can see: {why}")]
    None { why: String },
    #[error("there is no GPU {wanted:?} here, only {have}")]
    Unknown { wanted: String, have: String },
    #[error("{wanted} GPUs are asked for, and there are {have}")]
    TooFew { wanted: u32, have: usize },
    #[error("{node}: {why}")]
    Node {
        node: PathBuf,
        why: String,
        remedy: &'static str,
    },
    #[error("the driver's {what} is not here: {why}")]
    Driver { what: &'static str, why: String },
    #[error("{}: {error}", file.display())]
    Cdi { file: PathBuf, error: CdiError },
    #[error("failed to keep GPUs apart between runs: {}", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("stopped while waiting for a GPU: {why}")]
    Cancelled { why: String },
}

/// What is wrong with a CDI file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    #[error("{0}")]
    Unreadable(String),
    #[error("line {line}: {why}")]
    Yaml { line: usize, why: String },
    #[error("not a CDI specification: {0}")]
    Shape(String),
    #[error("CDI version {0:?} is not known here")]
    Version(String),
    #[error("{device}: hands out {path:?}, which is no node of an NVIDIA GPU")]
    Node { device: String, path: String },
    #[error("{device}: {path:?} is no plain absolute path")]
    Path { device: String, path: String },
    #[error("{device}: sets {name}, which is not the driver's to set")]
    Env { device: String, name: String },
    #[error("{device}: wants the program {hook:?} run as root, whose effect is not known here")]
    Hook { device: String, hook: String },
    #[error("{device}: asks for {what}, which no sandbox gets")]
    Wants { device: String, what: &'static str },
    #[error("two files of one folder describe the device {0:?}")]
    Twice(String),
}

impl GpuError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::None { .. } => "install the NVIDIA driver (`nvidia-smi` must list the GPU) and look again with `fumehood doctor`, or leave the GPU out: `--set 'gpu.devices=\"none\"'`".to_owned(),
            Self::Unknown { .. } => "`fumehood doctor` lists the GPUs with index and UUID".to_owned(),
            Self::TooFew { .. } => "ask for fewer in gpu.devices".to_owned(),
            Self::Node { remedy, .. } => (*remedy).to_owned(),
            Self::Driver { .. } => "install the driver's libraries for compute (Debian: libcuda1, nvidia-smi), or name another root in FUMEHOOD_DRIVER_ROOT".to_owned(),
            Self::Cdi { error, .. } => match error {
                CdiError::Unreadable(_) => "make it readable for this user, or remove it".to_owned(),
                _ => "write it anew with `nvidia-ctk cdi generate`; without any CDI file Fumehood reads the driver itself".to_owned(),
            },
            Self::Lock { .. } => "remove what is there, or set `[gpu] exclusive = false` to share GPUs knowingly".to_owned(),
            Self::Cancelled { .. } => "start again later, or name another GPU".to_owned(),
        }
    }
}
