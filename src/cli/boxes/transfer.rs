//! `box put` and `box get`: one file of any size, whole or not at all.

use crate::cli::failure::{self, Failure};
use crate::cli::hold::holder_failure;
use crate::cli::{say, signals};
use crate::context::sanitise::visible;
use crate::holder::{self, HolderError, PutAsk};
use crate::protocol::ids::Digest;
use crate::record::StoredRun;
use bytesize::ByteSize;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two words about how far it is.
const OFTEN: Duration = Duration::from_millis(200);

/// A file of the user's into the workspace.
pub(super) async fn put(
    found: &StoredRun,
    source: &Path,
    target: &str,
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let run_dir = found.dir();
    let putting = async {
        outside(found, source)?;
        let (file, ask) = offer(source, target).await?;
        let mut progress = Progress::of(ask.bytes);
        let file = tokio::fs::File::from_std(file);
        let moved = holder::put(run_dir, ask, file, |bytes| progress.at(bytes)).await;
        progress.end();
        moved.map_err(failed)
    };
    tokio::select! {
        moved = putting => moved.map(|()| ExitCode::SUCCESS),
        () = cancel.cancelled() => Err(interrupted()),
    }
}

/// Opens it and says what it is: the permit will be for these bytes.
async fn offer(source: &Path, target: &str) -> Result<(File, PutAsk), Failure> {
    let unreadable = |error: io::Error| {
        let shown = visible(&source.to_string_lossy());
        Failure::new(format!("failed to read {shown}"), failure::USAGE).because(&error)
    };
    // A named pipe would wait for somebody to write.
    let found = fs::metadata(source).map_err(unreadable)?;
    if !found.is_file() {
        return Err(failed(HolderError::NotAFile {
            path: source.to_owned(),
            found: kind(&found),
        }));
    }
    let Some(name) = source.file_name() else {
        return Err(Failure::new("the source has no name", failure::USAGE));
    };
    let mut file = File::open(source).map_err(unreadable)?;
    let path = match target.ends_with('/') {
        true => Path::new(target).join(name),
        false => PathBuf::from(target),
    };
    let hashing = tokio::task::spawn_blocking(move || hashed(&mut file).map(|sum| (file, sum)));
    let (file, (bytes, digest)) = hashing
        .await
        .map_err(|error| Failure::of(&error, failure::SANDBOX))?
        .map_err(unreadable)?;
    let ask = PutAsk {
        path,
        name: name.into(),
        bytes,
        digest,
        executable: found.permissions().mode() & 0o111 != 0,
    };
    Ok((file, ask))
}

/// Its size and digest; it is at its beginning again.
fn hashed(file: &mut File) -> io::Result<(u64, Digest)> {
    use std::io::Seek;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    file.rewind()?;
    let hash = hash.finalize();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, Digest::new(hex)))
}

/// A file of the workspace to the user.
pub(super) async fn get(
    found: &StoredRun,
    source: &Path,
    target: &Path,
) -> Result<ExitCode, Failure> {
    let cancel = signals::cancel_on_signals().map_err(|e| Failure::of(&e, failure::SANDBOX))?;
    let getting = async {
        let target = place(found, source, target)?;
        let mut got = holder::get(found.dir(), source).await.map_err(failed)?;
        let mut progress = Progress::of(got.bytes);
        let mut landing = Landing::begin(&target, if got.executable { 0o777 } else { 0o666 })?;
        let mut moved = 0;
        while let Some(bytes) = got.next().await.map_err(failed)? {
            moved += bytes.len() as u64;
            landing = landing.take(bytes).await?;
            progress.at(moved);
        }
        progress.end();
        landing.done()
    };
    tokio::select! {
        moved = getting => moved.map(|()| ExitCode::SUCCESS),
        () = cancel.cancelled() => Err(interrupted()),
    }
}

/// Where it goes: into a folder, over a file, or where nothing is yet.
fn place(found: &StoredRun, source: &Path, target: &Path) -> Result<PathBuf, Failure> {
    outside(found, target)?;
    let name = source
        .file_name()
        .ok_or_else(|| Failure::new("the source has no name", failure::USAGE))?;
    let into = target.as_os_str().as_encoded_bytes().ends_with(b"/") || target.is_dir();
    let target = match into {
        true => target.join(name),
        false => target.to_owned(),
    };
    outside(found, &target)?;
    match fs::metadata(&target) {
        // Where a link leads, as `cp` has it.
        Ok(found) if found.is_file() => fs::canonicalize(&target).map_err(unwritable(&target)),
        Ok(found) => Err(failed(HolderError::NotAFile {
            path: target,
            found: kind(&found),
        })),
        Err(_) => Ok(target),
    }
}

/// Refuses a path of the user's that goes through what the box's programs can write: they could make a
/// link of any part of it, to whatever the user can read or write.
fn outside(found: &StoredRun, path: &Path) -> Result<(), Failure> {
    let shown = visible(&path.to_string_lossy());
    let unknown = |error: io::Error| {
        Failure::new(format!("failed to look at {shown}"), failure::USAGE).because(&error)
    };
    let workspace = PathBuf::from(found.summary().workspace);
    let workspace = fs::canonicalize(&workspace).map_err(unknown)?;
    let path = std::path::absolute(path).map_err(unknown)?;
    let within = path.ancestors().any(|part| {
        // `..` is no entry of a folder that could be replaced.
        let named = part.file_name().and(part.parent());
        named.is_some_and(|folder| {
            fs::canonicalize(folder).is_ok_and(|folder| folder.starts_with(&workspace))
        })
    });
    match within {
        false => Ok(()),
        true => Err(Failure::new(
            format!("{shown} lies in the box's own workspace, where its programs could make a link of it"),
            failure::USAGE,
        )
        .remedy(Some(
            "within the workspace: fumehood box exec NAME -- cp FROM TO",
        ))),
    }
}

fn kind(found: &fs::Metadata) -> &'static str {
    match found.is_dir() {
        true => "a folder",
        false => "a pipe or a device",
    }
}

/// A file on its way to its place.
struct Landing {
    file: File,
    passing: PathBuf,
    target: PathBuf,
}

impl Landing {
    fn begin(target: &Path, mode: u32) -> Result<Self, Failure> {
        let folder = target.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(unwritable(target))?;
        let passing = folder.join(format!(".fumehood-{}.part", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&passing)
            .map_err(unwritable(target))?;
        Ok(Self {
            file,
            passing,
            target: target.to_owned(),
        })
    }

    /// Off the async threads: a disk may be slow.
    async fn take(mut self, bytes: Vec<u8>) -> Result<Self, Failure> {
        let taking = tokio::task::spawn_blocking(move || match self.file.write_all(&bytes) {
            Ok(()) => Ok(self),
            Err(error) => Err(unwritable(&self.target)(error)),
        });
        taking
            .await
            .map_err(|error| Failure::of(&error, failure::SANDBOX))?
    }

    fn done(self) -> Result<(), Failure> {
        fs::rename(&self.passing, &self.target).map_err(unwritable(&self.target))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Gone already where it was placed.
        let _ = fs::remove_file(&self.passing);
    }
}

fn unwritable(target: &Path) -> impl FnOnce(io::Error) -> Failure {
    let shown = visible(&target.to_string_lossy());
    move |error| Failure::new(format!("failed to write {shown}"), failure::USAGE).because(&error)
}

fn failed(error: HolderError) -> Failure {
    let code = match error {
        HolderError::Denied { .. } => failure::DENIED,
        HolderError::Lost | HolderError::Nonsense { .. } | HolderError::NoAnswer { .. } => {
            failure::SANDBOX
        }
        _ => failure::USAGE,
    };
    holder_failure(&error, code)
}

fn interrupted() -> Failure {
    Failure::new("interrupted; nothing was written", failure::INTERRUPTED)
}

/// How far it is, on a terminal only.
struct Progress {
    all: u64,
    began: Instant,
    told: Option<Instant>,
}

impl Progress {
    fn of(all: u64) -> Self {
        Self {
            all,
            began: Instant::now(),
            told: None,
        }
    }

    fn at(&mut self, bytes: u64) {
        let due = self.told.unwrap_or(self.began).elapsed() >= OFTEN;
        if !due || !io::stderr().is_terminal() {
            return;
        }
        self.told = Some(Instant::now());
        let rate = bytes as f64 / self.began.elapsed().as_secs_f64();
        let percent = bytes.saturating_mul(100) / self.all.max(1);
        let mut out = io::stderr().lock();
        // A closed terminal takes nothing, and nothing can be done about it.
        let _ = write!(
            out,
            "\r{percent:>3} % of {}, {}/s\x1b[K",
            ByteSize(self.all),
            ByteSize(rate as u64)
        )
        .and_then(|()| out.flush());
    }

    fn end(&mut self) {
        if self.told.is_some() {
            say("");
        }
    }
}
