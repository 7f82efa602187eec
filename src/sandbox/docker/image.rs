//! Images: a reference becomes an immutable id and what the image would do to a container.
//!
//! An image is data from a stranger: its entrypoint, command, user, working directory, health check
//! and labels are overridden or ignored; its volumes would be unbounded writable disk and are
//! covered; its environment never reaches a step. Nothing here pulls: that is the user's act.

use super::engine::{self, Engine, EngineFacts};
use crate::sandbox::backend::SandboxError;
use bollard::models::ImageInspect;

/// An image of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for.
    pub reference: String,
    /// `sha256:` and 64 hex digits.
    pub id: String,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    /// Names of the variables that the image sets.
    pub env_names: Vec<String>,
    pub os: String,
    /// As the engine says it: `amd64`, `arm64`.
    pub arch: String,
}

/// Resolves a reference to an image that the engine already has.
pub(super) async fn resolve(engine: &Engine, reference: &str) -> Result<Image, SandboxError> {
    if !is_reference(reference) {
        return Err(refused(
            reference,
            "this is not an image reference",
            "write it as REPOSITORY:TAG, REPOSITORY@sha256:DIGEST or an image id",
        ));
    }
    match engine.client.inspect_image(reference).await {
        Ok(found) => judge(reference, found, &engine.facts),
        Err(error) if engine::status(&error) == Some(404) => Err(refused(
            reference,
            "the engine has no such image",
            &format!(
                "get it with `docker pull {reference}` or, by digest, `fumehood images pull` (a run never pulls by itself), or see `docker images`"
            ),
        )),
        Err(error) => Err(engine::failed("inspect image", &error)),
    }
}

fn judge(reference: &str, found: ImageInspect, facts: &EngineFacts) -> Result<Image, SandboxError> {
    let config = found.config.unwrap_or_default();
    let image = Image {
        reference: reference.to_owned(),
        id: found.id.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default(),
        env_names: env_names(&config.env.unwrap_or_default()),
        os: found.os.unwrap_or_default(),
        arch: found.architecture.unwrap_or_default(),
    };
    if !image.id.starts_with("sha256:") {
        return Err(refused(
            reference,
            "the engine gives it no sha256 id, so it cannot be pinned",
            "use an engine that names images by digest",
        ));
    }
    if image.os != "linux" || (!facts.arch.is_empty() && image.arch != facts.arch) {
        return Err(refused(
            reference,
            &format!(
                "it is made for {}/{}, this engine runs linux/{}",
                image.os, image.arch, facts.arch
            ),
            "choose an image of this machine's own architecture",
        ));
    }
    Ok(image)
}

fn env_names(env: &[String]) -> Vec<String> {
    let mut names: Vec<String> = env
        .iter()
        .filter_map(|pair| pair.split('=').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What may stand in the path of the engine's API: the alphabet of references, nothing that walks.
fn is_reference(text: &str) -> bool {
    let alphabet = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    (1..=512).contains(&text.len())
        && text.chars().all(alphabet)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

fn refused(reference: &str, why: &str, remedy: &str) -> SandboxError {
    SandboxError::Refused {
        what: format!("image {reference:?}"),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_cannot_walk_the_api() {
        for good in [
            "python:3.12-slim",
            "ghcr.io/a/b@sha256:0123",
            "localhost:5000/x",
            "sha256:4dd6c60fdfd8",
            "4dd6c60fdfd8",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            "../containers/x",
            "a/../b",
            "/a",
            "a//b",
            "a b",
            "a?x=1",
            "a#b",
            "-a",
            "ä",
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn names_of_variables_are_taken_without_values() {
        let env = ["PATH=/x".to_owned(), "A=b=c".to_owned(), "A=2".to_owned()];
        assert_eq!(env_names(&env), ["A", "PATH"]);
    }

    #[test]
    fn an_image_of_another_machine_is_refused() {
        let facts = EngineFacts::for_tests();
        let found = |arch: &str| ImageInspect {
            id: Some("sha256:00".to_owned()),
            os: Some("linux".to_owned()),
            architecture: Some(arch.to_owned()),
            ..ImageInspect::default()
        };
        assert!(judge("x", found("amd64"), &facts).is_ok());
        let error = judge("x", found("s390x"), &facts).unwrap_err();
        assert!(error.to_string().contains("linux/s390x"), "{error}");
    }
}
