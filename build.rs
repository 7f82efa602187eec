//! Builds init (`src/init`), PID 1 of every sandbox, and leaves it at `OUT_DIR/fumehood-init`, where
//! `sandbox::init_binary` embeds it.
//!
//! Init is a program of its own: static, small, without the library's dependencies. So it is a package
//! of its own, written here into `OUT_DIR` and built there, with this package's `Cargo.lock`: nothing
//! but `src/` has to be published, and every cargo command works as in any package.
//!
//! With `FUMEHOOD_CHECK_INIT` set (`make lint`), clippy judges init and its unit tests run, too.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

/// Also the name of the binary.
const NAME: &str = "fumehood-init";

/// Lints, and init's own tests, too.
const CHECK: &str = "FUMEHOOD_CHECK_INIT";

const TARGETS: [&str; 2] = ["x86_64", "aarch64"];

/// The manifest, but for the paths. Versions are those of this package's `Cargo.lock`.
const MANIFEST: &str = r#"
[dependencies]
landlock = "0.4.8"
libc = "0.2"
nix = { version = "0.31", features = ["dir", "fs", "hostname", "ioctl", "mount", "poll", "process", "resource", "sched", "signal", "socket", "user"] }
postcard = { version = "1", default-features = false, features = ["use-std"] }
seccompiler = "0.5"
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["io-util", "macros", "net", "rt", "sync", "time"] }
tokio-util = { version = "0.7", default-features = false, features = ["compat"] }
yamux = "0.13.10"

[profile.dev]
panic = "abort"
debug = false

[profile.release]
opt-level = 3
lto = "thin"
codegen-units = 4
panic = "abort"
strip = "symbols"

[lints.rust]
unsafe_code = "deny"

[lints.clippy]
all = { level = "warn", priority = -1 }
unwrap_used = "warn"
dbg_macro = "warn"
print_stdout = "warn"
too_many_lines = "warn"

[workspace]
"#;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    for changed in ["build.rs", "src/init", "Cargo.lock", ".clippy.toml"] {
        // What is not there would count as changed, each time.
        if Path::new(changed).exists() {
            println!("cargo::rerun-if-changed={changed}");
        }
    }
    println!("cargo::rerun-if-env-changed={CHECK}");
    let (system, machine) = (var("CARGO_CFG_TARGET_OS")?, var("CARGO_CFG_TARGET_ARCH")?);
    if system != "linux" || !TARGETS.contains(&machine.as_str()) {
        // The library says it, in its own words, when it is compiled.
        return Ok(());
    }
    let package = Package::write()?;
    package.build()?;
    if env::var_os(CHECK).is_some() {
        package.check()?;
    }
    Ok(())
}

/// Init's package in `OUT_DIR`.
struct Package {
    /// This package's folder: where the sources, and the user's cargo configuration, are found.
    root: PathBuf,
    out: PathBuf,
    manifest: PathBuf,
    target: String,
}

impl Package {
    fn write() -> Result<Self> {
        let root = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
        let out = PathBuf::from(var("OUT_DIR")?);
        let folder = out.join("package");
        fs::create_dir_all(&folder)?;
        let main = root.join("src/init/main.rs");
        let main = main
            .to_str()
            .ok_or("the path of this package is not UTF-8")?;
        let head = format!(
            "[package]\nname = \"{NAME}\"\nversion = \"{}\"\nedition = \"2024\"\n\n\
             [[bin]]\nname = \"{NAME}\"\npath = {main:?}\n",
            var("CARGO_PKG_VERSION")?
        );
        let manifest = folder.join("Cargo.toml");
        replace(&manifest, format!("{head}{MANIFEST}").as_bytes())?;
        // Cargo takes out of the copy what init does not use, and writes it back.
        let lock = root.join("Cargo.lock");
        if let Ok(lock) = fs::read(lock) {
            let seen = folder.join("Cargo.lock.whole");
            if replace(&seen, &lock)? || !folder.join("Cargo.lock").exists() {
                fs::write(folder.join("Cargo.lock"), lock)?;
            }
        }
        Ok(Self {
            root,
            out,
            manifest,
            target: var("TARGET")?,
        })
    }

    fn build(&self) -> Result<()> {
        let output = self.cargo(["build", "--release"])?.output()?;
        if !output.status.success() {
            return Err(explain(&output).into());
        }
        let built = self.out.join("target").join(&self.target).join("release");
        replace(&self.out.join(NAME), &fs::read(built.join(NAME))?)?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let mut clippy = self.cargo(["clippy", "--release", "--all-targets"])?;
        clippy.args(["--", "-D", "warnings"]);
        for mut command in [clippy, self.cargo(["test", "--release"])?] {
            let output = command.output()?;
            if !output.status.success() {
                return Err(text(&output).into());
            }
        }
        Ok(())
    }

    /// A cargo that knows nothing of the build it runs in, apart from where to get things from.
    fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Result<Command> {
        let mut command = Command::new(env::var_os("CARGO").ok_or("CARGO is not set")?);
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_this_build(name)) {
            command.env_remove(name);
        }
        command
            .current_dir(&self.root)
            .args(arguments)
            .arg("--quiet")
            .arg("--manifest-path")
            .arg(&self.manifest)
            .arg("--target-dir")
            .arg(self.out.join("target"))
            .args(["--target", &self.target])
            // Not the one in a configuration file either.
            .env("RUSTC_WRAPPER", "")
            .env("CLIPPY_CONF_DIR", &self.root)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags()?);
        Ok(command)
    }

    /// Static, and the same bytes wherever this package and cargo's home lie.
    fn flags(&self) -> Result<OsString> {
        let mut flags = OsString::from("-Ctarget-feature=+crt-static");
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        for (from, to) in [(home, "cargo"), (Some(self.root.clone()), "fumehood")] {
            if let Some(from) = from {
                flags.push("\u{1f}--remap-path-prefix=");
                flags.push(from);
                flags.push("=");
                flags.push(to);
            }
        }
        Ok(flags)
    }
}

/// Settings of the outer build that would reach init: flags, wrappers (clippy is one), folders,
/// profiles, and what cargo tells build scripts.
fn belongs_to_this_build(name: &OsStr) -> bool {
    const NAMES: [&str; 13] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CLIPPY_ARGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_INCREMENTAL",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_MANIFEST_LINKS",
        "CARGO_PRIMARY_PACKAGE",
    ];
    const BEGINNINGS: [&str; 5] = [
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
    ];
    let name = name.to_string_lossy();
    NAMES.contains(&name.as_ref())
        || BEGINNINGS.iter().any(|start| name.starts_with(start))
        || (name.starts_with("CARGO_TARGET_") && name.ends_with("FLAGS"))
}

/// What to do about a failed build, or what the compiler said.
fn explain(output: &Output) -> String {
    let said = text(output);
    // GNU ld, then lld, for libraries and for the objects a static program starts with.
    let missing = |line: &&str| {
        let words = ["cannot find ", "unable to find library ", "cannot open "];
        words
            .iter()
            .filter_map(|word| line.split_once(word))
            .any(|(_, what)| what.starts_with("-l") || what.contains("crt"))
    };
    if let Some(line) = said.lines().find(missing) {
        return format!(
            "init, the first process of every sandbox, is linked statically, and the static C library \
             is missing ({}).\nInstall it and build again: `apt install libc6-dev` on Debian and \
             Ubuntu, `dnf install glibc-static` on Fedora and RHEL.",
            line.trim().trim_start_matches("= note: ")
        );
    }
    if said.contains("linker `") && said.contains("not found") {
        return "there is no C compiler to link with.\nInstall one and build again: `apt install \
                build-essential` on Debian and Ubuntu, `dnf install gcc glibc-static` on Fedora and RHEL."
            .into();
    }
    format!("init, the first process of every sandbox, does not build:\n{said}")
}

fn text(output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes));
    said.concat()
}

fn var(name: &str) -> Result<String> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// Writes what differs, so that nothing is built again for nothing. True where it did.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    fs::write(path, bytes)?;
    Ok(true)
}
