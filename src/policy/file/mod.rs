//! From a policy file's text to a [`Policy`]: every mistake at once, each with its place and remedy.
//! Pure: reading files is the caller's.
//!
//! ```text
//!   text ─ toml ─▶ layer ─┐                    no `extends`: over the defaults
//!   parent's text ▶ layer ┼─ compose ─▶ Policy  `extends`: the meet with the parent
//!   …             ▶ layer ┘     └────▶ origins, warnings
//! ```

mod compose;
mod entry;
mod gpu;
mod layer;
mod network;
pub mod problem;
mod reader;
pub mod render;
mod scalar;
mod typed;
mod word;

use super::builtin;
use super::model::Policy;
use super::origin::Origins;
use layer::{Layer, Names};
use problem::{Code, PolicyErrors, PolicySource, Problem};
use reader::At;
pub use typed::apply_set;

/// Most policies above one another, the first included.
const MAX_DEPTH: usize = 4;

/// Gives the text of a file beside the one that extends it, or says why there is none.
pub type Resolve<'a> = &'a mut dyn FnMut(&str) -> Result<PolicySource, String>;

/// A policy that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub policy: Policy,
    /// Values that were looser than a parent's.
    pub warnings: Vec<Problem>,
    /// What the warnings point into: the policy first, then its parents.
    pub sources: Vec<PolicySource>,
    pub origins: Origins,
}

/// Reads a policy of the user's.
///
/// # Errors
/// Everything that is wrong with it and with what it extends.
pub fn load(source: PolicySource, resolve: Resolve<'_>) -> Result<Loaded, PolicyErrors> {
    read(source, resolve, Names::Own)
}

/// Reads a policy that comes with the program.
///
/// # Errors
/// As [`load`].
pub(super) fn load_builtin(source: PolicySource) -> Result<Loaded, PolicyErrors> {
    read(
        source,
        &mut |_| Err("a built-in extends built-ins only".to_owned()),
        Names::Reserved,
    )
}

fn read(source: PolicySource, resolve: Resolve<'_>, names: Names) -> Result<Loaded, PolicyErrors> {
    let mut chain = Chain {
        sources: vec![source],
        layers: Vec::new(),
        problems: Vec::new(),
    };
    chain.climb(resolve, names);
    let Chain {
        sources,
        layers,
        mut problems,
    } = chain;
    let composed = compose::compose(&layers, &sources, &mut problems);
    problems.sort_by_key(|one| (one.source, one.span.start, one.span.end));
    let (warnings, errors): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|problem| problem.code.is_warning());
    match errors.is_empty() {
        true => Ok(Loaded {
            policy: composed.policy,
            origins: composed.origins,
            warnings,
            sources,
        }),
        false => Err(PolicyErrors {
            problems: errors,
            sources,
        }),
    }
}

/// A policy and its parents, the policy first.
struct Chain {
    sources: Vec<PolicySource>,
    layers: Vec<Layer>,
    problems: Vec<Problem>,
}

impl Chain {
    fn climb(&mut self, resolve: Resolve<'_>, names: Names) {
        let mut names = names;
        loop {
            let index = self.layers.len();
            let Some(source) = self.sources.get(index) else {
                return;
            };
            let (layer, problems) = layer::read(index, &source.text, names);
            self.problems.extend(problems);
            if let Some((at, parent)) = &layer.extends {
                match self.parent(parent, resolve) {
                    Ok((source, of)) => {
                        self.sources.push(source);
                        names = of;
                    }
                    Err((code, message)) => self.note(index, at, code, message),
                }
            }
            self.layers.push(layer);
        }
    }

    fn parent(
        &self,
        name: &str,
        resolve: Resolve<'_>,
    ) -> Result<(PolicySource, Names), (Code, String)> {
        if self.sources.len() >= MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} policies extend each other");
            return Err((Code::ExtendsCycle, message));
        }
        if let Some(builtin) = name.strip_prefix("builtin:") {
            let source = builtin::source(builtin).ok_or_else(|| {
                let near = reader::nearest(builtin, builtin::NAMES.into_iter());
                let near = near.map_or(String::new(), |near| format!(", {near} there is"));
                (
                    Code::ExtendsPath,
                    format!("there is no built-in {builtin:?}{near}"),
                )
            })?;
            return self.unseen(source, Names::Reserved);
        }
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            let message = format!("{name:?} is no name of a file in the same folder");
            return Err((Code::ExtendsPath, message));
        }
        let source =
            resolve(name).map_err(|why| (Code::ExtendsPath, format!("{name:?}: {why}")))?;
        self.unseen(source, Names::Own)
    }

    fn unseen(
        &self,
        source: PolicySource,
        names: Names,
    ) -> Result<(PolicySource, Names), (Code, String)> {
        match self.sources.iter().any(|other| other.label == source.label) {
            true => Err((
                Code::ExtendsCycle,
                format!("{} extends itself", source.label),
            )),
            false => Ok((source, names)),
        }
    }

    fn note(&mut self, source: usize, at: &At, code: Code, message: String) {
        let builtins = builtin::NAMES
            .map(|name| format!("\"builtin:{name}\""))
            .join(", ");
        self.problems.push(Problem {
            code,
            key: at.key.clone(),
            source,
            span: at.span.clone(),
            message,
            allowed: Some(format!("{builtins}, or the name of a file beside this one")),
            fix: None,
        });
    }
}

/// How what `--set` does not reach is said instead.
fn is_named_elsewhere(path: &str) -> Option<&'static str> {
    match path.split('.').next()? {
        "mount" => Some("--mount src=PATH,dst=/data/NAME[,rw]"),
        "schema" | "name" | "description" | "extends" => Some("write it into a policy file"),
        "approval" if path.starts_with("approval.rule") => Some("write it into a policy file"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
