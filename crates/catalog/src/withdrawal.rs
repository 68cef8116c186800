//! Taking back what was ingested or declared, and putting it back: one entry, and no data is copied or deleted.

use feature::{Sequence, VersionId};

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::state::{State, ViewVersion, Withdrawable};

/// The longest reason, in bytes: it stands in the log.
const REASON_BYTES: usize = 4_096;

/// Whether things are taken back, or put back where they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Withdraw,
    Restore,
}

/// Withdraws or restores all of these in one entry, and gives its sequence.
///
/// # Errors
/// `Invalid` for no reason or too long a one, for nothing, for what is as it is asked to be already, and for the last version of a
/// view that is in force: a view without any would be gone for everybody who names it. `NotFound` for what the log does not have.
pub async fn withdraw(
    catalog: &Catalog,
    all: &[Withdrawable],
    way: Move,
    reason: &str,
    author: &Author,
) -> Result<Sequence> {
    let reason = given_reason(reason)?;
    let outcome = catalog
        .commit(author, None, |state| {
            check(state, all, way)?;
            let records = all.iter().map(|of| of.record(way == Move::Withdraw, reason.to_owned()));
            Ok(Intent::<()>::Append(records.collect()))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok(sequence),
        Outcome::Done(()) => Err(Error::internal("a withdrawal was not written", "it answers nothing else")),
    }
}

/// The reason as it goes into the log.
pub(crate) fn given_reason(reason: &str) -> Result<&str> {
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES {
        return Err(Error::Invalid(format!(
            "say why, in 1 to {REASON_BYTES} bytes; it stands in the log for ever"
        )));
    }
    Ok(reason)
}

/// Whether these may be withdrawn or restored as the state is.
///
/// # Errors
/// Those of [`withdraw`].
pub fn check(state: &State, all: &[Withdrawable], way: Move) -> Result<()> {
    if all.is_empty() {
        return Err(Error::Invalid("nothing is named that could be withdrawn or restored".to_owned()));
    }
    for (place, of) in all.iter().enumerate() {
        if all[..place].contains(of) {
            return Err(Error::Invalid(format!("{} {of} is named twice", of.kind())));
        }
        check_one(state, *of, way)?;
        if let (Withdrawable::Version(version), Move::Withdraw) = (*of, way) {
            check_another(state, version, all)?;
        }
    }
    Ok(())
}

fn check_one(state: &State, of: Withdrawable, way: Move) -> Result<()> {
    let head = state.head.sequence;
    let label = match of {
        Withdrawable::Batch(batch) => state.batch(batch).map(|_| format!("batch {batch}")),
        Withdrawable::Version(version) => state.view_version(version).map(ViewVersion::label),
    };
    let label = label.ok_or_else(|| Error::NotFound(format!("there is no {} {of} in the log", of.kind())))?;
    match (state.withdrawals().at(of, head), way) {
        (Some(withdrawal), Move::Withdraw) => Err(Error::Invalid(format!(
            "{label} is withdrawn already: by {} at sequence {}, for: {}",
            withdrawal.by.principal, withdrawal.by.sequence, withdrawal.reason
        ))),
        (None, Move::Restore) => Err(Error::Invalid(format!("{label} is not withdrawn, and counts"))),
        (None, Move::Withdraw) | (Some(_), Move::Restore) => Ok(()),
    }
}

/// Whether a view keeps a version that counts when these are withdrawn.
fn check_another(state: &State, version: VersionId, withdrawn: &[Withdrawable]) -> Result<()> {
    let Some(found) = state.view_version(version) else { return Ok(()) };
    let definition = &found.definition;
    let keeps = state.versions_of(&definition.project, &definition.name).iter().any(|other| {
        let of = Withdrawable::Version(other.version);
        !withdrawn.contains(&of) && state.withdrawals().at(of, state.head.sequence).is_none()
    });
    if keeps {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{} is the only version of its view that is left; what replaces it has to be applied first",
        found.label()
    )))
}
