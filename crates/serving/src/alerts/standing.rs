//! What rules say of how things stand: what has not come, what was never linked, what leads nowhere.

use catalog::State;
use catalog::records::RaisedAlert;
use catalog::state::ViewVersion;
use feature::Timestamp;
use feature::definition::alerts::{Condition, Rule};
use lineage::{Blocks, Dangling};
use serde_json::json;

use super::entries::{Said, raised};
use crate::reconcile::Problem;

/// Things that are told of one by one; more come as one alert.
const ONE_BY_ONE: usize = 20;
/// Things that an alert of many lists.
const LISTED: usize = 100;

/// Feature views to which no batch came for too long.
pub fn stale(rule: &Rule, after: feature::Span, state: &State, now: Timestamp) -> Vec<RaisedAlert> {
    let head = state.head.sequence;
    let views = state.views_in_force(head);
    let covered = views.filter(|version| rule.covers(&version.definition.project, &version.definition.name));
    let alerts = covered.filter_map(|version| {
        let mut batches = state.batches_of_line(version.line).iter().rev();
        let last = batches.find(|batch| batch.by.sequence <= head && state.counts_at(batch, head));
        let (since, of) = match last {
            Some(batch) => (batch.by.committed_at, Some(batch.record.batch)),
            None => (line_begun(state, version), None),
        };
        if now.micros().saturating_sub(since.micros()) <= after.micros() {
            return None;
        }
        // One cause as long as nothing comes.
        let cause = match of {
            Some(batch) => format!("freshness:{}:{batch}", version.line),
            None => format!("freshness:{}", version.line),
        };
        let label = version.label();
        let summary = match of {
            Some(batch) => {
                format!("{label}: no batch came for more than {after}; the last, {batch}, came at {since}")
            }
            None => format!("{label}: no batch ever came, more than {after} after it was defined at {since}"),
        };
        let details = json!({
            "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
            "last_batch": of, "since": since.to_string(), "after": after.to_string(),
        });
        let alert = raised(rule, Said { cause, summary, details });
        Some(RaisedAlert { version: Some(version.version), ..alert })
    });
    told_apart(rule, alerts.collect(), state, "feature views wait for a batch")
}

/// When the version that a view's line began with was defined.
fn line_begun(state: &State, version: &ViewVersion) -> Timestamp {
    let first = state.view_version(version.line).unwrap_or(version);
    first.by.committed_at
}

/// Model versions and deployments that nothing was linked to in the time that is given.
pub fn unlinked(
    rule: &Rule,
    after: feature::Span,
    found: &[Dangling],
    state: &State,
    now: Timestamp,
) -> Vec<RaisedAlert> {
    let late = |one: &&Dangling| {
        let is_late = one.since.is_some_and(|since| now.micros() - since.micros() > after.micros());
        one.unlinked && matches!(one.kind, "model_version" | "deployment") && is_late
    };
    let alerts = found.iter().filter(late).map(|one| of_problem(rule, &Problem::from(one.clone())));
    told_apart(rule, alerts.collect(), state, "links of lineage are missing")
}

/// References that lead nowhere.
pub fn dangling(rule: &Rule, deployed: bool, found: &[Problem], state: &State) -> Vec<RaisedAlert> {
    let worst = Blocks::Deployment.to_string();
    let wanted = |one: &&Problem| !one.unlinked && (!deployed || one.blocks.as_deref() == Some(&worst));
    let alerts = found.iter().filter(wanted).map(|one| of_problem(rule, one));
    told_apart(rule, alerts.collect(), state, "references lead nowhere")
}

fn of_problem(rule: &Rule, one: &Problem) -> RaisedAlert {
    let Problem { kind, id, problem, since, blocks, .. } = one;
    let stands = blocks.as_ref().map(|blocks| format!("; a {} stands on it", blocks.replace('_', " ")));
    raised(
        rule,
        Said {
            // What goes, comes back and goes again is another cause, where it is known since when.
            cause: format!(
                "{}:{kind}:{id}:{}:{problem}",
                rule.on.name(),
                since.as_deref().unwrap_or_default()
            ),
            summary: format!("{} {id}: {problem}{}", kind.replace('_', " "), stands.unwrap_or_default()),
            details: json!({ "kind": kind, "id": id, "problem": problem, "since": since, "blocks": blocks }),
        },
    )
}

/// Those that are new; as one where they are many.
pub fn told_apart(rule: &Rule, mut alerts: Vec<RaisedAlert>, state: &State, what: &str) -> Vec<RaisedAlert> {
    alerts.retain(|alert| alert.causes.iter().any(|cause| !state.alerts().told(&alert.rule, cause)));
    if alerts.len() <= ONE_BY_ONE {
        return alerts;
    }
    let first = alerts.first().map(|alert| alert.summary.clone()).unwrap_or_default();
    let listed: Vec<&str> = alerts.iter().take(LISTED).map(|alert| alert.summary.as_str()).collect();
    let said = Said {
        cause: String::new(),
        summary: format!("{} {what}; the first: {first}", alerts.len()),
        details: json!({ "count": alerts.len(), "first": listed }),
    };
    let causes = alerts.iter().flat_map(|alert| alert.causes.iter().cloned()).collect();
    vec![RaisedAlert { causes, ..raised(rule, said) }]
}

/// Whether a rule looks at the lineage graph.
pub fn needs_graph(rule: &Rule) -> bool {
    matches!(rule.on, Condition::MissingLineage { .. } | Condition::Dangling { .. })
}
