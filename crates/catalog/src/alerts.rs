//! Raising alerts, and whose turn it is to send them. Each decision is taken on the newest state, so that of several
//! servers one raises and one sends.

use feature::{AlertId, SenderId, Sequence, Timestamp};

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{
    AlertDelivery, AlertsRaised, DeliveryBegun, DeliveryEnded, DeliveryOutcome, RaisedAlert, Record,
};
use crate::state::{Alert, State};
use crate::withdrawal::given_reason;

/// A position is put on record after so many entries of which nothing was told, so that a restart need not read more.
const RECORD_AFTER: u64 = 1_000;

/// What rules found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rules that were asked.
    pub rules: Vec<String>,
    /// The entry up to which they were.
    pub through: Sequence,
    pub alerts: Vec<RaisedAlert>,
}

/// Puts on record what rules found and was not told before. How many alerts were raised.
///
/// Nothing is written where nothing was found, but for the position of a rule that has none yet, and now and then of all.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn raise(catalog: &Catalog, found: &Found, author: &Author) -> Result<usize> {
    let mut raised = 0;
    catalog
        .commit::<()>(author, None, |state| {
            let alerts = new_ones(state, &found.alerts);
            raised = alerts.len();
            let behind = |rule: &String| match state.alerts().through(rule) {
                None => true,
                Some(through) => found.through.0 >= through.0 + RECORD_AFTER,
            };
            if alerts.is_empty() && !found.rules.iter().any(behind) {
                return Ok(Intent::Done(()));
            }
            let record = AlertsRaised { rules: found.rules.clone(), through: found.through, alerts };
            Ok(Intent::Append(vec![record.into()]))
        })
        .await?;
    Ok(raised)
}

/// The alerts with the causes that nobody was told of.
fn new_ones(state: &State, found: &[RaisedAlert]) -> Vec<RaisedAlert> {
    let mut alerts: Vec<RaisedAlert> = Vec::new();
    for alert in found {
        let before = |cause: &String| {
            state.alerts().told(&alert.rule, cause)
                || alerts.iter().any(|other| other.rule == alert.rule && other.causes.contains(cause))
        };
        let mut causes: Vec<String> = Vec::new();
        for cause in alert.causes.iter().filter(|cause| !before(cause)) {
            if !causes.contains(cause) {
                causes.push(cause.clone());
            }
        }
        if !causes.is_empty() {
            alerts.push(RaisedAlert { causes, ..alert.clone() });
        }
    }
    alerts
}

/// An alert that is to be sent now.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub alert: Alert,
    /// 1 for the first.
    pub number: u32,
    /// How often in a row the sink took nothing before it.
    pub failures: u32,
}

/// Ends an attempt, if there was one, and begins the next that is due, if there is one. `until` is when others may believe that the
/// sender is gone; none begins nothing.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn step(
    catalog: &Catalog,
    sink: &str,
    sender: SenderId,
    ended: Option<&DeliveryEnded>,
    until: Option<Timestamp>,
    author: &Author,
) -> Result<Option<Attempt>> {
    let mut next: Option<Attempt> = None;
    catalog
        .commit::<()>(author, None, |state| {
            next = until.and_then(|_| due(state, catalog, sink, sender, ended));
            let sending = next.as_ref().zip(until);
            let sending =
                sending.map(|(next, until)| DeliveryBegun { alert: next.alert.record.alert, until });
            if sending.is_none() && ended.is_none() {
                return Ok(Intent::Done(()));
            }
            let record = AlertDelivery { sink: sink.to_owned(), sender, ended: ended.cloned(), sending };
            Ok(Intent::Append(vec![Record::from(record)]))
        })
        .await?;
    Ok(next)
}

/// What is due once an attempt has ended.
fn due(
    state: &State,
    catalog: &Catalog,
    sink: &str,
    sender: SenderId,
    ended: Option<&DeliveryEnded>,
) -> Option<Attempt> {
    // The sink is left alone for a while.
    if ended.is_some_and(|ended| ended.outcome == DeliveryOutcome::Failed && !ended.of_alert) {
        return None;
    }
    let alerts = state.alerts();
    let now = catalog.store().clock().now();
    let open = alerts.due_for(sink, sender, now);
    let others = open.filter(|alert| ended.is_none_or(|ended| ended.alert != alert.record.alert));
    let attempts = |alert: &Alert| alerts.on_its_way(alert.record.alert, sink, state.head.sequence).attempts;
    // One that fails each time does not hold up the others; among equals the oldest is first.
    let (before, alert) = others.map(|alert| (attempts(alert), alert)).min_by_key(|(before, _)| *before)?;
    // What ended well, or was refused alone, shows that the sink is there.
    let failures = ended.map_or_else(|| alerts.failures(sink), |_| 0);
    Some(Attempt { alert: alert.clone(), number: before + 1, failures })
}

/// Says that an alert need not be delivered to the sinks that it has not reached. To how many it was still to go.
///
/// # Errors
/// `NotFound` for an alert that is not known, `Invalid` for one that is delivered everywhere, and for no reason or too long a one.
pub async fn drop_alert(
    catalog: &Catalog,
    alert: AlertId,
    sender: SenderId,
    reason: &str,
    author: &Author,
) -> Result<(usize, Sequence)> {
    let reason = given_reason(reason)?;
    let mut dropped = 0;
    let outcome = catalog
        .commit::<()>(author, None, |state| {
            let found = state.alerts().find(alert).ok_or_else(|| {
                Error::NotFound(format!(
                    "there is no alert {alert}; `SELECT * FROM lineament.alerts` lists them"
                ))
            })?;
            let open = found.record.sinks.iter().filter(|sink| {
                !state.alerts().on_its_way(alert, sink, state.head.sequence).standing.is_over()
            });
            let records: Vec<Record> = open
                .map(|sink| {
                    let ended = DeliveryEnded {
                        alert,
                        outcome: DeliveryOutcome::Dropped,
                        why: Some(reason.to_owned()),
                        again_at: None,
                        of_alert: true,
                    };
                    AlertDelivery { sink: sink.clone(), sender, ended: Some(ended), sending: None }.into()
                })
                .collect();
            dropped = records.len();
            if records.is_empty() {
                return Err(Error::Invalid(format!("alert {alert} is nowhere on its way any more")));
            }
            Ok(Intent::Append(records))
        })
        .await?;
    match outcome {
        Outcome::Committed(sequence) => Ok((dropped, sequence)),
        Outcome::Done(()) => Err(Error::internal("an alert was not dropped", "it answers nothing else")),
    }
}
