//! What definitions would change, and making it so: one log entry for all of them.
//!
//! A version is never edited. A view whose meaning changed becomes the next version; other words for people are
//! recorded beside the version; a definition that is in the store and not in the folder is left alone.

use std::fmt;

use feature::definition::{
    Declared, Definition, Definitions, Entity, FeatureService, FeatureView, canonical,
};
use feature::evolution::{self, Change, Difference};
use feature::name::nearest;
use feature::{Name, Reference, Sequence, VersionId};
use storage::environment;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::records::{Described, EntityDefined, Record, ServiceDefined, Subject, ViewVersionDefined};
use crate::state::{Provenance, State, ViewVersion, Withdrawable};

/// What applying would do, in the order in which it would be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub changes: Vec<Planned>,
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub subject: Subject,
    pub project: Name,
    pub name: Name,
    pub action: Action,
    /// What the view's version is to find out.
    pub hypothesis: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Create,
    /// The next version. A new line of batches starts empty and needs a back-fill.
    NextVersion {
        number: u32,
        starts_empty: bool,
        differences: Vec<String>,
        services: Vec<String>,
    },
    /// Other words for people, or another place to read from; no new version.
    Describe,
    Keep {
        number: u32,
    },
}

impl Plan {
    /// Whether applying would append nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|planned| matches!(planned.action, Action::Keep { .. }))
    }
}

/// What was applied, and where it stands in the log; no sequence where nothing had to change.
#[derive(Clone, Debug)]
pub struct Applied {
    pub plan: Plan,
    pub sequence: Option<Sequence>,
}

/// What applying these definitions to this state would do. Checks in SQL are compiled, so that a wrong one is found here
/// and not at the first ingest.
///
/// # Errors
/// `Invalid` where a definition refers to what neither the folder nor the store has, or a check is wrong.
pub fn plan(state: &State, definitions: &Definitions, conditions: &dyn Conditions) -> Result<Plan> {
    Ok(prepare(state, definitions, conditions)?.0)
}

/// Applies definitions as one entry. Applying the same again appends nothing.
pub async fn apply(
    catalog: &Catalog,
    definitions: &Definitions,
    conditions: &dyn Conditions,
    author: &Author,
) -> Result<Applied> {
    let mut applied = Plan::default();
    let outcome = catalog
        .commit(author, None, |state| {
            let (plan, records) = prepare(state, definitions, conditions)?;
            applied = plan;
            Ok(if records.is_empty() { Intent::Done(()) } else { Intent::Append(records) })
        })
        .await?;
    let sequence = match outcome {
        Outcome::Committed(sequence) => Some(sequence),
        Outcome::Done(()) => None,
    };
    Ok(Applied { plan: applied, sequence })
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
        plan: Plan::default(),
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
    Ok((preparation.plan, preparation.records))
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
    fn push(&mut self, subject: Subject, project: &Name, name: &Name, action: Action) {
        let (project, name) = (project.clone(), name.clone());
        self.plan.changes.push(Planned { subject, project, name, action, hypothesis: None });
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
                    Action::Describe
                };
                self.push(Subject::Entity, &entity.project, &entity.name, action);
                return Ok(());
            }
            Some(current) => {
                let number = current.number + 1;
                let action = Action::NextVersion {
                    number,
                    starts_empty: false,
                    differences: vec!["other keys".to_owned()],
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
                    self.push(Subject::FeatureView, &view.project, &view.name, Action::Describe);
                    return Ok(());
                }
                Change::SameLine(differences) => {
                    let action = self.next_version(&view, next, false, &differences);
                    (current.view, next, current.line, action)
                }
                Change::NewLine(differences) => {
                    let action = self.next_version(&view, next, true, &differences);
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

    fn next_version(
        &self,
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
        Action::NextVersion {
            number,
            starts_empty,
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
        for reference in &service.features {
            self.check_reference(service, reference)?;
        }
        let digest = canonical::digest(service);
        let current = self.state.service(&service.project, &service.name, self.state.head.sequence);
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
                    Action::Describe
                };
                self.push(Subject::FeatureService, &service.project, &service.name, action);
                return Ok(());
            }
            Some(current) => {
                let number = current.number + 1;
                let old: Vec<String> = current.definition.features.iter().map(ToString::to_string).collect();
                let new: Vec<String> = service.features.iter().map(ToString::to_string).collect();
                let differences = vec![format!("features {} → {}", old.join(", "), new.join(", "))];
                let action =
                    Action::NextVersion { number, starts_empty: false, differences, services: Vec::new() };
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

fn is_named(defined: &EntityDefined, name: &Name) -> bool {
    defined.definition.get("name").and_then(serde_json::Value::as_str) == Some(name.as_str())
}

/// ` (did you mean …?)`, or nothing when no known name is near.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entity => "entity",
            Self::FeatureView => "feature view",
            Self::FeatureService => "feature service",
        })
    }
}

/// One line a change, as `lineament plan` prints them.
impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, name, .. } = self;
        match &self.action {
            Action::Create => write!(f, "+ {subject} {name}@1")?,
            Action::Describe if *subject == Subject::FeatureView => {
                write!(f, "~ {subject} {name}: description, owner, tags, hypothesis or source")?;
            }
            Action::Describe => write!(f, "~ {subject} {name}: description, owner, tags or source")?,
            Action::Keep { number } => write!(f, "  {subject} {name}@{number} unchanged")?,
            Action::NextVersion { number, starts_empty, differences, services } => {
                write!(f, "+ {subject} {name}@{number}: {}", differences.join("; "))?;
                if *starts_empty {
                    write!(
                        f,
                        "\n    starts empty: back-fill it with `lineament ingest {name}`; {name}@{} keeps its rows",
                        number - 1
                    )?;
                }
                if !services.is_empty() {
                    write!(f, "\n    read without a pinned version by: {}", services.join(", "))?;
                }
            }
        }
        match &self.hypothesis {
            Some(hypothesis) => write!(f, "\n    hypothesis: {hypothesis}"),
            None => Ok(()),
        }
    }
}
