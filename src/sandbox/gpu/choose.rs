//! Which GPUs a policy's words mean here. Pure.

use super::error::GpuError;
use crate::policy::model::GpuDevices;
use crate::protocol::device::Gpu;

/// Which of these may be taken, and how many; of GPUs that are named, all.
pub(super) fn candidates(
    wanted: &GpuDevices,
    gpus: &[Gpu],
) -> Result<(Vec<usize>, usize), GpuError> {
    let count = usize::try_from(wanted.count).unwrap_or(usize::MAX);
    let places: Vec<usize> = match &wanted.among {
        None => (0..gpus.len()).collect(),
        Some(names) => {
            let mut places = Vec::new();
            for name in names {
                let found = gpus.iter().position(|gpu| is_called(gpu, name));
                let place = found.ok_or_else(|| GpuError::Unknown {
                    wanted: name.clone(),
                    have: list(gpus),
                })?;
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            places.sort_unstable();
            places
        }
    };
    // A GPU that was named twice, by index and by UUID, is one.
    let count = match &wanted.among {
        Some(names) if names.len() == count => places.len(),
        _ => count,
    };
    match places.len() < count {
        true => Err(GpuError::TooFew {
            wanted: wanted.count,
            have: places.len(),
        }),
        false => Ok((places, count)),
    }
}

fn is_called(gpu: &Gpu, name: &str) -> bool {
    let by_uuid = |uuid: &String| uuid.eq_ignore_ascii_case(name);
    name.parse() == Ok(gpu.index) || gpu.uuid.as_ref().is_some_and(by_uuid)
}

fn list(gpus: &[Gpu]) -> String {
    let all: Vec<String> = gpus.iter().map(Gpu::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> Vec<Gpu> {
        let gpu = |index| Gpu {
            index,
            uuid: Some(format!("GPU-0000000{index}")),
            name: "X".into(),
        };
        [0, 1, 2].map(gpu).into()
    }

    fn wanted(count: u32, among: Option<&[&str]>) -> GpuDevices {
        GpuDevices {
            count,
            among: among.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    #[test]
    fn names_are_indices_and_uuids() {
        let gpus = gpus();
        let ask = |count, names: &[&str]| candidates(&wanted(count, Some(names)), &gpus).unwrap();
        assert_eq!(ask(2, &["2", "0"]), (vec![0, 2], 2));
        assert_eq!(ask(1, &["gpu-00000001"]), (vec![1], 1));
        assert_eq!(ask(2, &["1", "GPU-00000001"]), (vec![1], 1));
        assert_eq!(ask(1, &["0", "1"]), (vec![0, 1], 1));
        assert_eq!(
            candidates(&wanted(2, None), &gpus).unwrap(),
            (vec![0, 1, 2], 2)
        );
    }

    #[test]
    fn one_that_is_not_here_is_refused_with_those_that_are() {
        let error = candidates(&wanted(1, Some(&["7"])), &gpus()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("\"7\"") && said.contains("GPU 1 X (GPU-00000001)"),
            "{said}"
        );
        let error = candidates(&wanted(4, None), &gpus()).unwrap_err();
        assert_eq!(error.to_string(), "4 GPUs are asked for, and there are 3");
    }
}
