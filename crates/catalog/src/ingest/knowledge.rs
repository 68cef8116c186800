//! When the rows of a batch could first have been known, and whether the batch may say so.
//!
//! A batch dated by a delay or by an assumption that reaches into times already ingested must say what it is: a
//! correction that is dated so would leak.

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use feature::definition::KnownAt;
use feature::{Sequence, Timestamp, VersionId};

use super::Claim;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::records::KnownAtSource;
use crate::state::{State, ViewVersion};

/// How the known-at times of a batch come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knowledge {
    pub source: KnownAtSource,
    /// Whether the batch may not overlap the times that the view already covers.
    pub excludes_overlap: bool,
}

impl Knowledge {
    pub fn of(version: &ViewVersion, claim: Option<Claim>) -> Self {
        let ruled = |usual| match claim {
            Some(Claim::Correction) => Self { source: KnownAtSource::Arrival, excludes_overlap: false },
            Some(Claim::BackFill) => Self { source: usual, excludes_overlap: false },
            None => Self { source: usual, excludes_overlap: true },
        };
        match version.definition.time.known_at {
            KnownAt::Column(_) => Self { source: KnownAtSource::Column, excludes_overlap: false },
            KnownAt::Arrival => Self { source: KnownAtSource::Arrival, excludes_overlap: false },
            KnownAt::Delay(_) => ruled(KnownAtSource::Delay),
            KnownAt::Assumed => ruled(KnownAtSource::Assumed),
        }
    }

    /// The rows as they are stored: those that are known by their arrival carry no times of their own.
    pub fn date(self, mut rows: RecordBatch) -> RecordBatch {
        if self.source == KnownAtSource::Arrival
            && let Ok(index) = rows.schema().index_of("known_at")
        {
            rows.remove_column(index);
        }
        rows
    }
}

/// Refuses rows whose times overlap those of batches that came after `after` (of all, for `None`).
///
/// # Errors
/// `Invalid`, with the span and what may be claimed.
pub async fn refuse_overlap(
    catalog: &Catalog,
    state: &State,
    version: &ViewVersion,
    rows: &RecordBatch,
    after: Option<Sequence>,
) -> Result<()> {
    let times = rows
        .column_by_name("valid_at")
        .and_then(|column| column.as_any().downcast_ref::<TimestampMicrosecondArray>());
    let Some(times) = times else { return Ok(()) };
    let (Some(least), Some(greatest)) = (arrow::compute::min(times), arrow::compute::max(times)) else {
        return Ok(());
    };
    match overlap(catalog, state, version.line, (least, greatest), after).await? {
        None => Ok(()),
        Some((from, until)) => Err(Error::Invalid(format!(
            "`{}` already has observations between {from} and {until}, the time of these rows, and it dates what is known by a rule; \
             say what they are by a claim: `back_fill` (--back-fill) where they could have been known when the rule says, \
             `correction` (--correction) where they are known from now on",
            version.label()
        ))),
    }
}

/// Where batches of a line that came after `after` (all, for `None`) have observations between two times, both included.
///
/// # Errors
/// Those of the storage.
pub async fn overlap(
    catalog: &Catalog,
    state: &State,
    line: VersionId,
    (least, greatest): (i64, i64),
    after: Option<Sequence>,
) -> Result<Option<(Timestamp, Timestamp)>> {
    for batch in state.batches_of_line(line).iter().rev() {
        if after.is_some_and(|after| batch.by.sequence <= after) {
            break;
        }
        for file in catalog.batch_files(batch).await?.iter() {
            if let Some((from, until)) = file.valid_at_range()
                && from <= greatest
                && until >= least
            {
                return Ok(Some((Timestamp(from.max(least)), Timestamp(until.min(greatest)))));
            }
        }
    }
    Ok(None)
}
