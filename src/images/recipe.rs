//! The recipes that come with Fumehood, and what of them goes to a builder. Pure.

use super::error::ImageError;
use std::io;

/// Every recipe.
pub const NAMES: [&str; 3] = ["base", "cpu", "cuda"];

/// Makes the root file system of `base` from the packages of this machine's own distribution.
pub(super) const ROOTFS: &str = include_str!("../../sandbox-images/base/rootfs");

/// A Dockerfile.
pub(super) struct Recipe {
    dockerfile: &'static str,
    /// Which of our images it begins with where none is named; `None` where that must be said.
    pub(super) begins_with: Option<&'static str>,
}

pub(super) fn find(name: &str) -> Result<Recipe, ImageError> {
    let (dockerfile, begins_with) = match name {
        "base" => (include_str!("../../sandbox-images/base/Dockerfile"), None),
        "cpu" => (
            include_str!("../../sandbox-images/cpu/Dockerfile"),
            Some("base"),
        ),
        "cuda" => (
            include_str!("../../sandbox-images/cuda/Dockerfile"),
            Some("base"),
        ),
        _ => {
            return Err(ImageError::NoRecipe {
                name: name.to_owned(),
            });
        }
    };
    Ok(Recipe {
        dockerfile,
        begins_with,
    })
}

impl Recipe {
    /// What the builder gets: the Dockerfile, and the authorities that its downloads are checked by,
    /// which may be none. The same texts give the same bytes.
    pub(super) fn context(&self, authorities: &str) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in [
            ("Dockerfile", self.dockerfile),
            ("authorities.pem", authorities),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            archive.append_data(&mut header, name, text.as_bytes())?;
        }
        archive.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_begins_with_what_it_is_given_and_leaves_no_authorities() {
        for name in NAMES {
            let recipe = find(name).unwrap();
            let text = recipe.dockerfile;
            assert!(text.contains("ARG BASE\nFROM ${BASE}\n"), "{name}");
            assert!(text.contains("COPY authorities.pem "), "{name}");
            assert!(text.contains("rm -f /tmp/authorities.pem"), "{name}");
            assert_eq!(recipe.context("x").unwrap(), recipe.context("x").unwrap());
        }
        assert!(find("windows").is_err());
    }
}
