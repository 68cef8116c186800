//! Spines that clients put up: which are kept, and who says so.

use feature::digest::ContentDigest;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::Result;
use crate::records::SpineKept;
use crate::state::State;

/// Of the grace, the part after which a spine that is put up again is said to be: whoever was told that it is there finds it for the
/// other part at least.
const RENEWED_AFTER: i64 = 2;

/// Keeps a spine whose object is durable. False where another of its digest is kept already, and this object is nobody's.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn keep(catalog: &Catalog, record: &SpineKept, author: &Author) -> Result<bool> {
    let outcome = catalog
        .commit(author, None, |state| match renewed(catalog, state, &record.digest) {
            Kept::No => Ok(Intent::Append(vec![record.clone().into()])),
            Kept::Old(record) => Ok(Intent::Append(vec![record.into()])),
            Kept::Yes => Ok(Intent::Done(())),
        })
        .await?;
    let kept = catalog.state().spines().find(record.spine).is_some();
    Ok(kept && matches!(outcome, Outcome::Committed(_)))
}

/// Says of a spine that is kept that it was put up again, where that was long ago. False where none of this digest is kept.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn keep_again(catalog: &Catalog, digest: &ContentDigest, author: &Author) -> Result<bool> {
    let digest = digest.to_string();
    let outcome = catalog
        .commit(author, None, |state| match renewed(catalog, state, &digest) {
            Kept::No => Ok(Intent::Done(false)),
            Kept::Old(record) => Ok(Intent::Append(vec![record.into()])),
            Kept::Yes => Ok(Intent::Done(true)),
        })
        .await?;
    Ok(match outcome {
        Outcome::Committed(_) => true,
        Outcome::Done(kept) => kept,
    })
}

enum Kept {
    No,
    /// It was put up long ago; this says that it was now.
    Old(SpineKept),
    Yes,
}

fn renewed(catalog: &Catalog, state: &State, digest: &str) -> Kept {
    let Some(spine) = state.spines().of_digest(digest) else { return Kept::No };
    let age = catalog.store().clock().now().micros().saturating_sub(spine.kept_at().micros());
    let old = state.sweeps().retention().grace.micros() / RENEWED_AFTER;
    if spine.used.is_none() && age >= old { Kept::Old(spine.record.clone()) } else { Kept::Yes }
}
