//! Relations of what people decided: everything that changes what is defined, counted, kept, shown or allowed, with who and why.

use std::sync::Arc;

use catalog::records::{DeprecationStep, Described, Record, Subject};
use catalog::state::{Provenance, State, Withdrawable};
use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::common::{DataFusionError, Result};
use feature::policy::Action;
use feature::{Name, Sequence};
use futures::{StreamExt, TryStreamExt};
use storage::log::Log;

use super::Columns;
use crate::snapshot::Snapshot;

/// Entries that are read at a time.
const AT_A_TIME: usize = 16;

/// The relation of that name, if it is one of these.
pub async fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_decisions" => decisions(snapshot).await?,
        "state_deprecations" => deprecations(snapshot)?,
        "state_proposed_plans" => proposed_plans(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 3] = ["state_decisions", "state_deprecations", "state_proposed_plans"];

/// One decision.
struct Decision {
    kind: &'static str,
    of_kind: &'static str,
    of: String,
    id: Option<String>,
    reason: Option<String>,
    by: Arc<Provenance>,
    /// What policies were asked for, where any were in force; none where they are not.
    action: Option<Action>,
}

/// How a batch is called, after its own name.
const BATCH_OF: &str = "a batch of ";

fn qualified(project: &Name, name: &Name) -> String {
    match project.as_str() {
        "default" => name.to_string(),
        project => format!("{project}.{name}"),
    }
}

async fn decisions(snapshot: &Snapshot) -> Result<RecordBatch> {
    let state = &snapshot.state;
    let mut all = applied(state);
    all.extend(described(snapshot).await?);
    all.extend(moved(state));
    all.extend(kept(state));
    all.extend(erased(state));
    all.extend(deprecated(state));
    all.extend(planned(state));
    all.extend(governed(state));
    all.retain(|one| one.by.sequence <= snapshot.sequence);
    let all = || all.iter();
    Columns::default()
        .text("kind", all().map(|one| Some(one.kind)))
        .text("subject_kind", all().map(|one| Some(one.of_kind)))
        .text("subject", all().map(|one| Some(&one.of)))
        .text("id", all().map(|one| one.id.as_ref()))
        .text("reason", all().map(|one| one.reason.as_ref()))
        .text("action", all().map(|one| one.action))
        // As access_decisions names it.
        .text("asked", all().map(|one| Some(one.of.strip_prefix(BATCH_OF).unwrap_or(&one.of))))
        .by(all().map(|one| &one.by))
        .finish()
}

/// Definitions, with the reason that the plan of their entry gives.
fn applied(state: &State) -> Vec<Decision> {
    let reason = |by: &Provenance| Some(state.changes().applied_at(by.sequence)?.record.reason.clone());
    let one = |of_kind, of, id: String, by: &Arc<Provenance>| Decision {
        kind: "apply",
        of_kind,
        of,
        id: Some(id),
        reason: reason(by),
        by: by.clone(),
        action: Some(Action::Apply),
    };
    let entities = state.entities().map(|entity| {
        let named = qualified(&entity.definition.project, &entity.definition.name);
        one("entity", format!("{named}@{}", entity.number), entity.version.to_string(), &entity.by)
    });
    let views = state
        .views()
        .map(|version| one("feature_view", version.label(), version.version.to_string(), &version.by));
    let services = state.services().map(|service| {
        let named = qualified(&service.definition.project, &service.definition.name);
        one(
            "feature_service",
            format!("{named}@{}", service.number),
            service.version.to_string(),
            &service.by,
        )
    });
    entities.chain(views).chain(services).collect()
}

/// What was described anew. The state holds the last description alone, so that the entries that brought them are read.
async fn described(snapshot: &Snapshot) -> Result<Vec<Decision>> {
    let describes = |line: &&catalog::state::LogLine| {
        line.by.sequence <= snapshot.sequence && line.records.iter().any(|(number, _)| *number == DESCRIBED)
    };
    let lines: Vec<Arc<Provenance>> =
        snapshot.state.log().iter().filter(describes).map(|line| line.by.clone()).collect();
    let log = snapshot.catalog.store().log();
    let read: Vec<(Arc<Provenance>, Vec<Described>)> = futures::stream::iter(lines)
        .map(|by| {
            let log = log.clone();
            async move {
                let described = described_by(&log, by.sequence).await?;
                Ok::<_, DataFusionError>((by, described))
            }
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let state = &snapshot.state;
    let told = |by: &Arc<Provenance>, one: &Described| {
        let (of_kind, of) = match one.subject {
            Subject::Entity => ("entity", entity_label(state, one)),
            Subject::FeatureView => {
                ("feature_view", state.view_version(one.version).map(catalog::state::ViewVersion::label))
            }
            Subject::FeatureService => ("feature_service", service_label(state, one)),
        };
        Decision {
            kind: "describe",
            of_kind,
            of: of.unwrap_or_else(|| one.version.to_string()),
            id: Some(one.version.to_string()),
            reason: state.changes().applied_at(by.sequence).map(|applied| applied.record.reason.clone()),
            by: by.clone(),
            action: Some(Action::Apply),
        }
    };
    Ok(read.iter().flat_map(|(by, all)| all.iter().map(|one| told(by, one)).collect::<Vec<_>>()).collect())
}

/// The number of the record that describes.
const DESCRIBED: u32 = 13;

async fn described_by(log: &Log, sequence: Sequence) -> Result<Vec<Described>> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| DataFusionError::External(error);
    let read = log.read(sequence).await.map_err(|error| failed(Box::new(error)))?;
    let Some((entry, _)) = read else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for raw in entry.records.iter().filter(|raw| raw.number == DESCRIBED) {
        let record = Record::decode(raw.number, &raw.body).map_err(|error| failed(Box::new(error)))?;
        if let Record::Described(record) = record {
            found.push(record);
        }
    }
    Ok(found)
}

fn entity_label(state: &State, one: &Described) -> Option<String> {
    let found = state.entities().find(|entity| entity.version == one.version)?;
    Some(format!("{}@{}", qualified(&found.definition.project, &found.definition.name), found.number))
}

fn service_label(state: &State, one: &Described) -> Option<String> {
    let found = state.services().find(|service| service.version == one.version)?;
    Some(format!("{}@{}", qualified(&found.definition.project, &found.definition.name), found.number))
}

/// What was taken back by a rollback, and put back; what waited in quarantine, and was released or dropped.
fn moved(state: &State) -> Vec<Decision> {
    let of_batch = |version| state.view_version(version).map(catalog::state::ViewVersion::label);
    let batch =
        |version| of_batch(version).map_or_else(|| "a batch".to_owned(), |of| format!("{BATCH_OF}{of}"));
    let withdrawn = state.withdrawals().all().iter().map(|one| {
        let of = match one.of {
            Withdrawable::Version(version) => of_batch(version).unwrap_or_else(|| version.to_string()),
            Withdrawable::Batch(id) => {
                state.batch(id).map_or_else(|| id.to_string(), |found| batch(found.record.version))
            }
        };
        Decision {
            kind: if one.withdrawn { "withdraw" } else { "restore" },
            of_kind: one.of.kind(),
            of,
            id: Some(one.of.to_string()),
            reason: Some(one.reason.clone()),
            by: one.by.clone(),
            action: Some(Action::Withdraw),
        }
    });
    let ended = state.quarantine().all().iter().filter_map(|held| {
        let end = held.end.as_ref()?;
        Some(Decision {
            kind: if end.released { "release" } else { "drop" },
            of_kind: "batch",
            of: batch(held.batch.record.version),
            id: Some(held.batch.record.batch.to_string()),
            reason: Some(end.reason.clone()),
            by: end.by.clone(),
            action: Some(Action::Withdraw),
        })
    });
    withdrawn.chain(ended).collect()
}

/// Holds, and how long things are kept.
fn kept(state: &State) -> Vec<Decision> {
    let holds = state.holds().all().iter().flat_map(|hold| {
        let one = |kind, reason: &str, by: &Arc<Provenance>| Decision {
            kind,
            of_kind: hold.record.kind.name(),
            of: held_label(state, hold).unwrap_or_else(|| hold.record.id.to_string()),
            id: Some(hold.record.id.to_string()),
            reason: Some(reason.to_owned()),
            by: by.clone(),
            action: Some(Action::Hold),
        };
        let placed = one("hold", &hold.record.reason, &hold.by);
        let lifted = hold.lifted.as_ref().map(|(record, by)| one("lift", &record.reason, by));
        std::iter::once(placed).chain(lifted)
    });
    let settings = state.sweeps().settings().iter().map(|setting| Decision {
        kind: "retention",
        of_kind: "store",
        of: format!("grace {}, longest read {}", setting.record.grace, setting.record.longest_read),
        id: None,
        reason: None,
        by: setting.by.clone(),
        action: None,
    });
    holds.chain(settings).collect()
}

fn held_label(state: &State, hold: &catalog::state::Hold) -> Option<String> {
    use catalog::records::HeldKind;
    match hold.record.kind {
        HeldKind::Version => {
            state.view_version(hold.record.id.into()).map(catalog::state::ViewVersion::label)
        }
        HeldKind::Batch => {
            let batch = state.batch(hold.record.id.into())?;
            let version = state.view_version(batch.record.version)?;
            Some(format!("{BATCH_OF}{}", version.label()))
        }
        HeldKind::TrainingSet => state.training_set(hold.record.id.into())?.record.name.clone(),
        HeldKind::ModelVersion => None,
    }
}

fn deprecated(state: &State) -> Vec<Decision> {
    let mut all = Vec::new();
    for one in state.deprecations().all() {
        let of = one.record.of;
        let mut decide = |kind, reason: &str, by: &Arc<Provenance>, asked: bool| {
            all.push(Decision {
                kind,
                of_kind: of.kind.name(),
                of: state.label_of(of).unwrap_or_else(|| of.id.to_string()),
                id: Some(of.id.to_string()),
                reason: Some(reason.to_owned()),
                by: by.clone(),
                action: asked.then_some(Action::Deprecate),
            });
        };
        decide("deprecate", &one.record.reason, &one.by, true);
        for (step, by) in &one.steps {
            let kind = match step.step {
                DeprecationStep::Closed => "deprecation_closed",
                DeprecationStep::Withdrawn => "deprecation_withdrawn",
            };
            // A step whose date has come is taken by whoever meets it; to withdraw what is in use needs the right.
            let despite = step.despite.as_ref();
            decide(kind, despite.unwrap_or(&one.record.reason), by, despite.is_some());
        }
        if let Some((record, by)) = &one.revoked {
            decide("deprecation_revoked", &record.reason, by, true);
        }
    }
    all
}

/// Plans that were proposed, and what others said of them. One that was applied shows in what it defined.
fn planned(state: &State) -> Vec<Decision> {
    let mut all = Vec::new();
    for one in state.changes().proposals() {
        let changes = one.record.changes.iter().filter(|change| !change.differences.is_empty());
        let of: Vec<String> = changes
            .map(|change| format!("{}@{}", qualified(&change.project, &change.name), change.number))
            .collect();
        let mut decide = |kind, reason: &str, by: &Arc<Provenance>, action| {
            all.push(Decision {
                kind,
                of_kind: "plan",
                of: of.join(", "),
                id: Some(one.record.plan.to_string()),
                reason: Some(reason.to_owned()),
                by: by.clone(),
                action: Some(action),
            });
        };
        decide("propose", &one.record.reason, &one.by, Action::Apply);
        for (vote, by) in &one.votes {
            let kind = if vote.is_approval() { "approve" } else { "decline" };
            decide(kind, vote.reason(), by, Action::Approve);
        }
    }
    all
}

/// Entities that were erased; whose rows they were stands nowhere.
fn erased(state: &State) -> Vec<Decision> {
    let entity = |id| {
        let found = state.entities().find(|one| one.entity == id);
        found.map(|one| qualified(&one.definition.project, &one.definition.name))
    };
    let one = |erasure: &catalog::state::Erasure| Decision {
        kind: "erase",
        of_kind: "entity",
        of: entity(erasure.record.entity).unwrap_or_else(|| erasure.record.entity.to_string()),
        id: Some(erasure.record.erasure.to_string()),
        reason: Some(erasure.record.reason.clone()),
        by: erasure.by.clone(),
        action: Some(Action::Erase),
    };
    state.erasures().all().iter().map(one).collect()
}

fn governed(state: &State) -> Vec<Decision> {
    let applied = state.policies().all().iter().map(|one| Decision {
        kind: if one.record.files.is_empty() { "policies_lifted" } else { "policies" },
        of_kind: "store",
        of: format!("policies@{}", one.record.number),
        id: Some(one.record.digest.to_string()),
        reason: one.record.reason.clone(),
        by: one.by.clone(),
        action: Some(Action::Govern),
    });
    applied.collect()
}

fn deprecations(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let rows: Vec<_> = state.deprecations().all().iter().filter(|one| one.by.sequence <= at).collect();
    let all = || rows.iter();
    let label = |of| state.label_of(of);
    let step = |step: DeprecationStep| {
        let at_step = all().map(move |one| {
            let taken = one.steps.iter().find(|(taken, by)| taken.step == step && by.sequence <= at)?;
            Some(taken.1.sequence.0)
        });
        Arc::new(at_step.collect::<UInt64Array>())
    };
    let revoked = || all().map(|one| one.revoked.as_ref().filter(|(_, by)| by.sequence <= at));
    let withdrawn = all().map(|one| one.record.withdrawn_at.map(feature::Timestamp::micros));
    let withdrawn: arrow::array::TimestampMicrosecondArray = withdrawn.collect();
    Columns::default()
        .text("subject", all().map(|one| label(one.record.of)))
        .text("kind", all().map(|one| Some(one.record.of.kind.name())))
        .text("stage", all().map(|one| Some(one.stage(at).map_or("revoked", catalog::state::Stage::name))))
        .text("reason", all().map(|one| Some(&one.record.reason)))
        .time("closed_at", all().map(|one| one.record.closed_at.micros()))
        .add("withdrawn_at", Arc::new(withdrawn.with_timezone("UTC")))
        .text("instead", all().map(|one| one.record.instead.and_then(label)))
        .add("closed_at_sequence", step(DeprecationStep::Closed))
        .add("withdrawn_at_sequence", step(DeprecationStep::Withdrawn))
        .add(
            "revoked_at_sequence",
            Arc::new(revoked().map(|revoked| revoked.map(|(_, by)| by.sequence.0)).collect::<UInt64Array>()),
        )
        .text("revoked_for", revoked().map(|revoked| revoked.map(|(record, _)| &record.reason)))
        .text("deprecation", all().map(|one| Some(one.record.deprecation)))
        .by(all().map(|one| &one.by))
        .finish()
}

fn proposed_plans(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (changes, at) = (snapshot.state.changes(), snapshot.sequence);
    let rows: Vec<_> = changes.proposals().iter().filter(|one| one.by.sequence <= at).collect();
    let all = || rows.iter();
    let said = |approval: bool| {
        all().map(move |one| {
            let standing = one.standing(at);
            let who = standing.iter().filter(|(_, (vote, _))| vote.is_approval() == approval);
            let who: Vec<&str> = who.map(|(who, _)| *who).collect();
            (!who.is_empty()).then(|| who.join(", "))
        })
    };
    let told = |one: &catalog::state::Proposal| {
        let changes = one.record.changes.iter().map(|change| {
            let of =
                format!("{} {}@{}", change.subject, qualified(&change.project, &change.name), change.number);
            format!("{of} ({}): {}", change.effect, change.differences.join("; "))
        });
        changes.collect::<Vec<_>>().join("\n")
    };
    let applied = all().map(|one| {
        let of_plan = changes.applied().iter().filter(|applied| applied.record.plan == one.record.plan);
        let mut later = of_plan.map(|applied| applied.by.sequence);
        later.find(|sequence| *sequence > one.by.sequence && *sequence <= at).map(|sequence| sequence.0)
    });
    let applied: UInt64Array = applied.collect();
    Columns::default()
        .text("plan", all().map(|one| Some(one.record.plan)))
        .text("changes", all().map(|one| Some(told(one))))
        .text("reason", all().map(|one| Some(&one.record.reason)))
        .text("approved_by", said(true))
        .text("declined_by", said(false))
        .add("applied_at_sequence", Arc::new(applied))
        .by(all().map(|one| &one.by))
        .finish()
}
