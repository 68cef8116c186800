//! What a receiver is sent.

use catalog::state::Alert;
use feature::{AlertId, StoreId};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// An alert as JSON: a function of the alert's record, so the same bytes at each attempt and by whichever server.
#[derive(Clone, Debug)]
pub struct Message {
    pub alert: AlertId,
    pub rule: String,
    pub summary: String,
    pub body: String,
}

#[derive(Serialize)]
struct Body<'a> {
    alert: AlertId,
    store: StoreId,
    rule: &'a str,
    condition: &'a str,
    summary: &'a str,
    causes: &'a [String],
    /// Of the entry that raised it.
    sequence: u64,
    raised_at: String,
    /// The entry that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
}

impl Message {
    pub(super) fn of(alert: &Alert, store: StoreId) -> Result<Self> {
        let record = &alert.record;
        let body = Body {
            alert: record.alert,
            store,
            rule: &record.rule,
            condition: &record.condition,
            summary: &record.summary,
            causes: &record.causes,
            sequence: alert.by.sequence.0,
            raised_at: alert.by.committed_at.to_string(),
            about: record.about.map(|about| about.0),
            details: record.details.as_ref(),
        };
        let body =
            serde_json::to_string(&body).map_err(|error| Error::internal("an alert has no JSON", error))?;
        Ok(Self { alert: record.alert, rule: record.rule.clone(), summary: record.summary.clone(), body })
    }
}
