//! How long things are kept at least, a setting in the log, so that all processes go by the same; and rows that are kept no longer.

use feature::{Sequence, ViewId};
use storage::partition::Layout;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{RetentionSet, RowsExpired};
use crate::state::{State, sweeps};

/// Sets it, from here on; the sequence of the entry, or none where it is set so already.
///
/// # Errors
/// `Invalid` for a grace that is less than the longest read, and for a read that may not last at all.
pub async fn set(catalog: &Catalog, wanted: &RetentionSet, author: &Author) -> Result<Option<Sequence>> {
    sweeps::check(wanted).map_err(Error::Invalid)?;
    let outcome = catalog
        .commit(author, None, |state| {
            if state.sweeps().retention() == *wanted {
                return Ok(Intent::Done(()));
            }
            Ok(Intent::Append(vec![wanted.clone().into()]))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok(Some(sequence)),
        Outcome::Done(()) => Ok(None),
    }
}

/// Lets rows of some views count no more, by one entry; its sequence, or none where there is nothing to write.
///
/// # Errors
/// Those of the storage.
pub async fn expire(catalog: &Catalog, wanted: &[RowsExpired], author: &Author) -> Result<Option<Sequence>> {
    let outcome = catalog
        .commit(author, None, |state| {
            // Another may have been faster, or the view may keep its rows for longer by now.
            let due = wanted.iter().filter(|record| is_due(state, record));
            let records: Vec<_> = due.map(|record| record.clone().into()).collect();
            Ok(if records.is_empty() { Intent::Done(()) } else { Intent::Append(records) })
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok(Some(sequence)),
        Outcome::Done(()) => Ok(None),
    }
}

fn is_due(state: &State, record: &RowsExpired) -> bool {
    let head = state.head.sequence;
    let declared = state.views_in_force(head).find(|version| version.view == record.view);
    let declared = declared.and_then(|version| version.definition.retention.as_ref());
    declared.is_some_and(|declared| declared.keep == record.keep)
        && state.expiry().before(record.view, head) < Some(record.before)
}

/// Partitions of the time that a view keeps its rows: files are as long as one of them at most.
const PARTITIONS: i64 = 8;

/// How a view's files are cut, so that old rows come to lie apart from younger ones where the view keeps its rows for a while only.
pub(crate) fn layout(state: &State, view: ViewId, layout: &Layout) -> Layout {
    let mut in_force = state.views_in_force(state.head.sequence);
    let declared = in_force.find(|version| version.view == view);
    let declared = declared.and_then(|version| version.definition.retention.as_ref());
    let longest_partition = declared.map(|declared| declared.keep.micros() / PARTITIONS);
    Layout { longest_partition: longest_partition.or(layout.longest_partition), ..*layout }
}
