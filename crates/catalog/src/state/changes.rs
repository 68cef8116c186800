//! Plans that were proposed, what others said of them, and those that were applied with a word.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use feature::Sequence;
use feature::digest::Digest;

use super::{ApplyError, Provenance, State, repeated, unresolved};
use crate::records::{PlanApplied, PlanApproved, PlanDeclined, PlanProposed, Record};

/// What somebody said of a proposed plan.
#[derive(Clone, Debug)]
pub enum Vote {
    Approved(PlanApproved),
    Declined(PlanDeclined),
}

impl Vote {
    pub fn reason(&self) -> &str {
        match self {
            Self::Approved(said) => &said.reason,
            Self::Declined(said) => &said.reason,
        }
    }

    pub fn is_approval(&self) -> bool {
        matches!(self, Self::Approved(_))
    }
}

/// A plan that was proposed.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub record: PlanProposed,
    pub by: Arc<Provenance>,
    /// In the order of the log.
    pub votes: Vec<(Vote, Arc<Provenance>)>,
}

impl Proposal {
    /// The last word of each who said something up to a sequence, by their names.
    pub fn standing(&self, at: Sequence) -> BTreeMap<&str, (&Vote, &Arc<Provenance>)> {
        let said = self.votes.iter().filter(|(_, by)| by.sequence <= at);
        said.map(|(vote, by)| (by.principal.as_str(), (vote, by))).collect()
    }
}

/// A plan that was applied and gave its reason.
#[derive(Clone, Debug)]
pub struct AppliedPlan {
    pub record: PlanApplied,
    pub by: Arc<Provenance>,
}

/// All that was said of changes.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// In the order of the log.
    proposals: Vec<Proposal>,
    /// The last proposal of each plan.
    last: HashMap<Digest, usize>,
    applied: Vec<AppliedPlan>,
}

impl Changes {
    /// In the order of the log.
    pub fn proposals(&self) -> &[Proposal] {
        &self.proposals
    }

    /// The last proposal of a plan.
    pub fn proposal(&self, plan: Digest) -> Option<&Proposal> {
        self.proposals.get(*self.last.get(&plan)?)
    }

    /// In the order of the log.
    pub fn applied(&self) -> &[AppliedPlan] {
        &self.applied
    }

    /// What was said of the definitions of an entry.
    pub fn applied_at(&self, at: Sequence) -> Option<&AppliedPlan> {
        let place = self.applied.binary_search_by_key(&at, |applied| applied.by.sequence).ok()?;
        self.applied.get(place)
    }

    /// Takes in a record of a change; one of anything else is nothing to it.
    ///
    /// # Errors
    /// `Unresolved` for what is said of a plan that nobody proposed, `Repeated` for two plans that one entry applies.
    pub(super) fn take(&mut self, record: &Record, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        match record {
            Record::PlanProposed(record) => {
                // A checkpoint keeps the order of entries, not that within one.
                let spoken_of =
                    |last: &Proposal| last.votes.iter().any(|(_, said)| said.sequence == by.sequence);
                if self.proposal(record.plan).is_some_and(spoken_of) {
                    return Err(repeated(by, "the proposal of plan", record.plan.to_string()));
                }
                self.last.insert(record.plan, self.proposals.len());
                let (record, by) = (record.clone(), by.clone());
                self.proposals.push(Proposal { record, by, votes: Vec::new() });
            }
            Record::PlanApproved(said) => self.vote(said.plan, Vote::Approved(said.clone()), by)?,
            Record::PlanDeclined(said) => self.vote(said.plan, Vote::Declined(said.clone()), by)?,
            Record::PlanApplied(record) => {
                if self.applied.last().is_some_and(|last| last.by.sequence == by.sequence) {
                    return Err(repeated(by, "an applied plan,", record.plan.to_string()));
                }
                self.applied.push(AppliedPlan { record: record.clone(), by: by.clone() });
            }
            _ => {}
        }
        Ok(())
    }

    fn vote(&mut self, plan: Digest, vote: Vote, by: &Arc<Provenance>) -> Result<(), ApplyError> {
        let place = self.last.get(&plan).copied();
        let proposal = place.and_then(|place| self.proposals.get_mut(place));
        let proposal = proposal.ok_or_else(|| unresolved(by, "proposed plan", plan.to_string()))?;
        if proposal.votes.last().is_some_and(|(_, said)| said.sequence == by.sequence) {
            return Err(repeated(by, "what is said of plan", plan.to_string()));
        }
        proposal.votes.push((vote, by.clone()));
        Ok(())
    }

    /// Those after a sequence, as records.
    pub(super) fn records_after(&self, after: Option<Sequence>) -> impl Iterator<Item = (Sequence, Record)> {
        let proposed = self.proposals.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        let votes = self.proposals.iter().flat_map(|one| &one.votes).map(|(vote, by)| {
            let record = match vote {
                Vote::Approved(said) => Record::from(said.clone()),
                Vote::Declined(said) => Record::from(said.clone()),
            };
            (by.sequence, record)
        });
        let applied = self.applied.iter().map(|one| (one.by.sequence, Record::from(one.record.clone())));
        proposed.chain(votes).chain(applied).filter(move |(sequence, _)| Some(*sequence) > after)
    }
}

impl State {
    /// Plans that were proposed, approved, declined, and applied with a reason.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}
