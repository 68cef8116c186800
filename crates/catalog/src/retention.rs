//! How long things are kept at least: a setting in the log, so that all processes go by the same.

use feature::Sequence;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::RetentionSet;
use crate::state::sweeps;

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
