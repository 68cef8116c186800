//! What definitions would change, and making it so: one log entry for all of them.
//!
//! A version is never edited. A view whose meaning changed becomes the next version; other words for people are
//! recorded beside the version; a definition that is in the store and not in the folder is left alone.
//!
//! What breaks those who read a view needs a reason, and where it is guarded somebody else's approval of exactly this plan.

mod consent;
mod words;

use feature::definition::{
    Declared, Definition, Definitions, Entity, FeatureService, FeatureView, canonical,
};
use feature::digest::{Digest, HashAlgorithm, hash};
use feature::evolution::{self, Change, Difference, Effect};
use feature::name::nearest;
use feature::{Name, Reference, VersionId};
use serde::Serialize;
use storage::environment;

use crate::author::Author;
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::records::{
    Described, EntityDefined, PlannedChange, Record, ServiceDefined, Subject, ViewVersionDefined,
};
use crate::state::{Provenance, ServiceVersion, Stage, State, TrainingSet, ViewVersion, Withdrawable};

pub use consent::{Applied, Consent, apply};

/// What applying would do, in the order in which it would be done.
#[derive(Clone, Debug)]
pub struct Plan {
    pub changes: Vec<Planned>,
    /// Of what makes or changes versions, and of the versions that are in force before it. What is approved is this.
    pub digest: Digest,
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub subject: Subject,
    pub project: Name,
    pub name: Name,
    pub action: Action,
    /// What the view's version is to find out.
    pub hypothesis: Option<String>,
    /// Who would feel it, beside services; whoever knows the graph fills it in.
    pub felt_by: FeltBy,
    /// Of a derived view: what stands in the way of tracing its columns to their sources; whoever plans its query fills it in.
    pub untraced: Option<String>,
}

/// Who would feel a change, by name and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeltBy {
    /// In force, made of what changes.
    pub derived_views: Vec<String>,
    /// With cells of what changes.
    pub training_sets: Vec<String>,
    pub model_versions: Vec<String>,
    /// In force.
    pub deployments: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Create,
    /// The next version. A new line of batches starts empty and needs a back-fill.
    NextVersion {
        number: u32,
        starts_empty: bool,
        /// What it means to those who read it by its name.
        effect: Effect,
        /// The version in force until then.
        before: VersionId,
        differences: Vec<String>,
        /// Of a view: the features that more than harmless differences are of; none where some is of the view as a whole.
        features: Option<Vec<Name>>,
        services: Vec<String>,
    },
    /// Other words for people, another place to read from, or how long and how closely it is looked after; no new version. What differs, of
    /// a feature view.
    Describe {
        differences: Vec<String>,
    },
    Keep {
        number: u32,
    },
}

impl Plan {
    fn new(algorithm: HashAlgorithm) -> Self {
        Self { changes: Vec::new(), digest: hash(algorithm, b"") }
    }

    /// The gravest of its changes.
    pub fn effect(&self) -> Effect {
        self.changes.iter().map(Planned::effect).max().unwrap_or_default()
    }

    /// The changes that break somebody.
    pub fn breaking(&self) -> impl Iterator<Item = &Planned> {
        self.changes.iter().filter(|planned| planned.effect() == Effect::Breaking)
    }

    /// What stands in the log of it.
    fn told(&self) -> Vec<PlannedChange> {
        self.changes.iter().filter_map(Planned::told).collect()
    }

    /// Whether applying would append nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|planned| matches!(planned.action, Action::Keep { .. }))
    }
}

impl Planned {
    /// What it means to those who read the thing by its name.
    pub fn effect(&self) -> Effect {
        match &self.action {
            Action::NextVersion { effect, .. } => *effect,
            Action::Create | Action::Describe { .. } | Action::Keep { .. } => Effect::Harmless,
        }
    }

    /// What stands in the log of it; none of what makes no version.
    fn told(&self) -> Option<PlannedChange> {
        let (number, differences) = match &self.action {
            Action::Create => (1, Vec::new()),
            Action::NextVersion { number, differences, .. } => (*number, differences.clone()),
            Action::Describe { .. } | Action::Keep { .. } => return None,
        };
        Some(PlannedChange {
            subject: self.subject,
            project: self.project.clone(),
            name: self.name.clone(),
            number,
            effect: self.effect(),
            differences,
        })
    }
}

/// What applying these definitions to this state would do. Checks in SQL are compiled, so that a wrong one is found here
/// and not at the first ingest.
///
/// # Errors
/// `Invalid` where a definition refers to what neither the folder nor the store has, or a check is wrong.
pub fn plan(state: &State, definitions: &Definitions, conditions: &dyn Conditions) -> Result<Plan> {
    Ok(prepare(state, definitions, conditions)?.0)
}

/// The state as it would be with these definitions applied, for those who check what refers to them. It is of no store.
///
/// # Errors
/// As of [`plan`].
pub fn provisional(
    state: &State,
    definitions: &Definitions,
    conditions: &dyn Conditions,
    author: &Author,
) -> Result<State> {
    let (_, records) = prepare(state, definitions, conditions)?;
    let mut next = state.clone();
    let by = Provenance {
        sequence: state.head.sequence,
        committed_at: state.head.committed_at,
        principal: author.principal.clone(),
        program: author.program.clone(),
        run: None,
        experiment: None,
    };
    let by = std::sync::Arc::new(by);
    for record in &records {
        next.apply(record, &by).map_err(|error| Error::internal("the definitions would not fold", error))?;
    }
    Ok(next)
}

fn prepare(
    state: &State,
    definitions: &Definitions,
    conditions: &dyn Conditions,
) -> Result<(Plan, Vec<Record>)> {
    let mut preparation = Preparation {
        state,
        definitions,
        conditions,
        plan: Plan::new(state.hash),
        records: Vec::new(),
        entities: Vec::new(),
    };
    for Declared { definition, .. } in &definitions.entities {
        preparation.entity(definition)?;
    }
    for Declared { definition, .. } in &definitions.views {
        preparation.view(definition)?;
    }
    for Declared { definition, .. } in &definitions.services {
        preparation.service(definition)?;
    }
    preparation.plan.digest = preparation.digest()?;
    Ok((preparation.plan, preparation.records))
}

/// What the digest of a plan is over, for each version that it makes.
#[derive(Serialize)]
struct Bound<'a> {
    change: PlannedChange,
    /// Of the definition.
    digest: &'a str,
    before: Option<VersionId>,
}

struct Preparation<'a> {
    state: &'a State,
    definitions: &'a Definitions,
    conditions: &'a dyn Conditions,
    plan: Plan,
    records: Vec<Record>,
    /// Entity versions that the records above will define.
    entities: Vec<EntityDefined>,
}

impl Preparation<'_> {
    /// Of what makes versions. The words and places that differ between two people's folders are no part of it.
    fn digest(&self) -> Result<Digest> {
        let digests = self.records.iter().filter_map(|record| match record {
            Record::EntityDefined(body) => Some(body.digest.as_str()),
            Record::ViewVersionDefined(body) => Some(body.digest.as_str()),
            Record::ServiceDefined(body) => Some(body.digest.as_str()),
            _ => None,
        });
        let changes = self.plan.changes.iter().filter_map(|planned| {
            let before = match planned.action {
                Action::NextVersion { before, .. } => Some(before),
                _ => None,
            };
            Some((planned.told()?, before))
        });
        let bound: Vec<Bound<'_>> =
            changes.zip(digests).map(|((change, before), digest)| Bound { change, digest, before }).collect();
        let text = serde_json::to_string(&(self.state.store, bound))
            .map_err(|error| Error::internal("a plan cannot be written", error))?;
        Ok(hash(self.state.hash, format!("lineament.plan 1\n{text}").as_bytes()))
    }

    fn push(&mut self, subject: Subject, project: &Name, name: &Name, action: Action) {
        let (project, name) = (project.clone(), name.clone());
        self.plan.changes.push(Planned {
            subject,
            project,
            name,
            action,
            hypothesis: None,
            felt_by: FeltBy::default(),
            untraced: None,
        });
    }

    fn entity(&mut self, entity: &Entity) -> Result<()> {
        let digest = canonical::digest(entity);
        let current = self.state.entity(&entity.project, &entity.name, self.state.head.sequence);
        let (id, number, action) = match current {
            None => (environment::mint(), 1, Action::Create),
            Some(current) if current.digest == digest => {
                let action = if *current.definition == *entity {
                    Action::Keep { number: current.number }
                } else {
                    self.describe(Subject::Entity, current.version, Definition::Entity(entity.clone()));
                    Action::Describe { differences: Vec::new() }
                };
                self.push(Subject::Entity, &entity.project, &entity.name, action);
                return Ok(());
            }
            Some(current) => {
                let number = current.number + 1;
                let mut described = self.state.views_in_force(self.state.head.sequence).filter(|view| {
                    let described = &view.definition;
                    (&described.project, &described.entity) == (&entity.project, &entity.name)
                });
                let is_used = described.any(|view| self.is_used(view));
                let action = Action::NextVersion {
                    number,
                    starts_empty: false,
                    effect: if is_used { Effect::Breaking } else { Effect::Harmless },
                    before: current.version,
                    differences: vec!["other keys".to_owned()],
                    features: None,
                    services: Vec::new(),
                };
                (current.entity, number, action)
            }
        };
        let defined = EntityDefined {
            entity: id,
            version: environment::mint(),
            number,
            digest,
            definition: Definition::Entity(entity.clone()).to_json(),
        };
        self.entities.push(defined.clone());
        self.records.push(defined.into());
        self.push(Subject::Entity, &entity.project, &entity.name, action);
        Ok(())
    }

    fn view(&mut self, view: &FeatureView) -> Result<()> {
        let (entity, entity_id, entity_version) = self.entity_of(view)?;
        let mut view = view.clone();
        view.keys = view.resolve_keys(&entity).map_err(|error| Error::Invalid(error.to_string()))?;
        self.compile_checks(&entity, &view)?;
        let digest = canonical::digest(&view);
        let current =
            self.state.view(view.project.as_str(), view.name.as_str(), None, self.state.head.sequence);
        self.refuse_withdrawn(&view, &digest)?;
        let version: VersionId = environment::mint();
        // Numbers are never given twice, and the newest may have been withdrawn.
        let next = self.state.versions_of(&view.project, &view.name).len() + 1;
        let next = u32::try_from(next).unwrap_or(u32::MAX);
        let (id, number, line, action) = match current {
            None => (environment::mint(), 1, version, Action::Create),
            Some(current) => match self.change(current, &view, &entity) {
                Change::Same => {
                    let action = Action::Keep { number: current.number };
                    self.push(Subject::FeatureView, &view.project, &view.name, action);
                    return Ok(());
                }
                Change::AboutOnly => {
                    self.describe(
                        Subject::FeatureView,
                        current.version,
                        Definition::FeatureView(view.clone()),
                    );
                    let differences = evolution::about_differences(&current.definition, &view);
                    let action =
                        Action::Describe { differences: differences.iter().map(Difference::brief).collect() };
                    self.push(Subject::FeatureView, &view.project, &view.name, action);
                    return Ok(());
                }
                Change::SameLine(differences) => {
                    let action = self.next_version(current, &view, next, false, &differences);
                    (current.view, next, current.line, action)
                }
                Change::NewLine(differences) => {
                    let action = self.next_version(current, &view, next, true, &differences);
                    (current.view, next, version, action)
                }
            },
        };
        let record = ViewVersionDefined {
            view: id,
            version,
            number,
            line,
            entity: entity_id,
            entity_version,
            digest,
            definition: Definition::FeatureView(view.clone()).to_json(),
        };
        self.records.push(record.into());
        self.push(Subject::FeatureView, &view.project, &view.name, action);
        if let Some(planned) = self.plan.changes.last_mut() {
            planned.hypothesis.clone_from(&view.hypothesis);
        }
        Ok(())
    }

    /// Definitions that are those of a withdrawn version, and of none in force, would bring back what somebody took away: as a new
    /// number, and without a word.
    fn refuse_withdrawn(&self, view: &FeatureView, digest: &str) -> Result<()> {
        let head = self.state.head.sequence;
        let versions = self.state.versions_of(&view.project, &view.name);
        let same = versions.iter().rev().filter(|version| version.digest == digest);
        let withdrawals = same.map(|version| {
            let of = Withdrawable::Version(version.version);
            self.state.withdrawals().at(of, head).map(|withdrawal| (version, withdrawal))
        });
        // One that still counts is in force or was superseded: going back to it is a change like any other.
        let Some(all) = withdrawals.collect::<Option<Vec<_>>>() else { return Ok(()) };
        let Some((version, withdrawal)) = all.first() else { return Ok(()) };
        let label = version.label();
        Err(Error::Invalid(format!(
            "feature view `{}` is defined as {label} was, which {} withdrew at sequence {}: {}; change the definition, or bring the \
             version back with `lineament rollback {label} --undo`",
            view.name, withdrawal.by.principal, withdrawal.by.sequence, withdrawal.reason
        )))
    }

    /// How a view differs from the version in force, its whole line taken into account.
    fn change(&self, current: &ViewVersion, view: &FeatureView, entity: &Entity) -> Change {
        let change = evolution::compare(&current.definition, view, &current.entity, entity);
        let Change::SameLine(mut differences) = change else { return change };
        let line = self.state.views().filter(|version| version.line == current.line);
        let conflicts = evolution::conflicts_with_line(line.map(|version| version.definition.as_ref()), view);
        if conflicts.is_empty() {
            return Change::SameLine(differences);
        }
        differences.extend(conflicts);
        Change::NewLine(differences)
    }

    /// Whether anybody can feel a change of a view: somebody lists it, a derived view reads it, there are rows of any of its versions, or a
    /// set was recorded of one. The version in force alone does not tell: one that begins a line has no rows yet.
    fn is_used(&self, version: &ViewVersion) -> bool {
        let (project, name) = (&version.definition.project, &version.definition.name);
        let lists = |reference: &Reference| (&reference.project, &reference.view) == (project, name);
        let mut services = self.state.services();
        let versions = self.state.versions_of(project, name);
        let is_of = |id: VersionId| versions.iter().any(|known| known.version == id);
        let was_made_of_it =
            |set: &TrainingSet| set.record.selected.iter().flatten().any(|one| is_of(one.version));
        let mut derived = self.state.views_in_force(self.state.head.sequence);
        versions.iter().any(|known| !self.state.batches_of_line(known.line).is_empty())
            || services.any(|service| service.definition.features.iter().any(lists))
            || derived.any(|view| view.view != version.view && names(&view.definition, name))
            || self.state.training_sets().any(was_made_of_it)
    }

    fn next_version(
        &self,
        current: &ViewVersion,
        view: &FeatureView,
        number: u32,
        starts_empty: bool,
        differences: &[Difference],
    ) -> Action {
        let affected = |service: &&crate::state::ServiceVersion| {
            let names = &service.definition.features;
            names.iter().any(|named| {
                named.project == view.project && named.view == view.name && named.version.is_none()
            })
        };
        let effect = differences.iter().map(|difference| difference.part.effect()).max().unwrap_or_default();
        let felt = differences.iter().filter(|difference| difference.part.effect() > Effect::Harmless);
        Action::NextVersion {
            number,
            starts_empty,
            effect: if self.is_used(current) { effect } else { Effect::Harmless },
            before: current.version,
            features: felt.map(|difference| difference.feature.clone()).collect(),
            differences: differences.iter().map(ToString::to_string).collect(),
            services: self
                .state
                .services()
                .filter(affected)
                .map(|service| service.definition.name.to_string())
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
        }
    }

    /// The entity of a view: from these definitions where they have it, else from the store.
    fn entity_of(&self, view: &FeatureView) -> Result<(Entity, feature::EntityId, VersionId)> {
        let stored = self.state.entity(&view.project, &view.entity, self.state.head.sequence);
        let declared = self
            .definitions
            .entities
            .iter()
            .map(|declared| &declared.definition)
            .find(|entity| entity.project == view.project && entity.name == view.entity);
        if let Some(entity) = declared {
            let digest = canonical::digest(entity);
            if let Some(new) =
                self.entities.iter().find(|new| new.digest == digest && is_named(new, &view.entity))
            {
                return Ok((entity.clone(), new.entity, new.version));
            }
        }
        match stored {
            Some(stored) => Ok(((*stored.definition).clone(), stored.entity, stored.version)),
            None => {
                let known: Vec<&str> = self
                    .state
                    .entities()
                    .map(|entity| entity.definition.name.as_str())
                    .chain(self.definitions.entities.iter().map(|entity| entity.definition.name.as_str()))
                    .collect();
                Err(Error::NotFound(format!(
                    "feature view `{}` describes entity `{}`, which is not defined{}; add a file with kind = \"entity\" and that name",
                    view.name,
                    view.entity,
                    did_you_mean(&view.entity.to_string(), known),
                )))
            }
        }
    }

    fn compile_checks(&self, entity: &Entity, view: &FeatureView) -> Result<()> {
        let schema = crate::ingest::row_schema(entity, view);
        for check in &view.checks {
            self.conditions.compile(&check.sql, &schema).map_err(|why| {
                Error::Invalid(format!(
                    "feature view `{}`, check `{}`: `{}` is not a condition over one row: {why}",
                    view.name, check.name, check.sql
                ))
            })?;
        }
        Ok(())
    }

    fn service(&mut self, service: &FeatureService) -> Result<()> {
        let current = self.state.service(&service.project, &service.name, self.state.head.sequence);
        for reference in &service.features {
            self.check_reference(service, reference)?;
            if current.is_none_or(|current| !current.definition.features.contains(reference)) {
                self.refuse_closed(service, reference)?;
            }
        }
        let digest = canonical::digest(service);
        let (id, number, action) = match current {
            None => (environment::mint(), 1, Action::Create),
            Some(current) if current.digest == digest => {
                let action = if *current.definition == *service {
                    Action::Keep { number: current.number }
                } else {
                    self.describe(
                        Subject::FeatureService,
                        current.version,
                        Definition::FeatureService(service.clone()),
                    );
                    Action::Describe { differences: Vec::new() }
                };
                self.push(Subject::FeatureService, &service.project, &service.name, action);
                return Ok(());
            }
            Some(current) => {
                let number = current.number + 1;
                let old: Vec<String> = current.definition.features.iter().map(ToString::to_string).collect();
                let new: Vec<String> = service.features.iter().map(ToString::to_string).collect();
                let differences = vec![format!("features {} → {}", old.join(", "), new.join(", "))];
                let action = Action::NextVersion {
                    number,
                    starts_empty: false,
                    effect: effect_of_service(current, service),
                    before: current.version,
                    differences,
                    features: None,
                    services: Vec::new(),
                };
                (current.service, number, action)
            }
        };
        let record = ServiceDefined {
            service: id,
            version: environment::mint(),
            number,
            digest,
            definition: Definition::FeatureService(service.clone()).to_json(),
        };
        self.records.push(record.into());
        self.push(Subject::FeatureService, &service.project, &service.name, action);
        Ok(())
    }

    /// A service that begins to list what is closed to new uses would be one.
    fn refuse_closed(&self, service: &FeatureService, reference: &Reference) -> Result<()> {
        let at = self.state.head.sequence;
        let (project, name) = (reference.project.as_str(), reference.view.as_str());
        let Some(version) = self.state.view(project, name, reference.version, at) else { return Ok(()) };
        let closed = self.state.deprecation_of(version, at).filter(|(_, stage)| *stage >= Stage::Closed);
        let Some((deprecation, _)) = closed else { return Ok(()) };
        Err(Error::Invalid(format!(
            "feature service `{}` refers to `{reference}`: {}",
            service.name,
            crate::deprecation::why_not(self.state, deprecation, &version.label())
        )))
    }

    fn check_reference(&self, service: &FeatureService, reference: &Reference) -> Result<()> {
        let declared = self
            .definitions
            .views
            .iter()
            .map(|declared| &declared.definition)
            .find(|view| view.project == reference.project && view.name == reference.view);
        let at = self.state.head.sequence;
        let stored = self
            .state
            .view(reference.project.as_str(), reference.view.as_str(), reference.version, at)
            .map(|version| version.definition.as_ref());
        let view = match (reference.version, declared, stored) {
            (None, Some(declared), _) => declared,
            (_, _, Some(stored)) => stored,
            _ => {
                let known: Vec<&str> = self
                    .state
                    .views()
                    .map(|view| view.definition.name.as_str())
                    .chain(self.definitions.views.iter().map(|view| view.definition.name.as_str()))
                    .collect();
                return Err(Error::NotFound(format!(
                    "feature service `{}` refers to `{reference}`, but there is no such feature view{}",
                    service.name,
                    did_you_mean(reference.view.as_str(), known),
                )));
            }
        };
        if let Some(feature) = &reference.feature
            && !view.features.iter().any(|known| known.name == *feature)
        {
            let known = view.features.iter().map(|known| known.name.as_str());
            return Err(Error::NotFound(format!(
                "feature service `{}` refers to `{reference}`, but `{}` has no feature `{feature}`{}",
                service.name,
                view.name,
                did_you_mean(feature.as_str(), known),
            )));
        }
        Ok(())
    }

    fn describe(&mut self, subject: Subject, version: VersionId, definition: Definition) {
        self.records.push(Described { subject, version, definition: definition.to_json() }.into());
    }
}

/// Whether the query of a derived view has the name of another. It is not planned here, and one name too many costs a reason.
fn names(view: &FeatureView, name: &Name) -> bool {
    let is_in_name = |sign: char| sign.is_alphanumeric() || sign == '_';
    let query = view.derived.as_ref().map_or("", |derived| derived.sql.as_str());
    query.split(|sign: char| !is_in_name(sign)).any(|word| word.eq_ignore_ascii_case(name.as_str()))
}

/// A service that loses a feature, or gives another version of one, breaks who asks for it; further features do not.
fn effect_of_service(current: &ServiceVersion, service: &FeatureService) -> Effect {
    let covers = |old: &Reference, new: &Reference| {
        let same = (&old.project, &old.view, old.version) == (&new.project, &new.view, new.version);
        same && (new.feature.is_none() || new.feature == old.feature)
    };
    let kept = |old: &Reference| service.features.iter().any(|new| covers(old, new));
    if current.definition.features.iter().all(kept) { Effect::Harmless } else { Effect::Breaking }
}

fn is_named(defined: &EntityDefined, name: &Name) -> bool {
    defined.definition.get("name").and_then(serde_json::Value::as_str) == Some(name.as_str())
}

/// ` (did you mean …?)`, or nothing when no known name is near.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}
