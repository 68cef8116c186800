//! What a view declares of the quality of its batches: what they are compared with, by which measures, and what follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::time::Timestamp;

/// How the batches of a view are judged. No part of the digest: other thresholds are no other meaning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The latest batches where none is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    #[serde(default)]
    pub on_fail: OnFail,
    /// Values that a batch and its baseline need before their distributions are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_rows: Option<u64>,
    /// For the batch and all features; what is not named has its default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<Measure, Thresholds>,
    /// For single features, before what is declared for all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<Name, BTreeMap<Measure, Thresholds>>,
}

/// What a batch is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// So many batches that count, the latest.
    Batches(u32),
    /// Batches all of whose rows are true from the one instant and before the other.
    Between { from: Timestamp, until: Timestamp },
    /// Batches that the training sets of this model's deployed versions had rows of.
    Model(String),
}

/// What becomes of a batch that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// It counts like any other; its verdict is on record.
    #[default]
    Admit,
    /// It counts for nobody until it is released.
    Quarantine,
}

/// What a batch is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Psi,
    JensenShannon,
    Wasserstein,
    ChiSquare,
    NullRate,
    NewValues,
    OutOfRange,
    Spread,
    Volume,
    Schema,
    Freshness,
    SeasonalMean,
    SeasonalRows,
}

impl Measure {
    pub const ALL: [Self; 13] = [
        Self::Psi,
        Self::JensenShannon,
        Self::Wasserstein,
        Self::ChiSquare,
        Self::NullRate,
        Self::NewValues,
        Self::OutOfRange,
        Self::Spread,
        Self::Volume,
        Self::Schema,
        Self::Freshness,
        Self::SeasonalMean,
        Self::SeasonalRows,
    ];

    /// As it is declared and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::JensenShannon => "jensen_shannon",
            Self::Wasserstein => "wasserstein",
            Self::ChiSquare => "chi_square",
            Self::NullRate => "null_rate",
            Self::NewValues => "new_values",
            Self::OutOfRange => "out_of_range",
            Self::Spread => "spread",
            Self::Volume => "volume",
            Self::Schema => "schema",
            Self::Freshness => "freshness",
            Self::SeasonalMean => "seasonal_mean",
            Self::SeasonalRows => "seasonal_rows",
        }
    }

    /// Whether it is of the batch as a whole and not of one feature.
    pub fn is_of_batch(self) -> bool {
        matches!(self, Self::Volume | Self::Schema | Self::Freshness | Self::SeasonalRows)
    }
}

/// A value above `warn` warns, one above `fail` fails; what is left out never comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<f64>,
}

/// Batches of the baseline where none is declared.
pub const BATCHES: u32 = 30;

/// By default nothing fails before the baseline has so many batches: too few do not tell what is usual.
const FAILS_FROM: usize = 20;

impl Quality {
    pub fn baseline(&self) -> Baseline {
        self.baseline.clone().unwrap_or(Baseline::Batches(BATCHES))
    }

    /// What holds for a measure of a feature, or of the batch for `None`, against so many batches.
    pub fn thresholds(&self, feature: Option<&str>, measure: Measure, batches: usize) -> Thresholds {
        self.declared(feature, measure).unwrap_or_else(|| {
            let Thresholds { warn, fail } = defaults(measure);
            Thresholds { warn, fail: fail.filter(|_| batches >= FAILS_FROM) }
        })
    }

    /// What is declared of a measure of a feature, or of the batch for `None`; none where it has its default.
    pub fn declared(&self, feature: Option<&str>, measure: Measure) -> Option<Thresholds> {
        let of_feature = self.features.iter().find(|(name, _)| Some(name.as_str()) == feature);
        let declared = of_feature.and_then(|(_, checks)| checks.get(&measure));
        declared.or_else(|| self.checks.get(&measure)).copied()
    }
}

/// What holds where nothing is declared; docs/quality.md says why.
fn defaults(measure: Measure) -> Thresholds {
    let (warn, fail) = match measure {
        Measure::Psi => (Some(0.5), None),
        Measure::Wasserstein => (Some(1.5), Some(8.0)),
        Measure::ChiSquare => (Some(0.5), Some(2.0)),
        Measure::NullRate => (Some(0.1), Some(0.45)),
        Measure::NewValues => (Some(0.02), Some(0.2)),
        Measure::OutOfRange => (Some(0.02), Some(0.25)),
        Measure::Spread => (Some(4.0), Some(20.0)),
        Measure::Volume => (Some(2.0), Some(5.0)),
        Measure::Schema => (Some(0.0), None),
        Measure::SeasonalMean | Measure::SeasonalRows => (Some(8.0), None),
        Measure::JensenShannon | Measure::Freshness => (None, None),
    };
    Thresholds { warn, fail }
}
