//! Images made: a recipe built by an engine, or a root file system made from packages.
//!
//! ```text
//!   recipe  ─ begins with an image that is there, by its id ─▶ the engine's builder ─▶ id ─┐
//!   rootfs  ─ packages of this distribution ─▶ one tar ─▶ configuration ─▶ id ─────────────┴─▶ Store
//!                                                 └ unpacked here, and loaded where an engine answers
//! ```
//!
//! The second needs no image registry, and the same packages give the same id. Nothing is pulled.

use super::error::ImageError;
use super::name::ImageName;
use super::recipe;
use super::rootfs::{self, Packed};
use super::roots::About;
use super::store::{Made, Store};
use super::{import, layout};
use crate::sandbox::docker::{BuildRequest, DockerBackend, Hears};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What is built, and what with.
pub struct BuildOrder<'a> {
    /// Of the recipe, and of what comes of it.
    pub name: &'a str,
    /// What it begins with, where that is said.
    pub base: Option<&'a str>,
    /// The engine's network for its steps.
    pub network: Option<&'a str>,
    /// Certificates that downloads are checked by; may be none.
    pub authorities: &'a str,
    /// Where pip finds packages, as the user configured it.
    pub arguments: &'a BTreeMap<String, String>,
    /// Values of the recipe's `ARG`s, as typed.
    pub typed: &'a BTreeMap<String, String>,
    /// When, in UTC.
    pub now: String,
}

/// Where the steps of a build reach out by the user's leave.
const PASSED: [&str; 8] = [
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Whether it is made from packages, without an image to begin with.
pub fn is_from_packages(order: &BuildOrder<'_>) -> bool {
    order.name == "base" && order.base.is_none()
}

/// What the engine calls an image of ours: no two have one name.
pub fn tag(name: &str, id: &str) -> String {
    let digits = id.trim_start_matches("sha256:");
    format!("fumehood/{name}:{}", digits.get(..12).unwrap_or(digits))
}

/// Builds a recipe with the engine, and records what came of it.
pub async fn build(
    store: &Store,
    engine: &DockerBackend,
    order: &BuildOrder<'_>,
    hears: Hears<'_>,
) -> Result<Made, ImageError> {
    let name = ImageName::parse(order.name)?;
    let recipe = recipe::find(order.name)?;
    let Some(base) = order.base.or(recipe.begins_with) else {
        return Err(ImageError::NoBase {
            name: order.name.to_owned(),
        });
    };
    // Ours first, as with `--image`. One that is nowhere is refused here, and never fetched.
    let known = store.resolve(base)?;
    if known.is_none() && order.base.is_none() {
        return Err(ImageError::NoBase {
            name: order.name.to_owned(),
        });
    }
    let wanted = known.as_ref().map_or(base, |made| made.id.as_str());
    let begun = engine.resolve_image(wanted).await?;
    let passed = PASSED.iter().filter_map(|name| {
        let value = order.arguments.get(*name)?;
        // What stands in an image's history is for everybody.
        (!value.contains('@')).then(|| ((*name).to_owned(), value.clone()))
    });
    let mut arguments: HashMap<String, String> = passed.collect();
    arguments.extend(order.typed.clone());
    arguments.insert("BASE".to_owned(), begun.id.clone());
    let context = (recipe.context(order.authorities))
        .map_err(ImageError::io("pack the recipe", Path::new(order.name)))?;
    let request = BuildRequest {
        context,
        arguments,
        network: order.network,
    };
    let image = engine.build_image(request, hears).await?;
    engine
        .name_image(&image.id, &tag(name.as_str(), &image.id))
        .await?;
    let made = Made {
        name: order.name.to_owned(),
        id: image.id,
        made: order.now.clone(),
        from: format!("the recipe {} on {base} ({})", order.name, begun.id),
        pulled: None,
    };
    store.replace(&made)?;
    Ok(made)
}

/// Makes `base` from packages, unpacks it, loads it into the engine where there is one, and records it.
pub async fn build_from_packages(
    store: &Store,
    engine: Option<&DockerBackend>,
    order: &BuildOrder<'_>,
    hears: Hears<'_>,
) -> Result<Made, ImageError> {
    let name = ImageName::parse(order.name)?;
    let passing = store.passing()?;
    let root = passing.path().join("root.tar");
    let said = rootfs::make(&root, hears).await?;
    let packed = Packed::of(&root, layout::architecture())?;
    import::unpack(store, &root)?;
    if let Some(engine) = engine {
        let archive = passing.path().join("image.tar");
        packed.archive(&root, &archive, &tag(name.as_str(), &packed.id))?;
        engine.load_image(&archive, &packed.id, hears).await?;
    }
    let made = Made {
        name: order.name.to_owned(),
        id: packed.id,
        made: order.now.clone(),
        from: said,
        pulled: None,
    };
    store.replace(&made)?;
    Ok(made)
}

/// Unpacks an image of the engine, and gives it a name here.
pub async fn import_from_engine(
    store: &Store,
    engine: &DockerBackend,
    (reference, name): (&str, &str),
    now: String,
) -> Result<(Made, About), ImageError> {
    let known = store.resolve(reference)?;
    let wanted = known.as_ref().map_or(reference, |made| made.id.as_str());
    let image = engine.resolve_image(wanted).await?;
    let passing = store.passing()?;
    let archive = passing.path().join("image.tar");
    engine.save_image(&image.id, &archive).await?;
    let from = format!("the engine's {reference} ({})", image.id);
    import::import(store, &archive, (name, &from), now)
}
