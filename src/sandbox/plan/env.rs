//! The environment of a sandbox: what it says about itself, then what was asked for.

use super::{NetworkFacts, PlanError, PlanInput};
use crate::policy::names;
use crate::protocol::net::PROXY_PORT;
use crate::protocol::spec::{
    AUTHORITIES_TARGET, GivenSecret, HOME_TARGET, SECRETS_TARGET, USER_NAME,
};
use std::collections::BTreeMap;

/// `PATH` inside, before an environment's folder is put in front.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Caches that go to a folder of the per-run home instead of the workspace or the image.
const CACHES: [(&str, &str); 6] = [
    ("XDG_CACHE_HOME", ".cache"),
    ("TORCHINDUCTOR_CACHE_DIR", ".cache/torchinductor"),
    ("TRITON_CACHE_DIR", ".cache/triton"),
    ("MPLCONFIGDIR", ".cache/matplotlib"),
    ("PYTHONPYCACHEPREFIX", ".cache/pycache"),
    ("NUMBA_CACHE_DIR", ".cache/numba"),
];

/// Thread counts of numeric libraries: they would count the machine's cores, not the sandbox's.
const THREADS: [&str; 5] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
];

/// Variables by which clients find a proxy. Some read only one spelling.
const PROXIES: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// Variables by which clients find certificate authorities.
const AUTHORITIES: [&str; 8] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CONDA_SSL_VERIFY",
];

/// Later ones win; none of the user's may touch what the sandbox says about itself.
pub(super) fn env(input: &PlanInput<'_>) -> Result<BTreeMap<String, String>, PlanError> {
    let mut env = own_env(input);
    for (name, value) in input.policy.env.set.iter().chain(input.passed) {
        names::check_env(name, value).map_err(PlanError::Policy)?;
        env.insert(name.clone(), value.clone());
    }
    for (name, value) in input.typed {
        names::check_env(name, value).map_err(PlanError::Typed)?;
        env.insert(name.clone(), value.clone());
    }
    Ok(env)
}

fn own_env(input: &PlanInput<'_>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("HOME", HOME_TARGET),
        ("USER", USER_NAME),
        ("LOGNAME", USER_NAME),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        // A log is read while it is written.
        ("PYTHONUNBUFFERED", "1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, folder) in CACHES {
        env.insert(name.to_owned(), format!("{HOME_TARGET}/{folder}"));
    }
    if let Some(threads) = threads(input.policy.limits.cpus, input.cores) {
        for name in THREADS {
            env.insert(name.to_owned(), threads.to_string());
        }
    }
    // Where it lies, as images of many programs read it; never the value.
    for GivenSecret { name, .. } in input.secrets {
        env.insert(format!("{name}_FILE"), format!("{SECRETS_TARGET}/{name}"));
    }
    if let Some(facts) = input.network {
        env.extend(network(facts));
    }
    let mut path: Vec<&str> = Vec::new();
    if let Some(python) = input.python {
        env.extend(python.env.clone());
        path.extend(python.path.iter().map(String::as_str));
    }
    let (gpus, programs) = super::gpus::env(input);
    env.extend(gpus);
    path.push(PATH);
    path.extend(programs.as_deref());
    env.insert("PATH".to_owned(), path.join(":"));
    env
}

/// The proxy is for clients that know one; the others find the same way by names.
fn network(facts: &NetworkFacts) -> BTreeMap<String, String> {
    let mut env = facts.env.clone();
    for name in PROXIES {
        env.insert(name.to_owned(), format!("http://127.0.0.1:{PROXY_PORT}"));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        env.insert(name.to_owned(), "localhost,127.0.0.1,::1".to_owned());
    }
    if facts.authorities.is_some() {
        for name in AUTHORITIES {
            env.insert(name.to_owned(), AUTHORITIES_TARGET.to_owned());
        }
    }
    env
}

/// Whole threads for a share of the processor; `None` where nothing limits it.
pub(super) fn threads(cpus: Option<f64>, cores: u32) -> Option<u32> {
    // A conversion from a float saturates, so nothing here is too large or negative.
    cpus.map(|cpus| (cpus.ceil() as u32).clamp(1, cores.max(1)))
}
