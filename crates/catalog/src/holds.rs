//! Keeping a thing, and all that it needs, because somebody says so; and letting it go again.

use feature::{HoldId, Sequence};
use storage::environment;
use uuid::Uuid;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{HeldKind, HoldLifted, HoldPlaced};
use crate::withdrawal::given_reason;

/// Places a hold on what exists.
///
/// # Errors
/// `Invalid` for no reason or too long a one.
pub async fn place(
    catalog: &Catalog,
    kind: HeldKind,
    id: Uuid,
    reason: &str,
    author: &Author,
) -> Result<(HoldId, Sequence)> {
    let reason = given_reason(reason)?.to_owned();
    let hold: HoldId = environment::mint();
    let record = HoldPlaced { hold, kind, id, reason };
    let outcome =
        catalog.commit::<()>(author, None, |_| Ok(Intent::Append(vec![record.clone().into()]))).await?;
    Ok((hold, written(outcome)?))
}

/// Lifts a hold.
///
/// # Errors
/// `NotFound` for one that is not known, `Invalid` for one that was lifted, and for no reason or too long a one.
pub async fn lift(catalog: &Catalog, hold: HoldId, reason: &str, author: &Author) -> Result<Sequence> {
    let reason = given_reason(reason)?;
    let outcome = catalog
        .commit::<()>(author, None, |state| {
            let found = state.holds().find(hold).ok_or_else(|| {
                Error::NotFound(format!(
                    "there is no hold {hold}; `SELECT * FROM lineament.holds` lists them"
                ))
            })?;
            if let Some((lifted, by)) = &found.lifted {
                return Err(Error::Invalid(format!(
                    "hold {hold} is lifted already: by {} at sequence {}, for: {}",
                    by.principal, by.sequence, lifted.reason
                )));
            }
            Ok(Intent::Append(vec![HoldLifted { hold, reason: reason.to_owned() }.into()]))
        })
        .await?;
    written(outcome)
}

fn written(outcome: Outcome<()>) -> Result<Sequence> {
    match outcome {
        Outcome::Committed(sequence) => Ok(sequence),
        Outcome::Done(()) => Err(Error::internal("a hold was not written", "it answers nothing else")),
    }
}
