//! Relations of profiles, verdicts and quarantine.

use std::sync::Arc;

use catalog::Catalog;
use catalog::state::{Batch, Held, ViewVersion};
use datafusion::arrow::array::{Float64Array, Int64Array, RecordBatch};
use datafusion::common::{DataFusionError, Result};
use feature::profile::{BatchProfile, FeatureProfile, Numbers};
use feature::quality::Finding;
use futures::{StreamExt, TryStreamExt};

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// Profiles that are read at a time.
const AT_A_TIME: usize = 16;
/// Most frequent values that are listed.
const LISTED: usize = 10;

/// The relation of that name, if it is one of these.
pub async fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_profiles" => profiles(snapshot).await?,
        "state_judged" => judged(snapshot)?,
        "state_findings" => findings(snapshot)?,
        "state_quarantine" => quarantine(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 4] = ["state_profiles", "state_judged", "state_findings", "state_quarantine"];

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
fn written(snapshot: &Snapshot) -> Vec<(&ViewVersion, Arc<Batch>)> {
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
    fn batch<'a>(
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

    fn real(self, name: &str, values: impl Iterator<Item = Option<f64>>) -> Self {
        let array: Float64Array = values.collect();
        self.add(name, Arc::new(array))
    }

    fn count(self, name: &str, values: impl Iterator<Item = Option<u64>>) -> Self {
        let array: Int64Array =
            values.map(|value| value.and_then(|value| i64::try_from(value).ok())).collect();
        self.add(name, Arc::new(array))
    }
}

async fn profiles(snapshot: &Snapshot) -> Result<RecordBatch> {
    let mut batches = written(snapshot);
    // They tell values: of a feature only to those who see it in every row, as it is.
    let sights = Sights::of_snapshot(snapshot);
    batches.retain(|(version, _)| sights.of(version).counts());
    let own: Vec<(Catalog, Arc<Batch>)> =
        batches.iter().map(|(_, batch)| (snapshot.catalog.clone(), batch.clone())).collect();
    let read: Vec<Option<BatchProfile>> = futures::stream::iter(own)
        .map(|(catalog, batch)| async move { catalog::quality::profile(&catalog, &batch).await })
        .buffered(AT_A_TIME)
        .try_collect()
        .await
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut owners = Vec::new();
    let mut rows: Vec<(&BatchProfile, &FeatureProfile)> = Vec::new();
    for (owner, profile) in batches.iter().zip(&read) {
        let Some(profile) = profile else { continue };
        let sight = sights.of(owner.0);
        for feature in profile.features.iter().filter(|known| sight.shows(&known.feature)) {
            owners.push(owner.clone());
            rows.push((profile, feature));
        }
    }
    let all = || rows.iter();
    let number = |of: fn(&Numbers) -> Option<f64>| {
        all().map(move |(_, feature)| feature.numbers.as_ref().and_then(of))
    };
    let shown = |of: fn(&Numbers) -> Option<f64>| {
        all().map(move |(_, feature)| {
            feature.numbers.as_ref().and_then(of).map(|number| feature.shown(number))
        })
    };
    let time = |last: bool| {
        let times: arrow::array::TimestampMicrosecondArray = all()
            .map(|(profile, _)| {
                profile.valid_at.map(|(from, until)| if last { until } else { from }.micros())
            })
            .collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let frequent = |feature: &FeatureProfile| {
        let values = feature.values.frequent();
        let shown: Vec<String> =
            values.iter().take(LISTED).map(|value| format!("{} ({})", value.text, value.count)).collect();
        (!shown.is_empty()).then(|| shown.join(", "))
    };
    Columns::default()
        .batch(snapshot, owners.iter())
        .text("feature", all().map(|(_, feature)| Some(&feature.feature)))
        .text("type", all().map(|(_, feature)| Some(feature.data_type)))
        .count("rows", all().map(|(_, feature)| Some(feature.rows)))
        .count("nulls", all().map(|(_, feature)| Some(feature.nulls)))
        .count("nans", all().map(|(_, feature)| Some(feature.nans)))
        .count("distinct_values", all().map(|(_, feature)| Some(feature.values.distinct())))
        .truth("distinct_exact", all().map(|(_, feature)| feature.values.is_exact()))
        .text("least", all().map(|(_, feature)| feature.ends().map(|(least, _)| least)))
        .text("greatest", all().map(|(_, feature)| feature.ends().map(|(_, greatest)| greatest)))
        .real("mean", number(Numbers::mean))
        .real("spread", number(Numbers::spread))
        .text("p05", shown(|numbers| numbers.quantile(0.05)))
        .text("median", shown(|numbers| numbers.quantile(0.5)))
        .text("p95", shown(|numbers| numbers.quantile(0.95)))
        .text("frequent", all().map(|(_, feature)| frequent(feature)))
        .add("valid_from", time(false))
        .add("valid_until", time(true))
        .by(owners.iter().map(|(_, batch)| &batch.by))
        .finish()
}

/// One row a batch, judged or not.
fn judged(snapshot: &Snapshot) -> Result<RecordBatch> {
    let batches = written(snapshot);
    let all = || batches.iter();
    let sights = Sights::of_snapshot(snapshot);
    let counted = |of: fn(&Batch) -> u64| {
        let sights = &sights;
        all().map(move |(version, batch)| sights.of(version).counts().then(|| of(batch)))
    };
    let of = || all().map(|(_, batch)| batch.record.judged.as_ref());
    // A drift is the greatest of all features; an age is that of the last of all rows.
    let drift = |(version, batch): &(&ViewVersion, Arc<Batch>)| {
        batch.record.judged.as_ref().filter(|_| sights.of(version).is_whole())?.drift
    };
    let age = |(version, batch): &(&ViewVersion, Arc<Batch>)| {
        batch.record.judged.as_ref().filter(|_| sights.of(version).counts())?.age_hours
    };
    Columns::default()
        .batch(snapshot, all())
        .count("rows", counted(|batch| batch.record.rows))
        .count("rejected", counted(|batch| batch.record.rejected))
        .text("verdict", of().map(|judged| judged.map(|judged| judged.verdict.name())))
        .count("checks", of().map(|judged| judged.map(|judged| judged.checks)))
        .count("baseline_batches", of().map(|judged| judged.map(|judged| judged.baseline_batches)))
        .real("drift", all().map(drift))
        .real("age_hours", all().map(age))
        .by(all().map(|(_, batch)| &batch.by))
        .finish()
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
