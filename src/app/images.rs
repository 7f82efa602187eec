//! Images: where the store is, which engine builds, what a reference stands for and whether the policy
//! lets it.

use super::{AppError, install_init};
use crate::config::Config;
use crate::images::{
    self, About, BuildOrder, HeldRoot, ImageError, ImageName, Made, Pinned, Store,
};
use crate::policy::model::{Policy, PullChoice};
use crate::protocol::net::SourceAlias;
use crate::sandbox::docker::{DockerBackend, Hears, Image};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// What `images build` was asked for.
pub struct ImageBuild<'a> {
    pub name: &'a str,
    pub base: Option<&'a str>,
    pub network: Option<&'a str>,
    /// Values of the recipe.
    pub arguments: BTreeMap<String, String>,
}

/// An image of the store, and whether the engine has it; `None` where no engine answers.
pub struct ListedImage {
    pub made: Made,
    pub unpacked: Option<About>,
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
        typed: &asked.arguments,
        now: now(),
    };
    let engine = engine(config).await;
    if !images::is_from_packages(&order) {
        return Ok(images::build(&store, &engine?, &order, hears).await?);
    }
    if let Err(error) = &engine {
        hears(&format!("it is unpacked here only: {error}"));
    }
    Ok(images::build_from_packages(&store, engine.ok().as_ref(), &order, hears).await?)
}

/// What is to be pulled, where the policy lets it and lists it.
pub fn may_pull(policy: &Policy, reference: &str) -> Result<Pinned, AppError> {
    let pinned = Pinned::parse(reference)?;
    if policy.image.pull == PullChoice::Never {
        return Err(AppError::PullNotAllowed {
            policy: policy.name.clone(),
        });
    }
    let allow = &policy.image.allow;
    if !allow.is_empty() && !allow.iter().any(|entry| is_pinned(entry, &pinned.digest)) {
        return Err(not_allowed(policy, reference, pinned.digest));
    }
    Ok(pinned)
}

/// Has the engine fetch it, by its digest.
pub async fn pull_image(
    config: &Config,
    pinned: &Pinned,
    name: Option<&str>,
    hears: Hears<'_>,
) -> Result<Made, AppError> {
    let engine = engine(config).await?;
    let name = name.unwrap_or_else(|| pinned.name());
    let store = image_store(config);
    Ok(images::pull(&store, &engine, (pinned, name), now(), hears).await?)
}

/// Unpacks an image: an archive, or `engine:REF`, one of the engine's.
pub async fn import_image(
    config: &Config,
    (source, name): (&str, &str),
) -> Result<(Made, About), AppError> {
    let store = image_store(config);
    if let Some(reference) = source.strip_prefix("engine:") {
        let engine = engine(config).await?;
        let wanted = (reference, name);
        return Ok(images::import_from_engine(&store, &engine, wanted, now()).await?);
    }
    let from = format!("the archive {source}");
    Ok(images::import(
        &store,
        Path::new(source),
        (name, &from),
        now(),
    )?)
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Every image of the store.
pub async fn list_images(config: &Config) -> Result<Vec<ListedImage>, AppError> {
    let store = image_store(config);
    let all = store.list()?;
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
        listed.push(ListedImage {
            unpacked: store.unpacked(&made.id)?,
            made,
            in_engine,
        });
    }
    Ok(listed)
}

/// Takes an image out of the store with what is unpacked of it, and its name from the engine. The second
/// is false where no engine answered.
pub async fn remove_image(config: &Config, name: &str) -> Result<(Made, bool), AppError> {
    let name = ImageName::parse(name)?;
    let store = image_store(config);
    let Some(made) = store.get(&name)? else {
        return Err(store.unknown(name.as_str()).into());
    };
    let mut others = store.list()?;
    others.retain(|other| other.name != made.name);
    if !others.iter().any(|other| other.id == made.id) {
        store.clear(&made.id)?;
    }
    let engine = engine(config).await.ok();
    if let Some(engine) = &engine {
        let pulled = |made: &Made| made.pulled.as_ref().map(|pulled| pulled.reference.clone());
        let ours = made.pulled.as_ref().is_some_and(|pulled| !pulled.was_there);
        let needed = others.iter().any(|other| pulled(other) == pulled(&made));
        let reference = pulled(&made).filter(|_| ours && !needed);
        // The last of its names takes the image along. Ours is forgotten last: what failed can be tried again.
        for name in reference
            .into_iter()
            .chain([images::tag(&made.name, &made.id)])
        {
            engine.forget_image(&name).await?;
        }
    }
    Ok((store.forget(&name)?, engine.is_some()))
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
    if is_listed(&store, policy, &found.id) {
        return Ok(found);
    }
    for entry in &policy.image.allow {
        // One that is not there allows nothing.
        let listed = engine.resolve_image(entry).await;
        if listed.is_ok_and(|listed| listed.id == found.id) {
            return Ok(found);
        }
    }
    Err(not_allowed(policy, reference, found.id))
}

/// An image of ours that is unpacked, held; it must be on the policy's list, where there is one.
pub(super) fn unpacked(
    config: &Config,
    policy: &Policy,
    reference: &str,
) -> Result<Option<HeldRoot>, AppError> {
    let store = image_store(config);
    let Some(made) = store.resolve(reference)? else {
        return Ok(None);
    };
    let Some(held) = store.hold(&made.id)? else {
        return Ok(None);
    };
    match is_listed(&store, policy, &held.id) {
        true => Ok(Some(held)),
        false => Err(not_allowed(policy, reference, made.id)),
    }
}

/// The error of an image that the namespace backend has no root of.
pub(super) fn not_unpacked(config: &Config, reference: &str) -> AppError {
    let store = image_store(config);
    match store.resolve(reference) {
        Ok(Some(made)) => ImageError::NotUnpacked { name: made.name },
        Ok(None) => store.unknown(reference),
        Err(error) => error,
    }
    .into()
}

/// Whether the policy's list has that id by its digest, or by a name of ours. No list is any image.
fn is_listed(store: &Store, policy: &Policy, id: &str) -> bool {
    let allow = &policy.image.allow;
    let all = store.list().unwrap_or_default();
    // Of what it was pulled as, too: an id is not the digest that a registry shows.
    let digests: Vec<&str> = (all.iter().filter(|made| made.id == id))
        .filter_map(|made| made.pulled.as_ref()?.reference.split('@').nth(1))
        .chain([id])
        .collect();
    let named = |entry: &String| {
        let ours = store.resolve(entry).ok().flatten();
        digests.iter().any(|digest| is_pinned(entry, digest))
            || ours.is_some_and(|made| made.id == id)
    };
    allow.is_empty() || allow.iter().any(named)
}

fn not_allowed(policy: &Policy, reference: &str, id: String) -> AppError {
    AppError::ImageNotAllowed {
        image: reference.to_owned(),
        id,
        policy: policy.name.clone(),
    }
}

/// Whether an entry of a policy names that very digest.
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
