//! What will go, and how far it has come, at each sequence.

use std::collections::HashMap;
use std::sync::Arc;

use feature::{DeprecationId, Id, Sequence, Timestamp};

use super::{ApplyError, Provenance, ServiceVersion, State, ViewVersion, repeated, unresolved};
use crate::records::{
    Deprecable, Deprecated, DeprecatedKind, DeprecationAdvanced, DeprecationRevoked, DeprecationStep, Record,
};

/// How far a deprecation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Announced,
    Closed,
    Withdrawn,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Closed => "closed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A deprecation, with what came of it.
#[derive(Clone, Debug)]
pub struct Deprecation {
    pub record: Deprecated,
    pub by: Arc<Provenance>,
    /// In the order of the log.
    pub steps: Vec<(DeprecationAdvanced, Arc<Provenance>)>,
    pub revoked: Option<(DeprecationRevoked, Arc<Provenance>)>,
}

impl Deprecation {
    /// How far it had come at a sequence; none where it was not announced yet, or revoked.
    pub fn stage(&self, at: Sequence) -> Option<Stage> {
        let revoked = self.revoked.as_ref().is_some_and(|(_, by)| by.sequence <= at);
        if self.by.sequence > at || revoked {
            return None;
        }
        let taken = self.steps.iter().filter(|(_, by)| by.sequence <= at).map(|(step, _)| step.step);
        Some(match taken.max() {
            None => Stage::Announced,
            Some(DeprecationStep::Closed) => Stage::Closed,
            Some(DeprecationStep::Withdrawn) => Stage::Withdrawn,
        })
    }

    /// The next step, and when it is due; none where there is none to come.
    pub fn next(&self, at: Sequence) -> Option<(DeprecationStep, Timestamp)> {
        match self.stage(at)? {
            Stage::Announced => Some((DeprecationStep::Closed, self.record.closed_at)),
            Stage::Closed => Some((DeprecationStep::Withdrawn, self.record.withdrawn_at?)),
            Stage::Withdrawn => None,
        }
    }
}

/// All deprecations.
#[derive(Clone, Debug, Default)]
pub struct Deprecations {
    /// In the order of the log.
    all: Vec<Deprecation>,
    places: HashMap<DeprecationId, usize>,
    /// By what is deprecated: the last.
    last: HashMap<Deprecable, usize>,
}

impl Deprecations {
    /// In the order of the log, those that were revoked among them.
    pub fn all(&self) -> &[Deprecation] {
        &self.all
    }

    /// The deprecation of a thing at a sequence, and how far it has come; none where it stands for as long as anybody knows.
    pub fn at(&self, of: Deprecable, at: Sequence) -> Option<(&Deprecation, Stage)> {
        let last = self.all.get(*self.last.get(&of)?)?;
        if last.by.sequence <= at {
            return last.stage(at).map(|stage| (last, stage));
        }
        let earlier = self.all.iter().rev().filter(|one| one.record.of == of && one.by.sequence <= at);
        earlier.filter_map(|one| Some((one, one.stage(at)?))).next()
    }

    /// Takes in a record of a deprecation; one of anything else is nothing to it.
    ///
    /// # Errors
    /// `Repeated` for what is deprecated already, and for a step that was taken or is not the next; `Unresolved` for what is not known.
    pub(super) fn take(&mut self, record: &Record, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        match record {
            Record::Deprecated(record) => self.announce(record, by),
            Record::DeprecationAdvanced(record) => self.advance(record, by),
            Record::DeprecationRevoked(record) => self.revoke(record, by),
            _ => Ok(()),
        }
    }

    fn announce(&mut self, record: &Deprecated, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let before = self.last.get(&record.of).and_then(|place| self.all.get(*place));
        // A new one does not come in the entry that ends the old: a checkpoint keeps the order of entries, not that within one.
        let stands =
            |last: &Deprecation| last.revoked.as_ref().is_none_or(|(_, ended)| ended.sequence == by.sequence);
        if before.is_some_and(stands) {
            let Deprecable { kind, id } = record.of;
            return Err(repeated(by, "the deprecation of", format!("{} {id}", kind.name())));
        }
        let place = self.all.len();
        if self.places.insert(record.deprecation, place).is_some() {
            return Err(repeated(by, "deprecation", record.deprecation.to_string()));
        }
        self.last.insert(record.of, place);
        self.all.push(Deprecation {
            record: record.clone(),
            by: by.clone(),
            steps: Vec::new(),
            revoked: None,
        });
        Ok(())
    }

    fn advance(&mut self, record: &DeprecationAdvanced, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let found = self.find(record.deprecation, by)?;
        let next = match found.stage(by.sequence) {
            Some(Stage::Announced) => Some(DeprecationStep::Closed),
            Some(Stage::Closed) => Some(DeprecationStep::Withdrawn),
            Some(Stage::Withdrawn) | None => None,
        };
        if next != Some(record.step) {
            let what = format!("{} to {}", record.deprecation, record.step.name());
            return Err(repeated(by, "the step of deprecation", what));
        }
        found.steps.push((record.clone(), by.clone()));
        Ok(())
    }

    fn revoke(&mut self, record: &DeprecationRevoked, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let found = self.find(record.deprecation, by)?;
        if found.revoked.is_some() {
            return Err(repeated(by, "the end of deprecation", record.deprecation.to_string()));
        }
        found.revoked = Some((record.clone(), by.clone()));
        Ok(())
    }

    fn find(&mut self, id: DeprecationId, by: &Arc<Provenance>) -> Result<&mut Deprecation, ApplyError> {
        let place = self.places.get(&id).copied();
        let found = place.and_then(|place| self.all.get_mut(place));
        found.ok_or_else(|| unresolved(by, "deprecation", id.to_string()))
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let announced = self.all.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        let steps = self.all.iter().flat_map(|one| &one.steps);
        let steps = steps.map(|(step, by)| (by.sequence, Record::from(step.clone())));
        let revoked = self.all.iter().filter_map(|one| one.revoked.as_ref());
        let revoked = revoked.map(|(record, by)| (by.sequence, Record::from(record.clone())));
        announced.chain(steps).chain(revoked).filter(move |(sequence, _)| Some(*sequence) > after)
    }
}

impl State {
    /// What will go, and what went.
    pub fn deprecations(&self) -> &Deprecations {
        &self.deprecations
    }

    /// The deprecation of a version of a feature view, its own or its view's: the one that has come further.
    pub fn deprecation_of(&self, version: &ViewVersion, at: Sequence) -> Option<(&Deprecation, Stage)> {
        let own = Deprecable { kind: DeprecatedKind::Version, id: version.version.uuid() };
        let view = Deprecable { kind: DeprecatedKind::FeatureView, id: version.view.uuid() };
        let found = [own, view].into_iter().filter_map(|of| self.deprecations.at(of, at));
        found.max_by_key(|(one, stage)| (*stage, one.record.of.kind == DeprecatedKind::Version))
    }

    /// The deprecation of a feature service.
    pub fn deprecation_of_service(
        &self,
        service: &ServiceVersion,
        at: Sequence,
    ) -> Option<(&Deprecation, Stage)> {
        let of = Deprecable { kind: DeprecatedKind::FeatureService, id: service.service.uuid() };
        self.deprecations.at(of, at)
    }

    /// How people call a thing that can be deprecated; none where there is none of that id.
    pub fn label_of(&self, of: Deprecable) -> Option<String> {
        let qualified = |project: &feature::Name, name: &feature::Name| match project.as_str() {
            "default" => name.to_string(),
            project => format!("{project}.{name}"),
        };
        match of.kind {
            DeprecatedKind::Version => self.view_version(of.id.into()).map(ViewVersion::label),
            DeprecatedKind::FeatureView => {
                let found = self.views().find(|version| version.view.uuid() == of.id)?;
                Some(qualified(&found.definition.project, &found.definition.name))
            }
            DeprecatedKind::FeatureService => {
                let found = self.services().find(|service| service.service.uuid() == of.id)?;
                Some(qualified(&found.definition.project, &found.definition.name))
            }
        }
    }

    /// The versions of feature views that a thing stands for; none of a service.
    pub fn versions_under(&self, of: Deprecable) -> Vec<&ViewVersion> {
        let is_meant = |version: &&ViewVersion| match of.kind {
            DeprecatedKind::Version => version.version.uuid() == of.id,
            DeprecatedKind::FeatureView => version.view.uuid() == of.id,
            DeprecatedKind::FeatureService => false,
        };
        self.views().filter(is_meant).collect()
    }

    pub(super) fn take_deprecation(
        &mut self,
        record: &Record,
        by: &Arc<Provenance>,
    ) -> Result<(), ApplyError> {
        if let Record::Deprecated(body) = record {
            for of in [Some(body.of), body.instead].into_iter().flatten() {
                if self.label_of(of).is_none() {
                    return Err(unresolved(by, of.kind.name(), of.id.to_string()));
                }
            }
        }
        Arc::make_mut(&mut self.deprecations).take(record, by)
    }
}
