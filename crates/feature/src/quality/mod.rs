//! Whether a batch is like those before it: a verdict from profiles alone.
//!
//! ```text
//! judge(rules, what, profile, baseline profiles, now)
//!   measures     how far the batch is from the baseline, one number a measure and feature
//!   usual        how far the batches of the baseline are from it themselves
//!   thresholds   what is declared or the default, raised by what is usual
//! ```
//!
//! `docs/quality.md` has the formulas and the defaults.

pub mod bias;
mod distribution;
mod measures;
mod seasonal;
mod significance;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::definition::quality::{Measure, Quality, Thresholds};
use crate::profile::{BatchProfile, ProfileError};
use crate::time::Timestamp;

pub use self::distribution::{Distribution, Group};
pub use self::measures::measure;
pub use self::significance::chi_square_p;

/// What became of a batch's checks: the worst of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A batch's verdict as it stands in the log: counts and statistics, and no value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub verdict: Verdict,
    /// Batches and rows that it was compared with; of none, nothing was compared.
    pub baseline_batches: u64,
    pub baseline_rows: u64,
    /// Measures that were taken.
    pub checks: u64,
    /// The greatest population stability index of a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Hours from its last observation to when it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_hours: Option<f64>,
    /// Those that warn or fail, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// A measure above its threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub measure: Measure,
    /// None of the batch as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    pub verdict: Verdict,
    pub value: f64,
    /// That it is above.
    pub threshold: f64,
}

/// A measure that was taken, above its threshold or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub measure: Measure,
    pub feature: Option<String>,
    pub value: f64,
    /// Above which it warns and fails, with what is usual for the baseline.
    pub warn: Option<f64>,
    pub fail: Option<f64>,
}

impl Taken {
    pub fn verdict(&self) -> Verdict {
        Thresholds { warn: self.warn, fail: self.fail }.verdict(self.value)
    }
}

impl Thresholds {
    pub fn verdict(self, value: f64) -> Verdict {
        if self.fail.is_some_and(|fail| value > fail) {
            Verdict::Fail
        } else if self.warn.is_some_and(|warn| value > warn) {
            Verdict::Warn
        } else {
            Verdict::Pass
        }
    }
}

/// What is judged, which says what can be measured of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// A batch as somebody brought it.
    Batch,
    /// What came of streams within a window: how many rows that are is chance.
    StreamBatch,
    /// Rejected rows of a batch, mended: few and late, with columns as an export has them.
    Mended,
    /// Some of what passed by: its values alone.
    Sample,
}

impl Judging {
    fn takes(self, measure: Measure) -> bool {
        match self {
            Self::Batch => true,
            Self::StreamBatch => !matches!(measure, Measure::Volume | Measure::SeasonalRows),
            Self::Mended => !measure.is_of_batch(),
            Self::Sample => !measure.is_of_batch(),
        }
    }
}

/// So many batches say what is usual.
const USUAL_BATCHES: usize = 5;
/// A batch is unusual that is so much further from the baseline than the furthest of its own.
const WARN_BEYOND_USUAL: f64 = 1.5;
const FAIL_BEYOND_USUAL: f64 = 2.0;
/// What is greater is as good as infinite; JSON has no such number.
const GREATEST: f64 = 1e6;

/// Every measure of a batch, or of what else is judged, against a baseline, in the order of the features.
///
/// # Errors
/// Where the profiles are not of one line, so that a feature has two types.
pub fn measures_of(
    rules: &Quality,
    of: Judging,
    batch: &BatchProfile,
    baseline: &[BatchProfile],
    now: Timestamp,
) -> Result<Vec<Taken>, ProfileError> {
    let mut whole = BatchProfile::default();
    for profile in baseline {
        whole.merge(profile)?;
    }
    let context = measures::Context::of(rules, &whole, baseline, now);
    let mut taken = Vec::new();
    let features = batch.features.iter().map(|profile| Some(profile.feature.as_str()));
    for feature in std::iter::once(None).chain(features) {
        let taken_of = |measure: &Measure| measure.is_of_batch() == feature.is_none() && of.takes(*measure);
        for measure in Measure::ALL.into_iter().filter(taken_of) {
            let declared = rules.thresholds(feature, measure, baseline.len());
            if declared.warn.is_none() && declared.fail.is_none() && measure != Measure::JensenShannon {
                continue;
            }
            let Some(value) = context.value(measure, feature, batch) else { continue };
            let usual = context.usual(measure, feature);
            let raised =
                |limit: Option<f64>, beyond: f64| limit.map(|limit| limit.max(rounded(usual * beyond)));
            taken.push(Taken {
                measure,
                feature: feature.map(str::to_owned),
                value: rounded(value),
                warn: raised(declared.warn, WARN_BEYOND_USUAL),
                fail: raised(declared.fail, FAIL_BEYOND_USUAL),
            });
        }
    }
    Ok(taken)
}

/// The verdict on a batch, or on what else is judged.
///
/// # Errors
/// Those of [`measures_of`].
pub fn judge(
    rules: &Quality,
    of: Judging,
    batch: &BatchProfile,
    baseline: &[BatchProfile],
    now: Timestamp,
) -> Result<Judged, ProfileError> {
    let taken = measures_of(rules, of, batch, baseline, now)?;
    let drift = taken.iter().filter(|taken| taken.measure == Measure::Psi).map(|taken| taken.value);
    let found = taken.iter().filter(|taken| taken.verdict() != Verdict::Pass);
    let mut findings: Vec<Finding> = found
        .map(|taken| {
            let verdict = taken.verdict();
            let threshold = if verdict == Verdict::Fail { taken.fail } else { taken.warn };
            Finding {
                measure: taken.measure,
                feature: taken.feature.clone(),
                verdict,
                value: taken.value,
                threshold: threshold.unwrap_or_default(),
            }
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    Ok(Judged {
        verdict: findings.first().map_or(Verdict::Pass, |worst| worst.verdict),
        baseline_batches: baseline.len() as u64,
        baseline_rows: baseline.iter().map(|profile| profile.rows).sum(),
        checks: taken.len() as u64,
        drift: drift.reduce(f64::max),
        age_hours: measures::age_hours(batch, now).map(rounded),
        findings,
    })
}

/// To six decimals and no more than a million, so that every reader of the log has the same number.
fn rounded(value: f64) -> f64 {
    (value.min(GREATEST) * 1e6).round() / 1e6
}
