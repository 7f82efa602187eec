//! The controls a sandbox may have, and the three words for how each holds.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How a control holds on a given machine. The order is the order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Nothing holds it.
    Absent,
    /// Init or the host measures, and kills when it is exceeded.
    Watched,
    /// The kernel holds it.
    Enforced,
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Watched => "watched",
            Self::Enforced => "enforced",
        })
    }
}

macro_rules! controls {
    ($($variant:ident = $name:literal : $doc:literal),+ $(,)?) => {
        /// One thing a sandbox holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Control { $(#[doc = $doc] $variant),+ }

        impl Control {
            /// Every control, in the order it is shown.
            pub const ALL: &'static [Control] = &[$(Control::$variant),+];

            /// The name used in policies, in `doctor` and in the record.
            pub fn name(self) -> &'static str {
                match self { $(Control::$variant => $name),+ }
            }

            /// One sentence for a person.
            pub fn describe(self) -> &'static str {
                match self { $(Control::$variant => $doc),+ }
            }

            /// The control of that name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Control::$variant),)+ _ => None }
            }
        }
    };
}

controls! {
    NetworkNone = "network-none": "No network but an empty loopback.",
    Filesystem = "filesystem": "Only the listed mounts; the system read-only; nothing else of the host visible.",
    User = "user": "An unprivileged user that owns nothing outside the workspace.",
    Capabilities = "capabilities": "Every capability dropped, bounding set empty or unusable.",
    NoNewPrivileges = "no-new-privileges": "No program can gain privileges at exec.",
    Seccomp = "seccomp": "A strict system-call filter.",
    Landlock = "landlock": "Writes only beneath the writable mounts, a second time; signals and abstract sockets scoped.",
    Memory = "memory": "Memory of all processes together.",
    Pids = "pids": "Number of processes and threads.",
    Cpu = "cpu": "CPU share.",
    TmpSize = "tmp-size": "Size and file count of /tmp.",
    ShmSize = "shm-size": "Size of /dev/shm.",
    FileSize = "file-size": "Size of one file.",
    OpenFiles = "open-files": "Open files of one process.",
    WallTime = "wall-time": "Time from start to end of a step.",
    WorkspaceSize = "workspace-size": "Bytes in the workspace and the per-run home.",
    WorkspaceInodes = "workspace-inodes": "Files in the workspace and the per-run home.",
    KillAll = "kill-all": "Every process of a step ends with it.",
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word for each control.
pub type Controls = BTreeMap<Control, Strength>;
