//! Relations of what was profiled as it passed by.

use std::sync::Arc;

use catalog::records::Sampled;
use catalog::state::{Sample, ViewVersion};
use datafusion::arrow::array::{Float64Array, RecordBatch};
use datafusion::common::Result;
use feature::quality::Finding;

use super::Columns;
use crate::access::{Sight, Sights};
use crate::snapshot::Snapshot;

pub const RELATIONS: [&str; 2] = ["state_samples", "state_sample_findings"];

/// The relation of that name, if it is one of these.
pub fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_samples" => samples(snapshot)?,
        "state_sample_findings" => findings(snapshot)?,
        _ => return Ok(None),
    }))
}

/// Samples of the snapshot with their versions, in the order of the log.
fn taken(snapshot: &Snapshot) -> Vec<(&ViewVersion, &Sample)> {
    let state = &snapshot.state;
    let samples = state.samples().all().iter();
    let by_then = samples.take_while(|sample| sample.by.sequence <= snapshot.sequence);
    by_then.filter_map(|sample| Some((state.view_version(sample.record.version)?, sample))).collect()
}

impl Columns {
    fn sample<'a>(self, all: impl Iterator<Item = &'a (&'a ViewVersion, &'a Sample)> + Clone) -> Self {
        self.text("sample", all.clone().map(|(_, sample)| Some(sample.record.sample)))
            .text("project", all.clone().map(|(version, _)| Some(&version.definition.project)))
            .text("feature_view", all.clone().map(|(version, _)| Some(&version.definition.name)))
            .small("version", all.clone().map(|(version, _)| version.number))
            .text("kind", all.map(|(_, sample)| Some(sample.record.of.name())))
    }
}

fn samples(snapshot: &Snapshot) -> Result<RecordBatch> {
    let rows = taken(snapshot);
    let all = || rows.iter();
    let of = || all().map(|(_, sample)| &sample.record);
    let reals = |values: Float64Array| Arc::new(values);
    let sights = Sights::of_snapshot(snapshot);
    let seen: Vec<Sight> = rows.iter().map(|(version, _)| sights.of(version)).collect();
    let counted = |number: fn(&Sampled) -> u64| {
        let told = rows.iter().zip(&seen);
        told.map(move |((_, sample), sight)| sight.counts().then(|| number(&sample.record)))
    };
    // A drift is the greatest of all features, and the findings are of any.
    let whole =
        || rows.iter().zip(&seen).map(|((_, sample), sight)| sight.is_whole().then_some(&sample.record));
    let found = whole().map(|record| record.map(|record| record.judged.findings.len() as u64));
    let drift = whole().map(|record| record.and_then(|record| record.judged.drift));
    Columns::default()
        .sample(all())
        .add("share", reals(of().map(|record| Some(record.share)).collect()))
        .told("passed", counted(|record| record.passed))
        .told("rows", counted(|record| record.rows))
        .text("verdict", of().map(|record| Some(record.judged.verdict.name())))
        .told("findings", found)
        .number("checks", of().map(|record| record.judged.checks))
        .number("baseline_batches", of().map(|record| record.judged.baseline_batches))
        .told("baseline_rows", counted(|record| record.judged.baseline_rows))
        .add("drift", reals(drift.collect()))
        .time("from_time", of().map(|record| record.from.micros()))
        .time("until_time", of().map(|record| record.until.micros()))
        .by(all().map(|(_, sample)| &sample.by))
        .finish()
}

fn findings(snapshot: &Snapshot) -> Result<RecordBatch> {
    let mut owners = Vec::new();
    let mut rows = Vec::new();
    let sights = Sights::of_snapshot(snapshot);
    for owner in taken(snapshot) {
        let sight = sights.of(owner.0);
        // What is measured of a sample as a whole comes of its rows.
        let shown = |finding: &&Finding| match &finding.feature {
            Some(feature) => sight.shows(feature),
            None => sight.counts(),
        };
        for finding in owner.1.record.judged.findings.iter().filter(shown) {
            owners.push(owner);
            rows.push(finding);
        }
    }
    let all = || rows.iter();
    let reals = |values: Float64Array| Arc::new(values);
    Columns::default()
        .sample(owners.iter())
        .text("feature", all().map(|finding| finding.feature.as_ref()))
        .text("measure", all().map(|finding| Some(finding.measure.name())))
        .text("verdict", all().map(|finding| Some(finding.verdict.name())))
        .add("value", reals(all().map(|finding| Some(finding.value)).collect()))
        .add("threshold", reals(all().map(|finding| Some(finding.threshold)).collect()))
        .by(owners.iter().map(|(_, sample)| &sample.by))
        .finish()
}
