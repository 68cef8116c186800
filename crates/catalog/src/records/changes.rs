//! Records of changes of definitions that need a word, and maybe somebody else's: proposed, approved or declined, applied.

use std::collections::BTreeMap;

use feature::Name;
use feature::digest::Digest;
use feature::evolution::Effect;
use serde::{Deserialize, Serialize};

use super::Subject;

/// One change of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedChange {
    pub subject: Subject,
    pub project: Name,
    pub name: Name,
    /// Of the version that it makes.
    pub number: u32,
    pub effect: Effect,
    /// What differs, in words.
    pub differences: Vec<String>,
}

/// Definitions that somebody wants to apply and may not alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanProposed {
    /// Of what would be applied, and onto what.
    pub plan: Digest,
    /// Why, in the writer's words.
    pub reason: String,
    /// What makes or changes versions, in the order of the plan.
    pub changes: Vec<PlannedChange>,
}

/// Somebody lets a plan pass. It counts for exactly the plan of this digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanApproved {
    pub plan: Digest,
    pub reason: String,
    /// What the principal was, as policies ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
}

/// Somebody does not let a plan pass, or does so no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanDeclined {
    pub plan: Digest,
    pub reason: String,
}

/// A plan whose definitions stand in the same entry, and why it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanApplied {
    pub plan: Digest,
    pub reason: String,
    pub changes: Vec<PlannedChange>,
    /// Those whose approval it had, in the order of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
}
