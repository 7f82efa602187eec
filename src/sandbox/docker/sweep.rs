//! Removes what a crash left behind: containers of ours whose owner is dead.
//!
//! A container removes itself when its pipe closes; what stays are the ones made and never started,
//! and those of an engine that died meanwhile. One is swept only when its name and its labels agree
//! that it is ours, it was made in this pid namespace, and that very owner is gone.

use super::body::{LABEL_NAME, LABEL_OWNER, LABEL_PID_NAMESPACE};
use super::engine::{self, Engine};
use super::lease;
use crate::sandbox::backend::SandboxError;
use crate::sandbox::owner::{self, Life, Owner};
use bollard::query_parameters::ListContainersOptionsBuilder;
use std::collections::HashMap;

/// Removes them, and returns their names.
pub(super) async fn sweep(
    engine: &Engine,
    pid_namespace: u64,
) -> Result<Vec<String>, SandboxError> {
    let labelled = HashMap::from([("label".to_owned(), vec![LABEL_OWNER.to_owned()])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&labelled)
        .build();
    let found = engine
        .client
        .list_containers(Some(options))
        .await
        .map_err(|error| engine::failed("list containers", &error))?;
    let mut swept = Vec::new();
    for container in found {
        let names = container.names.unwrap_or_default();
        let labels = container.labels.unwrap_or_default();
        let Some((name, owner)) = ours(&names, &labels, pid_namespace) else {
            continue;
        };
        if owner.life() == Life::Dead {
            lease::remove(engine, &name).await?;
            swept.push(name);
        }
    }
    Ok(swept)
}

/// Name and owner of a container that is ours. Labels alone are not proof: an image can carry them.
fn ours(
    names: &[String],
    labels: &HashMap<String, String>,
    pid_namespace: u64,
) -> Option<(String, Owner)> {
    let name = labels.get(LABEL_NAME)?;
    let owner = owner::owner_in(name)?;
    let agree = names.iter().any(|one| one.trim_start_matches('/') == name)
        && labels.get(LABEL_OWNER)? == &owner.to_string()
        && labels.get(LABEL_PID_NAMESPACE)? == &pid_namespace.to_string();
    agree.then(|| (name.clone(), owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str, owner: &str, namespace: &str) -> HashMap<String, String> {
        HashMap::from([
            (LABEL_NAME.to_owned(), name.to_owned()),
            (LABEL_OWNER.to_owned(), owner.to_owned()),
            (LABEL_PID_NAMESPACE.to_owned(), namespace.to_owned()),
        ])
    }

    #[test]
    fn a_container_of_ours_is_known() {
        let names = ["/fumehood-7-99-r-1".to_owned()];
        let found = ours(&names, &labels("fumehood-7-99-r-1", "7-99", "5"), 5);
        assert_eq!(found.unwrap().1, Owner { pid: 7, start: 99 });
    }

    #[test]
    fn an_image_with_our_labels_is_not_ours() {
        let names = ["/database".to_owned()];
        assert!(ours(&names, &labels("fumehood-7-99-r-1", "7-99", "5"), 5).is_none());
        assert!(ours(&names, &labels("database", "7-99", "5"), 5).is_none());
        assert!(ours(&names, &HashMap::new(), 5).is_none());
    }

    #[test]
    fn pids_of_another_namespace_are_not_judged() {
        let names = ["/fumehood-7-99-r-1".to_owned()];
        assert!(ours(&names, &labels("fumehood-7-99-r-1", "7-99", "6"), 5).is_none());
    }
}
