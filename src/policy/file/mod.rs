//! From a policy file's text to a [`Policy`]: every mistake at once, each with its place and remedy.
//! Pure: reading files is the caller's.
//!
//! ```text
//!   text ─ toml ─▶ layer ─┐                    no `extends`: over the defaults
//!   parent's text ▶ layer ┼─ compose ─▶ Policy  `extends`: the meet with the parent
//!   …             ▶ layer ┘     └────▶ origins, warnings
//!
//!   Loaded ─ --set ─▶ ─ project ─▶ ─ system ─▶ Loaded     each of the last two only tightens
//! ```

mod compose;
mod entry;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod gpu;
mod layer;
mod network;
pub mod problem;
mod reader;
pub mod render;
mod rule;
mod scalar;
mod secret;
mod typed;
mod word;

use super::action::ActionKind;
use super::builtin;
use super::model::{Policy, PolicyMount};
use super::origin::{Level, Origin, Origins};
use crate::protocol::spec::Access;
use layer::{Layer, Names};
use problem::{Code, PolicyErrors, PolicySource, Problem};
use reader::At;
pub use reader::{Example, Wanted};
use std::path::Path;
pub use typed::{apply_set, apply_typed};

/// Most policies above one another, the first included.
const MAX_DEPTH: usize = 4;

/// Gives the text of a file beside the one that extends it, or says why there is none.
pub type Resolve<'a> = &'a mut dyn FnMut(&str) -> Result<PolicySource, String>;

/// A policy that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub policy: Policy,
    /// Values that were looser than another layer's.
    pub warnings: Vec<Problem>,
    /// What the warnings point into: the policy first, then its parents, then what was laid over it.
    pub sources: Vec<PolicySource>,
    pub origins: Origins,
    /// Layers that name the mounts there may be: what is typed has to be among them.
    pub(super) mount_caps: Vec<MountCap>,
}

/// The mounts that a project or a system allows.
#[derive(Debug, Clone, PartialEq)]
pub struct MountCap {
    /// The line of the layer.
    pub origin: Origin,
    pub mounts: Vec<PolicyMount>,
}

impl Loaded {
    /// The line that does not list what is to be mounted, where a project or the system lists mounts.
    /// Without a `place` it is enough that the source lies in one that is listed.
    pub fn refuses_mount(&self, source: &Path, place: Option<(&Path, Access)>) -> Option<&Origin> {
        let lists = |cap: &MountCap| {
            cap.mounts.iter().any(|mount| match place {
                None => source.starts_with(&mount.source),
                Some((target, access)) => {
                    source == Path::new(&mount.source)
                        && target == Path::new(&mount.target)
                        && (access == Access::ReadOnly || mount.access == Access::ReadWrite)
                }
            })
        };
        let cap = self.mount_caps.iter().find(|cap| !lists(cap))?;
        Some(&cap.origin)
    }
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
    let mut chain = Chain::new(Vec::new(), source);
    chain.climb(resolve, names);
    let Chain {
        sources,
        layers,
        mut problems,
        ..
    } = chain;
    let composed = compose::compose(&layers, &sources, &mut problems);
    let loaded = Loaded {
        policy: composed.policy,
        origins: composed.origins,
        warnings: Vec::new(),
        sources,
        mount_caps: Vec::new(),
    };
    settle(loaded, problems)
}

/// A policy's rules as their examples show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub examples: Vec<Example>,
    /// Rules without one.
    pub bare: Vec<String>,
}

/// Tries the examples of every rule, of the parents' too; those that fail are no mistake here.
///
/// # Errors
/// Everything else that is wrong with it.
pub fn try_examples(source: PolicySource, resolve: Resolve<'_>) -> Result<Tried, PolicyErrors> {
    let names = match source.level {
        Level::BuiltIn => Names::Reserved,
        _ => Names::Own,
    };
    let mut chain = Chain::new(Vec::new(), source);
    chain.climb(resolve, names);
    let errors = chain
        .problems
        .iter()
        .filter(|one| !one.code.is_warning() && one.code != Code::RuleExample);
    let problems: Vec<Problem> = errors.cloned().collect();
    if !problems.is_empty() {
        return Err(PolicyErrors {
            problems,
            sources: chain.sources,
        });
    }
    let examples: Vec<Example> = chain
        .layers
        .iter()
        .flat_map(|layer| layer.examples.clone())
        .collect();
    let rules = chain.layers.iter().flat_map(|layer| &layer.rules);
    let bare = rules
        .map(|(_, rule)| rule)
        .filter(|rule| rule.action == ActionKind::Exec)
        .filter(|rule| !examples.iter().any(|one| one.rule == rule.id))
        .map(|rule| rule.id.clone())
        .collect();
    Ok(Tried { examples, bare })
}

/// Lays a project's or the system's policy over another: it counts where it is tighter, and only what
/// it says counts. A system's is a ceiling: that it would allow more is no mistake of anybody's.
///
/// # Errors
/// Everything that is wrong with it, and what excludes what the policy says.
pub fn tighten(
    under: Loaded,
    source: PolicySource,
    resolve: Resolve<'_>,
) -> Result<Loaded, PolicyErrors> {
    let mut loaded = under;
    let level = source.level;
    let mut chain = Chain::new(std::mem::take(&mut loaded.sources), source);
    chain.climb(resolve, Names::Own);
    // Whatever it extends is its word.
    for source in &mut chain.sources[chain.base..] {
        source.level = level;
    }
    loaded.sources = chain.sources;
    let mut problems = chain.problems;
    compose::over(&mut loaded, &chain.layers, &mut problems);
    settle(loaded, problems)
}

/// Warnings go with the policy; a mistake ends it.
fn settle(mut loaded: Loaded, mut problems: Vec<Problem>) -> Result<Loaded, PolicyErrors> {
    problems.sort_by_key(|one| (one.source, one.span.start, one.span.end));
    let (warnings, errors): (Vec<_>, Vec<_>) = problems
        .into_iter()
        .partition(|problem| problem.code.is_warning());
    if !errors.is_empty() {
        return Err(PolicyErrors {
            problems: errors,
            sources: loaded.sources,
        });
    }
    loaded.warnings.extend(warnings);
    Ok(loaded)
}

/// A policy and its parents, the policy first.
struct Chain {
    /// Where its own sources begin among all.
    base: usize,
    sources: Vec<PolicySource>,
    layers: Vec<Layer>,
    problems: Vec<Problem>,
}

impl Chain {
    fn new(mut sources: Vec<PolicySource>, first: PolicySource) -> Self {
        let base = sources.len();
        sources.push(first);
        Self {
            base,
            sources,
            layers: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn climb(&mut self, resolve: Resolve<'_>, names: Names) {
        let mut names = names;
        loop {
            let index = self.base + self.layers.len();
            let Some(source) = self.sources.get(index) else {
                return;
            };
            let (layer, problems) = layer::read(index, source, names);
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
        if self.own().len() >= MAX_DEPTH {
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

    fn own(&self) -> &[PolicySource] {
        &self.sources[self.base..]
    }

    fn unseen(
        &self,
        source: PolicySource,
        names: Names,
    ) -> Result<(PolicySource, Names), (Code, String)> {
        match self.own().iter().any(|other| other.label == source.label) {
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
        "schema" | "name" | "description" | "extends" | "secrets" => {
            Some("write it into a policy file")
        }
        "approval" if path.starts_with("approval.rule") => Some("write it into a policy file"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "layers_tests.rs"]
mod layers_tests;
