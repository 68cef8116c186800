//! The system views, schema `lineament`: what the log says, as tables.
//!
//! Each is a file in `sql/` over the relations that this module makes of the folded state. Those are not reachable by
//! themselves, so that they may change; the views are what users rely on.

mod alerts;
mod by_object;
pub(crate) mod column_edges;
mod decisions;
mod kept;
mod profiles;
mod quality;
mod registry;
mod samples;
mod scores;
mod set_columns;
mod streams;
mod untraced;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{Field, Schema, SchemaRef, UInt64Type};
use async_trait::async_trait;
use catalog::ingest::mending::{self, Rejected};
use catalog::ingest::{quarantine_schema, read_quarantine};
use catalog::records::Object;
use catalog::state::{Provenance, Withdrawable};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::{MemTable, ViewTable};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use feature::definition::{About, KnownAt, Literal, Range};
use feature::{BatchId, Name};

use crate::access::Sights;
use crate::recorded_reads;
use crate::session::{SYSTEM_SCHEMA, bare_context};
use crate::snapshot::Snapshot;

/// Name and definition of each view.
const VIEWS: [(&str, &str); 55] = [
    ("access_decisions", include_str!("../../../sql/access_decisions.sql")),
    ("alerts", include_str!("../../../sql/alerts.sql")),
    ("alias_history", include_str!("../../../sql/alias_history.sql")),
    ("batches", include_str!("../../../sql/batches.sql")),
    ("column_edges", include_str!("../../../sql/column_edges.sql")),
    ("compactions", include_str!("../../../sql/compactions.sql")),
    ("dangling", include_str!("../../../sql/dangling.sql")),
    ("decisions", include_str!("../../../sql/decisions.sql")),
    ("deployment_metrics", include_str!("../../../sql/deployment_metrics.sql")),
    ("deployments", include_str!("../../../sql/deployments.sql")),
    ("deprecations", include_str!("../../../sql/deprecations.sql")),
    ("edges", include_str!("../../../sql/edges.sql")),
    ("entities", include_str!("../../../sql/entities.sql")),
    ("erasures", include_str!("../../../sql/erasures.sql")),
    ("experiments", include_str!("../../../sql/experiments.sql")),
    ("expirations", include_str!("../../../sql/expirations.sql")),
    ("external_ids", include_str!("../../../sql/external_ids.sql")),
    ("feature_services", include_str!("../../../sql/feature_services.sql")),
    ("feature_versions_by_run", include_str!("../../../sql/feature_versions_by_run.sql")),
    ("feature_views", include_str!("../../../sql/feature_views.sql")),
    ("features", include_str!("../../../sql/features.sql")),
    ("holds", include_str!("../../../sql/holds.sql")),
    ("log", include_str!("../../../sql/log.sql")),
    ("model_versions", include_str!("../../../sql/model_versions.sql")),
    ("models", include_str!("../../../sql/models.sql")),
    ("policies", include_str!("../../../sql/policies.sql")),
    ("producers", include_str!("../../../sql/producers.sql")),
    ("profile_bins", include_str!("../../../sql/profile_bins.sql")),
    ("profiles", include_str!("../../../sql/profiles.sql")),
    ("proposed_plans", include_str!("../../../sql/proposed_plans.sql")),
    ("quality", include_str!("../../../sql/quality.sql")),
    ("quality_by_experiment", include_str!("../../../sql/quality_by_experiment.sql")),
    ("quality_by_model", include_str!("../../../sql/quality_by_model.sql")),
    ("quality_findings", include_str!("../../../sql/quality_findings.sql")),
    ("quarantine", include_str!("../../../sql/quarantine.sql")),
    ("read_columns", include_str!("../../../sql/read_columns.sql")),
    ("reads", include_str!("../../../sql/reads.sql")),
    ("reconciliation", include_str!("../../../sql/reconciliation.sql")),
    ("rejected_rows", include_str!("../../../sql/rejected_rows.sql")),
    ("retention", include_str!("../../../sql/retention.sql")),
    ("run_metrics", include_str!("../../../sql/run_metrics.sql")),
    ("run_params", include_str!("../../../sql/run_params.sql")),
    ("runs", include_str!("../../../sql/runs.sql")),
    ("sample_findings", include_str!("../../../sql/sample_findings.sql")),
    ("samples", include_str!("../../../sql/samples.sql")),
    ("spines", include_str!("../../../sql/spines.sql")),
    ("sweeps", include_str!("../../../sql/sweeps.sql")),
    ("training_set_columns", include_str!("../../../sql/training_set_columns.sql")),
    ("training_set_hits", include_str!("../../../sql/training_set_hits.sql")),
    ("training_sets", include_str!("../../../sql/training_sets.sql")),
    ("untraced", include_str!("../../../sql/untraced.sql")),
    ("uses", include_str!("../../../sql/uses.sql")),
    ("verifications", include_str!("../../../sql/verifications.sql")),
    ("versions", include_str!("../../../sql/versions.sql")),
    ("withdrawals", include_str!("../../../sql/withdrawals.sql")),
];

pub fn names() -> impl Iterator<Item = &'static str> {
    VIEWS.iter().map(|(name, _)| *name)
}

/// A system view, planned over the relations that it names.
pub async fn table(snapshot: &Snapshot, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let Some((known, sql)) = VIEWS.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let context = bare_context();
    for (relation, rows) in relations(snapshot, sql).await? {
        context.register_table(relation, Arc::new(SystemRelation { view: known, rows }))?;
    }
    let plan = context.sql(sql).await?.into_unoptimized_plan();
    Ok(Some(Arc::new(ViewTable::new(plan, Some((*sql).to_owned())))))
}

/// A relation under a system view. It is known for what it is wherever its view is planned into a query.
#[derive(Debug)]
pub struct SystemRelation {
    view: &'static str,
    rows: Arc<dyn TableProvider>,
}

impl SystemRelation {
    /// The view that it stands under: `lineament.batches`.
    pub fn view(&self) -> String {
        format!("{SYSTEM_SCHEMA}.{}", self.view)
    }
}

#[async_trait]
impl TableProvider for SystemRelation {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        self.rows.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.rows.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.rows.scan(session, projection, filters, limit).await
    }
}

/// The relations that a view's text mentions.
async fn relations(snapshot: &Snapshot, sql: &str) -> Result<Vec<(&'static str, Arc<dyn TableProvider>)>> {
    let mut found: Vec<(&'static str, Arc<dyn TableProvider>)> = Vec::new();
    let uses =
        |relation: &str| sql.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == relation);
    if uses("state_entities") {
        found.push(("state_entities", held(entities(snapshot)?)?));
    }
    if uses("state_versions") {
        found.push(("state_versions", held(versions(snapshot)?)?));
    }
    if uses("state_features") {
        found.push(("state_features", held(features(snapshot)?)?));
    }
    if uses("state_services") {
        found.push(("state_services", held(services(snapshot)?)?));
    }
    if uses("state_batches") {
        found.push(("state_batches", held(batches(snapshot)?)?));
    }
    if uses("state_untraced") {
        found.push(("state_untraced", held(untraced::batches(snapshot)?)?));
    }
    if uses("state_withdrawals") {
        found.push(("state_withdrawals", held(withdrawals(snapshot)?)?));
    }
    if uses("state_alerts") {
        found.push(("state_alerts", held(alerts::alerts(snapshot)?)?));
    }
    if uses("state_policies") {
        found.push(("state_policies", held(policies(snapshot)?)?));
    }
    if uses("state_training_sets") {
        found.push(("state_training_sets", held(training_sets(snapshot)?)?));
    }
    if uses("state_verifications") {
        found.push(("state_verifications", held(verifications(snapshot)?)?));
    }
    if uses("state_log") {
        found.push(("state_log", held(log(snapshot)?)?));
    }
    if uses("state_rejections") {
        found.push(("state_rejections", held(rejections(snapshot).await?)?));
    }
    if uses("state_reads") {
        found.push(("state_reads", recorded_reads::reads(snapshot)?));
    }
    if uses("state_profiles") {
        found.push(("state_profiles", profiles::features(snapshot)?));
    }
    if uses("state_profile_bins") {
        found.push(("state_profile_bins", profiles::bins(snapshot)?));
    }
    if uses("state_read_columns") {
        found.push(("state_read_columns", recorded_reads::read_columns(snapshot)?));
    }
    if uses("state_read_edges") {
        found.push(("state_read_edges", recorded_reads::column_edges(snapshot)?));
    }
    if uses("state_set_edges") {
        found.push(("state_set_edges", column_edges::of_sets(snapshot)?));
    }
    if uses("state_batch_edges") {
        found.push(("state_batch_edges", column_edges::of_batches(snapshot)?));
    }
    if uses("state_set_columns") {
        found.push(("state_set_columns", set_columns::table(snapshot)?));
    }
    if uses("state_edges")
        && let Some(lineage) = &snapshot.lineage
    {
        found.push(("state_edges", held(lineage.edges(snapshot).await?)?));
    }
    if uses("state_dangling")
        && let Some(lineage) = &snapshot.lineage
    {
        found.push(("state_dangling", held(lineage.dangling(snapshot).await?)?));
    }
    if uses("state_retention")
        && let Some(lineage) = &snapshot.lineage
    {
        found.push(("state_retention", held(lineage.retention(snapshot).await?)?));
    }
    for name in kept::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = kept::relation(snapshot, name)? {
            found.push((name, held(rows)?));
        }
    }
    for name in streams::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = streams::relation(snapshot, name)? {
            found.push((name, held(rows)?));
        }
    }
    for name in decisions::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = decisions::relation(snapshot, name).await? {
            found.push((name, held(rows)?));
        }
    }
    for name in quality::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = quality::relation(snapshot, name)? {
            found.push((name, held(rows)?));
        }
    }
    for name in scores::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = scores::relation(snapshot, name).await? {
            found.push((name, held(rows)?));
        }
    }
    for name in samples::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = samples::relation(snapshot, name)? {
            found.push((name, held(rows)?));
        }
    }
    for name in registry::RELATIONS.into_iter().filter(|name| uses(name)) {
        if let Some(rows) = registry::relation(snapshot, name).await? {
            found.push((name, held(rows)?));
        }
    }
    Ok(found)
}

/// Rows that are at hand.
fn held(rows: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// Columns of a relation under construction.
#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn add(mut self, name: &str, array: ArrayRef) -> Self {
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
        self
    }

    fn text<T: ToString>(self, name: &str, values: impl Iterator<Item = Option<T>>) -> Self {
        let array: StringArray = values.map(|value| value.map(|value| value.to_string())).collect();
        self.add(name, Arc::new(array))
    }

    fn number(self, name: &str, values: impl Iterator<Item = u64>) -> Self {
        self.add(name, Arc::new(UInt64Array::from_iter_values(values)))
    }

    /// Numbers of which some are not told.
    fn told(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.add(name, Arc::new(values.collect::<UInt64Array>()))
    }

    fn small(self, name: &str, values: impl Iterator<Item = u32>) -> Self {
        self.add(name, Arc::new(UInt32Array::from_iter_values(values)))
    }

    /// Small numbers of which some are not told.
    fn small_told(self, name: &str, values: impl Iterator<Item = Option<u32>>) -> Self {
        self.add(name, Arc::new(values.collect::<UInt32Array>()))
    }

    fn truth(self, name: &str, values: impl Iterator<Item = bool>) -> Self {
        self.add(name, Arc::new(BooleanArray::from_iter(values.map(Some))))
    }

    fn time(self, name: &str, values: impl Iterator<Item = i64>) -> Self {
        self.add(name, Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC")))
    }

    fn about<'a>(self, about: impl Iterator<Item = &'a About> + Clone) -> Self {
        self.text("description", about.clone().map(|about| about.description.clone()))
            .text("owner", about.clone().map(|about| about.owner.clone()))
            .text("tags", about.map(|about| (!about.tags.is_empty()).then(|| about.tags.join(", "))))
    }

    fn by<'a>(self, by: impl Iterator<Item = &'a Arc<Provenance>> + Clone) -> Self {
        self.number("sequence", by.clone().map(|by| by.sequence.0))
            .time("committed_at", by.clone().map(|by| by.committed_at.micros()))
            .text("principal", by.clone().map(|by| Some(by.principal.clone())))
            .text("program", by.clone().map(|by| Some(by.program.clone())))
            .text("run", by.clone().map(|by| by.run.clone()))
            .text("experiment", by.map(|by| by.experiment.clone()))
    }

    fn finish(self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)?)
    }
}

fn entities(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> =
        snapshot.state.entities().filter(|entity| entity.by.sequence <= snapshot.sequence).collect();
    let all = || rows.iter();
    let keys = |entity: &feature::definition::Entity| {
        let keys: Vec<String> =
            entity.keys.iter().map(|key| format!("{} {}", key.name, key.data_type)).collect();
        keys.join(", ")
    };
    Columns::default()
        .text("project", all().map(|entity| Some(&entity.definition.project)))
        .text("entity", all().map(|entity| Some(&entity.definition.name)))
        .small("version", all().map(|entity| entity.number))
        .text("keys", all().map(|entity| Some(keys(&entity.definition))))
        .about(all().map(|entity| &entity.definition.about))
        .text("id", all().map(|entity| Some(entity.entity)))
        .by(all().map(|entity| &entity.by))
        .finish()
}

fn versions(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> = snapshot.state.views().filter(|view| view.by.sequence <= snapshot.sequence).collect();
    let in_force: Vec<feature::VersionId> =
        snapshot.state.views_in_force(snapshot.sequence).map(|view| view.version).collect();
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    let known_at = |rule: &KnownAt| match rule {
        KnownAt::Column(column) => format!("column {column}"),
        KnownAt::Delay(delay) => format!("valid_at + {delay}"),
        KnownAt::Arrival => "arrival".to_owned(),
        KnownAt::Assumed => "assumed".to_owned(),
    };
    let keys = |view: &catalog::state::ViewVersion| {
        let keys: Vec<String> = view.keys().iter().map(|key| key.name.to_string()).collect();
        keys.join(", ")
    };
    let stored = |view: &catalog::state::ViewVersion| -> (u64, u64) {
        let batches = snapshot.state.batches_of(view, snapshot.sequence);
        (batches.len() as u64, batches.iter().map(|batch| batch.record.rows).sum())
    };
    Columns::default()
        .text("project", all().map(|view| Some(&view.definition.project)))
        .text("feature_view", all().map(|view| Some(&view.definition.name)))
        .small("version", all().map(|view| view.number))
        .truth("in_force", all().map(|view| in_force.contains(&view.version)))
        .text("entity", all().map(|view| Some(&view.definition.entity)))
        .text("keys", all().map(|view| Some(keys(view))))
        .text("ttl", all().map(|view| view.definition.ttl))
        .text("known_at", all().map(|view| Some(known_at(&view.definition.time.known_at))))
        .number("features", all().map(|view| view.definition.features.len() as u64))
        .number("batches", all().map(|view| stored(view).0))
        .told("rows", all().map(|view| sights.of(view).counts().then(|| stored(view).1)))
        .about(all().map(|view| &view.definition.about))
        .text("hypothesis", all().map(|view| view.definition.hypothesis.clone()))
        .text("view_id", all().map(|view| Some(view.view)))
        .text("version_id", all().map(|view| Some(view.version)))
        .text("line", all().map(|view| Some(view.line)))
        .text("digest", all().map(|view| Some(&view.digest)))
        .by(all().map(|view| &view.by))
        .finish()
}

fn features(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> = snapshot
        .state
        .views()
        .filter(|view| view.by.sequence <= snapshot.sequence)
        .flat_map(|view| view.definition.features.iter().map(move |feature| (view, feature)))
        .collect();
    let all = || rows.iter();
    let literal = |literal: &Literal| match literal {
        Literal::Bool(value) => value.to_string(),
        Literal::Int(value) => value.to_string(),
        Literal::Float(value) => value.to_string(),
        Literal::Text(value) => value.clone(),
    };
    let end = |end: &Option<Literal>| end.as_ref().map(literal);
    let range = |range: &Range| {
        let (least, greatest) = (end(&range.least), end(&range.greatest));
        format!("{}…{}", least.unwrap_or_default(), greatest.unwrap_or_default())
    };
    Columns::default()
        .text("project", all().map(|(view, _)| Some(&view.definition.project)))
        .text("feature_view", all().map(|(view, _)| Some(&view.definition.name)))
        .small("version", all().map(|(view, _)| view.number))
        .text("feature", all().map(|(_, feature)| Some(&feature.name)))
        .text("type", all().map(|(_, feature)| Some(feature.data_type)))
        .text("unit", all().map(|(_, feature)| feature.unit.clone()))
        .text("accepted", all().map(|(_, feature)| feature.range.as_ref().map(range)))
        .truth("nullable", all().map(|(_, feature)| feature.nullable))
        .text("default_value", all().map(|(_, feature)| feature.default.as_ref().map(literal)))
        .about(all().map(|(_, feature)| &feature.about))
        .finish()
}

fn services(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> =
        snapshot.state.services().filter(|service| service.by.sequence <= snapshot.sequence).collect();
    let all = || rows.iter();
    let features = |service: &feature::definition::FeatureService| {
        let features: Vec<String> = service.features.iter().map(ToString::to_string).collect();
        features.join(", ")
    };
    Columns::default()
        .text("project", all().map(|service| Some(&service.definition.project)))
        .text("feature_service", all().map(|service| Some(&service.definition.name)))
        .small("version", all().map(|service| service.number))
        .text("features", all().map(|service| Some(features(&service.definition))))
        .about(all().map(|service| &service.definition.about))
        .by(all().map(|service| &service.by))
        .finish()
}

/// A batch that counts, was withdrawn or is kept back, or one that was refused, with where its rejected rows lie.
struct BatchLine<'a> {
    view: feature::VersionId,
    batch: feature::BatchId,
    status: &'static str,
    rows: u64,
    rejected: u64,
    known_at: Option<String>,
    digest: Option<String>,
    quarantine: Option<&'a Object>,
    by: &'a Arc<Provenance>,
}

fn batch_lines(snapshot: &Snapshot) -> Vec<BatchLine<'_>> {
    let mut lines = Vec::new();
    let held = snapshot.state.quarantine().all().iter();
    let waits = held.filter(|held| held.end_at(snapshot.sequence).is_none_or(|end| !end.released));
    for batch in snapshot.state.batches().chain(waits.map(|held| &held.batch)) {
        lines.push(BatchLine {
            view: batch.record.version,
            batch: batch.record.batch,
            status: quality::status(snapshot, batch),
            rows: batch.record.rows,
            rejected: batch.record.rejected,
            known_at: serde_json::to_value(batch.record.known_at)
                .ok()
                .and_then(|value| value.as_str().map(str::to_owned)),
            digest: Some(batch.record.digest.to_string()),
            quarantine: batch.record.quarantine.as_ref(),
            by: &batch.by,
        });
    }
    for batch in snapshot.state.refused() {
        lines.push(BatchLine {
            view: batch.record.version,
            batch: batch.record.batch,
            status: "refused",
            rows: 0,
            rejected: batch.record.rejected,
            known_at: None,
            digest: None,
            quarantine: Some(&batch.record.quarantine),
            by: &batch.by,
        });
    }
    lines.retain(|line| line.by.sequence <= snapshot.sequence);
    lines.sort_by_key(|line| line.by.sequence);
    lines
}

fn version_of(snapshot: &Snapshot, line: &BatchLine<'_>) -> (Name, Name, u32) {
    match snapshot.state.view_version(line.view) {
        Some(view) => (view.definition.project.clone(), view.definition.name.clone(), view.number),
        None => (Name::default_project(), Name::default_project(), 0),
    }
}

fn batches(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows = batch_lines(snapshot);
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    let counts = |line: &BatchLine<'_>| sights.of_id(line.view).counts();
    let digest = |line: &BatchLine<'_>| line.digest.clone().filter(|_| sights.of_id(line.view).is_whole());
    Columns::default()
        .text("project", all().map(|line| Some(version_of(snapshot, line).0)))
        .text("feature_view", all().map(|line| Some(version_of(snapshot, line).1)))
        .small("version", all().map(|line| version_of(snapshot, line).2))
        .text("batch", all().map(|line| Some(line.batch)))
        .text("status", all().map(|line| Some(line.status)))
        .told("rows", all().map(|line| counts(line).then_some(line.rows)))
        .told("rejected", all().map(|line| counts(line).then_some(line.rejected)))
        .text("known_at", all().map(|line| line.known_at.clone()))
        .text("digest", all().map(digest))
        .by(all().map(|line| line.by))
        .finish()
}

/// What was taken back and put back.
fn withdrawals(snapshot: &Snapshot) -> Result<RecordBatch> {
    let state = &snapshot.state;
    let all: Vec<_> =
        state.withdrawals().all().iter().filter(|noted| noted.by.sequence <= snapshot.sequence).collect();
    let all = || all.iter();
    let version = |of: Withdrawable| match of {
        Withdrawable::Batch(batch) => state.batch(batch).map(|batch| batch.record.version),
        Withdrawable::Version(version) => Some(version),
    };
    let version = |of: Withdrawable| version(of).and_then(|version| state.view_version(version));
    Columns::default()
        .text("project", all().map(|noted| version(noted.of).map(|view| view.definition.project.clone())))
        .text("feature_view", all().map(|noted| version(noted.of).map(|view| view.definition.name.clone())))
        .small("version", all().map(|noted| version(noted.of).map_or(0, |view| view.number)))
        .text("kind", all().map(|noted| Some(noted.of.kind())))
        .text("id", all().map(|noted| Some(noted.of)))
        .text("what", all().map(|noted| Some(if noted.withdrawn { "withdrawn" } else { "restored" })))
        .text("reason", all().map(|noted| Some(&noted.reason)))
        .by(all().map(|noted| &noted.by))
        .finish()
}

fn policies(snapshot: &Snapshot) -> Result<RecordBatch> {
    let applied: Vec<_> =
        snapshot.state.policies().all().iter().filter(|one| one.by.sequence <= snapshot.sequence).collect();
    // A row a file; those that were lifted have one without.
    let mut rows = Vec::new();
    for (place, one) in applied.iter().enumerate() {
        let until = applied.get(place + 1).map(|next| next.by.sequence);
        let files = one.record.files.iter().map(Some).chain(one.record.files.is_empty().then_some(None));
        rows.extend(files.map(|file| (*one, until, file)));
    }
    let all = || rows.iter();
    Columns::default()
        .small("number", all().map(|(one, _, _)| one.record.number))
        .text("file", all().map(|(_, _, file)| file.map(|file| &file.name)))
        .text("policies", all().map(|(_, _, file)| file.map(|file| &file.text)))
        .text("digest", all().map(|(one, _, _)| Some(one.record.digest)))
        .text("reason", all().map(|(one, _, _)| one.record.reason.clone()))
        .add(
            "until",
            Arc::new(all().map(|(_, until, _)| until.map(|until| until.0)).collect::<UInt64Array>()),
        )
        .by(all().map(|(one, _, _)| &one.by))
        .finish()
}

fn training_sets(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> =
        snapshot.state.training_sets().filter(|set| set.by.sequence <= snapshot.sequence).collect();
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    Columns::default()
        .text("training_set", all().map(|set| Some(set.record.training_set)))
        .text("name", all().map(|set| set.record.name.clone()))
        .number("snapshot", all().map(|set| set.record.sequence.0))
        .number("rows", all().map(|set| set.record.rows))
        .small("columns", all().map(|set| set.record.columns))
        .text("digest", all().map(|set| sights.of_set(set).then_some(&set.record.digest)))
        .text("manifest", all().map(|set| Some(&set.record.manifest.path)))
        .by(all().map(|set| &set.by))
        .finish()
}

fn verifications(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> = snapshot
        .state
        .verifications()
        .iter()
        .filter(|verified| verified.by.sequence <= snapshot.sequence)
        .collect();
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    let digest = |verified: &catalog::state::Verification| {
        let set = snapshot.state.training_set(verified.record.training_set);
        set.is_none_or(|set| sights.of_set(set)).then(|| verified.record.digest.clone())
    };
    let verdict = |verdict| match verdict {
        catalog::records::Verdict::Equal => "equal",
        catalog::records::Verdict::Differs => "differs",
        catalog::records::Verdict::EqualMinusErasures => "equal minus erasures",
    };
    Columns::default()
        .text("training_set", all().map(|verified| Some(verified.record.training_set)))
        .text("verdict", all().map(|verified| Some(verdict(verified.record.verdict))))
        .text("digest", all().map(|verified| digest(verified)))
        .by(all().map(|verified| &verified.by))
        .finish()
}

fn log(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows: Vec<_> =
        snapshot.state.log().iter().filter(|line| line.by.sequence <= snapshot.sequence).collect();
    let all = || rows.iter();
    let records = |line: &catalog::state::LogLine| {
        let mut counted: Vec<(&str, usize)> = Vec::new();
        for (_, name) in &line.records {
            match counted.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => counted.push((name, 1)),
            }
        }
        let parts: Vec<String> = counted
            .into_iter()
            .map(|(name, count)| if count == 1 { name.to_owned() } else { format!("{count} × {name}") })
            .collect();
        parts.join(", ")
    };
    Columns::default()
        .by(all().map(|line| &line.by))
        .text("records", all().map(|line| Some(records(line))))
        .text("digest", all().map(|line| Some(line.digest)))
        .finish()
}

async fn rejections(snapshot: &Snapshot) -> Result<RecordBatch> {
    let mut all = Vec::new();
    for line in batch_lines(snapshot) {
        let Some(object) = line.quarantine else { continue };
        // They are as they came: none are shown to those from whom something of the view is kept.
        let version = snapshot.state.view_version(line.view);
        if !version.is_some_and(|version| matches!(snapshot.guard(version), Ok(None))) {
            continue;
        }
        let bytes = snapshot
            .catalog
            .object(object)
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (project, view, number) = version_of(snapshot, &line);
        let mended = mended_of(snapshot, line.batch).await?;
        for rows in read_quarantine(bytes).map_err(|error| DataFusionError::ParquetError(Box::new(error)))? {
            let count = rows.num_rows();
            let same = |value: String| std::iter::repeat_n(Some(value), count);
            let mut columns = Columns::default()
                .text("project", same(project.to_string()))
                .text("feature_view", same(view.to_string()))
                .small("version", std::iter::repeat_n(number, count))
                .text("batch", same(line.batch.to_string()));
            for (field, column) in quarantine_schema().fields().iter().zip(rows.columns()) {
                columns = columns.add(field.name(), column.clone());
            }
            let mended_by = mended_by(&rows, &mended);
            columns = columns.text("mended_by", mended_by.into_iter());
            all.push(columns.finish()?);
        }
    }
    let empty = || {
        let mut columns = Columns::default()
            .text::<String>("project", std::iter::empty())
            .text::<String>("feature_view", std::iter::empty())
            .small("version", std::iter::empty())
            .text::<String>("batch", std::iter::empty());
        for field in quarantine_schema().fields() {
            columns = columns.add(field.name(), arrow::array::new_empty_array(field.data_type()));
        }
        columns.text::<String>("mended_by", std::iter::empty()).finish()
    };
    let schema = empty()?.schema();
    Ok(arrow::compute::concat_batches(&schema, &all)?)
}

/// Rejected rows of a batch that others had by then, with those that had them.
async fn mended_of(snapshot: &Snapshot, batch: BatchId) -> Result<HashMap<Rejected, BatchId>> {
    let mended = mending::mended(&snapshot.catalog, &snapshot.state, batch, snapshot.sequence).await;
    Ok(mended.map_err(|error| DataFusionError::External(Box::new(error)))?.into_iter().collect())
}

/// By row of a quarantine file.
fn mended_by(rows: &RecordBatch, mended: &HashMap<Rejected, BatchId>) -> Vec<Option<BatchId>> {
    let origins = rows.column_by_name("origin").and_then(|column| column.as_string_opt::<i32>());
    let numbers = rows.column_by_name("row").and_then(|column| column.as_primitive_opt::<UInt64Type>());
    let (Some(origins), Some(numbers)) = (origins, numbers) else { return vec![None; rows.num_rows()] };
    let of = |row: usize| mended.get(&(origins.value(row).to_owned(), numbers.value(row))).copied();
    (0..rows.num_rows()).map(of).collect()
}
