//! Replay: a training set made again from its id, and proved.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_recursion::async_recursion;
use catalog::records::{Record, Verdict, Verified};
use catalog::{Author, Intent};
use engine::column_lineage::Traced;
use engine::features::{self, Pinned, Resolved};
use engine::point_in_time::{Cut, LookupReport};
use engine::{Session, Snapshot};
use feature::policy::Action;
use feature::{BatchId, FileId, Sequence, TrainingSetId};
use futures::{Stream, TryStreamExt};
use lineage::Manifest;
use lineage::manifest::{ColumnManifest, Knowledge, ReferenceManifest};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};
use crate::historical::{HistoricalReport, LookedUp, TrainingSet, columns, report, target};
use crate::reads::{Place, Read, ReadKind};
use crate::rebuilding::{Differing, Rebuilding, Taker};
use crate::retrieve::{Serving, async_stream};
use crate::whole_files;

/// What a replay found.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    pub training_set: TrainingSetId,
    pub verdict: Verdict,
    /// As recorded.
    pub digest: String,
    /// As made again.
    pub rebuilt: String,
    pub rows: u64,
    /// Columns that are not as recorded; empty where the verdict is equal.
    pub differences: Vec<Difference>,
    /// Entries of the log that made the difference, as far as that can be told; empty where the verdict is equal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Suspect>,
    /// What is known where no entry can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub seconds: f64,
}

impl ReplayReport {
    /// Refuses to go on with a set that is not what was recorded; `then` says what is not done for it, and where more is told.
    ///
    /// # Errors
    /// `Damaged`, with the columns that differ.
    pub fn require_equal(&self, then: impl fmt::Display) -> Result<()> {
        if self.verdict != Verdict::Differs {
            return Ok(());
        }
        let columns: Vec<&str> =
            self.differences.iter().map(|difference| difference.column.as_str()).collect();
        Err(Error::new(
            Kind::Damaged,
            format!(
                "the training set {} cannot be rebuilt as it was (columns that differ: {}), so {then}",
                self.training_set,
                columns.join(", ")
            ),
        ))
    }
}

/// An entry of the log that made a set differ from what was recorded of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suspect {
    /// None where no entry of the log brings the batch.
    pub sequence: Option<Sequence>,
    pub batch: BatchId,
    /// The version that the set reads the batch under.
    pub version: String,
    pub why: String,
}

/// A column whose digest differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub column: String,
    /// Digest as recorded; none for a column that was not there.
    pub recorded: Option<String>,
    pub rebuilt: Option<String>,
    /// The first block of 65,536 rows that differs.
    pub first_block: Option<usize>,
}

/// A training set as it is made again: block by block, each proved before it is given.
pub struct ReplayStream {
    pub schema: SchemaRef,
    /// Where the set is not what was recorded, an error follows what is.
    pub rows: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
    /// What it was; there when all rows were given, and never where one of them was an error.
    pub report: oneshot::Receiver<Replayed>,
}

/// What is said of a set that was made again.
#[derive(Clone, Debug)]
pub struct Replayed {
    pub report: ReplayReport,
    /// As a retrieval says it.
    pub set: HistoricalReport,
}

/// A set that is about to be made again.
struct Replaying {
    rebuilding: Rebuilding,
    author: Author,
    started: Instant,
}

impl Serving {
    /// Makes a training set again from its id alone, compares digests, and records the verdict. Of a set that differs the rows before the
    /// first block that does are given.
    ///
    /// # Errors
    /// An id that is not known; data that was changed or is gone, by name, whether it bears on a cell or not.
    #[async_recursion]
    pub async fn replay(&self, id: TrainingSetId, author: &Author) -> Result<(ReplayReport, TrainingSet)> {
        let ReplayStream { schema, rows, report } = self.replaying(id, author).await?.stream(None)?;
        let batches = rows.try_collect().await?;
        let Replayed { report, set } =
            report.await.map_err(|error| Error::internal("the replay has no report", error))?;
        Ok((report, TrainingSet { schema, batches, report: set }))
    }

    /// The same, and the rows are not kept.
    ///
    /// # Errors
    /// Those of [`Serving::replay`].
    #[async_recursion]
    pub async fn prove(&self, id: TrainingSetId, author: &Author) -> Result<ReplayReport> {
        let replayed = self.replaying(id, author).await?.run(None).await?;
        replayed
            .map(|replayed| replayed.report)
            .ok_or_else(|| Error::new(Kind::Internal, "the replay ended before all rows were made again"))
    }

    /// The same as a stream: neither the spine nor the set is held. `then` says what is not done with a set that differs, and where more is
    /// told.
    ///
    /// # Errors
    /// Those of [`Serving::replay`].
    pub async fn replay_stream(
        &self,
        id: TrainingSetId,
        then: impl fmt::Display,
        author: &Author,
    ) -> Result<ReplayStream> {
        self.replaying(id, author).await?.stream(Some(then.to_string()))
    }

    #[async_recursion]
    async fn replaying(&self, id: TrainingSetId, author: &Author) -> Result<Replaying> {
        let started = Instant::now();
        let manifest = self.manifest(id).await?;
        let allowed = self.require_as_recorded(&manifest, author);
        let words = || format!("replay: training set {id}");
        self.on_record(author, Action::Read, Some(ReadKind::TrainingSet), words, allowed).await?;
        let rows = 0..manifest.spine.rows;
        let rebuilding = self.rebuilding(manifest, rows).await?;
        Ok(Replaying { rebuilding, author: author.clone(), started })
    }

    /// What is said of a set that is made again as its manifest says: where rows of it were erased, the manifest says what is left.
    pub(crate) fn verdict_of_equal(&self, id: TrainingSetId) -> Verdict {
        match self.catalog().state().erasures().of_set(id).next() {
            None => Verdict::Equal,
            Some(_) => Verdict::EqualMinusErasures,
        }
    }

    /// Checks every file of every batch that counted, also where no cell came from: a proof rests on whole files.
    async fn check_files(&self, session: &Session, manifest: &Manifest) -> Result<()> {
        let snapshot = session.snapshot();
        let mut checked: BTreeSet<FileId> = BTreeSet::new();
        for view in &manifest.views {
            // One that is not in the log, as a batch that is not, is named by the comparison.
            let Some(version) = snapshot.state.view_version(view.version) else { continue };
            for visible in snapshot.visible_files(version).await? {
                if checked.insert(visible.file.id) {
                    whole_files::check(self.catalog(), &visible.file).await?;
                }
            }
        }
        Ok(())
    }

    /// The session and those references of a recorded set that are wanted; nothing is resolved anew.
    pub(crate) async fn as_recorded(
        &self,
        manifest: &Manifest,
        wanted: impl Fn(&ReferenceManifest) -> bool,
    ) -> Result<(Session, Resolved)> {
        let snapshot: Snapshot = self.engine.snapshot(Some(manifest.sequence)).await?;
        let guards = self.guards_as_recorded(&snapshot.state, manifest).await?;
        let session = self.engine.ordered_session(Snapshot { guards, ..snapshot })?;
        let pinned: Vec<Pinned> = manifest
            .references
            .iter()
            .filter(|reference| wanted(reference))
            .map(|reference| Pinned {
                asked: reference.asked.clone(),
                version: reference.version,
                feature: reference.feature.clone(),
                output: reference.output.clone(),
            })
            .collect();
        let ttl: HashMap<_, _> = manifest.views.iter().map(|view| (view.version, view.ttl)).collect();
        let resolved = features::resolve_pinned(session.snapshot(), &pinned, &ttl, cut_of(manifest)).await?;
        Ok((session, resolved))
    }
}

impl Replaying {
    /// The rows as they are made again. With `then`, a set that differs ends with an error.
    fn stream(self, then: Option<String>) -> Result<ReplayStream> {
        let serving = self.rebuilding.serving();
        let traced = Arc::new(serving.trace(&self.rebuilding.manifest)?);
        // A full queue refuses a read rather than forget it.
        let place = serving.reads.reserve(&traced)?;
        let schema = self.rebuilding.schema();
        let (tell, report) = oneshot::channel();
        let rows = async_stream(move |mut emit| async move {
            let mut taker = Taker { emit: &mut emit, rows: 0 };
            let replayed = self.run(Some(&mut taker)).await;
            let given = taker.rows;
            let error = match replayed {
                Ok(Some(replayed)) => match then.map_or(Ok(()), |then| replayed.report.require_equal(then)) {
                    Ok(()) => {
                        // Whoever left asks for no report.
                        let _ = tell.send(replayed);
                        return;
                    }
                    Err(error) => {
                        emit.send(Err(error)).await;
                        return;
                    }
                },
                Ok(None) => None,
                Err(error) => Some(error),
            };
            // No verdict is on record; that rows were read is.
            let recorded = self.read(place, traced, given, error.as_ref()).await;
            if let Some(error) = error.or(recorded.err()) {
                emit.send(Err(error)).await;
            }
        });
        Ok(ReplayStream { schema, rows, report })
    }

    /// Makes the rows again, and records the verdict. None where the taker left before the end.
    async fn run(&self, taker: Option<&mut Taker<'_>>) -> Result<Option<Replayed>> {
        let Self { rebuilding, author, started } = self;
        let (serving, manifest, session) = (rebuilding.serving(), &*rebuilding.manifest, &rebuilding.session);
        let Some(found) = rebuilding.run(taker, Differing::GoesOn).await? else {
            return Ok(None);
        };
        serving.check_files(session, manifest).await?;
        let id = manifest.id;
        let rebuilt = found.digest.digest.to_string();
        let equal = rebuilt == manifest.digest;
        let verdict = if equal { serving.verdict_of_equal(id) } else { Verdict::Differs };
        let record = Record::from(Verified {
            training_set: id,
            verdict,
            digest: rebuilt.clone(),
            at: serving.catalog().store().clock().now(),
        });
        serving.catalog().commit::<()>(author, None, |_| Ok(Intent::Append(vec![record.clone()]))).await?;
        let entries = if equal { Vec::new() } else { suspects(session, manifest, &found) };
        let note = (!equal && entries.is_empty()).then(|| unexplained(manifest, author));
        let mut set = report(&found, &rebuilding.resolved, manifest.sequence);
        set.training_set = Some(id);
        set.seconds = started.elapsed().as_secs_f64();
        let differences =
            if equal { Vec::new() } else { differences(&manifest.columns, &columns(&found.digest)) };
        let report = ReplayReport {
            training_set: id,
            verdict,
            digest: manifest.digest.clone(),
            rebuilt,
            rows: found.digest.rows,
            differences,
            entries,
            note,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok(Some(Replayed { report, set }))
    }

    async fn read(&self, place: Place, traced: Arc<Traced>, rows: u64, error: Option<&Error>) -> Result<()> {
        let (serving, manifest) = (self.rebuilding.serving(), &self.rebuilding.manifest);
        let now = serving.catalog().store().clock().now();
        let mut read = Read::new(&self.author, manifest.sequence, now, traced);
        read.asked(ReadKind::TrainingSet, format!("training_set: {}", manifest.id));
        read.rows = rows;
        read.micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        read.error = error.map(ToString::to_string);
        serving.record_read(place, read).await
    }
}

pub(crate) fn cut_of(manifest: &Manifest) -> Cut {
    match manifest.knowledge {
        Knowledge::AtRow => Cut::Row,
        Knowledge::By(instant) => Cut::Instant(instant),
        Knowledge::Unlimited => Cut::None,
    }
}

/// The batches that count now and did not, that do not and did, and that answered another number of rows.
fn suspects(session: &Session, manifest: &Manifest, found: &LookedUp) -> Vec<Suspect> {
    let snapshot = session.snapshot();
    let mut suspects = Vec::new();
    for view in &manifest.views {
        let Some(version) = snapshot.state.view_version(view.version) else { continue };
        let now: Vec<BatchId> = snapshot
            .state
            .batches_of(version, snapshot.sequence)
            .iter()
            .map(|batch| batch.record.batch)
            .collect();
        let hits = |reports: &[LookupReport], batch: BatchId| {
            let report = reports.iter().find(|report| report.version == version.label());
            report
                .and_then(|report| report.hits.iter().find(|(hit, _)| *hit == batch))
                .map_or(0, |(_, rows)| *rows)
        };
        let mut batches = view.batches.clone();
        batches.extend(now.iter().filter(|batch| !view.batches.contains(batch)));
        for batch in batches {
            let then = view.hits.iter().find(|hit| hit.batch == batch).map_or(0, |hit| hit.rows);
            let answers = hits(&found.reports, batch);
            let why = match (view.batches.contains(&batch), now.contains(&batch)) {
                (true, false) => format!(
                    "it counted when the set was recorded, for {then} rows, and does not at sequence {}",
                    manifest.sequence
                ),
                (false, true) => {
                    format!("it did not count when the set was recorded, and answers {answers} rows now")
                }
                _ if then != answers => {
                    format!("it answered {then} rows when the set was recorded, and answers {answers} now")
                }
                _ => continue,
            };
            let sequence = snapshot.state.batch(batch).map(|batch| batch.by.sequence);
            suspects.push(Suspect { sequence, batch, version: version.label(), why });
        }
    }
    suspects.sort_by_key(|suspect| suspect.sequence);
    suspects
}

fn unexplained(manifest: &Manifest, author: &Author) -> String {
    let target = target();
    format!(
        "the same batches answered the same numbers of rows: what differs is in the spine that was stored, or in how values are read; it was recorded by {} on {}, and made again by {} on {target}",
        manifest.program, manifest.target, author.program
    )
}

fn differences(recorded: &[ColumnManifest], rebuilt: &[ColumnManifest]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (position, column) in recorded.iter().enumerate() {
        let other = rebuilt.get(position).filter(|other| other.name == column.name);
        if other.is_some_and(|other| other.digest == column.digest) {
            continue;
        }
        let first_block = other.and_then(|other| {
            let longer = column.leaves.len().max(other.leaves.len());
            (0..longer).find(|block| column.leaves.get(*block) != other.leaves.get(*block))
        });
        found.push(Difference {
            column: column.name.clone(),
            recorded: Some(column.digest.clone()),
            rebuilt: other.map(|other| other.digest.clone()),
            first_block,
        });
    }
    for column in rebuilt {
        if !recorded.iter().any(|known| known.name == column.name) {
            found.push(Difference {
                column: column.name.clone(),
                recorded: None,
                rebuilt: Some(column.digest.clone()),
                first_block: None,
            });
        }
    }
    found
}
