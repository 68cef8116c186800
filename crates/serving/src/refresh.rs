//! Refreshing derived feature views: their query's rows, as far as the view has them not yet, become a batch.
//!
//! Parents, versions and batches come from the plan. Nobody annotates anything.

mod held;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use async_recursion::async_recursion;
use catalog::ingest::{Input, Made, Report, Request, Rows};
use catalog::state::{Stage, ViewVersion, Withdrawable};
use catalog::{Author, State};
use engine::derived::{self, DerivedPlan};
use engine::{Prepared, Session, Snapshot, SqlConditions};
use feature::definition::{Definitions, FeatureView, KnownAt};
use feature::name::split_project;
use feature::policy::Action;
use feature::{BatchId, FeatureType, Name, Sequence, Timestamp};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::derived_columns::{bears_on, edges_of_view};
use crate::error::{Error, Kind, Result};
use crate::retrieve::Serving;
use held::Held;

/// What is to be brought up to date.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshRequest {
    /// A derived view; left out: all of them, each after those that it is made of.
    pub view: Option<String>,
    /// Reads everything again, also where what came since the last refresh would do.
    pub full: bool,
}

/// What a refresh did.
#[derive(Clone, Debug, Serialize)]
pub struct RefreshReport {
    /// `celsius@1`.
    pub version: String,
    /// None where there was nothing new.
    pub batch: Option<BatchId>,
    pub sequence: Option<Sequence>,
    /// The snapshot that was read.
    pub snapshot: Sequence,
    /// Only what came after this sequence was read.
    pub since: Option<Sequence>,
    /// `weather@1`, …
    pub parents: Vec<String>,
    /// Rows that the query gave.
    pub computed: u64,
    /// Rows of it that the view had not.
    pub rows: u64,
    pub rejected: u64,
    /// Rows that the query gave otherwise than the view has them, and that were left as they are: they were computed when parents had rows
    /// that these keep no longer.
    pub kept: u64,
    /// Observations that the view has and the query gives no more. They stay: retract them, if they were never true. Known only where
    /// everything was read, and parents still have all of their rows.
    pub vanished: Option<u64>,
    pub examples: Vec<String>,
}

impl Serving {
    /// Brings derived views up to date.
    ///
    /// # Errors
    /// `NotFound` for a view that is not there, `Invalid` for one that is not derived; `Unavailable` where another refresh was faster;
    /// whatever the query and the ingest of its rows give.
    #[async_recursion]
    pub async fn refresh(&self, request: &RefreshRequest, author: &Author) -> Result<Vec<RefreshReport>> {
        let views = match &request.view {
            Some(view) => vec![view.clone()],
            None => self.in_order().await?,
        };
        let mut reports = Vec::new();
        for view in views {
            reports.push(self.refresh_view(&view, request.full, author).await?);
        }
        Ok(reports)
    }

    async fn refresh_view(&self, view: &str, full: bool, author: &Author) -> Result<RefreshReport> {
        let session = self.engine.ordered_session(self.engine.snapshot(None).await?)?;
        let snapshot = session.snapshot();
        let (project, name) = split_project(view);
        let version = snapshot.version(project, name, None)?;
        let Some(query) = version.definition.derived.clone() else {
            let derived = names(derived_views(&snapshot.state));
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{view}` is not derived: its rows come by `lineament ingest`; derived are: {derived}"
                ),
            ));
        };
        let planned = plan_of(&session, &version.definition, &query.sql).await?;
        for parent in planned.parents() {
            let what = format!("the query of {}", version.label());
            let allowed = self.require_whole(&snapshot.state, author, parent, &what);
            let words = || format!("refresh {view}");
            self.on_record(author, Action::Read, None, words, allowed).await?;
        }
        let last = last_refresh(&snapshot.state, &version);
        let mut report = RefreshReport {
            version: version.label(),
            batch: None,
            sequence: None,
            snapshot: snapshot.sequence,
            since: None,
            parents: planned.parents().map(|parent| parent.label()).collect(),
            computed: 0,
            rows: 0,
            rejected: 0,
            kept: 0,
            vanished: None,
            examples: Vec::new(),
        };
        let since = last.filter(|since| !full && !reordered(&snapshot.state, &planned, &version, *since));
        if let Some(since) = since
            && !newer(&snapshot.state, &planned, since, snapshot.sequence)
        {
            report.since = Some(since);
            return Ok(report);
        }
        let mut plan = planned.plan.clone();
        if let Some(since) = since
            && let Some(part) = planned.since(since)?
        {
            (plan, report.since) = (part, Some(since));
        }
        let text = plan.display_indent().to_string();
        // Columns come from what the query says, however much of it is read.
        let Prepared { physical: whole, traced } = session.prepare_traced(&planned.plan).await?;
        self.refuse_opaque(&traced)?;
        let physical = if report.since.is_some() { session.prepare(&plan).await? } else { whole };
        let schema = physical.schema();
        let computed: Vec<RecordBatch> = session.run(physical)?.try_collect().await?;
        report.computed = computed.iter().map(|batch| batch.num_rows() as u64).sum();
        let held = held_rows(&session, &version).await?;
        let before = |view| snapshot.state.expiry().before(view, snapshot.sequence);
        let has_all = planned.parents().all(|parent| before(parent.view).is_none());
        let known = Known::of(&version, &held)?;
        let (mut fresh, vanished) = not_known(&version, computed, known, before(version.view))?;
        report.vanished = (report.since.is_none() && has_all).then_some(vanished);
        if !has_all && !planned.is_row_preserving() {
            let held = Held::of(&version, &held)?;
            (fresh, report.kept) = held.left_alone(&session, &planned, last, fresh).await?;
        }
        if fresh.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(report);
        }
        let mut derivation = planned.derivation(&session, report.since);
        let origin = format!("the query of {}", version.label());
        let mut ingest = Request::new(view, Input::Rows(Rows::from_batches(origin, schema, fresh)));
        let lineage = edges_of_view(&version.definition, &traced);
        if let Some(edges) = &lineage {
            for (parent, read) in derivation.parents.iter_mut().zip(planned.parents()) {
                parent.bears_on = Some(bears_on(&version.definition, read, edges));
            }
        }
        let lineage = lineage.map(serde_json::to_value).transpose();
        let lineage = lineage.map_err(|error| Error::internal("column edges cannot be written", error))?;
        ingest.derivation =
            Some(Made { derivation, version: version.version, sql: query.sql, plan: text, lineage });
        let taken: Report = self.ingest(ingest, author, Arc::new(|_| ())).await?;
        report.batch = taken.batch;
        report.sequence = taken.sequence;
        report.rows = taken.rows;
        report.rejected = taken.rejected;
        report.examples = taken.examples;
        Ok(report)
    }

    /// Derived views, each after those that it is made of.
    async fn in_order(&self) -> Result<Vec<String>> {
        let session = self.open_session().await?;
        let state = session.snapshot().state.clone();
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for version in derived_views(&state) {
            let Some(query) = &version.definition.derived else { continue };
            let planned = plan_of(&session, &version.definition, &query.sql).await?;
            parents.insert(
                qualified(&version.definition),
                planned.parents().map(|parent| qualified(&parent.definition)).collect(),
            );
        }
        order(&parents).map_err(|view| in_a_circle(&view))
    }

    /// Plans the queries of derived views over the store as it would be, so that what is wrong is found before it is applied. Gives those,
    /// by project and name, whose columns cannot be traced, with what stands in the way.
    ///
    /// # Errors
    /// `Forbidden` for a new version that cannot be traced where such reads are refused: it could never be refreshed.
    pub(crate) async fn verify_derived(
        &self,
        state: &Arc<State>,
        definitions: &Definitions,
        author: &Author,
    ) -> Result<BTreeMap<(Name, Name), String>> {
        let mut untraced = BTreeMap::new();
        if definitions.views.iter().all(|declared| declared.definition.derived.is_none()) {
            return Ok(untraced);
        }
        let next = catalog::plan::provisional(state, definitions, &SqlConditions, author)?;
        let snapshot = self.engine.snapshot(Some(state.head.sequence)).await?;
        let next = Arc::new(next);
        let session = self.engine.session(Snapshot { state: next.clone(), ..snapshot })?;
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for version in derived_views(&next) {
            let view = &version.definition;
            let Some(query) = &view.derived else { continue };
            let planned = plan_of(&session, view, &query.sql).await?;
            columns_of(view, planned.plan.schema().as_arrow())?;
            let is_new = state.view_version(version.version).is_none();
            if is_new {
                refuse_closed(state, &session, view, &planned).await?;
            }
            if let Some(refusal) = planned.untraced() {
                if is_new {
                    self.refuse_untraced(
                        &format!("the query of derived feature view `{}`", view.name),
                        refusal,
                    )?;
                }
                untraced.insert((view.project.clone(), view.name.clone()), refusal.to_string());
            }
            parents.insert(
                qualified(view),
                planned.parents().map(|parent| qualified(&parent.definition)).collect(),
            );
        }
        order(&parents).map_err(|view| in_a_circle(&view))?;
        Ok(untraced)
    }
}

/// A view that begins to be made of what is closed to new uses would be one.
async fn refuse_closed(
    state: &State,
    session: &Session,
    view: &FeatureView,
    planned: &DerivedPlan,
) -> Result<()> {
    let head = state.head.sequence;
    let closed: Vec<_> = planned
        .parents()
        .filter_map(|parent| Some((parent, state.deprecation_of(parent, head)?)))
        .filter(|(_, (_, stage))| *stage >= Stage::Closed)
        .collect();
    if closed.is_empty() {
        return Ok(());
    }
    let before = state.view(view.project.as_str(), view.name.as_str(), None, head);
    let query = before.and_then(|before| Some((&before.definition, before.definition.derived.as_ref()?)));
    let before = match query {
        Some((before, derived)) => Some(plan_of(session, before, &derived.sql).await?),
        None => None,
    };
    for (parent, (deprecation, _)) in closed {
        let was = before.iter().flat_map(|before| before.parents()).any(|was| was.version == parent.version);
        if !was {
            let why = catalog::deprecation::why_not(state, deprecation, &parent.label());
            return Err(Error::new(Kind::Invalid, format!("derived feature view `{}`: {why}", view.name)));
        }
    }
    Ok(())
}

fn in_a_circle(view: &str) -> Error {
    Error::new(
        Kind::Invalid,
        format!(
            "derived feature view `{view}` is made of itself, if over others; its query must end at views whose rows are ingested"
        ),
    )
}

async fn plan_of(session: &Session, view: &FeatureView, sql: &str) -> Result<DerivedPlan> {
    derived::plan(session, sql).await.map_err(|error| {
        let error = Error::from(error);
        Error::new(error.kind(), format!("derived feature view `{}`: its query: {error}", view.name))
    })
}

fn derived_views(state: &State) -> impl Iterator<Item = &ViewVersion> {
    state.views_in_force(state.head.sequence).filter(|version| version.definition.derived.is_some())
}

fn qualified(view: &FeatureView) -> String {
    match view.project.as_str() {
        "default" => view.name.to_string(),
        project => format!("{project}.{}", view.name),
    }
}

fn names<'a>(views: impl Iterator<Item = &'a ViewVersion>) -> String {
    let names: Vec<String> = views.map(|version| qualified(&version.definition)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Each after what it is made of, or one that is made of itself.
fn order(parents: &BTreeMap<String, BTreeSet<String>>) -> std::result::Result<Vec<String>, String> {
    let mut ordered: Vec<String> = Vec::new();
    while ordered.len() < parents.len() {
        let ready = parents.iter().find(|(view, of)| {
            !ordered.contains(view)
                && of.iter().all(|parent| !parents.contains_key(parent) || ordered.contains(parent))
        });
        match ready {
            Some((view, _)) => ordered.push(view.clone()),
            None => {
                let stuck = parents.keys().find(|view| !ordered.contains(view));
                return Err(stuck.cloned().unwrap_or_default());
            }
        }
    }
    Ok(ordered)
}

/// The snapshot that the newest batch of the version's line was made from, of those that count.
fn last_refresh(state: &State, version: &ViewVersion) -> Option<Sequence> {
    let batches = state.batches_of_line(version.line).iter().rev();
    let batches = batches.filter(|batch| state.counts_at(batch, state.head.sequence));
    batches.filter_map(|batch| batch.record.derivation.as_ref()).map(|derivation| derivation.sequence).next()
}

/// Whether batches of the view or of its parents were withdrawn or restored after a sequence, so that what came since is not all that
/// is new.
fn reordered(state: &State, planned: &DerivedPlan, version: &ViewVersion, since: Sequence) -> bool {
    let lines: BTreeSet<_> = planned.parents().map(|parent| parent.line).chain([version.line]).collect();
    let later = state.withdrawals().all().iter().rev().take_while(|noted| noted.by.sequence > since);
    let mut batches = later.filter_map(|noted| match noted.of {
        Withdrawable::Batch(batch) => state.batch(batch),
        Withdrawable::Version(_) => None,
    });
    batches.any(|batch| lines.contains(&batch.line))
}

/// Whether a parent has batches that came after a sequence, or lost rows after it.
fn newer(state: &State, planned: &DerivedPlan, since: Sequence, at: Sequence) -> bool {
    planned.parents().any(|parent| {
        parent.by.sequence > since
            || state.erasures().last_of(parent.view).is_some_and(|last| last > since)
            || state.batches_of(parent, at).iter().any(|batch| batch.by.sequence > since)
    })
}

/// Where the query's columns are that the view asks for: what identifies an observation, then its values.
struct Places {
    identity: Vec<usize>,
    values: Vec<usize>,
}

impl Places {
    /// In the order in which the view stores them.
    fn all(&self) -> Vec<usize> {
        self.identity.iter().chain(&self.values).copied().collect()
    }
}

fn columns_of(view: &FeatureView, schema: &arrow::datatypes::Schema) -> Result<Places> {
    let mut missing: Vec<String> = Vec::new();
    let mut place = |column: &str, what: String| match schema.index_of(column) {
        Ok(place) => place,
        Err(_) => {
            missing.push(format!("`{column}` ({what})"));
            0
        }
    };
    let mut identity = Vec::new();
    for key in &view.keys {
        identity.push(place(&key.column, format!("key {}", key.key)));
    }
    if let Some(occurrence) = &view.occurrence {
        identity.push(place(&occurrence.column, "occurrence".to_owned()));
    }
    identity.push(place(&view.time.valid_at, "valid_at".to_owned()));
    if let KnownAt::Column(column) = &view.time.known_at {
        identity.push(place(column, "known_at".to_owned()));
    }
    let mut values = Vec::new();
    for feature in &view.features {
        values.push(place(&feature.column, format!("feature {}", feature.name)));
    }
    if !missing.is_empty() {
        let has: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "derived feature view `{}`: its query gives no column {}; it gives {}",
                view.name,
                missing.join(", "),
                has.join(", ")
            ),
        ));
    }
    Ok(Places { identity, values })
}

/// What a view holds of each observation: the last row of its identity.
struct Known {
    identity: RowConverter,
    values: RowConverter,
    rows: HashMap<OwnedRow, OwnedRow>,
}

/// Columns by name and type.
type Typed = Vec<(String, FeatureType)>;

/// The names and types of a view's rows as stored: identity, then features.
fn stored(version: &ViewVersion) -> (Typed, Typed) {
    let view = &version.definition;
    let mut identity: Vec<(String, FeatureType)> =
        version.keys().iter().map(|key| (key.name.to_string(), key.data_type)).collect();
    identity
        .extend(view.occurrence.iter().map(|occurrence| (occurrence.name.to_string(), occurrence.data_type)));
    identity.push(("valid_at".to_owned(), FeatureType::Timestamp));
    if matches!(view.time.known_at, KnownAt::Column(_)) {
        identity.push(("known_at".to_owned(), FeatureType::Timestamp));
    }
    let values = view.features.iter().map(|feature| (feature.name.to_string(), feature.data_type)).collect();
    (identity, values)
}

/// The rows of a view as stored, those of one identity in the order in which they take each other's place.
async fn held_rows(session: &Session, version: &ViewVersion) -> Result<Vec<RecordBatch>> {
    let (identity, values) = stored(version);
    let quoted = |columns: &[(String, FeatureType)]| -> Vec<String> {
        columns.iter().map(|(name, _)| format!("\"{name}\"")).collect()
    };
    let mut names = quoted(&identity);
    names.extend(quoted(&values));
    let sql = format!(
        "SELECT {} FROM history('{}') WHERE NOT retracted ORDER BY known_at, sequence, \"row\"",
        names.join(", "),
        version.label()
    );
    let physical = session.prepare(&session.plan(&sql).await?).await?;
    Ok(session.run(physical)?.try_collect().await?)
}

impl Known {
    fn of(version: &ViewVersion, held: &[RecordBatch]) -> Result<Self> {
        let (identity, values) = stored(version);
        let mut known =
            Self { identity: converter(&identity)?, values: converter(&values)?, rows: HashMap::new() };
        for batch in held {
            let (of, with) = batch.columns().split_at(identity.len());
            let of = known.identity.convert_columns(of).map_err(fault)?;
            let with = known.values.convert_columns(with).map_err(fault)?;
            for (of, with) in of.iter().zip(with.iter()) {
                known.rows.insert(of.owned(), with.owned());
            }
        }
        Ok(known)
    }
}

fn converter(columns: &[(String, FeatureType)]) -> Result<RowConverter> {
    RowConverter::new(columns.iter().map(|(_, kind)| SortField::new(kind.arrow())).collect()).map_err(fault)
}

fn fault(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows cannot be compared", error)
}

/// The rows that the view has not, and how many observations it has that were not given. Those before `since` would not count: they were
/// there once, and went by the view's retention.
fn not_known(
    version: &ViewVersion,
    computed: Vec<RecordBatch>,
    known: Known,
    since: Option<Timestamp>,
) -> Result<(Vec<RecordBatch>, u64)> {
    let (identity, values) = stored(version);
    let all: Typed = identity.iter().chain(&values).cloned().collect();
    let mut seen = std::collections::HashSet::new();
    let mut fresh = Vec::with_capacity(computed.len());
    for batch in computed {
        let places = columns_of(&version.definition, batch.schema().as_ref())?;
        // What does not fit its type is the ingest's to reject, row by row.
        let Some((columns, fits)) = converted(&batch, &places.all(), &all) else {
            fresh.push(batch);
            continue;
        };
        let (of, with) = columns.split_at(identity.len());
        let times = identity.iter().position(|(name, _)| name == "valid_at").and_then(|place| of.get(place));
        let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>()).cloned();
        let too_old = |row: usize| {
            let time = times.as_ref().filter(|times| times.is_valid(row)).map(|times| times.value(row));
            time.is_some_and(|time| Some(Timestamp(time)) < since)
        };
        let of = known.identity.convert_columns(of).map_err(fault)?;
        let with = known.values.convert_columns(with).map_err(fault)?;
        let mut new = Vec::with_capacity(batch.num_rows());
        for (row, (of, with)) in of.iter().zip(with.iter()).enumerate() {
            let is_known = known.rows.get(&of.owned()).is_some_and(|held| held.row() == with);
            let fits = fits.get(row).copied().unwrap_or(true);
            new.push(!fits || (!is_known && !too_old(row)));
            seen.insert(of.owned());
        }
        fresh.push(filter_record_batch(&batch, &BooleanArray::from(new)).map_err(fault)?);
    }
    let vanished = known.rows.keys().filter(|of| !seen.contains(*of)).count() as u64;
    Ok((fresh, vanished))
}

/// The columns as the view would store them, and which rows fit; none where the columns are of types that nothing of the view's can be made of.
fn converted(
    batch: &RecordBatch,
    places: &[usize],
    stored: &[(String, FeatureType)],
) -> Option<(Vec<ArrayRef>, Vec<bool>)> {
    let mut columns = Vec::with_capacity(places.len());
    let mut fits = vec![true; batch.num_rows()];
    for (place, (_, kind)) in places.iter().zip(stored) {
        let column = batch.column(*place);
        let fitting = cast(column, &kind.arrow()).ok()?;
        if fitting.null_count() != column.null_count() {
            for (row, fits) in fits.iter_mut().enumerate() {
                *fits &= fitting.is_valid(row) || column.is_null(row);
            }
        }
        columns.push(fitting);
    }
    Some((columns, fits))
}
