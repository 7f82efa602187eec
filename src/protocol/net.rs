//! What may be reached from a sandbox: names, not addresses.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// The port inside a sandbox on which proxy clients (HTTP, `CONNECT`, SOCKS5) are served.
pub const PROXY_PORT: u16 = 3128;

/// One host that may be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostRule {
    /// An exact name, `*.` and a name for one label in front of it, or an exact address.
    pub host: String,
    /// Sorted, never empty.
    pub ports: Vec<u16>,
    /// Sorted; empty is every method. Methods are seen in plain HTTP only, so a rule that names some
    /// lets nothing through that is encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Connected to instead of what the name resolves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Why it is here, where no line of the policy names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceAlias>,
    /// The name may lead to a private address: a tool of the user's gets its packages there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub private: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A set of package hosts, read from the user's own configuration of that tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceAlias {
    Pip,
    Uv,
    Conda,
    Apt,
    Hf,
    Github,
}

impl SourceAlias {
    pub const ALL: [Self; 6] = [
        Self::Pip,
        Self::Uv,
        Self::Conda,
        Self::Apt,
        Self::Hf,
        Self::Github,
    ];

    /// As a policy writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pip => "pip",
            Self::Uv => "uv",
            Self::Conda => "conda",
            Self::Apt => "apt",
            Self::Hf => "hf",
            Self::Github => "github",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alias| alias.name() == name)
    }
}

impl fmt::Display for SourceAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The network of a sandbox: everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub allow: Vec<HostRule>,
    /// Bytes that may leave during the run; `None` is unlimited.
    pub upload_bytes: Option<u64>,
    /// Bytes that may come in.
    pub download_bytes: Option<u64>,
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        write!(f, ":{}", ports.join(","))?;
        if !self.methods.is_empty() {
            write!(f, " {}", self.methods.join("/"))?;
        }
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        Ok(())
    }
}
