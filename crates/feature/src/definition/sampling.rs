//! What a view or a service declares of what passes by: the share of it that is profiled.

use serde::{Deserialize, Serialize};

/// Shares of entities, by the hash of their keys, whose rows are profiled as they pass. No part of the digest: looking is no other meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Of the entities whose features are retrieved, from 0 to 1; none where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<f64>,
    /// Of the entities whose rows come by streams. A service has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<f64>,
}
