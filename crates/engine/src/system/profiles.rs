//! Relations of profiles: what the values of each batch are like, and how its numbers are spread.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use catalog::records::Object;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use feature::Timestamp;
use feature::profile::{BatchProfile, Bin, FeatureProfile, Numbers};

use super::Columns;
use super::by_object::{self, Listed, RowsOf, damaged};
use super::quality::written;
use crate::access::{Sight, Sights};
use crate::snapshot::Snapshot;

/// Most frequent values that are listed.
const LISTED: usize = 10;

/// The rows of a profile and those of its features that are shown.
type Rows = fn(&BatchProfile, &[&FeatureProfile]) -> Result<RecordBatch>;

/// One row a feature.
pub fn features(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, described)
}

/// One row a bin that has numbers.
pub fn bins(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>> {
    table(snapshot, binned)
}

/// Profiles tell values: of a feature only to those who see it in every row, as it is.
fn table(snapshot: &Snapshot, rows: Rows) -> Result<Arc<dyn TableProvider>> {
    let sights = Sights::of_snapshot(snapshot);
    let mut batches = written(snapshot);
    batches.retain(|(version, batch)| batch.record.profile.is_some() && sights.of(version).counts());
    let known = Columns::default()
        .batch(snapshot, batches.iter())
        .by(batches.iter().map(|(_, batch)| &batch.by))
        .finish()?;
    let objects: Vec<Object> = batches.iter().filter_map(|(_, batch)| batch.record.profile.clone()).collect();
    let seen = batches.iter().map(|(version, _)| sights.of(version));
    let sight_of: HashMap<String, Sight> =
        objects.iter().map(|object| object.path.clone()).zip(seen).collect();
    let rows_of: RowsOf = Arc::new(move |object: &Object, bytes: &[u8]| {
        let profile = BatchProfile::from_json(bytes).map_err(|error| damaged(object, &error))?;
        let sight = sight_of.get(&object.path);
        let shown = |known: &&FeatureProfile| sight.is_some_and(|sight| sight.shows(&known.feature));
        let shown: Vec<&FeatureProfile> = profile.features.iter().filter(shown).collect();
        rows(&profile, &shown)
    });
    let schema = rows(&BatchProfile::default(), &[])?.schema();
    by_object::table(snapshot, Listed { objects, known }, &schema, rows_of)
}

fn described(profile: &BatchProfile, features: &[&FeatureProfile]) -> Result<RecordBatch> {
    let all = || features.iter().copied();
    let number =
        |of: fn(&Numbers) -> Option<f64>| all().map(move |feature| feature.numbers.as_ref().and_then(of));
    let shown = |of: fn(&Numbers) -> Option<f64>| {
        all().map(move |feature| feature.numbers.as_ref().and_then(of).map(|number| feature.shown(number)))
    };
    let (from, until) = profile.valid_at.unzip();
    let time = |at: Option<Timestamp>| -> ArrayRef {
        let times: TimestampMicrosecondArray = all().map(|_| at.map(Timestamp::micros)).collect();
        Arc::new(times.with_timezone("UTC"))
    };
    let frequent = |feature: &FeatureProfile| {
        let values = feature.values.frequent();
        let shown: Vec<String> =
            values.iter().take(LISTED).map(|value| format!("{} ({})", value.text, value.count)).collect();
        (!shown.is_empty()).then(|| shown.join(", "))
    };
    Columns::default()
        .text("feature", all().map(|feature| Some(&feature.feature)))
        .text("type", all().map(|feature| Some(feature.data_type)))
        .count("rows", all().map(|feature| Some(feature.rows)))
        .count("nulls", all().map(|feature| Some(feature.nulls)))
        .count("nans", all().map(|feature| Some(feature.nans)))
        .count("distinct_values", all().map(|feature| Some(feature.values.distinct())))
        .truth("distinct_exact", all().map(|feature| feature.values.is_exact()))
        .text("least", all().map(|feature| feature.ends().map(|(least, _)| least)))
        .text("greatest", all().map(|feature| feature.ends().map(|(_, greatest)| greatest)))
        .real("mean", number(Numbers::mean))
        .real("spread", number(Numbers::spread))
        .text("p05", shown(|numbers| numbers.quantile(0.05)))
        .text("median", shown(|numbers| numbers.quantile(0.5)))
        .text("p95", shown(|numbers| numbers.quantile(0.95)))
        .text("frequent", all().map(frequent))
        .add("valid_from", time(from))
        .add("valid_until", time(until))
        .finish()
}

fn binned(_: &BatchProfile, features: &[&FeatureProfile]) -> Result<RecordBatch> {
    let mut rows: Vec<(&FeatureProfile, Bin)> = Vec::new();
    for feature in features {
        let bins = feature.numbers.as_ref().map(Numbers::bins).unwrap_or_default();
        rows.extend(bins.into_iter().map(|bin| (*feature, bin)));
    }
    let all = || rows.iter();
    Columns::default()
        .text("feature", all().map(|(feature, _)| Some(&feature.feature)))
        .text("type", all().map(|(feature, _)| Some(feature.data_type)))
        .real("least", all().map(|(_, bin)| Some(bin.least)))
        .real("greatest", all().map(|(_, bin)| Some(bin.greatest)))
        .count("count", all().map(|(_, bin)| Some(bin.count)))
        .finish()
}
