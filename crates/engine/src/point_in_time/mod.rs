//! The point-in-time join: which observation of each feature view was known to each spine row.
//!
//! For a spine row (key, at) the candidates are the view's rows of that key with `valid_at` ≤ at, `valid_at` ≥ at − ttl where a ttl
//! is set, and `known_at` ≤ the cut, which is at unless one instant is set in its place. The greatest (valid_at,
//! known_at, sequence) wins, the last received among equals. Null keys and null times match nothing.
//!
//! It runs in two phases. `matching` finds the winner of each spine row from key and time columns alone, file by file, since
//! each file is sorted by them; nothing is merged and no table of the right side is built. `fetch` then decodes
//! feature values where rows were hit, and puts them into spine order. Both do several files side by side.

pub mod any_order;
mod candidates;
mod cores;
mod equality;
pub mod exec;
mod fetch;
mod keys;
mod lanes;
mod matching;
mod merging;
mod meters;
mod nearest;
mod observed;
pub(crate) mod page_values;
mod pages;
mod pauses;
mod plain_side;
pub mod plan;
mod run;
mod spine;
mod spine_parts;
mod spine_times;
pub(crate) mod working_memory;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use catalog::VisibleFile;
use catalog::state::ViewVersion;
use datafusion::common::Result;
use feature::{BatchId, Span, Timestamp};

pub use candidates::{CandidateRow, candidates};
pub use equality::equal_bytes;
pub use matching::{Winner, winners};
pub use observed::{Observation, Observed, observed};
pub(crate) use pages::{PageBounds, bounds_of_pages};
pub use spine::{SpineOrder, cast_key};
pub use spine_times::micros;

use self::fetch::Gathered;
use self::meters::Meters;
use self::working_memory::WorkingMemory;
use crate::access::{Guard, VisibleRows};
use crate::data_files::DataFiles;

/// One feature view in one retrieval.
#[derive(Clone, Debug)]
pub struct Lookup {
    pub version: Arc<ViewVersion>,
    pub files: Arc<Vec<VisibleFile>>,
    pub direction: Direction,
    pub ttl: Option<Span>,
    pub cut: Cut,
    /// Columns of the view's table that are wanted, in order.
    pub outputs: Vec<Output>,
    /// What is kept from the asker.
    pub guard: Option<Arc<Guard>>,
    /// Whether somebody asks why values are null. Else the report may take a reason for another, and fewer files are read.
    pub reports_why: bool,
}

impl Lookup {
    /// Whether somebody asks why values are null, in a report or in a column.
    fn says_why(&self) -> bool {
        self.reports_why || self.outputs.iter().any(|output| matches!(output, Output::NullReason(_)))
    }

    /// Which rows may be seen; none where all.
    pub fn visible(&self) -> Option<&Arc<VisibleRows>> {
        self.guard.as_ref().and_then(|guard| guard.rows())
    }
}

/// Which side of a spine row's time is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub enum Direction {
    /// `at >= valid_at`: the greatest valid_at wins.
    AtOrBefore,
    /// `at > valid_at`
    Before,
    /// `at <= valid_at`: the least valid_at wins, and no ttl is used.
    AtOrAfter,
    /// `at < valid_at`
    After,
}

impl Direction {
    pub fn looks_back(self) -> bool {
        matches!(self, Self::AtOrBefore | Self::Before)
    }

    /// As it stands between the spine's time and the view's.
    pub fn operator(self) -> &'static str {
        match self {
            Self::AtOrBefore => ">=",
            Self::Before => ">",
            Self::AtOrAfter => "<=",
            Self::After => "<",
        }
    }
}

/// What could be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd)]
pub enum Cut {
    /// What was known at each row's own time.
    Row,
    /// What was known at one instant.
    Instant(Timestamp),
    /// No limit: values may be used before anybody could know them. For showing what such a leak is worth.
    None,
}

/// A column of a feature view's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Key(usize),
    Occurrence,
    ValidAt,
    /// By its position in the version's definition.
    Feature(usize),
    /// Why that feature is null, as text; null where it is not.
    NullReason(usize),
}

/// Why a feature of a row is null, in the order in which a candidate gets further: of all candidates, the reason of
/// the one that came furthest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NullReason {
    NullKeyOrTime,
    UnknownEntity,
    Later,
    NotYetKnown,
    Expired,
    Retracted,
    NotInBatch,
    NullAtSource,
    /// It is kept from the asker, whatever it is.
    Hidden,
}

impl NullReason {
    pub const ALL: [Self; 9] = [
        Self::NullKeyOrTime,
        Self::UnknownEntity,
        Self::Later,
        Self::NotYetKnown,
        Self::Expired,
        Self::Retracted,
        Self::NotInBatch,
        Self::NullAtSource,
        Self::Hidden,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NullKeyOrTime => "null_key_or_time",
            Self::UnknownEntity => "unknown_entity",
            Self::Later => "later",
            Self::NotYetKnown => "not_yet_known",
            Self::Expired => "expired",
            Self::Retracted => "retracted",
            Self::NotInBatch => "not_in_batch",
            Self::NullAtSource => "null_at_source",
            Self::Hidden => "hidden",
        }
    }
}

impl fmt::Display for NullReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Found {
    /// One array an output, in spine order.
    pub columns: Vec<ArrayRef>,
    pub report: LookupReport,
}

/// Counts that fall out of the match: why features are null, and how many rows each batch answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LookupReport {
    /// `weather@2`
    pub version: String,
    /// Spine rows that found an observation.
    pub matched: u64,
    pub hits: Vec<(BatchId, u64)>,
    /// By feature, in the order asked for.
    pub features: Vec<FeatureReport>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureReport {
    pub name: String,
    /// Null cells by reason.
    pub nulls: BTreeMap<NullReason, u64>,
    /// Rows without an observation that took the declared default; they are not null.
    pub defaulted: u64,
}

impl LookupReport {
    /// Counts what another stretch of the same spine found in the same view.
    pub fn add(&mut self, other: &Self) {
        self.matched += other.matched;
        let mut hits: BTreeMap<BatchId, u64> = self.hits.iter().copied().collect();
        for (batch, rows) in &other.hits {
            *hits.entry(*batch).or_default() += rows;
        }
        self.hits = hits.into_iter().collect();
        for (feature, other) in self.features.iter_mut().zip(&other.features) {
            feature.defaulted += other.defaulted;
            for (reason, cells) in &other.nulls {
                *feature.nulls.entry(*reason).or_default() += cells;
            }
        }
    }
}

/// What one view has for rows of a spine, not yet in their order. `places` are the rows' places in the whole spine, where they are
/// some of it. So many cores
/// share its keys.
async fn gather(
    files: &DataFiles,
    lookup: &Lookup,
    spine: &Arc<SpineOrder>,
    places: Option<Arc<Vec<u32>>>,
    meters: &Meters,
    memory: &WorkingMemory,
    shares: usize,
) -> Result<Gathered> {
    let timer = meters.match_time.timer();
    let matched = matching::match_files(files, lookup, spine, meters, memory, shares).await?;
    timer.done();
    let _timer = meters.fetch_time.timer();
    fetch::gather(files, lookup, matched, places, meters, memory).await
}
