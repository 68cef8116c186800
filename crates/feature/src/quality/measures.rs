//! Each measure: one number, 0 where the batch is as the baseline (1 for factors), and greater the less it is.

use std::collections::BTreeMap;

use super::distribution::{Distribution, new_share, wasserstein};
use super::seasonal::Season;
use super::significance::chi_square_p;
use super::{GREATEST, USUAL_BATCHES};
use crate::definition::quality::{Measure, Quality};
use crate::profile::{BatchProfile, FeatureProfile};
use crate::time::Timestamp;

/// Values that both need where nothing is declared.
const LEAST_ROWS: u64 = 30;
/// Of chi-square: what is likelier by chance is nothing.
pub(super) const CHANCE: f64 = 1e-4;
/// How far outside of the baseline's range is still taken for inside, as a part of that range.
const MARGIN: f64 = 0.25;
const MICROS_OF_AN_HOUR: f64 = 3_600_000_000.0;

/// Parts of themselves by which numbers of rows differ, and of their spread by which means differ, that are no anomaly yet.
const LIKE_ROWS: f64 = 0.02;
const LIKE_MEANS: f64 = 0.05;

/// What batches are compared with.
pub(super) struct Context<'a> {
    whole: &'a BatchProfile,
    baseline: &'a [BatchProfile],
    least_rows: u64,
    now: Timestamp,
    /// Of the rows of batches, and of the means of each feature.
    rows: Option<Season>,
    means: BTreeMap<&'a str, Season>,
}

/// By its logarithm, so that half as many and twice as many are as far away.
fn rows(batch: &BatchProfile) -> f64 {
    (1.0 + batch.rows as f64).ln()
}

fn mean(batch: &BatchProfile, feature: &str, least_rows: u64) -> Option<f64> {
    let feature = batch.feature(feature).filter(|feature| feature.count() >= least_rows)?;
    feature.numbers.as_ref()?.mean()
}

impl<'a> Context<'a> {
    pub fn of(
        rules: &Quality,
        whole: &'a BatchProfile,
        baseline: &'a [BatchProfile],
        now: Timestamp,
    ) -> Self {
        let least_rows = rules.least_rows.unwrap_or(LEAST_ROWS);
        let means = whole.features.iter().filter_map(|feature| {
            let spread = feature.numbers.as_ref()?.spread()?;
            let of = |batch: &BatchProfile| mean(batch, &feature.feature, least_rows);
            Some((feature.feature.as_str(), Season::of(baseline, of, spread * LIKE_MEANS)?))
        });
        let means = means.collect();
        let rows = Season::of(baseline, |batch| Some(rows(batch)), LIKE_ROWS);
        Self { whole, baseline, least_rows, now, rows, means }
    }

    /// None where it cannot be told: there is no baseline, or too little of it or of the batch.
    pub fn value(&self, of: Measure, feature: Option<&str>, batch: &BatchProfile) -> Option<f64> {
        let Some(feature) = feature else { return self.of_batch(of, batch) };
        if of == Measure::SeasonalMean {
            return self.means.get(feature)?.distance(batch, mean(batch, feature, self.least_rows)?);
        }
        measure(of, self.whole.feature(feature)?, batch.feature(feature)?, self.least_rows)
    }

    /// How far the baseline's own batches are from it, the furthest; 0 where they are too few to tell.
    pub fn usual(&self, of: Measure, feature: Option<&str>) -> f64 {
        if self.baseline.len() < USUAL_BATCHES || matches!(of, Measure::Schema | Measure::Freshness) {
            return 0.0;
        }
        let own = self.baseline.iter().filter_map(|batch| self.value(of, feature, batch));
        own.fold(0.0, f64::max)
    }

    fn of_batch(&self, of: Measure, batch: &BatchProfile) -> Option<f64> {
        match of {
            Measure::Volume => {
                let mut rows: Vec<u64> = self.baseline.iter().map(|profile| profile.rows).collect();
                rows.sort_unstable();
                let median = *rows.get(rows.len() / 2)?;
                Some(factor(batch.rows as f64, median as f64))
            }
            Measure::Schema => {
                let latest = &self.baseline.last()?.source;
                let differs = |column: &&String| latest.get(*column) != batch.source.get(*column);
                let mut columns: Vec<&String> = latest.keys().chain(batch.source.keys()).collect();
                columns.sort_unstable();
                columns.dedup();
                // Rows that came without a schema of their own say nothing.
                let told = !latest.is_empty() && !batch.source.is_empty();
                told.then(|| columns.into_iter().filter(differs).count() as f64)
            }
            Measure::Freshness => age_hours(batch, self.now),
            Measure::SeasonalRows => self.rows.as_ref()?.distance(batch, rows(batch)),
            _ => None,
        }
    }
}

/// Hours from the last observation to now, none of them below zero.
pub(super) fn age_hours(batch: &BatchProfile, now: Timestamp) -> Option<f64> {
    let (_, last) = batch.valid_at?;
    Some(((now.micros() as f64 - last.micros() as f64) / MICROS_OF_AN_HOUR).max(0.0))
}

/// A measure of one feature; none where it does not apply to its type, or there are too few values.
pub fn measure(
    of: Measure,
    baseline: &FeatureProfile,
    batch: &FeatureProfile,
    least_rows: u64,
) -> Option<f64> {
    let enough = baseline.count() >= least_rows && batch.count() >= least_rows;
    let both = || baseline.numbers.as_ref().zip(batch.numbers.as_ref());
    match of {
        Measure::NullRate if baseline.rows >= least_rows && batch.rows >= least_rows => {
            let (usual, now) = (baseline.null_share()?, batch.null_share()?);
            // Fewer are no harm. What chance does to a share of so few rows, three times over, is nothing either.
            let chance = 3.0 * (usual * (1.0 - usual) / batch.rows as f64).sqrt();
            Some((now - usual - chance).max(0.0))
        }
        _ if !enough => None,
        Measure::Psi => {
            let groups = Distribution::of(baseline, batch)?;
            Some((groups.psi() - groups.psi_by_chance()).max(0.0))
        }
        Measure::JensenShannon => Some(Distribution::of(baseline, batch)?.jensen_shannon()),
        Measure::Wasserstein => {
            let (baseline, batch) = both()?;
            let spread = baseline.spread().filter(|spread| *spread > 0.0)?;
            Some(wasserstein(baseline, batch)? / spread)
        }
        Measure::ChiSquare if baseline.is_category() => {
            let (statistic, freedom, rows) = Distribution::of(baseline, batch)?.chi_square();
            if freedom == 0 || rows == 0 {
                return None;
            }
            let chance = chi_square_p(statistic, freedom);
            Some(if chance < CHANCE { (statistic / rows as f64).sqrt() } else { 0.0 })
        }
        Measure::NewValues if baseline.is_category() => new_share(baseline, batch),
        Measure::OutOfRange => {
            let (baseline, batch) = both()?;
            let (least, greatest) = baseline.ends()?;
            let margin = (greatest - least) * MARGIN;
            let outside =
                |bin: &crate::profile::Bin| bin.greatest < least - margin || bin.least > greatest + margin;
            let outside: u64 = batch.bins().iter().filter(|bin| outside(bin)).map(|bin| bin.count).sum();
            // An infinite number is outside of everything, but for where it is nothing new.
            let infinite = if baseline.infinite() > 0 { 0 } else { batch.infinite() };
            Some((outside + infinite) as f64 / (batch.count() + batch.infinite()).max(1) as f64)
        }
        Measure::Spread => {
            let (baseline, batch) = both()?;
            Some(factor(batch.spread()?, baseline.spread()?))
        }
        _ => None,
    }
}

/// By how much the greater is the greater: 1 for equal ones.
fn factor(one: f64, other: f64) -> f64 {
    let (less, more) = (one.min(other), one.max(other));
    if more == 0.0 {
        1.0
    } else if less == 0.0 {
        GREATEST
    } else {
        more / less
    }
}
