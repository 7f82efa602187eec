//! From layers to one policy: the outermost parent over the defaults, then meet after meet.

use super::layer::{self, Layer, Written};
use super::problem::{Code, PolicySource, Problem};
use super::reader::At;
use crate::policy::defaults;
use crate::policy::meet::{self, meet};
use crate::policy::model::{Decision, Policy};
use crate::policy::origin::{Lost, Origin, Origins};
use crate::policy::schema;

/// A policy with its history.
pub(super) struct Composed {
    pub(super) policy: Policy,
    pub(super) origins: Origins,
}

/// Composes; `layers` has the policy itself first, its outermost parent last.
pub(super) fn compose(
    layers: &[Layer],
    sources: &[PolicySource],
    problems: &mut Vec<Problem>,
) -> Composed {
    let mut composer = Composer {
        sources,
        problems,
        policy: defaults::policy(),
        origins: Origins::default(),
    };
    for (depth, layer) in layers.iter().rev().enumerate() {
        match depth {
            0 => composer.found(layer),
            _ => composer.tighten(layer),
        }
    }
    composer.check_images(layers);
    composer.name(layers);
    Composed {
        policy: composer.policy,
        origins: composer.origins,
    }
}

struct Composer<'a> {
    sources: &'a [PolicySource],
    problems: &'a mut Vec<Problem>,
    policy: Policy,
    origins: Origins,
}

impl Composer<'_> {
    fn origin(&self, layer: &Layer, at: &At) -> Origin {
        self.sources
            .get(layer.source)
            .map_or(Origin::Default, |source| Origin::Written {
                label: source.label.clone(),
                place: source.place(at.span.start),
            })
    }

    fn note(&mut self, layer: &Layer, at: &At, code: Code, message: String) {
        self.problems.push(Problem {
            code,
            key: at.key.clone(),
            source: layer.source,
            span: at.span.clone(),
            message,
            allowed: None,
            fix: None,
        });
    }

    /// The outermost layer says what it likes.
    fn found(&mut self, layer: &Layer) {
        for written in &layer.written {
            (written.key.slot.put)(&mut self.policy, written.value.clone());
            let origin = self.origin(layer, &written.at);
            self.origins.set(written.key.path, origin, None);
        }
        for (at, mount) in layer.mounts.iter().flatten() {
            let origin = self.origin(layer, at);
            self.origins
                .set(&format!("mount {}", mount.target), origin, None);
            self.policy.mounts.push(mount.clone());
        }
        for (at, rule) in &layer.rules {
            let origin = self.origin(layer, at);
            self.origins.set(&format!("rule {}", rule.id), origin, None);
            self.policy.approval.rules.push(rule.clone());
        }
    }

    /// A layer with a parent counts where it is tighter.
    fn tighten(&mut self, layer: &Layer) {
        let parent = self.policy.clone();
        let mut child = parent.clone();
        for written in &layer.written {
            (written.key.slot.put)(&mut child, written.value.clone());
        }
        if let Some(mounts) = &layer.mounts {
            child.mounts = mounts.iter().map(|(_, mount)| mount.clone()).collect();
        }
        self.add_rules(layer, &mut child);
        match meet(&parent, &child) {
            Ok(met) => self.policy = met,
            Err(meet::Conflict(keys)) => {
                for written in layer
                    .written
                    .iter()
                    .filter(|one| keys.contains(&one.key.path))
                {
                    let held = show(&parent, written);
                    let message = format!("the parent says {held}, and both cannot be");
                    self.note(layer, &written.at, Code::Conflict, message);
                }
                return;
            }
        }
        for written in &layer.written {
            self.account(layer, written, &parent);
        }
        self.account_mounts(layer, &parent);
        self.account_rules(layer, &parent);
    }

    fn add_rules(&mut self, layer: &Layer, child: &mut Policy) {
        for (at, rule) in &layer.rules {
            if child.approval.rules.iter().any(|other| other.id == rule.id) {
                let message = format!("a parent has a rule {:?} already", rule.id);
                self.note(layer, at, Code::DuplicateId, message);
                continue;
            }
            child.approval.rules.push(rule.clone());
        }
    }

    /// Says what became of a key that was written over a parent's.
    fn account(&mut self, layer: &Layer, written: &Written, parent: &Policy) {
        let key = written.key;
        let origin = self.origin(layer, &written.at);
        let held = show(parent, written);
        if key
            .form
            .holds(&written.value, &(key.slot.get)(&self.policy))
        {
            if held != show(&self.policy, written) {
                self.origins.set(key.path, origin, Some(held));
            }
            return;
        }
        let value = key.form.show(&written.value);
        let now = show(&self.policy, written);
        let message = format!("{value} is looser than the parent's {held}; {now} counts");
        self.note(layer, &written.at, Code::LooserIgnored, message);
        self.origins.lose(key.path, Lost { value, origin });
    }

    fn account_mounts(&mut self, layer: &Layer, parent: &Policy) {
        for mount in &parent.mounts {
            if !self
                .policy
                .mounts
                .iter()
                .any(|kept| kept.target == mount.target)
            {
                self.origins.forget(&format!("mount {}", mount.target));
            }
        }
        for (at, mount) in layer.mounts.iter().flatten() {
            if !self.policy.mounts.contains(mount) {
                let message = format!("the parent does not mount {} like this", mount.target);
                self.note(layer, at, Code::LooserIgnored, message);
            }
        }
    }

    fn account_rules(&mut self, layer: &Layer, parent: &Policy) {
        for (at, rule) in &layer.rules {
            let covered = parent
                .approval
                .rules
                .iter()
                .any(|other| meet::covers(other, rule));
            if rule.decision == Decision::Allow && !covered {
                let message = format!("rule {} allows what the parent does not", rule.id);
                self.note(layer, at, Code::LooserIgnored, message);
            } else if rule.decision != Decision::Allow {
                let origin = self.origin(layer, at);
                self.origins.set(&format!("rule {}", rule.id), origin, None);
            }
        }
    }

    fn check_images(&mut self, layers: &[Layer]) {
        let Some(message) = moving_image(&self.policy) else {
            return;
        };
        let written = layers.iter().find_map(|layer| {
            let one = layer
                .written
                .iter()
                .find(|one| one.key.path == "image.allow")?;
            Some((layer, one))
        });
        if let Some((layer, written)) = written {
            self.note(layer, &written.at, Code::ImageRef, message);
        }
    }

    fn name(&mut self, layers: &[Layer]) {
        let Some(own) = layers.first() else {
            return;
        };
        let label = self
            .sources
            .first()
            .map_or("", |source| source.label.as_str());
        let stem = label.rsplit('/').next().unwrap_or(label);
        let stem = stem.strip_suffix(".toml").unwrap_or(stem);
        self.policy.name = match &own.name {
            Some(name) => name.clone(),
            None if layer::is_name(stem) => stem.to_owned(),
            None => "unnamed".to_owned(),
        };
        self.policy.description = own.description.clone().unwrap_or_default();
    }
}

fn show(policy: &Policy, written: &Written) -> String {
    let key: &schema::Key = written.key;
    key.form.show(&(key.slot.get)(policy))
}

/// A tag moves: what it names today it may not name tomorrow.
pub(super) fn moving_image(policy: &Policy) -> Option<String> {
    let image = policy
        .image
        .allow
        .iter()
        .find(|image| !image.contains("sha256:"))?;
    policy
        .image
        .require_digest
        .then(|| format!("{image:?} has no digest, and image.require_digest is true"))
}
