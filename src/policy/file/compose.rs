//! From layers to one policy: the outermost parent over the defaults, then meet after meet; and what
//! a project or a system lays over it.

use super::layer::{self, Layer, Written};
use super::problem::{Code, PolicySource, Problem};
use super::reader::At;
use super::{Loaded, MountCap};
use crate::policy::defaults;
use crate::policy::meet::{self, meet};
use crate::policy::model::{Decision, Policy, Rule};
use crate::policy::origin::{Level, Lost, Mark, Origin, Origins};
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
        beneath: "the parent",
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

/// Lays a chain over a policy, each of its layers as one that only tightens.
pub(super) fn over(loaded: &mut Loaded, layers: &[Layer], problems: &mut Vec<Problem>) {
    let mut composer = Composer {
        sources: &loaded.sources,
        problems,
        policy: loaded.policy.clone(),
        origins: std::mem::take(&mut loaded.origins),
        beneath: "the policy",
    };
    for layer in layers.iter().rev() {
        composer.tighten(layer);
        loaded.mount_caps.extend(composer.mount_cap(layer));
    }
    composer.check_images(layers);
    loaded.policy = composer.policy;
    loaded.origins = composer.origins;
}

struct Composer<'a> {
    sources: &'a [PolicySource],
    problems: &'a mut Vec<Problem>,
    policy: Policy,
    origins: Origins,
    /// What is tightened, in words.
    beneath: &'static str,
}

impl Composer<'_> {
    fn origin(&self, layer: &Layer, at: &At) -> Origin {
        self.sources
            .get(layer.source)
            .map_or(Origin::Default, |source| {
                Origin::Written(Mark {
                    level: source.level,
                    label: source.label.clone(),
                    place: source.place(at.span.start),
                    source: layer.source,
                    span: at.span.clone(),
                })
            })
    }

    fn level(&self, layer: &Layer) -> Level {
        self.sources
            .get(layer.source)
            .map_or(Level::User, |source| source.level)
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
        for (at, secret) in layer.secrets.iter().flatten() {
            let origin = self.origin(layer, at);
            self.origins
                .set(&format!("secret {}", secret.name), origin, None);
            self.policy.secrets.push(secret.clone());
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
        if let Some(secrets) = &layer.secrets {
            child.secrets = secrets.iter().map(|(_, secret)| secret.clone()).collect();
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
                    let message = format!("{} says {held}, and both cannot be", self.beneath);
                    self.note(layer, &written.at, Code::Conflict, message);
                }
                return;
            }
        }
        for written in &layer.written {
            self.account(layer, written, &parent);
        }
        self.account_mounts(layer, &parent);
        self.account_secrets(layer, &parent);
        self.account_rules(layer, &parent);
    }

    fn add_rules(&mut self, layer: &Layer, child: &mut Policy) {
        for (at, rule) in &layer.rules {
            let rule = self.named(layer, rule);
            if child.approval.rules.iter().any(|other| other.id == rule.id) {
                let message = format!("{} has a rule {:?} already", self.beneath, rule.id);
                self.note(layer, at, Code::DuplicateId, message);
                continue;
            }
            child.approval.rules.push(rule);
        }
    }

    /// A rule of a layer that the user did not write cannot clash with theirs.
    fn named(&self, layer: &Layer, rule: &Rule) -> Rule {
        let level = self.level(layer);
        let id = match level.only_tightens() {
            true => format!("{}/{}", level.name(), rule.id),
            false => rule.id.clone(),
        };
        Rule { id, ..rule.clone() }
    }

    /// Says what became of a key that was written over another's.
    fn account(&mut self, layer: &Layer, written: &Written, parent: &Policy) {
        let key = written.key;
        let origin = self.origin(layer, &written.at);
        let held = show(parent, written);
        let value = key.form.show(&written.value);
        let now = show(&self.policy, written);
        let came_through = key
            .form
            .holds(&written.value, &(key.slot.get)(&self.policy));
        if self.level(layer) == Level::System {
            if held == now {
                // A ceiling above what is there.
                self.origins.lose(key.path, Lost { value, origin });
                return;
            }
            let message =
                format!("{held} is looser than {value}, the ceiling of {origin}; {now} counts");
            self.lowered(key.path, message);
            self.origins.set(key.path, origin, Some(held));
        } else if came_through {
            if held != now {
                self.origins.set(key.path, origin, Some(held));
            }
        } else {
            let theirs = self.beneath;
            let message = format!("{value} is looser than {theirs}'s {held}; {now} counts");
            self.note(layer, &written.at, Code::LooserIgnored, message);
            self.origins.lose(key.path, Lost { value, origin });
        }
    }

    /// A ceiling took something away: said where a person wrote it, and of no built-in.
    fn lowered(&mut self, key: &str, message: String) {
        let mark = self
            .origins
            .get(key)
            .and_then(|one| one.origin.by_a_person());
        if let Some(mark) = mark {
            self.problems.push(Problem {
                code: Code::LooserIgnored,
                key: key.to_owned(),
                source: mark.source,
                span: mark.span.clone(),
                message,
                allowed: None,
                fix: None,
            });
        }
    }

    fn account_mounts(&mut self, layer: &Layer, parent: &Policy) {
        let ceiling = self.level(layer) == Level::System;
        for mount in &parent.mounts {
            if self.policy.mounts.contains(mount) {
                continue;
            }
            let key = format!("mount {}", mount.target);
            let kept = self.policy.mounts.iter();
            let kept = kept.filter(|kept| kept.target == mount.target).count() > 0;
            if ceiling {
                let says = match kept {
                    true => "read-only",
                    false => "not mounted",
                };
                self.lowered(
                    &key,
                    format!("{} is {says}: the system's policy says so", mount.target),
                );
            }
            if !kept {
                self.origins.forget(&key);
            }
        }
        for (at, mount) in layer.mounts.iter().flatten().filter(|_| !ceiling) {
            if !self.policy.mounts.contains(mount) {
                let message = format!("{} does not mount {} like this", self.beneath, mount.target);
                self.note(layer, at, Code::LooserIgnored, message);
            }
        }
    }

    fn account_secrets(&mut self, layer: &Layer, parent: &Policy) {
        let ceiling = self.level(layer) == Level::System;
        for secret in &parent.secrets {
            let now = self
                .policy
                .secrets
                .iter()
                .find(|one| one.name == secret.name);
            let key = format!("secret {}", secret.name);
            let says = match now {
                Some(now) if now == secret => continue,
                Some(_) => "handed over after a question only",
                None => "not handed over",
            };
            let gone = now.is_none();
            if ceiling {
                let message = format!("{} is {says}: the system's policy says so", secret.name);
                self.lowered(&key, message);
            }
            if gone {
                self.origins.forget(&key);
            }
        }
        for (at, secret) in layer.secrets.iter().flatten().filter(|_| !ceiling) {
            if !self.policy.secrets.contains(secret) {
                let message = format!("{} does not give {} like this", self.beneath, secret.name);
                self.note(layer, at, Code::LooserIgnored, message);
            }
        }
    }

    /// What a layer over the user's says about the mounts there may be.
    fn mount_cap(&self, layer: &Layer) -> Option<MountCap> {
        let mounts = layer.mounts.as_ref()?;
        let at = mounts
            .first()
            .map_or(At::new("mount", 0..0), |(at, _)| at.clone());
        Some(MountCap {
            origin: self.origin(layer, &at),
            mounts: mounts.iter().map(|(_, mount)| mount.clone()).collect(),
        })
    }

    fn account_rules(&mut self, layer: &Layer, parent: &Policy) {
        for (at, rule) in &layer.rules {
            let covered = parent
                .approval
                .rules
                .iter()
                .any(|other| meet::covers(other, rule));
            if rule.decision == Decision::Allow && !covered {
                let message = format!("rule {} allows what {} does not", rule.id, self.beneath);
                self.note(layer, at, Code::LooserIgnored, message);
            } else if rule.decision != Decision::Allow {
                let origin = self.origin(layer, at);
                let id = self.named(layer, rule).id;
                self.origins.set(&format!("rule {id}"), origin, None);
            }
        }
    }

    fn check_images(&mut self, layers: &[Layer]) {
        let Some(message) = moving_image(&self.policy) else {
            return;
        };
        let written = ["image.allow", "image.require_digest"]
            .iter()
            .find_map(|key| {
                layers.iter().find_map(|layer| {
                    let mut written = layer.written.iter();
                    Some((layer, written.find(|one| one.key.path == *key)?))
                })
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
