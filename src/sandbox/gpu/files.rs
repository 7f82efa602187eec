//! The driver's own files that a sandbox needs for what its policy lists: libraries for computing,
//! libraries and programs for asking. What is for drawing or video, sockets of the driver's services
//! and firmware stay out.

use super::GpuHost;
use super::cdi::Parts;
use super::error::{CdiError, GpuError};
use super::ld_cache::{self, Cached};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// By what comes before `.so`.
const COMPUTE: [&str; 12] = [
    "libcuda",
    "libcudadebugger",
    "libnvidia-allocator",
    "libnvidia-compiler",
    "libnvidia-fatbinaryloader",
    "libnvidia-gpucomp",
    "libnvidia-nvvm",
    "libnvidia-opencl",
    "libnvidia-pkcs11",
    "libnvidia-pkcs11-openssl3",
    "libnvidia-ptxjitcompiler",
    "libnvidia-tileiras",
];
const UTILITY: [&str; 3] = ["libnvidia-ml", "libnvidia-cfg", "libnvidia-nscq"];
const PROGRAMS: [&str; 2] = ["nvidia-smi", "nvidia-debugdump"];

/// Where distributions and NVIDIA's installer put libraries, for a driver that no cache names.
const FOLDERS: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/opt/nvidia/lib64",
    "/lib64",
];
const BINARIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin"];

/// What a sandbox that shows the host's own system shows anyway.
const SYSTEM: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

/// The library that everything else is loaded by, and the one that tells about GPUs.
pub(super) const CUDA: &str = "libcuda.so.1";
pub(crate) const NVML: &str = "libnvidia-ml.so.1";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    Library,
    Program,
}

/// A file of the driver, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFile {
    pub kind: FileKind,
    pub name: String,
    /// The file itself, behind every link.
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// Whoever sees the host's own system finds it there.
    pub in_system: bool,
}

/// What a policy's `[gpu] capabilities` come to.
pub(super) fn wanted(capabilities: &[String]) -> (Vec<&'static str>, &'static [&'static str]) {
    let has = |word: &str| capabilities.iter().any(|one| one == word);
    let mut libraries = Vec::new();
    if has("compute") {
        libraries.extend(COMPUTE);
    }
    if has("utility") {
        libraries.extend(UTILITY);
    }
    let programs: &[&str] = if has("utility") { &PROGRAMS } else { &[] };
    (libraries, programs)
}

/// The files of a driver: those that CDI names, or, where it names none, those that are found.
pub(super) fn gather(
    host: &GpuHost,
    parts: &Parts,
    capabilities: &[String],
) -> Result<Vec<DriverFile>, GpuError> {
    let (libraries, programs) = wanted(capabilities);
    let cache = ld_cache::parse(&fs::read(host.at("/etc/ld.so.cache")).unwrap_or_default());
    let mut found = Found {
        host,
        root: host
            .root
            .canonicalize()
            .unwrap_or_else(|_| host.root.clone()),
        cache: &cache,
        files: BTreeMap::new(),
    };
    match parts.files.is_empty() {
        true => found.search(&libraries, programs),
        false => found.listed(&libraries, programs, parts)?,
    }
    let files: Vec<DriverFile> = found.files.into_values().collect();
    let compute = libraries.contains(&"libcuda");
    match files.iter().any(|file| file.name == CUDA) || !compute {
        true => Ok(files),
        false => Err(GpuError::Driver {
            what: "library libcuda.so.1",
            why: match parts.files.is_empty() {
                true => "neither the loader's cache nor the usual folders have it".to_owned(),
                false => "the CDI file does not name it".to_owned(),
            },
        }),
    }
}

struct Found<'a> {
    host: &'a GpuHost,
    /// The driver's root, behind every link.
    root: PathBuf,
    cache: &'a [Cached],
    files: BTreeMap<(FileKind, String), DriverFile>,
}

impl Found<'_> {
    /// The folder that holds `libcuda.so.1`, by the loader's word or where it usually is; all of the
    /// driver's libraries lie together.
    fn search(&mut self, libraries: &[&str], programs: &[&str]) {
        let cached = self
            .cache
            .iter()
            .filter(|one| one.name == CUDA || one.name == NVML)
            .filter_map(|one| one.path.parent());
        let usual = FOLDERS.iter().map(Path::new);
        let folders: Vec<PathBuf> = cached.chain(usual).map(|at| self.host.at(at)).collect();
        let holds = |folder: &&PathBuf| folder.join(CUDA).exists() || folder.join(NVML).exists();
        if let Some(folder) = folders.iter().find(holds) {
            for name in names_in(folder) {
                if is_one_of(&name, libraries) {
                    self.take(FileKind::Library, &name, &folder.join(&name));
                }
            }
        }
        for name in programs {
            let places = BINARIES
                .iter()
                .map(|folder| self.host.at(folder).join(name));
            let places: Vec<PathBuf> = places.filter(|place| place.is_file()).collect();
            if let Some(place) = places.first() {
                self.take(FileKind::Program, name, place);
            }
        }
    }

    /// What CDI names, each under every name it has in its own folder, and under those of its links.
    fn listed(
        &mut self,
        libraries: &[&str],
        programs: &[&str],
        parts: &Parts,
    ) -> Result<(), GpuError> {
        for listed in &parts.files {
            let Some(name) = listed.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let kind = match (is_one_of(name, libraries), programs.contains(&name)) {
                (true, _) => FileKind::Library,
                (_, true) => FileKind::Program,
                _ => continue,
            };
            let path = self.host.at(listed);
            let real = path.canonicalize().map_err(|error| GpuError::Cdi {
                file: path.clone(),
                error: CdiError::Unreadable(format!("a CDI file names it: {error}")),
            })?;
            self.take(kind, name, &path);
            if let (FileKind::Library, Some(folder)) = (kind, path.parent()) {
                for other in names_in(folder) {
                    let other_path = folder.join(&other);
                    if is_one_of(&other, libraries)
                        && other_path.canonicalize().is_ok_and(|one| one == real)
                    {
                        self.take(kind, &other, &other_path);
                    }
                }
            }
        }
        for (link, target) in &parts.links {
            let target = self
                .files
                .get(&(FileKind::Library, target.clone()))
                .cloned();
            if let (Some(file), true) = (target, is_one_of(link, libraries)) {
                let name = link.clone();
                let renamed = DriverFile { name, ..file };
                self.files
                    .entry((FileKind::Library, link.clone()))
                    .or_insert(renamed);
            }
        }
        Ok(())
    }

    /// Only regular files beneath the driver's root, and of this machine's kind.
    fn take(&mut self, kind: FileKind, name: &str, path: &Path) {
        let Ok(real) = path.canonicalize() else {
            return;
        };
        let Ok(found) = fs::metadata(&real) else {
            return;
        };
        if !found.is_file() || !real.starts_with(&self.root) || is_foreign(&real) {
            return;
        }
        let file = DriverFile {
            kind,
            name: name.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            in_system: self.is_in_system(kind, &real),
            path: real,
        };
        self.files.insert((kind, name.to_owned()), file);
    }

    /// Beneath the folders that are shown, and found there: a program by its folder, a library by
    /// the loader.
    fn is_in_system(&self, kind: FileKind, real: &Path) -> bool {
        let shown =
            self.root == Path::new("/") && SYSTEM.iter().any(|folder| real.starts_with(folder));
        let found = || match kind {
            FileKind::Program => real.parent() == Some(Path::new("/usr/bin")),
            FileKind::Library => self
                .cache
                .iter()
                .any(|one| one.path.canonicalize().is_ok_and(|path| path == real)),
        };
        shown && found()
    }
}

fn is_one_of(name: &str, stems: &[&str]) -> bool {
    name.split_once(".so").is_some_and(|(stem, rest)| {
        stems.contains(&stem) && (rest.is_empty() || rest.starts_with('.'))
    })
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// A library of another architecture (32 bits, most often), which lies among a driver's files too.
fn is_foreign(path: &Path) -> bool {
    #[cfg(target_arch = "x86_64")]
    const MACHINE: [u8; 2] = [62, 0];
    #[cfg(target_arch = "aarch64")]
    const MACHINE: [u8; 2] = [183, 0];
    let mut head = [0; 20];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && head[18..20] != MACHINE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn host(root: &Path) -> GpuHost {
        GpuHost {
            root: root.to_owned(),
            cdi: Vec::new(),
            leases: Vec::new(),
        }
    }

    fn names(files: &[DriverFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    fn lay(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    }

    fn both() -> Vec<String> {
        vec!["compute".to_owned(), "utility".to_owned()]
    }

    #[test]
    fn only_what_is_listed_is_taken_and_under_each_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        lay(
            dir.path(),
            &[
                "usr/lib64/libcuda.so.1.2",
                "usr/lib64/libnvidia-ml.so.1",
                "usr/lib64/libnvidia-eglcore.so.1",
                "usr/lib64/libcudart.so.12",
                "usr/bin/nvidia-smi",
                "usr/bin/nvidia-persistenced",
            ],
        );
        for link in ["libcuda.so.1", "libcuda.so"] {
            symlink("libcuda.so.1.2", dir.path().join("usr/lib64").join(link)).unwrap();
        }
        let host = host(dir.path());
        let found = gather(&host, &Parts::default(), &both()).unwrap();
        let cuda = ["libcuda.so", "libcuda.so.1", "libcuda.so.1.2"];
        assert_eq!(names(&found)[..3], cuda);
        assert_eq!(names(&found)[3..], ["libnvidia-ml.so.1", "nvidia-smi"]);
        let one = &found[0];
        assert!(found[..3].iter().all(|file| file.path == one.path));
        assert!(found.iter().all(|file| !file.in_system));
        let less = gather(&host, &Parts::default(), &["utility".to_owned()]).unwrap();
        assert_eq!(names(&less), ["libnvidia-ml.so.1", "nvidia-smi"]);
    }

    #[test]
    fn a_link_out_of_the_drivers_root_and_another_machines_library_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        lay(&root, &["usr/lib64/libcuda.so.1"]);
        lay(dir.path(), &["outside"]);
        let folder = root.join("usr/lib64");
        symlink(dir.path().join("outside"), folder.join("libnvidia-ml.so.1")).unwrap();
        let mut other = b"\x7fELF".to_vec();
        other.resize(18, 0);
        // A machine of 32 bits.
        other.extend([3, 0]);
        fs::write(folder.join("libnvidia-nvvm.so.4"), other).unwrap();
        let found = gather(&host(&root), &Parts::default(), &both()).unwrap();
        assert_eq!(names(&found), ["libcuda.so.1"]);
    }

    #[test]
    fn without_the_driver_library_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = gather(&host(dir.path()), &Parts::default(), &both()).unwrap_err();
        assert!(error.to_string().contains("libcuda.so.1"), "{error}");
        let parts = Parts {
            files: vec!["/usr/lib64/libcuda.so.1".into()],
            ..Parts::default()
        };
        let error = gather(&host(dir.path()), &parts, &both()).unwrap_err();
        assert!(error.to_string().contains("a CDI file names it"), "{error}");
    }

    #[test]
    fn what_the_loader_finds_in_the_hosts_own_system_is_known_to_be_there() {
        let host = host(Path::new("/"));
        let cache = ld_cache::parse(&fs::read("/etc/ld.so.cache").unwrap());
        let libc = cache.iter().find(|one| one.name == "libc.so.6").unwrap();
        let mut found = Found {
            host: &host,
            root: "/".into(),
            cache: &cache,
            files: BTreeMap::new(),
        };
        found.take(FileKind::Library, "libc.so.6", &libc.path);
        found.take(FileKind::Library, "passwd", Path::new("/etc/passwd"));
        let seen: Vec<bool> = found.files.values().map(|file| file.in_system).collect();
        assert_eq!(seen, [true, false]);
    }
}
