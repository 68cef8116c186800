//! Relations of verdicts and quarantine.

use std::sync::Arc;

use catalog::state::{Batch, Held, ViewVersion};
use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::common::Result;
use feature::quality::Finding;

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// The relation of that name, if it is one of these.
pub fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_findings" => findings(snapshot)?,
        "state_quarantine" => quarantine(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 2] = ["state_findings", "state_quarantine"];

/// What a batch is at the snapshot.
pub fn status(snapshot: &Snapshot, batch: &Batch) -> &'static str {
    let state = &snapshot.state;
    let admitted = state.batch(batch.record.batch).is_some_and(|own| own.by.sequence <= snapshot.sequence);
    match state.quarantine().of(batch.record.batch) {
        Some(held) if !admitted => match held.end_at(snapshot.sequence) {
            Some(_) => "dropped",
            None => "quarantined",
        },
        _ if state.counts_at(batch, snapshot.sequence) => "committed",
        _ => "withdrawn",
    }
}

/// Batches of the snapshot with their versions, those in quarantine too, in the order of the log.
pub fn written(snapshot: &Snapshot) -> Vec<(&ViewVersion, Arc<Batch>)> {
    let state = &snapshot.state;
    let by_then = |batch: &Arc<Batch>| batch.by.sequence <= snapshot.sequence;
    let admitted = state.batches().filter(|batch| by_then(batch)).cloned();
    let held = state.quarantine().all().iter();
    let waiting = held.filter(|held| {
        let released = held.end_at(snapshot.sequence).is_some_and(|end| end.released);
        by_then(&held.batch) && !released
    });
    let mut all: Vec<_> = admitted
        .chain(waiting.map(|held| held.batch.clone()))
        .filter_map(|batch| Some((state.view_version(batch.record.version)?, batch)))
        .collect();
    all.sort_by_key(|(_, batch)| batch.by.sequence);
    all
}

impl Columns {
    pub(super) fn batch<'a>(
        self,
        snapshot: &Snapshot,
        all: impl Iterator<Item = &'a (&'a ViewVersion, Arc<Batch>)> + Clone,
    ) -> Self {
        self.text("project", all.clone().map(|(version, _)| Some(&version.definition.project)))
            .text("feature_view", all.clone().map(|(version, _)| Some(&version.definition.name)))
            .small("version", all.clone().map(|(version, _)| version.number))
            .text("batch", all.clone().map(|(_, batch)| Some(batch.record.batch)))
            .text("status", all.map(|(_, batch)| Some(status(snapshot, batch))))
    }

    pub(super) fn real(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        let array: Float64Array = values.collect();
        self.add(name, Arc::new(array))
    }

    pub(super) fn count(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        let array: Int64Array =
            values.map(|value| value.and_then(|value| i64::try_from(value).ok())).collect();
        self.add(name, Arc::new(array))
    }
}

fn findings(snapshot: &Snapshot) -> Result<RecordBatch> {
    let batches = written(snapshot);
    let mut owners = Vec::new();
    let mut rows = Vec::new();
    let sights = Sights::of_snapshot(snapshot);
    for owner in &batches {
        let sight = sights.of(owner.0);
        // What is measured of a batch as a whole comes of its rows and times.
        let shown = |finding: &&Finding| match &finding.feature {
            Some(feature) => sight.shows(feature),
            None => sight.counts(),
        };
        for finding in owner.1.record.judged.iter().flat_map(|judged| &judged.findings).filter(shown) {
            owners.push(owner.clone());
            rows.push(finding);
        }
    }
    let all = || rows.iter();
    Columns::default()
        .batch(snapshot, owners.iter())
        .text("feature", all().map(|finding| finding.feature.as_ref()))
        .text("measure", all().map(|finding| Some(finding.measure.name())))
        .text("verdict", all().map(|finding| Some(finding.verdict.name())))
        .real("value", all().map(|finding| Some(finding.value)))
        .real("threshold", all().map(|finding| Some(finding.threshold)))
        .by(owners.iter().map(|(_, batch)| &batch.by))
        .finish()
}

fn quarantine(snapshot: &Snapshot) -> Result<RecordBatch> {
    let state = &snapshot.state;
    let held: Vec<_> = state
        .quarantine()
        .all()
        .iter()
        .filter(|held| held.batch.by.sequence <= snapshot.sequence)
        .filter_map(|held| Some((state.view_version(held.batch.record.version)?, held)))
        .collect();
    let all = || held.iter();
    let sights = Sights::of_snapshot(snapshot);
    let rows = |(version, held): &(&ViewVersion, &Held)| {
        sights.of(version).counts().then_some(held.batch.record.rows)
    };
    let end = || all().map(|(_, held)| held.end_at(snapshot.sequence));
    Columns::default()
        .text("project", all().map(|(version, _)| Some(&version.definition.project)))
        .text("feature_view", all().map(|(version, _)| Some(&version.definition.name)))
        .small("version", all().map(|(version, _)| version.number))
        .text("batch", all().map(|(_, held)| Some(held.batch.record.batch)))
        .count("rows", all().map(rows))
        .text(
            "status",
            end().map(|end| {
                Some(match end {
                    None => "waiting",
                    Some(end) if end.released => "released",
                    Some(_) => "dropped",
                })
            }),
        )
        .text("reason", end().map(|end| end.map(|end| &end.reason)))
        .text("ended_by", end().map(|end| end.map(|end| &end.by.principal)))
        .count("ended_at_sequence", end().map(|end| end.map(|end| end.by.sequence.0)))
        .by(all().map(|(_, held)| &held.batch.by))
        .finish()
}
