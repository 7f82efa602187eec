//! The GPUs of this machine: from CDI files where there are some, else from the driver itself.

use super::GpuHost;
use super::cdi::{self, Described, Parts};
use super::driver_text::{self, Told};
use super::error::GpuError;
use super::{files, nvml};
use crate::protocol::device::Gpu;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are read of one text of the driver's.
const TEXT: u64 = 16 * 1024;

/// Nodes that every GPU needs beside its own.
const COMMON: [&str; 3] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"];

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    pub cards: Vec<Card>,
    /// The kernel driver's version, where something tells it.
    pub driver: Option<String>,
    /// A CDI file, or the driver itself.
    pub origin: String,
    pub(super) proc: BTreeMap<String, String>,
}

/// One GPU, and what it takes to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Card {
    pub gpu: Gpu,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// Its place on the bus, as `/proc` writes it.
    pub(super) place: Option<String>,
    /// Of `/dev/nvidia0`, the 0.
    #[serde(skip)]
    pub(super) minor: u32,
    #[serde(skip)]
    pub(super) parts: Parts,
}

impl Inventory {
    /// All of them, as they are named.
    pub fn gpus(&self) -> Vec<Gpu> {
        self.cards.iter().map(|card| card.gpu.clone()).collect()
    }
}

/// Looks at this machine. Without a GPU that is an error with the reason.
pub fn look(host: &GpuHost) -> Result<Inventory, GpuError> {
    let proc = texts(&host.at("/proc/driver/nvidia"));
    let described = cdi::read_folders(&host.cdi)?;
    let (mut cards, origin) = match described.is_empty() {
        true => (found(host), "the driver itself".to_owned()),
        false => {
            let file = &described[0].file;
            (listed(&described), file.display().to_string())
        }
    };
    if cards.is_empty() {
        return Err(GpuError::None {
            why: match described.is_empty() {
                true => format!(
                    "{} is not there, and no CDI file in {} names one",
                    host.at("/dev/nvidia0").display(),
                    folders(host)
                ),
                false => format!("{origin} names none"),
            },
        });
    }
    tell(&mut cards, &proc);
    let version = proc.get("version").and_then(|text| version(text));
    // A driver elsewhere is asked by its own library, or not at all.
    let library = files::gather(host, &cards[0].parts, &["utility".to_owned()])
        .ok()
        .and_then(|files| files.into_iter().find(|file| file.name == files::NVML));
    let asked = library.and_then(|library| nvml::list(library.path));
    let driver = asked.as_ref().map(|(driver, _)| driver.clone()).or(version);
    number(&mut cards, asked.map(|(_, told)| told).unwrap_or_default());
    Ok(Inventory {
        cards,
        driver: driver.filter(|driver| !driver.is_empty()),
        origin,
        proc,
    })
}

fn folders(host: &GpuHost) -> String {
    let all: Vec<String> = host.cdi.iter().map(|at| at.display().to_string()).collect();
    all.join(" or ")
}

/// Nodes as the driver makes them.
fn found(host: &GpuHost) -> Vec<Card> {
    let entries = fs::read_dir(host.at("/dev"))
        .into_iter()
        .flatten()
        .flatten();
    let mut minors: Vec<u32> = entries
        .filter_map(|entry| cdi::gpu_number(&format!("/dev/{}", entry.file_name().to_str()?)))
        .collect();
    minors.sort_unstable();
    let card = |minor: u32| {
        let own = format!("/dev/nvidia{minor}");
        let common = COMMON
            .iter()
            // Only for debuggers: not every driver makes it.
            .filter(|node| !node.ends_with("-tools") || host.at(node).exists())
            .map(|node| (*node).to_owned());
        let nodes = std::iter::once(own).chain(common);
        Card {
            gpu: nameless(),
            memory: None,
            place: None,
            minor,
            parts: Parts {
                nodes: nodes.map(|node| (PathBuf::from(&node), node)).collect(),
                ..Parts::default()
            },
        }
    };
    minors.into_iter().map(card).collect()
}

fn nameless() -> Gpu {
    Gpu {
        index: u32::MAX,
        uuid: None,
        name: String::new(),
    }
}

/// A CDI file names one GPU by its index and by its UUID: the same node is the same GPU. `all`, and
/// parts of a GPU (MIG), are no GPUs.
fn listed(described: &[Described]) -> Vec<Card> {
    let mut cards: Vec<Card> = Vec::new();
    for device in described {
        let own: Vec<u32> = device
            .parts
            .nodes
            .iter()
            .filter_map(|(_, target)| cdi::gpu_number(target))
            .collect();
        let is_part = device.name.contains(':') || device.name.starts_with("MIG-");
        let ([minor], false) = (&own[..], is_part || device.name == "all") else {
            continue;
        };
        let at = match cards.iter().position(|card| card.minor == *minor) {
            Some(at) => at,
            None => {
                cards.push(Card {
                    gpu: nameless(),
                    memory: None,
                    place: None,
                    minor: *minor,
                    parts: Parts::default(),
                });
                cards.len() - 1
            }
        };
        let card = &mut cards[at];
        card.parts.add(&device.parts);
        let number = device.name.strip_prefix("gpu").unwrap_or(&device.name);
        if driver_text::is_uuid(&device.name) {
            card.gpu.uuid = Some(device.name.clone());
        } else if let Ok(index) = number.parse() {
            card.gpu.index = index;
        }
    }
    cards.sort_by_key(|card| card.minor);
    cards
}

/// Names by the driver's own word.
fn tell(cards: &mut [Card], proc: &BTreeMap<String, String>) {
    let told: Vec<(String, Told)> = proc
        .iter()
        .filter_map(|(path, text)| {
            let place = path.strip_prefix("gpus/")?.strip_suffix("/information")?;
            Some((place.to_owned(), driver_text::information(text)))
        })
        .collect();
    for card in cards {
        let own = |(_, told): &&(String, Told)| told.minor == Some(card.minor);
        if let Some((place, told)) = told.iter().find(own) {
            card.place = Some(place.clone());
            card.gpu.name.clone_from(&told.name);
            card.gpu.uuid = card.gpu.uuid.take().or_else(|| told.uuid.clone());
        }
    }
}

/// Indices: of CDI, else of the library, else in the order of places on the bus, which is the
/// library's too.
fn number(cards: &mut [Card], asked: Vec<nvml::Told>) {
    for card in cards.iter_mut() {
        if let Some(told) = asked.iter().find(|told| told.minor == card.minor) {
            card.memory = told.memory;
            if card.gpu.index == u32::MAX {
                card.gpu.index = told.gpu.index;
            }
            if card.gpu.name.is_empty() {
                card.gpu.name.clone_from(&told.gpu.name);
            }
            card.gpu.uuid = card.gpu.uuid.take().or_else(|| told.gpu.uuid.clone());
        }
    }
    cards.sort_by_key(|card| (card.gpu.index, card.place.clone(), card.minor));
    for place in 0..cards.len() {
        if cards[place].gpu.index == u32::MAX {
            let taken = |index: &u32| cards.iter().any(|card| card.gpu.index == *index);
            let free = (0..u32::MAX).find(|index| !taken(index));
            cards[place].gpu.index = free.unwrap_or_default();
        }
    }
    cards.sort_by_key(|card| card.gpu.index);
}

/// The few texts of the driver that programs read, by their path beneath its folder.
fn texts(dir: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut read = |path: String| {
        let mut bytes = Vec::new();
        let opened = fs::File::open(dir.join(&path));
        let got = opened.and_then(|file| file.take(TEXT).read_to_end(&mut bytes));
        if got.is_ok() {
            all.insert(path, String::from_utf8_lossy(&bytes).into_owned());
        }
    };
    for name in ["version", "params"] {
        read(name.to_owned());
    }
    let gpus = fs::read_dir(dir.join("gpus"))
        .into_iter()
        .flatten()
        .flatten();
    for place in gpus.filter_map(|entry| entry.file_name().into_string().ok()) {
        read(format!("gpus/{place}/information"));
    }
    all
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Tue …`
fn version(text: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let line = text.lines().next()?;
    line.split_ascii_whitespace()
        .find(is_version)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(minor: u32) -> Card {
        Card {
            gpu: nameless(),
            memory: None,
            place: None,
            minor,
            parts: Parts::default(),
        }
    }

    fn indices(cards: &[Card]) -> Vec<(u32, u32)> {
        let pair = |card: &Card| (card.gpu.index, card.minor);
        cards.iter().map(pair).collect()
    }

    #[test]
    fn without_a_word_the_order_on_the_bus_numbers_them() {
        let mut cards = [card(0), card(1)];
        let proc = [("0000:81:00.0", 0), ("0000:01:00.0", 1)]
            .map(|(place, minor)| {
                let text = format!("Model: X{minor}\nDevice Minor: {minor}\n");
                (format!("gpus/{place}/information"), text)
            })
            .into();
        tell(&mut cards, &proc);
        number(&mut cards, Vec::new());
        assert_eq!(indices(&cards), [(0, 1), (1, 0)]);
        assert_eq!(cards[0].gpu.name, "X1");
    }

    #[test]
    fn the_library_numbers_them_where_it_speaks_and_cdi_before_it() {
        let told = |index, minor| nvml::Told {
            gpu: Gpu {
                index,
                uuid: None,
                name: "Y".into(),
            },
            minor,
            memory: Some(1),
        };
        let mut cards = [card(0), card(1), card(2)];
        cards[2].gpu.index = 7;
        number(&mut cards, vec![told(1, 0), told(0, 1), told(2, 2)]);
        assert_eq!(indices(&cards), [(0, 1), (1, 0), (7, 2)]);
        assert!(cards.iter().all(|card| card.gpu.name == "Y"));
    }

    #[test]
    fn index_and_uuid_of_a_cdi_file_are_one_gpu_and_parts_are_none() {
        let device = |name: &str, nodes: &[&str]| Described {
            name: name.to_owned(),
            parts: Parts {
                nodes: nodes
                    .iter()
                    .map(|node| (PathBuf::from(node), (*node).to_owned()))
                    .collect(),
                ..Parts::default()
            },
            file: "x".into(),
        };
        let cards = listed(&[
            device("gpu1", &["/dev/nvidia1", "/dev/nvidiactl"]),
            device("0", &["/dev/nvidia0"]),
            device("GPU-00aa11bb", &["/dev/nvidia0"]),
            device("1:0", &["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap3"]),
            device("MIG-00aa11bb", &["/dev/nvidia1"]),
            device("all", &["/dev/nvidia0", "/dev/nvidia1"]),
            device("both", &["/dev/nvidia0", "/dev/nvidia1"]),
        ]);
        assert_eq!(indices(&cards), [(0, 0), (1, 1)]);
        assert_eq!(cards[0].gpu.uuid.as_deref(), Some("GPU-00aa11bb"));
        assert_eq!(cards[1].parts.nodes.len(), 2);
    }

    #[test]
    fn the_version_is_the_first_word_that_is_one() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.2\n";
        assert_eq!(version(text).as_deref(), Some("570.86.15"));
        assert_eq!(version(""), None);
    }
}
