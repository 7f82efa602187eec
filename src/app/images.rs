//! Images: where the store is, which engine builds, what a reference stands for and whether the policy
//! lets it.

use super::{AppError, install_init};
use crate::config::Config;
use crate::images::{self, BuildOrder, ImageName, Made, Store};
use crate::policy::model::Policy;
use crate::protocol::net::SourceAlias;
use crate::sandbox::docker::{DockerBackend, Hears, Image};
use jiff::Timestamp;

/// What `images build` was asked for.
pub struct ImageBuild<'a> {
    pub name: &'a str,
    pub base: Option<&'a str>,
    pub network: Option<&'a str>,
}

/// An image of the store, and whether the engine has it; `None` where no engine answers.
pub struct ListedImage {
    pub made: Made,
    pub in_engine: Option<bool>,
}

/// The store of this user.
pub fn image_store(config: &Config) -> Store {
    Store::open(&config.state)
}

/// Builds an image and records it.
pub async fn build_image(
    config: &Config,
    asked: &ImageBuild<'_>,
    hears: Hears<'_>,
) -> Result<Made, AppError> {
    let store = image_store(config);
    let engine = engine(config).await?;
    // Without any, downloads are checked by what the image has itself.
    let authorities = match super::network::bundle(config) {
        Err(AppError::NoAuthorities) => String::new(),
        bundle => bundle?,
    };
    let mut arguments = config.environment.clone();
    arguments.extend(super::network::package_variables(
        config,
        &[SourceAlias::Pip],
    ));
    let order = BuildOrder {
        name: asked.name,
        base: asked.base,
        network: asked.network,
        authorities: &authorities,
        arguments: &arguments,
        now: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    };
    Ok(match images::is_from_packages(&order) {
        true => images::build_from_packages(&store, &engine, &order, hears).await?,
        false => images::build(&store, &engine, &order, hears).await?,
    })
}

/// Every image of the store.
pub async fn list_images(config: &Config) -> Result<Vec<ListedImage>, AppError> {
    let all = image_store(config).list()?;
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let engine = engine(config).await.ok();
    let mut listed = Vec::new();
    for made in all {
        let in_engine = match &engine {
            Some(engine) => Some(engine.resolve_image(&made.id).await.is_ok()),
            None => None,
        };
        listed.push(ListedImage { made, in_engine });
    }
    Ok(listed)
}

/// Takes an image out of the store, and its name from the engine. The second is false where no engine
/// answered.
pub async fn remove_image(config: &Config, name: &str) -> Result<(Made, bool), AppError> {
    let name = ImageName::parse(name)?;
    let made = image_store(config).forget(&name)?;
    match engine(config).await {
        Err(_) => Ok((made, false)),
        Ok(engine) => {
            engine
                .forget_image(&images::tag(&made.name, &made.id))
                .await?;
            Ok((made, true))
        }
    }
}

async fn engine(config: &Config) -> Result<DockerBackend, AppError> {
    let init = install_init(config)?;
    Ok(DockerBackend::connect(init, config.docker_host.as_deref()).await?)
}

/// An image of the engine: one of ours by its name, or whatever the engine knows by that reference. It
/// must be on the policy's list, where there is one.
pub(super) async fn of_engine(
    config: &Config,
    policy: &Policy,
    (engine, reference): (&DockerBackend, &str),
) -> Result<Image, AppError> {
    let store = image_store(config);
    let known = store.resolve(reference)?;
    let wanted = known.as_ref().map_or(reference, |made| made.id.as_str());
    let mut found = engine.resolve_image(wanted).await?;
    found.reference = reference.to_owned();
    for entry in &policy.image.allow {
        if is_pinned(entry, &found.id) {
            return Ok(found);
        }
        let ours = store.resolve(entry).ok().flatten().map(|made| made.id);
        let id = match ours {
            Some(id) => Some(id),
            // One that is not there allows nothing.
            None => engine.resolve_image(entry).await.ok().map(|image| image.id),
        };
        if id.as_deref() == Some(&*found.id) {
            return Ok(found);
        }
    }
    match policy.image.allow.is_empty() {
        true => Ok(found),
        false => Err(AppError::ImageNotAllowed {
            image: reference.to_owned(),
            id: found.id,
            policy: policy.name.clone(),
        }),
    }
}

/// Whether an entry of a policy names that very id.
fn is_pinned(entry: &str, id: &str) -> bool {
    entry.rsplit_once('@').map_or(entry, |(_, digest)| digest) == id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_an_id_by_its_digest_alone() {
        let id = format!("sha256:{}", "a".repeat(64));
        assert!(is_pinned(&id, &id));
        assert!(is_pinned(&format!("base@{id}"), &id));
        assert!(!is_pinned("base", &id));
        assert!(!is_pinned(&format!("base@sha256:{}", "b".repeat(64)), &id));
    }
}
