//! What becomes of a batch in quarantine: it is released, and counts from there on, or dropped, and never does.

use feature::{BatchId, Sequence};

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::ingest::overlap;
use crate::records::{BatchDropped, BatchReleased, KnownAtSource};
use crate::state::{Held, State};
use crate::withdrawal::given_reason;

/// What is done with a batch in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It counts from here on. `back_fill` says that its rows could have been known when its view's rule says, although batches
    /// of the same time came since.
    Release {
        back_fill: bool,
    },
    Drop,
}

/// Releases or drops a batch: one entry, and no data is copied or deleted.
///
/// # Errors
/// `NotFound` for a batch that was never kept back. `Invalid` for no reason or too long a one, for a batch that waits no more, and for a
/// batch dated by a rule into whose time others came since it was written, unless it is said to be a back-fill.
pub async fn end(
    catalog: &Catalog,
    batch: BatchId,
    ending: Ending,
    reason: &str,
    author: &Author,
) -> Result<Sequence> {
    let reason = given_reason(reason)?;
    let state = catalog.refresh().await?;
    let held = waiting(&state, batch)?.clone();
    let dated = matches!(held.batch.record.known_at, KnownAtSource::Delay | KnownAtSource::Assumed);
    let excludes_overlap = dated && ending == Ending::Release { back_fill: false };
    if excludes_overlap && let Some((from, until)) = times_since(catalog, &state, &held).await? {
        return Err(Error::Invalid(format!(
            "batches that came since batch {batch} was kept back have observations between {from} and {until} too, and its view dates what \
             is known by a rule; say by --back-fill that its rows could have been known when the rule says, or drop it"
        )));
    }
    let compared = state.head.sequence;
    let outcome = catalog
        .commit(author, None, |state| {
            waiting(state, batch)?;
            let newest = state.batches_of_line(held.batch.line).last().map(|batch| batch.by.sequence);
            if excludes_overlap && newest.is_some_and(|newest| newest > compared) {
                return Err(Error::Contended(
                    "batches came while this one was being released; nothing was done: try again".to_owned(),
                ));
            }
            let reason = reason.to_owned();
            Ok(Intent::<()>::Append(vec![match ending {
                Ending::Release { .. } => BatchReleased { batch, reason }.into(),
                Ending::Drop => BatchDropped { batch, reason }.into(),
            }]))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok(sequence),
        Outcome::Done(()) => {
            Err(Error::internal("the end of a quarantine was not written", "it answers nothing else"))
        }
    }
}

/// The batch, where it waits.
fn waiting(state: &State, batch: BatchId) -> Result<&Held> {
    let Some(held) = state.quarantine().of(batch) else {
        return Err(Error::NotFound(match state.batch(batch) {
            Some(_) => format!("batch {batch} was never kept back, and counts unless it is withdrawn"),
            None => format!(
                "there is no batch {batch} in quarantine; `lineament quarantine list` shows those that are"
            ),
        }));
    };
    match &held.end {
        None => Ok(held),
        Some(end) => Err(Error::Invalid(format!(
            "batch {batch} was {} already: by {} at sequence {}, for: {}",
            if end.released { "released" } else { "dropped" },
            end.by.principal,
            end.by.sequence,
            end.reason
        ))),
    }
}

/// Where batches that came since reach into the times of this one.
async fn times_since(
    catalog: &Catalog,
    state: &State,
    held: &Held,
) -> Result<Option<(feature::Timestamp, feature::Timestamp)>> {
    let files = catalog.batch_files(&held.batch).await?;
    let ranges = || files.iter().filter_map(|file| file.valid_at_range());
    let least = ranges().map(|(least, _)| least).min();
    let greatest = ranges().map(|(_, greatest)| greatest).max();
    let Some(range) = least.zip(greatest) else { return Ok(None) };
    overlap(catalog, state, held.batch.line, range, Some(held.batch.by.sequence)).await
}
