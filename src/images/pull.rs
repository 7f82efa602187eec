//! Images fetched by the engine from a registry: only by the digest of their manifest, so that what comes is
//! what was named, whoever answers.

use super::build::tag;
use super::error::ImageError;
use super::name::{ImageName, is_id};
use super::store::{Made, Pulled, Store};
use crate::sandbox::docker::{DockerBackend, Hears};

/// `REPOSITORY@sha256:…`, as an engine writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub repository: String,
    /// Of the manifest; the image's own id is that of its configuration.
    pub digest: String,
}

impl Pinned {
    /// A tag before the digest says nothing, and is left out.
    pub fn parse(given: &str) -> Result<Self, ImageError> {
        let pinned = || {
            let (named, digest) = given.split_once('@')?;
            let path = named.rfind('/').map_or(0, |slash| slash + 1);
            let tag = named.get(path..)?.find(':').map(|colon| path + colon);
            let repository = named.get(..tag.unwrap_or(named.len()))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
            let good = is_id(digest)
                && repository.chars().all(plain)
                && (repository.split('/'))
                    .all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()));
            good.then(|| Self {
                repository: repository.to_owned(),
                digest: digest.to_owned(),
            })
        };
        pinned().ok_or_else(|| ImageError::NotPinned {
            reference: given.to_owned(),
        })
    }

    /// What it is called here, where nothing else was said: the last part of its repository.
    pub fn name(&self) -> &str {
        let last = self.repository.rsplit('/').next();
        last.unwrap_or(&self.repository)
    }
}

/// Has the engine fetch it, and gives it a name here.
pub async fn pull(
    store: &Store,
    engine: &DockerBackend,
    (pinned, name): (&Pinned, &str),
    now: String,
    hears: Hears<'_>,
) -> Result<Made, ImageError> {
    let name = ImageName::parse(name)?;
    let Pinned { repository, digest } = pinned;
    let reference = format!("{repository}@{digest}");
    if let Some(other) = store.get(&name)?
        && other
            .pulled
            .is_none_or(|pulled| pulled.reference != reference)
    {
        return Err(ImageError::Taken { name: other.name });
    }
    let mut known = (store.list()?.into_iter()).filter_map(|made| made.pulled);
    let was_there = match known.find(|pulled| pulled.reference == reference) {
        Some(pulled) => pulled.was_there,
        None => engine.resolve_image(&reference).await.is_ok(),
    };
    let image = engine.pull_image((repository, digest), hears).await;
    let image = match image {
        Err(error) if !was_there => {
            // Of another machine's kind, perhaps: nothing that is here can use it.
            engine.forget_image(&reference).await?;
            return Err(error.into());
        }
        image => image?,
    };
    engine
        .name_image(&image.id, &tag(name.as_str(), &image.id))
        .await?;
    let made = Made {
        name: name.as_str().to_owned(),
        id: image.id,
        made: now,
        from: "its registry".to_owned(),
        pulled: Some(Pulled {
            reference,
            was_there,
        }),
    };
    store.replace(&made)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_of_a_manifest_says_what_is_pulled() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (given, repository, name) in [
            ("python", "python", "python"),
            ("python:3.12-slim", "python", "python"),
            ("ghcr.io/a/b", "ghcr.io/a/b", "b"),
            ("127.0.0.1:5000/x/y:1", "127.0.0.1:5000/x/y", "y"),
        ] {
            let pinned = Pinned::parse(&format!("{given}@{digest}")).unwrap();
            assert_eq!((&*pinned.repository, pinned.name()), (repository, name));
            assert_eq!(pinned.digest, digest);
            assert!(Pinned::parse(given).is_err());
        }
        for bad in ["", "-a", "a/../b", "/a", "a b", "a?x", "ä", "a@b"] {
            let error = Pinned::parse(&format!("{bad}@{digest}")).unwrap_err();
            assert!(matches!(error, ImageError::NotPinned { .. }), "{bad}");
        }
        assert!(Pinned::parse("a@sha256:00").is_err());
    }
}
