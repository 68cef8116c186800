//! Saying that something will go, taking the steps on their dates, and taking it back.

use std::collections::BTreeSet;

use feature::{DeprecationId, Sequence, Timestamp};
use storage::environment;

use crate::author::Author;
use crate::catalog::{Catalog, Intent, Outcome};
use crate::error::{Error, Result};
use crate::records::{
    Deprecable, Deprecated, DeprecationAdvanced, DeprecationRevoked, DeprecationStep, Record,
};
use crate::state::{Deprecation, Stage, State};
use crate::withdrawal::given_reason;

/// What is to go, and when.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub of: Deprecable,
    pub reason: String,
    /// From when on nothing new may be made of it.
    pub closed_at: Timestamp,
    /// From when on it is read no more; never, for none.
    pub withdrawn_at: Option<Timestamp>,
    /// What takes its place.
    pub instead: Option<Deprecable>,
}

/// A step whose date has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueStep {
    pub deprecation: DeprecationId,
    pub of: Deprecable,
    pub step: DeprecationStep,
    pub due: Timestamp,
}

/// Announces that something will go: one entry, and nothing is refused to anybody before its date.
///
/// # Errors
/// `Invalid` for no reason or too long a one, for dates that are past or in the wrong order, for what is deprecated already, and for a
/// successor that is itself, or closed.
pub async fn announce(
    catalog: &Catalog,
    wanted: &Announcement,
    author: &Author,
) -> Result<(DeprecationId, Sequence)> {
    let reason = given_reason(&wanted.reason)?.to_owned();
    let now = catalog.store().clock().now();
    if wanted.closed_at <= now {
        return Err(Error::Invalid(format!(
            "nothing is closed without notice: {} is past (it is {now}); name a day to come",
            wanted.closed_at
        )));
    }
    if let Some(withdrawn) = wanted.withdrawn_at.filter(|withdrawn| *withdrawn < wanted.closed_at) {
        return Err(Error::Invalid(format!(
            "it would be withdrawn at {withdrawn}, before it is closed to new uses at {}; give a later day",
            wanted.closed_at
        )));
    }
    let deprecation: DeprecationId = environment::mint();
    let record = Deprecated {
        deprecation,
        of: wanted.of,
        reason,
        closed_at: wanted.closed_at,
        withdrawn_at: wanted.withdrawn_at,
        instead: wanted.instead,
        roles: author.roles.clone(),
        claims: author.claims.clone(),
    };
    let outcome = catalog
        .commit::<()>(author, None, |state| {
            check(state, wanted)?;
            Ok(Intent::Append(vec![record.clone().into()]))
        })
        .await?;
    Ok((deprecation, written(outcome)?))
}

fn check(state: &State, wanted: &Announcement) -> Result<()> {
    let head = state.head.sequence;
    let label = |of: Deprecable| {
        let missing = || Error::NotFound(format!("there is no {} {}", of.kind.name(), of.id));
        state.label_of(of).ok_or_else(missing)
    };
    let name = label(wanted.of)?;
    if let Some((standing, stage)) = state.deprecations().at(wanted.of, head) {
        return Err(Error::Invalid(format!(
            "{name} is deprecated already ({}): by {} at sequence {}, for: {}; take that back by `lineament deprecate {name} --undo` to \
             give it other dates",
            stage.name(),
            standing.by.principal,
            standing.by.sequence,
            standing.record.reason
        )));
    }
    let Some(instead) = wanted.instead else { return Ok(()) };
    let successor = label(instead)?;
    if instead == wanted.of {
        return Err(Error::Invalid(format!("{name} cannot take its own place; name another by --instead")));
    }
    let closed = |one: Option<(&Deprecation, Stage)>| one.is_some_and(|(_, stage)| stage >= Stage::Closed);
    let versions = state.versions_under(instead);
    let newest = versions.last().and_then(|version| state.deprecation_of(version, head));
    if closed(newest) || closed(state.deprecations().at(instead, head)) {
        return Err(Error::Invalid(format!(
            "{successor} is closed to new uses itself; name something else by --instead"
        )));
    }
    Ok(())
}

/// Takes a deprecation back: who was refused is let in again.
///
/// # Errors
/// `Invalid` for no reason or too long a one, and for what is not deprecated.
pub async fn revoke(catalog: &Catalog, of: Deprecable, reason: &str, author: &Author) -> Result<Sequence> {
    let reason = given_reason(reason)?;
    let outcome = catalog
        .commit::<()>(author, None, |state| {
            let Some((standing, _)) = state.deprecations().at(of, state.head.sequence) else {
                let name = state.label_of(of).unwrap_or_else(|| of.id.to_string());
                return Err(Error::Invalid(format!(
                    "{name} is not deprecated; `SELECT * FROM lineament.deprecations` lists what is"
                )));
            };
            let deprecation = standing.record.deprecation;
            Ok(Intent::Append(vec![DeprecationRevoked { deprecation, reason: reason.to_owned() }.into()]))
        })
        .await?;
    written(outcome)
}

/// The steps whose dates have come, those of one deprecation in their order.
pub fn due(state: &State, now: Timestamp) -> Vec<DueStep> {
    let mut steps = Vec::new();
    for one in state.deprecations().all() {
        let Deprecated { deprecation, of, withdrawn_at, .. } = one.record;
        let step = |step, due| DueStep { deprecation, of, step, due };
        let Some((next, date)) = one.next(state.head.sequence).filter(|(_, date)| *date <= now) else {
            continue;
        };
        steps.push(step(next, date));
        let withdrawn = withdrawn_at.filter(|date| next == DeprecationStep::Closed && *date <= now);
        steps.extend(withdrawn.map(|date| step(DeprecationStep::Withdrawn, date)));
    }
    steps
}

/// Takes the steps whose dates have come at `now`, in one entry: closes whatever is due, and withdraws what is not in `kept`. What is in
/// use was looked up at a sequence and for what is due at that instant: where the log has grown since, only closing is safe, and withdrawing
/// waits for another look.
///
/// # Errors
/// Those of [`Catalog::commit`].
pub async fn advance(
    catalog: &Catalog,
    looked_at: Sequence,
    now: Timestamp,
    kept: &BTreeSet<DeprecationId>,
    despite: Option<&str>,
    author: &Author,
) -> Result<(Vec<DueStep>, Option<Sequence>)> {
    let mut taken = Vec::new();
    let outcome = catalog
        .commit(author, None, |state| {
            let current = state.head.sequence == looked_at;
            taken = due(state, now);
            taken.retain(|step| match step.step {
                DeprecationStep::Closed => true,
                DeprecationStep::Withdrawn => {
                    current && (despite.is_some() || !kept.contains(&step.deprecation))
                }
            });
            let records: Vec<Record> = taken.iter().map(|step| record_of(step, kept, despite)).collect();
            Ok(if records.is_empty() { Intent::Done(()) } else { Intent::Append(records) })
        })
        .await?;
    Ok(match outcome {
        Outcome::Committed(sequence) => (taken, Some(sequence)),
        Outcome::Done(()) => (Vec::new(), None),
    })
}

fn record_of(step: &DueStep, kept: &BTreeSet<DeprecationId>, despite: Option<&str>) -> Record {
    let in_use = step.step == DeprecationStep::Withdrawn && kept.contains(&step.deprecation);
    DeprecationAdvanced {
        deprecation: step.deprecation,
        step: step.step,
        despite: despite.filter(|_| in_use).map(str::to_owned),
    }
    .into()
}

/// Why a closed or withdrawn thing is refused, and what to take in its place.
pub fn why_not(state: &State, deprecation: &Deprecation, label: &str) -> String {
    let Deprecation { record, by, steps, .. } = deprecation;
    let since = steps.last().map(|(step, by)| match step.step {
        DeprecationStep::Closed => format!("closed to new uses since {}", by.committed_at),
        DeprecationStep::Withdrawn => format!("withdrawn since {}", by.committed_at),
    });
    let instead = match record.instead.and_then(|of| state.label_of(of)) {
        Some(instead) => format!("use {instead} instead"),
        None => format!("no successor is named; ask {}", by.principal),
    };
    format!(
        "{label} is {} (deprecated by {}: {}); {instead}",
        since.unwrap_or_else(|| "deprecated".to_owned()),
        by.principal,
        record.reason
    )
}

fn written(outcome: Outcome<()>) -> Result<Sequence> {
    match outcome {
        Outcome::Committed(sequence) => Ok(sequence),
        Outcome::Done(()) => Err(Error::internal("a deprecation was not written", "it answers nothing else")),
    }
}
