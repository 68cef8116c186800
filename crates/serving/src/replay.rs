//! Replay: a training set made again from its id, and proved.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use catalog::records::{Record, Verdict, Verified};
use catalog::{Author, Intent};
use engine::features::{self, Pinned, Resolved};
use engine::point_in_time::Cut;
use engine::{Session, Snapshot};
use feature::{BatchId, TrainingSetId};
use lineage::Manifest;
use lineage::manifest::{ColumnManifest, Knowledge};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::historical::{TrainingSet, columns, report};
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
    pub seconds: f64,
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
        let (session, resolved) = self.as_recorded(&manifest).await?;
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
            seconds: started.elapsed().as_secs_f64(),
        };
        Ok((replayed, TrainingSet { schema: found.schema, batches: found.batches, report: set_report }))
    }

    /// Checks every file of every batch that counted, also where no cell came from: a proof rests on whole files.
    async fn check_files(&self, session: &Session, manifest: &Manifest) -> Result<()> {
        let batches: BTreeSet<BatchId> =
            manifest.views.iter().flat_map(|view| view.batches.iter().copied()).collect();
        for id in batches {
            let Some(batch) = session.snapshot().state.batch(id) else {
                let set = manifest.id;
                let why = format!(
                    "the manifest of the training set {set} names the batch {id}, which is not in the log"
                );
                return Err(Error::new(Kind::Damaged, why));
            };
            for file in self.catalog().batch_files(batch).await?.iter() {
                whole_files::check(self.catalog(), file).await?;
            }
        }
        Ok(())
    }

    /// The session and the references of a recorded set; nothing is resolved anew.
    pub(crate) async fn as_recorded(&self, manifest: &Manifest) -> Result<(Session, Resolved)> {
        let snapshot: Snapshot = self.engine.snapshot(Some(manifest.sequence)).await?;
        let session = self.engine.ordered_session(snapshot)?;
        let pinned: Vec<Pinned> = manifest
            .references
            .iter()
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
