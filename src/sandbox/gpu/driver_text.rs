//! What the kernel driver says about itself below `/proc/driver/nvidia`. Pure.

use std::collections::BTreeMap;

/// A GPU as its `information` file tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) minor: Option<u32>,
}

/// Reads `gpus/<bus>/information`.
pub(super) fn information(text: &str) -> Told {
    let mut told = Told::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match key.trim() {
            "Model" => told.name = printable(value),
            "GPU UUID" if is_uuid(value) => told.uuid = Some(value.to_owned()),
            "Device Minor" => told.minor = value.parse().ok(),
            _ => {}
        }
    }
    told
}

/// `GPU-` and hexadecimal digits. A driver that does not know yet writes question marks.
pub(super) fn is_uuid(text: &str) -> bool {
    text.strip_prefix("GPU-").is_some_and(|rest| {
        (8..=64).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    })
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(64)
        .collect()
}

/// `params` with the one line changed by which the driver's programs are told to make and to change
/// no device nodes: what NVIDIA's own hook does.
pub(super) fn params(text: &str) -> String {
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("ModifyDeviceFiles:"));
    let mut out: String = kept.map(|line| format!("{line}\n")).collect();
    out.push_str("ModifyDeviceFiles: 0\n");
    out
}

/// The texts a sandbox is shown: of the GPUs, only those at these places on the bus.
pub(super) fn shown(
    all: &BTreeMap<String, String>,
    places: &[Option<String>],
) -> BTreeMap<String, String> {
    let own = |path: &str| match path.strip_prefix("gpus/") {
        None => true,
        Some(rest) => places
            .iter()
            .flatten()
            .any(|place| rest.split('/').next() == Some(place)),
    };
    all.iter()
        .filter(|(path, _)| own(path))
        .map(|(path, text)| match path.as_str() {
            "params" => (path.clone(), params(text)),
            _ => (path.clone(), text.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_what_its_driver_writes() {
        let told = information(
            "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 0\nGPU UUID: \t GPU-0a1b2c3d-0000-1111-2222-333344445555\nBus Location: \t 0000:1e:00.0\nDevice Minor: \t 3\n",
        );
        assert_eq!(told.name, "NVIDIA H100 80GB HBM3");
        assert_eq!(told.minor, Some(3));
        assert!(told.uuid.unwrap().ends_with("4445555"));
        assert_eq!(information("GPU UUID: GPU-????????\n").uuid, None);
    }

    #[test]
    fn programs_are_told_to_leave_device_nodes_alone() {
        let text = "ModifyDeviceFiles: 1\nDeviceFileMode: 438\n";
        assert_eq!(params(text), "DeviceFileMode: 438\nModifyDeviceFiles: 0\n");
    }

    #[test]
    fn other_gpus_are_not_spoken_of() {
        let all = [
            "version",
            "gpus/0000:01:00.0/information",
            "gpus/0000:02:00.0/information",
        ]
        .map(|path| (path.to_owned(), "x".to_owned()))
        .into();
        let shown = shown(&all, &[Some("0000:02:00.0".to_owned()), None]);
        let paths: Vec<&str> = shown.keys().map(String::as_str).collect();
        assert_eq!(paths, ["gpus/0000:02:00.0/information", "version"]);
    }
}
