//! Records of what somebody is told of, and of how it got there.

use feature::{AlertId, SenderId, Sequence, Timestamp, VersionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rules were asked about the log up to an entry, and this came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertsRaised {
    /// The names of the rules that were asked.
    pub rules: Vec<String>,
    /// Each of them was asked about all entries up to this one, from the first on at which it stands in a record like this.
    pub through: Sequence,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<RaisedAlert>,
}

/// Something that somebody is told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaisedAlert {
    pub alert: AlertId,
    pub rule: String,
    /// What the rule is about: `check`, `quarantine`, …
    pub condition: String,
    /// A key for each thing that it is about, at least one. A rule tells of each once.
    pub causes: Vec<String>,
    /// The entry that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Sequence>,
    /// The version of a feature view that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// In words.
    pub summary: String,
    /// The same for programs; no values of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// The names of the sinks that it goes to.
    pub sinks: Vec<String>,
}

/// A step on the way to a sink: an attempt ended, another begins, or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertDelivery {
    pub sink: String,
    pub sender: SenderId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DeliveryEnded>,
    /// From here on the sink is the sender's, until the time is over or the attempt has ended. None: it is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending: Option<DeliveryBegun>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryBegun {
    pub alert: AlertId,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryEnded {
    pub alert: AlertId,
    pub outcome: DeliveryOutcome,
    /// Of a failure, what was in the way; of one that was dropped, the reason of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of a failure, when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Timestamp>,
    /// Of a failure, whether it is of this alert alone; else the sink is left alone until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_alert: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    Delivered,
    /// It is tried again.
    Failed,
    /// Somebody said that it need not be delivered.
    Dropped,
}
