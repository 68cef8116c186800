//! What the entry of a group says: its batches, and which parts they hold.

use std::collections::{BTreeMap, HashMap};

use feature::{BatchId, ViewId};

use super::checked_parts::Verdict;
use super::queue::Queued;
use super::staging::StagedVersion;
use crate::records::{BatchQuarantined, PartRun, Record, StreamPart, StreamPartsCommitted};
use crate::state::producers::Place;

/// The records of one entry: batches, and then what parts they hold. A producer whose parts went into several
/// batches has several records, in the order of its numbers.
pub fn records(staged: &[StagedVersion]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for one in staged {
        records.extend(one.committed.clone().map(|batch| match one.quarantined {
            true => BatchQuarantined { batch }.into(),
            false => Record::from(batch),
        }));
        records.extend(one.refused.clone().map(Record::from));
    }
    let mut order: Vec<(ViewId, &str, Place, usize, usize)> = Vec::new();
    for (group, one) in staged.iter().enumerate() {
        for (index, (part, _)) in one.parts.iter().enumerate() {
            order.push((part.view, part.target.producer.as_str(), part.place, group, index));
        }
    }
    order.sort_unstable();
    // How often the batch has changed along a producer's parts.
    let mut turns: HashMap<(usize, usize), usize> = HashMap::new();
    let mut before: Option<(ViewId, &str, Option<BatchId>, usize)> = None;
    for (view, producer, _, group, index) in order {
        let batch = staged[group].batch_of(&staged[group].parts[index].1);
        let turn = match before {
            Some((was, who, into, turn)) if (was, who) == (view, producer) => {
                turn + usize::from(into != batch)
            }
            _ => 0,
        };
        turns.insert((group, index), turn);
        before = Some((view, producer, batch, turn));
    }
    let mut held: BTreeMap<(usize, usize, BatchId), StreamPartsCommitted> = BTreeMap::new();
    for (group, one) in staged.iter().enumerate() {
        for (index, (part, verdict)) in one.parts.iter().enumerate() {
            let Some(batch) = one.batch_of(verdict) else { continue };
            let turn = turns.get(&(group, index)).copied().unwrap_or_default();
            let view = one.version.view;
            let record = held.entry((turn, group, batch)).or_insert_with(|| StreamPartsCommitted {
                batch,
                view,
                runs: Vec::new(),
            });
            add(&mut record.runs, part, verdict);
        }
    }
    records.extend(held.into_values().map(Record::from));
    records
}

/// Adds a part to the run that it goes on with, or begins another.
fn add(runs: &mut Vec<PartRun>, part: &Queued, verdict: &Verdict) {
    let single = StreamPart { digest: part.digest, rows: verdict.rows, rejected: verdict.rejected };
    let goes_on = |run: &&mut PartRun| {
        run.producer == part.target.producer
            && run.epoch == part.place.epoch
            && run.last + 1 == part.place.number
    };
    match runs.last_mut().filter(goes_on) {
        Some(run) => {
            run.last = part.place.number;
            run.rows += single.rows;
            run.rejected += single.rejected;
            run.digest = single.digest;
            run.parts.push(single);
        }
        None => runs.push(PartRun {
            producer: part.target.producer.clone(),
            epoch: part.place.epoch,
            first: part.place.number,
            last: part.place.number,
            rows: single.rows,
            rejected: single.rejected,
            digest: single.digest,
            parts: vec![single],
        }),
    }
}
