//! NVIDIA's management library, where the driver brings it: names, memory, and how busy a GPU is.
//!
//! It is loaded at run time, from the driver's own file. Without it nothing is wrong: what it would
//! say is left out.

use super::files::NVML;
use crate::protocol::device::{Gpu, GpuSample, GpuUse};
use crate::protocol::spec::{MountKind, SandboxSpec};
use nvml_wrapper::{Device, Nvml};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A GPU as the library tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) gpu: Gpu,
    /// The number of its device node.
    pub(super) minor: u32,
    /// Bytes.
    pub(super) memory: Option<u64>,
}

/// A driver without a GPU that answers keeps its callers waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every GPU, and the driver's version; `None` where the library is not there, does not start, or does
/// not answer.
pub(super) fn list(library: PathBuf) -> Option<(String, Vec<Told>)> {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits for what comes too late.
        let _ = answer.send(ask(&library));
    });
    answered.recv_timeout(PATIENCE).ok().flatten()
}

fn ask(library: &Path) -> Option<(String, Vec<Told>)> {
    let nvml = load(Some(library))?;
    let count = nvml.device_count().ok()?;
    let told = |index| {
        let device = nvml.device_by_index(index).ok()?;
        Some(Told {
            gpu: Gpu {
                index,
                uuid: device
                    .uuid()
                    .ok()
                    .filter(|uuid| super::driver_text::is_uuid(uuid)),
                name: device.name().ok().map(printable).unwrap_or_default(),
            },
            minor: device.minor_number().ok()?,
            memory: device.memory_info().ok().map(|memory| memory.total),
        })
    };
    let all = (0..count.min(64)).filter_map(told).collect();
    Some((
        nvml.sys_driver_version()
            .ok()
            .map(printable)
            .unwrap_or_default(),
        all,
    ))
}

fn load(library: Option<&Path>) -> Option<Nvml> {
    let path = library.map_or(OsStr::new(NVML), Path::as_os_str);
    Nvml::builder().lib_path(path).init().ok()
}

fn printable(text: String) -> String {
    let mut text: String = text
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .collect();
    text.truncate(64);
    text
}

/// Measures the GPUs of one sandbox.
pub struct Meter {
    nvml: Nvml,
    gpus: Vec<Gpu>,
}

impl Meter {
    /// `None` where there is nothing to measure, or nothing to measure with. It may take a second.
    pub fn open(spec: &SandboxSpec) -> Option<Self> {
        let gpus = spec.devices.gpus.clone();
        if gpus.is_empty() {
            return None;
        }
        let library: Option<PathBuf> = spec
            .mounts
            .iter()
            .find(|mount| mount.kind == MountKind::Driver && mount.target.ends_with(NVML))
            .map(|mount| mount.source.clone());
        Some(Self {
            nvml: load(library.as_deref())?,
            gpus,
        })
    }

    /// One look at each. It blocks for as long as the driver takes.
    pub fn sample(&self) -> Vec<GpuSample> {
        self.gpus.iter().filter_map(|gpu| self.look(gpu)).collect()
    }

    fn look(&self, gpu: &Gpu) -> Option<GpuSample> {
        let device: Device<'_> = match &gpu.uuid {
            Some(uuid) => self.nvml.device_by_uuid(uuid.as_str()).ok()?,
            None => self.nvml.device_by_index(gpu.index).ok()?,
        };
        let memory = device.memory_info().ok()?;
        Some(GpuSample {
            index: gpu.index,
            busy: device.utilization_rates().ok()?.gpu.min(100),
            memory: memory.used,
            memory_total: memory.total,
        })
    }
}

/// Adds samples up. Pure.
#[derive(Debug, Clone, Default)]
pub struct Totals(BTreeMap<u32, (u64, u64, u32)>);

impl Totals {
    pub fn add(&mut self, samples: &[GpuSample]) {
        for sample in samples {
            let (busy, memory, count) = self.0.entry(sample.index).or_default();
            *busy += u64::from(sample.busy);
            *memory = (*memory).max(sample.memory);
            *count += 1;
        }
    }

    /// What they come to.
    pub fn uses(&self) -> Vec<GpuUse> {
        let one = |(&index, &(busy, max_memory, samples)): (&u32, &(u64, u64, u32))| GpuUse {
            index,
            busy: u32::try_from(busy / u64::from(samples.max(1))).unwrap_or(100),
            max_memory,
            samples,
        };
        self.0.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_nothing_is_told_and_nothing_is_wrong() {
        assert!(list("/nonexistent/libnvidia-ml.so.1".into()).is_none());
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("libnvidia-ml.so.1");
        std::fs::write(&empty, "").unwrap();
        assert!(list(empty).is_none());
    }

    #[test]
    fn samples_come_to_a_mean_and_a_peak() {
        let sample = |busy, memory| GpuSample {
            index: 1,
            busy,
            memory,
            memory_total: 100,
        };
        let mut totals = Totals::default();
        totals.add(&[sample(10, 5)]);
        totals.add(&[sample(90, 70)]);
        totals.add(&[sample(50, 20)]);
        let [used] = totals.uses()[..] else {
            panic!("one GPU")
        };
        assert_eq!(
            (used.index, used.busy, used.max_memory, used.samples),
            (1, 50, 70, 3)
        );
    }
}
