//! What a part that is sent again was answered first: the entry that took it says so, and what it asked.

use std::collections::HashMap;
use std::sync::Arc;

use feature::Sequence;

use super::Acknowledged;
use super::queue::Queued;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::records::{Record, StreamPart, StreamPartsCommitted};
use crate::state::State;
use crate::state::producers::CommittedPart;

/// Entries that were read for it. Who sends all again asks for many parts of few entries.
pub struct FirstAnswers<'a> {
    catalog: &'a Catalog,
    read: HashMap<Sequence, Arc<[StreamPartsCommitted]>>,
}

impl<'a> FirstAnswers<'a> {
    pub fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, read: HashMap::new() }
    }

    /// # Errors
    /// `Invalid` where the part has other content than the one that was committed under its number.
    pub async fn of(&mut self, state: &State, part: &Queued, at: CommittedPart) -> Result<Acknowledged> {
        let producer = &part.target.producer;
        let records = self.records(at.sequence).await?;
        let first = records
            .iter()
            .filter(|record| record.batch == at.batch)
            .find_map(|record| single(record, producer, part))
            .ok_or_else(|| Error::Damaged {
                sequence: at.sequence,
                why: format!("it does not hold the part of producer `{producer}`, {}", part.place),
            })?;
        if first.digest != part.digest {
            let next = state.last_part(part.view, producer).map_or(part.place, |last| last.place);
            return Err(Error::Invalid(format!(
                "part {} of producer `{producer}` (epoch {}) was committed at sequence {} with other content; a number stands for one part: \
                 go on after what was committed last ({next}), or begin epoch {}",
                part.place.number,
                part.place.epoch,
                at.sequence,
                next.epoch + 1
            )));
        }
        let held = state.quarantine().of(at.batch);
        // One that was released counts as another entry's; its rows and version are the same.
        let committed = state.batch(at.batch).or(held.map(|held| &held.batch));
        let version = match committed {
            Some(batch) => state.view_version(batch.record.version),
            None => {
                let mut refused = state.refused().iter().rev();
                let refused = refused.find(|refused| refused.record.batch == at.batch);
                refused.and_then(|refused| state.view_version(refused.record.version))
            }
        };
        Ok(Acknowledged {
            place: part.place,
            version: version.map(|version| version.label()).unwrap_or_default(),
            sequence: at.sequence,
            batch: at.batch,
            rows: first.rows,
            rejected: first.rejected,
            refused: committed.is_none(),
            quarantined: held.is_some(),
            repeated: true,
            examples: Vec::new(),
        })
    }

    async fn records(&mut self, sequence: Sequence) -> Result<Arc<[StreamPartsCommitted]>> {
        if let Some(records) = self.read.get(&sequence) {
            return Ok(records.clone());
        }
        let entry = self.catalog.store().log().read(sequence).await?;
        let (entry, _) = entry.ok_or_else(|| Error::Damaged { sequence, why: "it is gone".to_owned() })?;
        let mut records = Vec::new();
        for raw in &entry.records {
            let record = Record::decode(raw.number, &raw.body);
            if let Record::StreamPartsCommitted(parts) =
                record.map_err(|error| Error::record(sequence, &error))?
            {
                records.push(parts);
            }
        }
        let records: Arc<[StreamPartsCommitted]> = records.into();
        self.read.insert(sequence, records.clone());
        Ok(records)
    }
}

fn single<'a>(record: &'a StreamPartsCommitted, producer: &str, part: &Queued) -> Option<&'a StreamPart> {
    let holds = |first: u64, last: u64| (first..=last).contains(&part.place.number);
    let run = record.runs.iter().find(|run| {
        run.producer == *producer && run.epoch == part.place.epoch && holds(run.first, run.last)
    })?;
    run.parts.get(usize::try_from(part.place.number - run.first).ok()?)
}
