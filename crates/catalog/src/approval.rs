//! What others say of a plan that was proposed.

use feature::Sequence;
use feature::digest::Digest;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{PlanApproved, PlanDeclined};
use crate::state::{Proposal, State};
use crate::withdrawal::given_reason;

/// The least digits of a digest that a plan may be called by.
const DIGITS: usize = 6;

/// The proposed plan of a digest, whole (`blake3:…`) or by the first of its digits.
///
/// # Errors
/// `NotFound` where none was proposed that begins so, `Invalid` for too few digits or several plans.
pub fn find<'s>(state: &'s State, named: &str) -> Result<&'s Proposal> {
    let digits = named.split_once(':').map_or(named, |(_, digits)| digits).trim();
    if digits.len() < DIGITS {
        return Err(Error::Invalid(format!(
            "`{named}` is too short; give at least {DIGITS} digits of the plan's digest, as `lineament plan` prints it"
        )));
    }
    let plans: std::collections::BTreeSet<Digest> =
        state.changes().proposals().iter().map(|one| one.record.plan).collect();
    let mut found = plans.into_iter().filter(|plan| plan.hex().starts_with(digits));
    let missing = || {
        Error::NotFound(format!(
            "no plan of the digest `{named}` was proposed; `SELECT * FROM lineament.proposed_plans` lists those that were, and \
             `lineament apply` proposes one that needs an approval"
        ))
    };
    let plan = found.next().ok_or_else(missing)?;
    if found.next().is_some() {
        return Err(Error::Invalid(format!(
            "`{named}` begins the digests of several plans; give more digits"
        )));
    }
    state.changes().proposal(plan).ok_or_else(missing)
}

/// Approves or declines a proposed plan: one entry. The last word of a person counts.
///
/// # Errors
/// `Invalid` for no reason or too long a one, for a plan that was applied, and for what the same person said already.
pub async fn vote(
    catalog: &Catalog,
    plan: Digest,
    approve: bool,
    reason: &str,
    author: &Author,
) -> Result<Sequence> {
    let reason = given_reason(reason)?;
    let outcome = catalog
        .commit::<()>(author, None, |state| {
            let proposal = find(state, &plan.to_string())?;
            let applied = state.changes().applied().iter().rev().find(|one| one.record.plan == plan);
            if let Some(applied) = applied.filter(|one| one.by.sequence > proposal.by.sequence) {
                return Err(Error::Invalid(format!(
                    "this plan was applied by {} at sequence {}; there is nothing more to say of it",
                    applied.by.principal, applied.by.sequence
                )));
            }
            let said = proposal.standing(state.head.sequence);
            if let Some((_, by)) =
                said.get(author.principal.as_str()).filter(|(vote, _)| vote.is_approval() == approve)
            {
                let done = if approve { "approved" } else { "declined" };
                return Err(Error::Invalid(format!(
                    "`{}` {done} this plan already, at sequence {}",
                    author.principal, by.sequence
                )));
            }
            let reason = reason.to_owned();
            Ok(Intent::Append(vec![if approve {
                let (roles, claims) = (author.roles.clone(), author.claims.clone());
                PlanApproved { plan, reason, roles, claims }.into()
            } else {
                PlanDeclined { plan, reason }.into()
            }]))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok(sequence),
        Outcome::Done(()) => Err(Error::internal("an approval was not written", "it answers nothing else")),
    }
}
