//! The parts of one version, validated and written side by side with those of others.

use std::sync::Arc;

use arrow::array::RecordBatch;
use feature::quality::Judging;
use feature::{BatchId, Sequence};
use storage::environment;
use storage::partition::Layout;

use super::super::knowledge::Knowledge;
use super::super::{Claim, Progress, keeps_back, stage, write_body};
use super::Acknowledged;
use super::checked_parts::{Offered, Verdict, check_parts};
use super::queue::Queued;
use crate::author::Author;
use crate::catalog::Catalog;
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::quality;
use crate::records::{BatchCommitted, BatchRefused, PassedBy};
use crate::sampling::{self, Portion};
use crate::state::ViewVersion;

/// Parts for one version under one claim.
pub struct ForVersion {
    pub version: ViewVersion,
    pub claim: Option<Claim>,
    pub parts: Vec<Queued>,
}

/// Parts of one version whose files are written.
pub struct StagedVersion {
    pub version: ViewVersion,
    pub parts: Vec<(Queued, Verdict)>,
    pub committed: Option<BatchCommitted>,
    /// Whether what is committed is kept back: it failed where its view keeps such batches back.
    pub quarantined: bool,
    pub refused: Option<BatchRefused>,
    /// What is sampled of the rows that are committed, where the view declares it.
    sample: Option<Portion>,
}

pub enum Staging {
    Ready(Box<StagedVersion>),
    /// Some parts cannot be taken and were answered; the others are to be sorted again.
    Faulty(Vec<Queued>),
    Failed(Vec<Queued>, Error),
}

impl StagedVersion {
    pub fn into_parts(self) -> impl Iterator<Item = Queued> {
        self.parts.into_iter().map(|(part, _)| part)
    }

    /// The batch that holds a part: of those that were taken, or of those that were refused.
    pub fn batch_of(&self, verdict: &Verdict) -> Option<BatchId> {
        match verdict.refused {
            true => self.refused.as_ref().map(|refused| refused.batch),
            false => self.committed.as_ref().map(|committed| committed.batch),
        }
    }

    /// Answers each part, after its commit.
    pub fn acknowledge(self, catalog: &Catalog, sequence: Sequence) {
        let label = self.version.label();
        if let Some(sample) = &self.sample
            && let Err(error) = catalog.passing().add(self.version.version, PassedBy::Streams, sample)
        {
            sampling::not_sampled(&error);
        }
        let (committed, refused) = (
            self.committed.as_ref().map(|committed| committed.batch),
            self.refused.as_ref().map(|refused| refused.batch),
        );
        for (part, verdict) in self.parts {
            let batch = if verdict.refused { refused } else { committed };
            let Some(batch) = batch else { continue };
            let answer = Acknowledged {
                place: part.place,
                version: label.clone(),
                sequence,
                batch,
                rows: verdict.rows,
                rejected: verdict.rejected,
                refused: verdict.refused,
                quarantined: self.quarantined && !verdict.refused,
                repeated: false,
                examples: verdict.examples,
            };
            part.answer(Ok(answer));
        }
    }
}

/// Validates parts and writes their files, which nobody sees before an entry names them.
pub async fn stage_version(
    catalog: &Catalog,
    conditions: &Arc<dyn Conditions>,
    author: &Author,
    group: ForVersion,
) -> Staging {
    let ForVersion { version, claim, parts } = group;
    let offered: Vec<Offered> =
        parts.iter().map(|part| Offered { origin: part.origin(), rows: part.rows.clone() }).collect();
    let checked = {
        let (version, conditions) = (version.clone(), conditions.clone());
        tokio::task::spawn_blocking(move || check_parts(&version, &offered, conditions.as_ref())).await
    };
    let checked = match checked.map_err(|error| Error::internal("validation stopped", error)) {
        Ok(Ok(checked)) => checked,
        Ok(Err(error)) | Err(error) => return Staging::Failed(parts, error),
    };
    if checked.verdicts.iter().any(Result::is_err) {
        let mut rest = Vec::new();
        for (part, verdict) in parts.into_iter().zip(checked.verdicts) {
            match verdict {
                Ok(_) => rest.push(part),
                Err(error) => part.answer(Err(error)),
            }
        }
        return Staging::Faulty(rest);
    }
    let verdicts: Vec<Verdict> = checked.verdicts.into_iter().flatten().collect();
    let mut producers: Vec<String> =
        parts.iter().map(|part| format!("producer `{}`", part.target.producer)).collect();
    producers.sort();
    producers.dedup();
    let sum = |refused: bool, of: fn(&Verdict) -> u64| -> u64 {
        verdicts.iter().filter(|verdict| verdict.refused == refused).map(of).sum()
    };
    let written = async {
        let body = write_body(catalog, author, &producers, None).await?;
        let mut refused = None;
        if let Some(bytes) = checked.refused {
            let batch: BatchId = environment::mint();
            let quarantine =
                catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?;
            let offered = parts.iter().zip(&verdicts).filter(|(_, verdict)| verdict.refused);
            refused = Some(BatchRefused {
                batch,
                view: version.view,
                version: version.version,
                rows: offered.map(|(part, _)| part.rows.num_rows() as u64).sum(),
                rejected: sum(true, |verdict| verdict.rejected),
                quarantine,
                sources: Vec::new(),
                // An object is named by one record.
                body: if checked.rows.num_rows() == 0 { body.clone() } else { None },
            });
        }
        if checked.rows.num_rows() == 0 {
            return Ok::<_, Error>((None, refused, None));
        }
        let batch: BatchId = environment::mint();
        let quarantine = match checked.quarantine {
            Some(bytes) => {
                Some(catalog.put_object(format!("quarantine/{batch}/rejected.parquet"), bytes).await?)
            }
            None => None,
        };
        // What a stream brings is known from its arrival, where no column says when and nobody claims another
        // thing.
        let knowledge = Knowledge::of(&version, Some(claim.unwrap_or(Claim::Correction)));
        let rows = knowledge.date(checked.rows);
        let count = rows.num_rows() as u64;
        let sample = sampled(catalog, &version, &rows)?;
        let state = catalog.state();
        let judged =
            quality::judge(catalog, &state, &version, Judging::StreamBatch, &checked.profile).await?;
        let profile =
            catalog.put_object(format!("profiles/{batch}.json"), checked.profile.to_json().into()).await?;
        let staged =
            stage(catalog, &version, batch, rows, &Layout::default(), &|_: Progress| (), count).await?;
        let committed = BatchCommitted {
            batch,
            view: version.view,
            version: version.version,
            rows: count,
            rejected: sum(false, |verdict| verdict.rejected),
            known_at: knowledge.source,
            manifest: staged.manifest,
            digest: staged.digest,
            quarantine,
            sources: Vec::new(),
            body,
            derivation: None,
            profile: Some(profile),
            judged,
        };
        Ok((Some(committed), refused, sample))
    };
    match written.await {
        Ok((committed, refused, sample)) => {
            let parts = parts.into_iter().zip(verdicts).collect();
            let judged = committed.as_ref().and_then(|committed| committed.judged.as_ref());
            let quarantined = keeps_back(&version, judged);
            Staging::Ready(Box::new(StagedVersion {
                version,
                parts,
                committed,
                quarantined,
                refused,
                sample,
            }))
        }
        Err(error) => Staging::Failed(parts, error),
    }
}

/// What is sampled of rows that came; none where the view declares nothing, or nobody would look at it.
fn sampled(catalog: &Catalog, version: &ViewVersion, rows: &RecordBatch) -> Result<Option<Portion>> {
    let Some(share) = sampling::of_streams(version).filter(|_| catalog.passing().is_begun()) else {
        return Ok(None);
    };
    let now = catalog.store().clock().now();
    let mut sample = Portion::empty(version, share, now, catalog.state().head.sequence);
    sample.add_accepted(version, rows, now)?;
    Ok(Some(sample))
}
