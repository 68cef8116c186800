//! Applying a plan: what it needs beside the definitions, and what becomes of it without.

use std::collections::BTreeSet;

use feature::definition::Definitions;
use feature::{Name, Sequence};

use super::{Plan, Planned, prepare};
use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::conditions::Conditions;
use crate::error::{Error, Result};
use crate::records::{PlanApplied, PlanProposed, Record, Subject};
use crate::state::State;
use crate::withdrawal::given_reason;

/// Why it is applied, and who has to agree.
#[derive(Clone, Debug, Default)]
pub struct Consent {
    /// Breaking changes need one.
    pub reason: Option<String>,
    /// Views, by project and name, whose breaking changes wait for somebody else's approval.
    pub guarded: BTreeSet<(Name, Name)>,
    /// Whose approval counts.
    pub approvers: BTreeSet<String>,
}

/// What became of definitions.
#[derive(Clone, Debug)]
pub struct Applied {
    pub plan: Plan,
    /// Where they stand in the log; none where nothing had to change.
    pub sequence: Option<Sequence>,
    /// Where they wait for an approval: the entry that proposes them, and nothing is applied.
    pub proposed: Option<Sequence>,
}

/// Applies definitions as one entry. Applying the same again appends nothing. What waits for an approval is proposed, once.
///
/// # Errors
/// `Invalid` where breaking changes have no reason, and where somebody declined them; what [`super::plan`] refuses.
pub async fn apply(
    catalog: &Catalog,
    definitions: &Definitions,
    conditions: &dyn Conditions,
    consent: &Consent,
    author: &Author,
) -> Result<Applied> {
    let reason = consent.reason.as_deref().map(given_reason).transpose()?;
    let mut planned = None;
    let mut waits = None;
    let outcome = catalog
        .commit(author, None, |state| {
            let (plan, mut records) = prepare(state, definitions, conditions)?;
            waits = None;
            let intent = match decide(state, &plan, consent, reason, author)? {
                _ if records.is_empty() => Intent::Done(None),
                Decided::Apply(said) => {
                    records.extend(said.map(Record::from));
                    Intent::Append(records)
                }
                Decided::Propose(proposal) => {
                    waits = Some(());
                    Intent::Append(vec![proposal.into()])
                }
                Decided::Wait(since) => Intent::Done(Some(since)),
            };
            planned = Some(plan);
            Ok(intent)
        })
        .await?;
    let plan = planned.ok_or_else(|| Error::Internal("definitions were not planned".to_owned()))?;
    Ok(match (outcome, waits) {
        (Outcome::Committed(sequence), None) => Applied { plan, sequence: Some(sequence), proposed: None },
        (Outcome::Committed(sequence), Some(())) => {
            Applied { plan, sequence: None, proposed: Some(sequence) }
        }
        (Outcome::Done(proposed), _) => Applied { plan, sequence: None, proposed },
    })
}

enum Decided {
    /// With what is said of it beside the definitions.
    Apply(Option<PlanApplied>),
    Propose(PlanProposed),
    /// It was proposed at that sequence, and nobody has approved it yet.
    Wait(Sequence),
}

/// Whether a plan may be applied as the state is.
fn decide(
    state: &State,
    plan: &Plan,
    consent: &Consent,
    reason: Option<&str>,
    author: &Author,
) -> Result<Decided> {
    let breaking: Vec<&Planned> = plan.breaking().collect();
    let Some(reason) = reason else {
        if breaking.is_empty() {
            return Ok(Decided::Apply(None));
        }
        let names: Vec<String> = breaking.iter().map(|planned| planned.headline()).collect();
        return Err(Error::Invalid(format!(
            "this breaks those who read it, so it needs a reason, which stands in the log for ever (`--reason`, in Python `reason=`): {}",
            names.join("; ")
        )));
    };
    let applied = |approved_by| PlanApplied {
        plan: plan.digest,
        reason: reason.to_owned(),
        changes: plan.told(),
        approved_by,
    };
    let is_guarded =
        |planned: &&Planned| consent.guarded.contains(&(planned.project.clone(), planned.name.clone()));
    if !breaking.iter().any(|planned| planned.subject == Subject::FeatureView && is_guarded(planned)) {
        return Ok(Decided::Apply(Some(applied(Vec::new()))));
    }
    let Some(proposal) = state.changes().proposal(plan.digest) else {
        let (plan, reason, changes) = (plan.digest, reason.to_owned(), plan.told());
        return Ok(Decided::Propose(PlanProposed { plan, reason, changes }));
    };
    let said = proposal.standing(state.head.sequence);
    if let Some((who, (vote, by))) = said.iter().find(|(_, (vote, _))| !vote.is_approval()) {
        return Err(Error::Invalid(format!(
            "{who} declined this plan at sequence {}: {}; change the definitions, or have the same person approve it",
            by.sequence,
            vote.reason()
        )));
    }
    let counts = |who: &&&str| **who != author.principal && consent.approvers.contains(**who);
    let approved: Vec<String> = said.keys().filter(counts).map(|who| (*who).to_owned()).collect();
    if approved.is_empty() {
        return Ok(Decided::Wait(proposal.by.sequence));
    }
    Ok(Decided::Apply(Some(applied(approved))))
}
