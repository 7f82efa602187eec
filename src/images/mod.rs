//! Images of the user's own: made, named, found again by `--image NAME`.
//!
//! ```text
//!   pull REF@sha256:… ─▶ the engine ─▶ id ─────┐
//!   build NAME ─▶ recipe or packages ─▶ id ──▶ Store ◀─ resolve ─ --image NAME, NAME@sha256:…
//!   import ARCHIVE ─▶ layout ─▶ layers ─▶ root ──┘ └─ hold ─▶ what the namespace backend shows
//! ```
//!
//! An id is the digest of an image's configuration, which names its layers by their digests. Nothing
//! here asks, or runs a sandbox; who allows an image, and whether one is pulled, is the policy.

mod build;
mod error;
mod import;
mod layout;
mod name;
mod passing;
mod pull;
mod recipe;
mod rootfs;
mod roots;
mod section;
mod store;

pub use build::{
    BuildOrder, build, build_from_packages, import_from_engine, is_from_packages, tag,
};
pub use error::ImageError;
pub use import::import;
pub use name::{ImageName, Reference, is_id};
pub use pull::{Pinned, pull};
pub use recipe::NAMES as RECIPES;
pub use roots::{About, HeldRoot};
pub use store::{Made, Pulled, Store};
