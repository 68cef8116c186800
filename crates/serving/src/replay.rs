//! Replay: a training set made again from its id, and proved.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Instant;

use catalog::records::{Record, Verdict, Verified};
use catalog::{Author, Intent};
use engine::features::{self, Pinned, Resolved};
use engine::point_in_time::{Cut, LookupReport};
use engine::{Session, Snapshot};
use feature::{BatchId, FileId, Sequence, TrainingSetId};
use lineage::Manifest;
use lineage::manifest::{ColumnManifest, Knowledge, ReferenceManifest};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::historical::{LookedUp, TrainingSet, columns, report, target};
use crate::retrieve::Serving;
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
        if self.verdict == Verdict::Equal {
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

impl Serving {
    /// Makes a training set again from its id alone, compares digests, and records the verdict.
    ///
    /// # Errors
    /// An id that is not known; data that was changed or is gone, by name, whether it bears on a cell or not.
    pub async fn replay(&self, id: TrainingSetId, author: &Author) -> Result<(ReplayReport, TrainingSet)> {
        let started = Instant::now();
        let manifest = self.manifest(id).await?;
        self.require_as_recorded(&manifest, author).await?;
        let (session, resolved) = self.as_recorded(&manifest, |_| true).await?;
        let spine = self.stored_spine(&manifest).await?;
        let rows = session.rows("spine", spine.schema.clone(), spine.batches.clone())?;
        let found = self.look_up(&session, rows, &manifest.spine.at, &resolved).await?;
        self.check_files(&session, &manifest).await?;
        let rebuilt = found.digest.digest.to_string();
        let equal = rebuilt == manifest.digest;
        let verdict = if equal { Verdict::Equal } else { Verdict::Differs };
        let record = Record::from(Verified {
            training_set: id,
            verdict,
            digest: rebuilt.clone(),
            at: self.catalog().store().clock().now(),
        });
        self.catalog().commit::<()>(author, None, |_| Ok(Intent::Append(vec![record.clone()]))).await?;
        let entries = if equal { Vec::new() } else { suspects(&session, &manifest, &found) };
        let note = (!equal && entries.is_empty()).then(|| unexplained(&manifest, author));
        let mut set_report = report(&found, &resolved, manifest.sequence);
        set_report.training_set = Some(id);
        set_report.seconds = started.elapsed().as_secs_f64();
        let replayed = ReplayReport {
            training_set: id,
            verdict,
            digest: manifest.digest,
            rebuilt,
            rows: found.digest.rows,
            differences: if equal {
                Vec::new()
            } else {
                differences(&manifest.columns, &columns(&found.digest))
            },
            entries,
            note,
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((replayed, TrainingSet { schema: found.schema, batches: found.batches, report: set_report }))
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
