//! The record of policies.

use feature::digest::Digest;
use feature::policy::PolicyFile;
use serde::{Deserialize, Serialize};

use super::Object;

/// The policies that are in force from this sequence on, all of them and whole. Without files nothing is governed any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoliciesApplied {
    /// 1 for the first that a store had.
    pub number: u32,
    /// Of the files: their names and texts, in the order of the names.
    pub digest: Digest,
    pub files: Vec<PolicyFile>,
    /// The secret that values are hashed with, the same as long as the store lives.
    pub key: Object,
    /// Why, in the writer's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
