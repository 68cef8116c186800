//! The leak audit: which cells of a table hold what could not be known at their row's time.
//!
//! A recorded training set is audited by provenance: each cell's winner is found again, and its two times are compared with the
//! row's. A table that was joined elsewhere says nothing of where its values come from, so that its cells are compared with what
//! was knowable, and what differs is looked for among all observations of the row's entity.

mod comparable;
mod findings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_recursion::async_recursion;
use catalog::{Author, VisibleFile};
use engine::features::{self, Resolved};
use engine::point_in_time::{Cut, Observed, equal_bytes, micros, observed};
use engine::{Reserved, Session};
use feature::name::nearest;
use feature::policy::Action;
use feature::{Sequence, Span, Timestamp, TrainingSetId};
use lineage::manifest::Knowledge;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::historical::{Spine, refuse_naive};
use crate::looked_at::looked_at;
use crate::reads::{Read, ReadKind};
use crate::recorded::{Blocks, column, order_of};
use crate::retrieve::Serving;

use comparable::{comparable, converted};
use findings::{Audited, Evidence, Finding, summed};

pub use findings::{AuditBatch, AuditClass, AuditExample, ColumnAudit, Lead};

/// What to audit in a table that was joined elsewhere; the JSON form of `audit` in docs/flight.md.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// References and names of feature services. A feature's column is called as the feature is, or `view__feature`.
    #[serde(default)]
    pub features: Vec<String>,
    /// Columns that are called otherwise, and the feature that each holds.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// The table's time column, where it is not `at` or the only one.
    #[serde(default)]
    pub at: Option<String>,
    /// A ttl in place of the version's own, by view.
    #[serde(default)]
    pub ttl: BTreeMap<String, Span>,
    #[serde(default = "few")]
    pub examples: usize,
}

fn few() -> usize {
    5
}

/// Most examples a column that are given.
const MOST_EXAMPLES: usize = 1_000;

impl AuditRequest {
    pub fn new(features: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            features: features.into_iter().map(Into::into).collect(),
            columns: BTreeMap::new(),
            at: None,
            ttl: BTreeMap::new(),
            examples: few(),
        }
    }
}

/// Which recorded set; the JSON form of `lineament.audit` in docs/flight.md.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSetRequest {
    pub training_set: TrainingSetId,
    #[serde(default = "few")]
    pub examples: usize,
}

impl AuditSetRequest {
    pub fn new(training_set: TrainingSetId) -> Self {
        Self { training_set, examples: few() }
    }
}

/// How cells were judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// By the observation that each cell came from.
    Provenance,
    /// By value alone.
    Value,
}

/// What an audit found. Counts are exact, examples are limited.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// None for a table that was joined elsewhere.
    pub training_set: Option<TrainingSetId>,
    pub judged_by: JudgedBy,
    /// The snapshot that it was compared with.
    pub sequence: Sequence,
    pub rows: u64,
    /// The column of the rows' times.
    pub at: String,
    /// Rows with a leaked cell.
    pub leaked_rows: u64,
    /// Whether there is none.
    pub clean: bool,
    pub columns: Vec<ColumnAudit>,
    pub seconds: f64,
}

/// An audit, with every cell that is not as it was knowable as a table.
#[derive(Clone, Debug)]
pub struct FullAudit {
    pub report: Audit,
    pub schema: SchemaRef,
    /// Empty where only the report was asked for.
    pub batches: Vec<RecordBatch>,
}

/// What findings are told of: the table's rows.
struct Subject {
    keys: Vec<(String, ArrayRef)>,
    at_name: String,
    at: ArrayRef,
    times: Vec<Option<i64>>,
}

impl Serving {
    /// Audits a recorded training set. One that was made under the limit on what was known is proved free of leaks.
    ///
    /// # Errors
    /// An id that is not known; a set that cannot be made again as it was recorded.
    #[async_recursion]
    pub async fn audit_set(
        &self,
        request: AuditSetRequest,
        full: bool,
        author: &Author,
    ) -> Result<FullAudit> {
        let words = format!("audit: training set {}", request.training_set);
        let answer = self.audited_set(request, full, author);
        self.on_record(author, Action::Read, Some(ReadKind::Audit), || words, answer).await
    }

    async fn audited_set(&self, request: AuditSetRequest, full: bool, author: &Author) -> Result<FullAudit> {
        let started = Instant::now();
        let held = self.memory().reserve("audit");
        let set = self.recorded(request.training_set, &held, author).await?;
        let names: Vec<&str> =
            set.manifest.references.iter().map(|reference| reference.output.as_str()).collect();
        let rows = set.spine.num_rows();
        let traced = Arc::new(set.looked_at(|_| true)?);
        let place = self.reads.reserve(&traced)?;
        let rebuilt = self.rebuilt(&set, &names, &Blocks::all(rows), &held).await?;
        // Under the limit, the set itself is what was knowable; that is what the winners' times are to prove.
        let knowable = match set.manifest.knowledge {
            Knowledge::AtRow => None,
            Knowledge::By(_) | Knowledge::Unlimited => {
                let (_, mut resolved) = self.as_recorded(&set.manifest, |_| true).await?;
                resolved.cut = Cut::Row;
                Some(self.knowable(&set.session, &set.spine, &set.manifest.spine.at, &resolved, &held).await?)
            }
        };
        let all = UInt32Array::from_iter_values(0..rows as u32);
        let mut columns = Vec::with_capacity(names.len());
        let mut keys = BTreeSet::new();
        let now = self.catalog().store().clock().now();
        let mut read = Read::new(author, set.manifest.sequence, now, traced);
        read.asked(ReadKind::Audit, format!("audit: training set {}", request.training_set));
        for view in &set.manifest.views {
            held.grow(rows as u64 * WINNER_BYTES)?;
            let winners = self.winners_of(&set, view.version, &all).await?;
            keys.extend(winners.version.keys().iter().map(|key| key.name.to_string()));
            for (position, reference) in set.manifest.references.iter().enumerate() {
                if reference.version != view.version {
                    continue;
                }
                let values = rebuilt.column(position).clone();
                let answer = knowable.as_ref().map_or(&values, |knowable| knowable.column(position)).clone();
                let same = equal_bytes(std::slice::from_ref(&values))?;
                let known = equal_bytes(std::slice::from_ref(&answer))?;
                let mut findings = Vec::new();
                for row in 0..rows {
                    let at = winners.at.get(row).copied().flatten();
                    let winner = winners.found.get(row).and_then(|found| found.as_ref().ok());
                    let unknown = winner.is_some_and(|winner| {
                        at.is_none_or(|at| winner.valid_at.micros() > at || winner.known_at.micros() > at)
                    });
                    let differs = same.row(row) != known.row(row);
                    let class = match (unknown, winner) {
                        (true, _) if differs || knowable.is_none() => AuditClass::Leaked,
                        _ if !differs => continue,
                        (_, Some(_)) => AuditClass::Stale,
                        (_, None) => AuditClass::Missing,
                    };
                    findings.push(Finding {
                        row: row as u32,
                        class,
                        ambiguous: false,
                        evidence: winner.map(|winner| Evidence {
                            valid_at: winner.valid_at,
                            known_at: winner.known_at,
                            batch: winner.batch.record.batch,
                            sequence: winner.batch.by.sequence,
                        }),
                    });
                }
                columns.push((
                    position,
                    Audited {
                        column: reference.output.clone(),
                        reference: reference.resolved.clone(),
                        values,
                        answer,
                        findings,
                    },
                ));
            }
        }
        columns.sort_by_key(|(position, _)| *position);
        let columns: Vec<Audited> = columns.into_iter().map(|(_, column)| column).collect();
        let subject = Subject::new(&set.spine, &keys, &set.manifest.spine.at)?;
        let full = told(
            Told {
                training_set: Some(request.training_set),
                judged_by: JudgedBy::Provenance,
                sequence: set.manifest.sequence,
                examples: request.examples,
                full,
            },
            &subject,
            &columns,
            started,
        )?;
        read.rows = rows as u64;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        Ok(full)
    }

    /// Audits a table that was joined elsewhere: rows with entity keys, a time, and columns that claim to be features.
    ///
    /// # Errors
    /// A table without the keys, the time or the columns; features that there are not; a column whose type is not its
    /// feature's.
    #[async_recursion]
    pub async fn audit_table(
        &self,
        table: Spine,
        request: AuditRequest,
        full: bool,
        author: &Author,
    ) -> Result<FullAudit> {
        let words = format!("audit: a table of {}", request.features.join(", "));
        let answer = self.audited_table(table, request, full, author);
        self.on_record(author, Action::Read, Some(ReadKind::Audit), || words, answer).await
    }

    async fn audited_table(
        &self,
        table: Spine,
        request: AuditRequest,
        full: bool,
        author: &Author,
    ) -> Result<FullAudit> {
        let started = Instant::now();
        if table.rows() == 0 {
            return Err(Error::new(Kind::Invalid, "the table has no rows to audit"));
        }
        let held = self.memory().reserve("audit");
        let bytes: usize = table.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        held.grow(2 * bytes as u64)?;
        let session = self.engine.ordered_session(self.snapshot_for(None, author).await?)?;
        let plan = session.rows("table", table.schema.clone(), table.batches.clone())?;
        let at = features::time_column(plan.schema(), request.at.as_deref())?;
        refuse_naive(&table.schema, &at)?;
        let table = concat_batches(&table.schema, &table.batches)
            .map_err(|error| Error::new(Kind::Exhausted, format!("the table is too large: {error}")))?;
        let resolved = resolved(&session, &request).await?;
        let claims = claims(&table, &request, &resolved)?;
        let sequence = session.snapshot().sequence;
        let traced = looked_at(resolved.features.iter().map(|feature| {
            let version = resolved.views[feature.view].table.version();
            let name = version.definition.features[feature.feature].name.as_str();
            (&**version, sequence, name, feature.output.as_str())
        }));
        let traced = Arc::new(traced);
        let place = self.reads.reserve(&traced)?;
        let mut keys = BTreeSet::new();
        for view in &resolved.views {
            keys.extend(view.table.version().keys().iter().map(|key| key.name.to_string()));
        }
        let spine = with_columns(&table, |name| keys.contains(name) || name == at)?;
        let knowable = self.knowable(&session, &spine, &at, &resolved, &held).await?;
        let mut columns = Vec::with_capacity(claims.len());
        for claim in &claims {
            columns.push(self.judged(&session, &table, &at, &resolved, &knowable, claim, &held).await?);
        }
        let subject = Subject::new(&table, &keys, &at)?;
        let full = told(
            Told {
                training_set: None,
                judged_by: JudgedBy::Value,
                sequence,
                examples: request.examples,
                full,
            },
            &subject,
            &columns,
            started,
        )?;
        let mut read = Read::new(author, sequence, self.catalog().store().clock().now(), traced);
        let claimed: Vec<&str> = columns.iter().map(|column| column.reference.as_str()).collect();
        read.asked(ReadKind::Audit, format!("audit of a table: {}", claimed.join(", ")));
        read.rows = table.num_rows() as u64;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        Ok(full)
    }

    /// What was knowable to each row, a column a feature.
    async fn knowable(
        &self,
        session: &Session,
        spine: &RecordBatch,
        at: &str,
        resolved: &Resolved,
        held: &Reserved,
    ) -> Result<RecordBatch> {
        let carried = spine.num_columns();
        let rows = session.rows("spine", spine.schema(), vec![spine.clone()])?;
        let found = self.look_up(session, rows, at, resolved).await?;
        let bytes: usize = found.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        held.grow(2 * bytes as u64)?;
        let whole = concat_batches(&found.schema, &found.batches)
            .map_err(|error| Error::new(Kind::Exhausted, format!("the rows are too large: {error}")))?;
        let features: Vec<usize> = (carried..whole.num_columns()).collect();
        whole.project(&features).map_err(|error| Error::internal("columns cannot be picked", error))
    }

    /// Judges one column of a table by its values.
    #[allow(clippy::too_many_arguments)]
    async fn judged(
        &self,
        session: &Session,
        table: &RecordBatch,
        at: &str,
        resolved: &Resolved,
        knowable: &RecordBatch,
        claim: &Claim,
        held: &Reserved,
    ) -> Result<Audited> {
        let feature = &resolved.features[claim.feature];
        let view = &resolved.views[feature.view];
        let version = view.table.version();
        let declared = &version.definition.features[feature.feature];
        // Whoever is told where values differ from those of the store learns them.
        if view.table.guard().and_then(|guard| guard.mask(feature.feature)).is_some() {
            return Err(Error::denial(
                format!("{}.{}", version.label(), declared.name),
                format!(
                    "`{}` is masked, and cannot be audited by who may not see it; leave it out",
                    feature.reference
                ),
            ));
        }
        let values = column(table, &claim.column)?;
        let answer = knowable.column(claim.feature);
        let Some(kind) = comparable(values.data_type(), answer.data_type()) else {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the column `{}` is {}, and `{}` is {}: they cannot be compared; cast the column, or say which feature it holds",
                    claim.column,
                    values.data_type(),
                    feature.reference,
                    declared.data_type
                ),
            ));
        };
        let compared = converted(&claim.column, values, &kind)?;
        let known = converted(&feature.reference, answer, &kind)?;
        let (given, expected) =
            (equal_bytes(std::slice::from_ref(&compared))?, equal_bytes(std::slice::from_ref(&known))?);
        let differing: Vec<u32> = (0..table.num_rows())
            .filter(|row| given.row(*row) != expected.row(*row))
            .map(|row| row as u32)
            .collect();
        let times = micros(column(table, at)?)?;
        let guard = view.table.guard().map(|guard| &**guard);
        let order = Arc::new(order_of(version, table, column(table, at)?, guard).await?);
        held.grow(order.memory() as u64)?;
        let snapshot = session.snapshot();
        let files: &Arc<Vec<VisibleFile>> = view.table.files();
        let asked: Vec<u32> =
            differing.iter().copied().filter(|row| compared.is_valid(*row as usize)).collect();
        let name = declared.name.as_str();
        let sources: Observed =
            observed(&snapshot.files, version, files, &order, name, &compared, &asked).await?;
        let findings = differing.into_iter().map(|row| {
            let place = row as usize;
            let at = times.is_valid(place).then(|| Timestamp(times.value(place)));
            let unknown = at.and_then(|at| sources.nearest_unknown(place, at));
            let knowable = at.and_then(|at| sources.latest_knowable(place, at));
            let alive = |valid_at: Timestamp| {
                let oldest = at.zip(view.ttl).map(|(at, ttl)| at.micros().saturating_sub(ttl.micros()));
                oldest.is_none_or(|oldest| valid_at.micros() >= oldest)
            };
            let class = if compared.is_null(place) {
                AuditClass::Missing
            } else if unknown.is_some() {
                AuditClass::Leaked
            } else if knowable.is_some() {
                AuditClass::Stale
            } else {
                AuditClass::Unexplained
            };
            Finding {
                row,
                class,
                ambiguous: unknown.is_some() && knowable.is_some_and(|found| alive(found.valid_at)),
                evidence: unknown.and_then(|found| {
                    let batch = files.get(found.file)?.batches().get(found.batch as usize)?;
                    Some(Evidence {
                        valid_at: found.valid_at,
                        known_at: found.known_at,
                        batch: batch.record.batch,
                        sequence: batch.by.sequence,
                    })
                }),
            }
        });
        Ok(Audited {
            column: claim.column.clone(),
            reference: feature.reference.clone(),
            values: values.clone(),
            answer: answer.clone(),
            findings: findings.collect(),
        })
    }
}

/// What the winner of one row takes in memory, with its time.
const WINNER_BYTES: u64 = 80;

/// A column of the table, and the feature that it claims to be.
struct Claim {
    column: String,
    /// Position in the resolved features.
    feature: usize,
}

/// The features that are asked for, each once, under names that do not meet.
async fn resolved(session: &Session, request: &AuditRequest) -> Result<Resolved> {
    let mut asked: Vec<String> = request.features.clone();
    for (column, reference) in &request.columns {
        if reference.ends_with('*') || !reference.contains(['.', ':']) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the column `{column}` holds one feature, and `{reference}` is none; write it as view.feature"
                ),
            ));
        }
        if !asked.contains(reference) {
            asked.push(reference.clone());
        }
    }
    if asked.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "no features are named; say which the table's columns hold, as in weather.temp",
        ));
    }
    let mut wanted = features::Request::new(asked);
    wanted.full_feature_names = true;
    wanted.ttl = request.ttl.clone();
    Ok(features::resolve(session.snapshot(), &wanted).await?)
}

/// Which column holds which feature.
fn claims(table: &RecordBatch, request: &AuditRequest, resolved: &Resolved) -> Result<Vec<Claim>> {
    let schema = table.schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut claims: Vec<Claim> = Vec::new();
    for (position, feature) in resolved.features.iter().enumerate() {
        let mapped: Vec<&String> = request
            .columns
            .iter()
            .filter(|(_, reference)| **reference == feature.asked)
            .map(|(column, _)| column)
            .collect();
        if !mapped.is_empty() {
            for column in mapped {
                if !names.contains(&column.as_str()) {
                    return Err(no_column(column, &names));
                }
                claims.push(Claim { column: column.clone(), feature: position });
            }
            continue;
        }
        let version = resolved.views[feature.view].table.version();
        let short = version.definition.features[feature.feature].name.as_str();
        let usual = [feature.output.as_str(), short];
        let Some(column) = usual.into_iter().find(|name| names.contains(name)) else {
            let hint = nearest(short, names.iter().copied())
                .map(|near| format!(" (did you mean `{near}`?)"))
                .unwrap_or_default();
            return Err(Error::new(
                Kind::NotFound,
                format!(
                    "the table has no column `{short}` or `{}` for `{}`{hint}; say which column holds it, as in --map {}={}; its columns: {}",
                    feature.output,
                    feature.reference,
                    nearest(short, names.iter().copied()).unwrap_or("column"),
                    feature.asked,
                    names.join(", ")
                ),
            ));
        };
        claims.push(Claim { column: column.to_owned(), feature: position });
    }
    for (place, claim) in claims.iter().enumerate() {
        if let Some(other) = claims[..place].iter().find(|other| other.column == claim.column) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "the column `{}` would be both `{}` and `{}`; say which it holds by a map, as in --map {}={}",
                    claim.column,
                    resolved.features[other.feature].reference,
                    resolved.features[claim.feature].reference,
                    claim.column,
                    resolved.features[claim.feature].asked
                ),
            ));
        }
    }
    Ok(claims)
}

fn no_column(column: &str, names: &[&str]) -> Error {
    let hint = nearest(column, names.iter().copied())
        .map(|near| format!(" (did you mean `{near}`?)"))
        .unwrap_or_default();
    Error::new(
        Kind::NotFound,
        format!("the table has no column `{column}`{hint}; its columns: {}", names.join(", ")),
    )
}

fn with_columns(table: &RecordBatch, wanted: impl Fn(&str) -> bool) -> Result<RecordBatch> {
    let schema = table.schema();
    let places: Vec<usize> =
        (0..schema.fields().len()).filter(|place| wanted(schema.field(*place).name())).collect();
    table.project(&places).map_err(|error| Error::internal("columns cannot be picked", error))
}

impl Subject {
    fn new(table: &RecordBatch, keys: &BTreeSet<String>, at: &str) -> Result<Self> {
        let keys = keys.iter().map(|name| Ok((name.clone(), column(table, name)?.clone())));
        let times = column(table, at)?;
        Ok(Self {
            keys: keys.collect::<Result<_>>()?,
            at_name: at.to_owned(),
            at: times.clone(),
            times: micros(times)?.iter().collect(),
        })
    }
}

/// What is told beside the findings.
struct Told {
    training_set: Option<TrainingSetId>,
    judged_by: JudgedBy,
    sequence: Sequence,
    examples: usize,
    full: bool,
}

fn told(told: Told, subject: &Subject, columns: &[Audited], started: Instant) -> Result<FullAudit> {
    let rows = subject.times.len();
    let mut leaked = vec![false; rows];
    let mut summaries = Vec::with_capacity(columns.len());
    for column in columns {
        for finding in column.findings.iter().filter(|finding| finding.class == AuditClass::Leaked) {
            leaked[finding.row as usize] = true;
        }
        summaries.push(summed(subject, column, told.examples.min(MOST_EXAMPLES))?);
    }
    let leaked_rows = leaked.iter().filter(|leaked| **leaked).count() as u64;
    let schema = findings::schema(subject);
    let batches = if told.full { findings::rows(subject, columns, &schema)? } else { Vec::new() };
    let report = Audit {
        training_set: told.training_set,
        judged_by: told.judged_by,
        sequence: told.sequence,
        rows: rows as u64,
        at: subject.at_name.clone(),
        leaked_rows,
        clean: leaked_rows == 0,
        columns: summaries,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(FullAudit { report, schema, batches })
}
