//! Historical features: what was known to each row of a spine. Recorded, it is a training set.
//!
//! A retrieval and its replay are one plan with different inputs: [`features::plan`] over what was resolved, or what a manifest says.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_recursion::async_recursion;
use catalog::records::{
    BatchHit, Object, Record, Role, Selected, SpineUsed, TrainingSetRecorded, UseRecorded,
};
use catalog::state::ViewVersion;
use catalog::{Author, Intent};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use engine::Session;
use engine::features::{self, Resolved};
use engine::point_in_time::{Cut, LookupReport, exec};
use feature::digest::{TableDigest, TableDigestResult};
use feature::policy::Action;
use feature::{AsOf, Sequence, Span, SpineId, Timestamp, TrainingSetId};
use futures::TryStreamExt;
use lineage::manifest::{
    self, ColumnManifest, Hit, Knowledge, ReferenceManifest, SpineManifest, ViewManifest,
};
use lineage::{Edge, Manifest, Split, edges};
use object_store::ObjectStoreExt;
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};
use storage::environment;
use tokio::task::JoinHandle;

use crate::bias::BiasReport;
use crate::deprecation::DeprecationNotice;
use crate::error::{Error, Kind, Result};
use crate::queried_spine::Queried;
use crate::reads::ReadKind;
use crate::retrieve::Serving;

/// The rows that want features: entity keys, a time, and whatever else is to be carried along.
#[derive(Clone, Debug)]
pub struct Spine {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

impl Spine {
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// What is asked for; the JSON form of `historical_features` in docs/flight.md.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoricalRequest {
    /// References and names of feature services.
    pub features: Vec<String>,
    /// A spine that was ingested before, by its digest, in place of rows that come with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spine: Option<String>,
    /// A query that gives the spine, in place of rows that come with the request: asked by the caller, of the same state as the features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spine_sql: Option<String>,
    /// The spine's time column, where it is not `at` or the only one.
    #[serde(default)]
    pub at: Option<String>,
    #[serde(default)]
    pub full_feature_names: bool,
    /// A ttl for this retrieval alone, by view.
    #[serde(default)]
    pub ttl: BTreeMap<String, Span>,
    /// As we knew it then: one instant in place of each row's own time.
    #[serde(default, with = "feature::time::rfc3339::option")]
    pub known_by: Option<Timestamp>,
    /// The store as it was, in place of its newest state; a set that is recorded is of that snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
    /// Drops the limit on known_at. Such a set leaks; it is for showing what a leak is worth.
    #[serde(default)]
    pub ignore_known_at: bool,
    #[serde(default)]
    pub name: Option<String>,
    /// Whether it is recorded as a training set.
    #[serde(default = "yes")]
    pub record: bool,
    /// What the run of the call uses it for.
    #[serde(default)]
    pub role: Role,
    /// How the set falls into parts; recorded with it.
    #[serde(default)]
    pub split: Option<Split>,
    /// Whether the report says if the set's population is the one that is served. The set is made again for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bias: bool,
    /// Whether each feature has a column beside it, `temp__null_reason`, that says why it is null.
    #[serde(default)]
    pub null_reasons: bool,
}

fn yes() -> bool {
    true
}

impl HistoricalRequest {
    pub fn new(features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            features: features.into_iter().map(Into::into).collect(),
            spine: None,
            spine_sql: None,
            at: None,
            full_feature_names: false,
            ttl: BTreeMap::new(),
            known_by: None,
            as_of: None,
            ignore_known_at: false,
            name: None,
            record: true,
            role: Role::Unknown,
            split: None,
            bias: false,
            null_reasons: false,
        }
    }

    pub(crate) fn cut(&self) -> Result<Cut> {
        match (self.known_by, self.ignore_known_at) {
            (Some(_), true) => Err(Error::new(
                Kind::Invalid,
                "known_by sets a limit on what was known and ignore_known_at drops it; leave one out",
            )),
            (Some(instant), false) => Ok(Cut::Instant(instant)),
            (None, true) => Ok(Cut::None),
            (None, false) => Ok(Cut::Row),
        }
    }
}

/// A retrieval's answer: the spine's columns as they came, then the features, in the spine's order.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub report: HistoricalReport,
}

/// What a retrieval says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct HistoricalReport {
    /// Where it is recorded; none where that was not asked for.
    pub training_set: Option<TrainingSetId>,
    /// The content digest, `lmt1:…`.
    pub digest: String,
    pub rows: u64,
    pub sequence: Sequence,
    pub features: Vec<FeatureNulls>,
    pub views: Vec<ViewMatches>,
    /// How far its population is from the one that is served, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasReport>,
    /// Why that cannot be told. The set is recorded all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_error: Option<String>,
    /// What was read and will go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deprecations: Vec<DeprecationNotice>,
    /// Time in the store, without the client's.
    pub seconds: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct FeatureNulls {
    pub output: String,
    pub reference: String,
    /// Null cells by reason.
    pub nulls: BTreeMap<String, u64>,
    /// Cells that took the declared default.
    pub defaulted: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ViewMatches {
    pub version: String,
    /// Spine rows that found an observation.
    pub matched: u64,
}

/// What was looked up, before it is recorded or compared.
pub(crate) struct LookedUp {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub digest: TableDigestResult,
    pub reports: Vec<LookupReport>,
    pub plan: LogicalPlan,
}

impl Serving {
    /// A lookup whose answer is held: plan, run, digest.
    pub(crate) async fn look_up(
        &self,
        session: &Session,
        spine: LogicalPlan,
        at: &str,
        resolved: &Resolved,
    ) -> Result<LookedUp> {
        let plan = features::plan(spine, at, resolved)?;
        let physical = session.prepare(&plan).await?;
        self.run_digested(session, plan, physical).await
    }

    pub(crate) async fn run_digested(
        &self,
        session: &Session,
        plan: LogicalPlan,
        physical: Arc<dyn ExecutionPlan>,
    ) -> Result<LookedUp> {
        let schema = physical.schema();
        let batches: Vec<RecordBatch> = session.run(physical.clone())?.try_collect().await?;
        let reports = exec::find(&physical).map(exec::PointInTimeExec::reports).unwrap_or_default();
        let algorithm = session.snapshot().state.hash;
        let (digest, schema, batches) = tokio::task::spawn_blocking(move || {
            let mut table = TableDigest::new(algorithm, &schema).map_err(|error| {
                Error::new(Kind::Invalid, format!("the spine cannot be digested: {error}"))
            })?;
            for batch in &batches {
                table.update(batch).map_err(|error| {
                    Error::new(Kind::Invalid, format!("the rows cannot be digested: {error}"))
                })?;
            }
            Ok::<_, Error>((table.finish(), schema, batches))
        })
        .await
        .map_err(|error| Error::internal("digesting stopped", error))??;
        Ok(LookedUp { schema, batches, digest, reports, plan })
    }

    /// `id` was minted before the first object of the set was written: a sweep goes by it. `kept_before`: the spine was put up by itself,
    /// and is the set's from here on. `queried`: what the query read that gave it.
    #[allow(clippy::too_many_arguments)]
    pub(crate) async fn record(
        &self,
        id: TrainingSetId,
        session: &Session,
        spine: &Schema,
        kept: SpineManifest,
        kept_before: Option<SpineId>,
        queried: Option<&Queried>,
        request: &HistoricalRequest,
        resolved: &Resolved,
        found: &LookedUp,
        author: &Author,
    ) -> Result<TrainingSetId> {
        let snapshot = session.snapshot();
        let spine_object = kept.object.clone();
        let mut lineage = column_edges(spine, &kept.at, resolved);
        lineage.extend(queried.into_iter().flat_map(Queried::edges));
        let mut versions: Vec<&ViewVersion> =
            resolved.views.iter().map(|view| &**view.table.version()).collect();
        for version in queried.into_iter().flat_map(Queried::versions) {
            if versions.iter().all(|known| known.version != version) {
                versions.extend(snapshot.state.view_version(version));
            }
        }
        let manifest = Manifest {
            format: manifest::FORMAT,
            id,
            name: request.name.clone(),
            created_at: self.catalog().store().clock().now(),
            created_by: author.principal.clone(),
            program: author.program.clone(),
            run: author.run.clone(),
            experiment: author.experiment.clone(),
            sequence: snapshot.sequence,
            knowledge: match resolved.cut {
                Cut::Row => Knowledge::AtRow,
                Cut::Instant(instant) => Knowledge::By(instant),
                Cut::None => Knowledge::Unlimited,
            },
            references: references(resolved, found),
            views: views(session, resolved, found),
            plan: found.plan.display_indent().to_string(),
            rows: found.digest.rows,
            digest: found.digest.digest.to_string(),
            columns: columns(&found.digest),
            lineage,
            spine: SpineManifest { query: queried.and_then(Queried::recorded), ..kept },
            target: target(),
            split: request.split.clone(),
            null_reasons: resolved.null_reasons,
            policy: self.policy_of(session, author, versions.into_iter())?,
        };
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|error| Error::internal("a manifest cannot be written", error))?;
        let object =
            self.catalog().put_object(format!("training_sets/{id}/manifest.json"), bytes.into()).await?;
        let record = TrainingSetRecorded {
            training_set: id,
            sequence: snapshot.sequence,
            rows: found.digest.rows,
            columns: u32::try_from(found.digest.columns.len()).unwrap_or(u32::MAX),
            digest: found.digest.digest.to_string(),
            manifest: object,
            name: request.name.clone(),
            selected: Some(selected(&manifest)),
        };
        let planned = snapshot.state.erasures().last();
        let committed = self
            .catalog()
            .commit::<()>(author, None, |state| {
                // What was read before an erasure may be what is erased.
                if state.erasures().last() != planned {
                    return Err(catalog::Error::Contended(
                        "an entity was erased while the training set was made; nothing of the set counts, ask again"
                            .to_owned(),
                    ));
                }
                let mut records = vec![Record::from(record.clone())];
                let used = kept_before.map(|spine| SpineUsed { spine, training_set: id });
                records.extend(used.map(Record::from));
                // The run of the call was made known before its first entry.
                let run = author.run.as_deref().and_then(|run| state.registry().run(run));
                records.extend(run.map(|run| {
                    let role = if request.role == Role::Unknown { author.role } else { request.role };
                    let how = author.how;
                    Record::from(UseRecorded { training_set: id, run, role, how })
                }));
                Ok(Intent::Append(records))
            })
            .await;
        if committed.is_err() && self.catalog().state().erasures().last() != planned {
            let written = kept_before.is_none().then_some(&spine_object);
            self.forget_set(&record.manifest, written).await;
        }
        committed?;
        Ok(id)
    }

    /// Deletes what was written for a set that an erasure overtook: it may hold what is erased. Where that fails the sweep does it.
    async fn forget_set(&self, manifest: &Object, spine: Option<&Object>) {
        for object in [Some(manifest), spine].into_iter().flatten() {
            let path = object_store::path::Path::from(object.path.as_str());
            if let Err(error) = self.catalog().store().objects().delete(&path).await {
                tracing::warn!(%error, "what was written for a training set is left for the sweep");
            }
        }
    }

    /// A spine's bytes and digest, made on a thread of their own. Nothing is stored yet.
    pub(crate) fn encode_spine(&self, spine: &Spine) -> JoinHandle<Result<(Vec<u8>, String)>> {
        let algorithm = self.catalog().state().hash;
        let (schema, batches) = (spine.schema.clone(), spine.batches.clone());
        tokio::task::spawn_blocking(move || encode_spine(schema, &batches, algorithm))
    }

    pub(crate) async fn keep_spine(
        &self,
        encoded: JoinHandle<Result<(Vec<u8>, String)>>,
        rows: usize,
        at: &str,
    ) -> Result<SpineManifest> {
        let id: SpineId = environment::mint();
        let (bytes, digest) =
            encoded.await.map_err(|error| Error::internal("writing the spine stopped", error))??;
        let object: Object = self.catalog().put_object(format!("spines/{id}.parquet"), bytes.into()).await?;
        Ok(SpineManifest { object, digest, rows: rows as u64, at: at.to_owned(), query: None })
    }

    /// The manifest of a recorded training set for whoever may see all that the set shows: its digests would tell of the rest.
    ///
    /// # Errors
    /// As of [`Serving::replay`].
    #[async_recursion]
    pub async fn manifest_for(&self, id: TrainingSetId, author: &Author) -> Result<Manifest> {
        let words = || format!("manifest: training set {id}");
        self.on_record(author, Action::Read, Some(ReadKind::TrainingSet), words, async {
            let manifest = self.manifest(id).await?;
            self.require_as_recorded(&manifest, author).await?;
            Ok(manifest)
        })
        .await
    }

    /// The manifest of a recorded training set, for the store's own work.
    #[async_recursion]
    pub async fn manifest(&self, id: TrainingSetId) -> Result<Manifest> {
        let state = self.catalog().refresh().await?;
        let Some(set) = state.training_set(id) else {
            return Err(Error::new(
                Kind::NotFound,
                format!("there is no training set {id}; `SELECT * FROM lineament.training_sets` lists them"),
            ));
        };
        let bytes = self.catalog().object(&set.record.manifest).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Kind::Damaged, format!("`{}`: {error}", set.record.manifest.path)))
    }
}

/// The machine that this program runs on, as the compiler names it.
pub(crate) fn target() -> String {
    format!("{} {}", std::env::consts::ARCH, std::env::consts::OS)
}

pub(crate) fn encode_spine(
    schema: SchemaRef,
    batches: &[RecordBatch],
    algorithm: feature::digest::HashAlgorithm,
) -> Result<(Vec<u8>, String)> {
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Invalid, format!("the spine cannot be kept: {error}"))
    };
    let mut table = TableDigest::new(algorithm, &schema).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(engine::spines::writer_properties()))
        .map_err(|error| wrong(&error))?;
    for batch in batches {
        table.update(batch).map_err(|error| wrong(&error))?;
        writer.write(batch).map_err(|error| wrong(&error))?;
    }
    writer.close().map_err(|error| wrong(&error))?;
    Ok((bytes, table.finish().digest.to_string()))
}

/// A split is recorded with the set, and looks at columns that no later definition changes: the spine's own.
pub(crate) fn verify_split(split: &Split, spine: &Schema, record: bool) -> Result<()> {
    let wrong = |why: String| Error::new(Kind::Invalid, why);
    if !record {
        return Err(wrong(
            "a split is recorded with its training set, and this one is not to be recorded; leave one out"
                .to_owned(),
        ));
    }
    split.verify().map_err(wrong)?;
    for key in split.keys() {
        let Ok(field) = spine.field_with_name(key) else {
            let names: Vec<&str> = spine.fields().iter().map(|field| field.name().as_str()).collect();
            let hint = catalog::plan::did_you_mean(key, names.iter().copied());
            return Err(wrong(format!(
                "the split goes by `{key}`, which is no column of the spine{hint}; it has {}",
                names.join(", ")
            )));
        };
        let held = match field.data_type() {
            DataType::Dictionary(_, values) => values,
            held => held,
        };
        if !(held.is_integer() || held.is_string() || *held == DataType::Boolean || *held == DataType::Date32)
        {
            return Err(wrong(format!(
                "the split goes by `{key}`, which is {held}; entities are told apart by text, whole numbers, truth values or dates"
            )));
        }
    }
    Ok(())
}

/// A time without a zone would be guessed, and a wrong guess leaks hours.
pub(crate) fn refuse_naive(spine: &Schema, at: &str) -> Result<()> {
    let Ok(field) = spine.field_with_name(at) else { return Ok(()) };
    match field.data_type() {
        DataType::Timestamp(_, None) => Err(Error::new(
            Kind::Invalid,
            format!(
                "the spine's `{at}` holds times without a zone; say which it is, in pandas by entity_df[\"{at}\"].dt.tz_localize(\"UTC\") or the zone of your clocks"
            ),
        )),
        DataType::Timestamp(_, Some(_)) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(()),
        other => Err(Error::new(
            Kind::Invalid,
            format!(
                "the spine's `{at}` is {other}; the time at which features are wanted must be a timestamp with its zone, or a date"
            ),
        )),
    }
}

pub(crate) fn report(found: &LookedUp, resolved: &Resolved, sequence: Sequence) -> HistoricalReport {
    HistoricalReport {
        training_set: None,
        digest: found.digest.digest.to_string(),
        rows: found.digest.rows,
        sequence,
        features: references(resolved, found)
            .into_iter()
            .map(|reference| FeatureNulls {
                output: reference.output,
                reference: reference.resolved,
                nulls: reference.nulls,
                defaulted: reference.defaulted,
            })
            .collect(),
        views: found
            .reports
            .iter()
            .map(|report| ViewMatches { version: report.version.clone(), matched: report.matched })
            .collect(),
        bias: None,
        bias_error: None,
        deprecations: Vec::new(),
        seconds: 0.0,
    }
}

fn references(resolved: &Resolved, found: &LookedUp) -> Vec<ReferenceManifest> {
    resolved
        .features
        .iter()
        .map(|feature| {
            let version = resolved.views[feature.view].table.version();
            let name = version.definition.features[feature.feature].name.to_string();
            let counted = found
                .reports
                .get(feature.view)
                .and_then(|report| report.features.iter().find(|counted| counted.name == name));
            ReferenceManifest {
                asked: feature.asked.clone(),
                resolved: feature.reference.clone(),
                version: version.version,
                feature: name,
                output: feature.output.clone(),
                nulls: counted
                    .map(|counted| {
                        counted.nulls.iter().map(|(reason, count)| (reason.to_string(), *count)).collect()
                    })
                    .unwrap_or_default(),
                defaulted: counted.map_or(0, |counted| counted.defaulted),
            }
        })
        .collect()
}

fn views(session: &Session, resolved: &Resolved, found: &LookedUp) -> Vec<ViewManifest> {
    let snapshot = session.snapshot();
    resolved
        .views
        .iter()
        .zip(&found.reports)
        .map(|(view, report)| {
            let version = view.table.version();
            ViewManifest {
                version: version.version,
                label: version.label(),
                ttl: view.ttl,
                matched: report.matched,
                batches: snapshot
                    .state
                    .batches_of(version, snapshot.sequence)
                    .iter()
                    .map(|batch| batch.record.batch)
                    .collect(),
                hits: report.hits.iter().map(|(batch, rows)| Hit { batch: *batch, rows: *rows }).collect(),
            }
        })
        .collect()
}

/// What stands in the log of a manifest: enough to say what came from a batch without reading any.
pub(crate) fn selected(manifest: &Manifest) -> Vec<Selected> {
    let features = |view: &ViewManifest| {
        let of_view = |reference: &&ReferenceManifest| reference.version == view.version;
        manifest.references.iter().filter(of_view).map(|reference| reference.feature.clone()).collect()
    };
    let hits = |view: &ViewManifest| {
        view.hits.iter().map(|hit| BatchHit { batch: hit.batch, rows: hit.rows }).collect()
    };
    let of_view =
        |view: &ViewManifest| Selected { version: view.version, features: features(view), hits: hits(view) };
    manifest.views.iter().map(of_view).collect()
}

pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn columns(digest: &TableDigestResult) -> Vec<ColumnManifest> {
    digest
        .columns
        .iter()
        .map(|column| ColumnManifest {
            name: column.name.clone(),
            data_type: column.type_text.clone(),
            digest: hex(&column.digest),
            leaves: column.leaves.iter().map(hex).collect(),
        })
        .collect()
}

fn column_edges(spine: &Schema, at: &str, resolved: &Resolved) -> Vec<Edge> {
    let mut all: Vec<Edge> = spine.fields().iter().map(|field| edges::carried(field.name())).collect();
    for feature in &resolved.features {
        let version = resolved.views[feature.view].table.version();
        let declared = &version.definition.features[feature.feature];
        let keys: Vec<&str> = version.keys().iter().map(|key| key.name.as_str()).collect();
        all.extend(edges::looked_up(
            &feature.output,
            version.version,
            &version.label(),
            declared.name.as_str(),
            &keys,
            at,
            declared.default.is_some(),
        ));
    }
    for feature in resolved.features.iter().filter(|_| resolved.null_reasons) {
        let of_it: Vec<Edge> = all.iter().filter(|edge| edge.output == feature.output).cloned().collect();
        all.extend(edges::why_null(&::feature::null_reason_of(&feature.output), of_it));
    }
    all
}
