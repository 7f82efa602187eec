//! What a run writes as its results, by the globs of `[artifacts] include`: not part of the code.

use super::error::WorkspaceError;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::path::Path;

/// Compiled globs over paths relative to the workspace.
#[derive(Debug, Clone, Default)]
pub struct Artifacts(GlobSet);

impl Artifacts {
    /// `*` and `?` stay within one name, `**` crosses folders.
    pub fn new(include: &[String]) -> Result<Self, WorkspaceError> {
        let wrong = |error: globset::Error| WorkspaceError::Glob {
            glob: error.glob().unwrap_or_default().to_owned(),
            why: error.kind().to_string(),
        };
        let mut set = GlobSetBuilder::new();
        for glob in include {
            let glob = glob.strip_prefix("./").unwrap_or(glob);
            set.add(
                GlobBuilder::new(glob)
                    .literal_separator(true)
                    .build()
                    .map_err(wrong)?,
            );
        }
        set.build().map(Self).map_err(wrong)
    }

    pub fn matches(&self, path: &Path) -> bool {
        self.0.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_paths_of_results_and_nothing_else() {
        let globs = ["outputs/**", "*.ckpt", "./runs/*/log.txt"].map(String::from);
        let artifacts = Artifacts::new(&globs).unwrap();
        for (path, wanted) in [
            ("outputs/a", true),
            ("outputs/a/b.py", true),
            ("outputs", false),
            ("x/outputs/a", false),
            ("best.ckpt", true),
            ("deep/best.ckpt", false),
            ("runs/1/log.txt", true),
            ("runs/1/2/log.txt", false),
            ("train.py", false),
        ] {
            assert_eq!(artifacts.matches(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn a_bad_glob_is_named() {
        let error = Artifacts::new(&["a[".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("\"a[\""), "{error}");
    }
}
