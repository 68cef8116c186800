//! What rules say of single entries of the log.

use catalog::records::{BatchCommitted, RaisedAlert, Record};
use catalog::state::ViewVersion;
use catalog::{Followed, State};
use feature::definition::alerts::{Condition, Rule};
use feature::definition::quality::Measure;
use feature::quality::{Finding, Verdict};
use feature::{Sequence, VersionId};
use serde_json::json;
use storage::environment;

use super::standing::told_apart;

/// Findings that a summary names.
const NAMED: usize = 1;

/// What a rule tells of entries that are looked at together: one by one, or of a version as one where they are many. The state may have
/// read further.
pub fn of_entries<'a>(
    rule: &Rule,
    entries: impl Iterator<Item = &'a Followed>,
    state: &State,
) -> Vec<RaisedAlert> {
    // By version, so that an alert of many tells of no view that its version does not.
    let mut by_version: Vec<(Option<VersionId>, Vec<RaisedAlert>)> = Vec::new();
    for entry in entries {
        let found =
            entry.records.iter().filter_map(|record| of_record(rule, record, entry.by.sequence, state));
        for alert in found {
            match by_version.iter_mut().find(|(version, _)| *version == alert.version) {
                Some((_, known)) => known.push(alert),
                None => by_version.push((alert.version, vec![alert])),
            }
        }
    }
    let told = by_version.into_iter().flat_map(|(version, alerts)| {
        let told = told_apart(rule, alerts, state, many(rule));
        told.into_iter().map(move |alert| RaisedAlert { version, ..alert })
    });
    told.collect()
}

/// What many of a rule's findings are called.
fn many(rule: &Rule) -> &'static str {
    match rule.on {
        Condition::Quarantine => "batches are kept back",
        Condition::Refused => "batches were refused",
        Condition::VersionChurn { .. } => "times too many versions came",
        _ => "batches failed their checks or made them warn",
    }
}

fn of_record(rule: &Rule, record: &Record, sequence: Sequence, state: &State) -> Option<RaisedAlert> {
    let covered = |version: VersionId| {
        let version = state.view_version(version)?;
        let view = &version.definition;
        rule.covers(&view.project, &view.name).then_some(version)
    };
    let about = |found: Said, version: &ViewVersion| RaisedAlert {
        about: Some(sequence),
        version: Some(version.version),
        ..raised(rule, found)
    };
    match (&rule.on, record) {
        (Condition::Check { least, measures }, Record::BatchCommitted(batch)) => {
            let version = covered(batch.version)?;
            Some(about(checked(batch, version, *least, measures)?, version))
        }
        (Condition::Check { least, measures }, Record::BatchQuarantined(held)) => {
            let version = covered(held.batch.version)?;
            Some(about(checked(&held.batch, version, *least, measures)?, version))
        }
        (Condition::Quarantine, Record::BatchQuarantined(held)) => {
            let (batch, version) = (&held.batch, covered(held.batch.version)?);
            let (id, label) = (batch.batch, version.label());
            let findings = batch.judged.as_ref().map(|judged| judged.findings.iter().collect());
            let findings: Vec<&Finding> = findings.unwrap_or_default();
            let said = Said {
                cause: format!("quarantine:{id}"),
                summary: format!(
                    "{label}: batch {id} of {} rows is kept back{}",
                    batch.rows,
                    because(&findings)
                ),
                details: json!({
                    "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
                    "batch": id, "rows": batch.rows, "findings": findings,
                }),
            };
            Some(about(said, version))
        }
        (Condition::Refused, Record::BatchRefused(batch)) => {
            let version = covered(batch.version)?;
            let (id, label) = (batch.batch, version.label());
            let said = Said {
                cause: format!("refused:{id}"),
                summary: format!(
                    "{label}: batch {id} was refused: {} of its {} rows were rejected",
                    batch.rejected, batch.rows
                ),
                details: json!({
                    "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
                    "batch": id, "rows": batch.rows, "rejected": batch.rejected,
                }),
            };
            Some(about(said, version))
        }
        (Condition::VersionChurn { more_than, within }, Record::ViewVersionDefined(defined)) => {
            let version = covered(defined.version)?;
            Some(about(churned(version, *more_than, *within, state)?, version))
        }
        _ => None,
    }
}

/// What is told of one cause.
pub struct Said {
    pub cause: String,
    pub summary: String,
    pub details: serde_json::Value,
}

pub fn raised(rule: &Rule, said: Said) -> RaisedAlert {
    RaisedAlert {
        alert: environment::mint(),
        rule: rule.name.to_string(),
        condition: rule.on.name().to_owned(),
        causes: vec![said.cause],
        about: None,
        version: None,
        summary: said.summary,
        details: Some(said.details),
        sinks: rule.sinks.iter().map(ToString::to_string).collect(),
    }
}

fn checked(
    batch: &BatchCommitted,
    version: &ViewVersion,
    least: Verdict,
    measures: &[Measure],
) -> Option<Said> {
    let judged = batch.judged.as_ref()?;
    let wanted = |finding: &&Finding| {
        finding.verdict >= least && (measures.is_empty() || measures.contains(&finding.measure))
    };
    let findings: Vec<&Finding> = judged.findings.iter().filter(wanted).collect();
    let worst = findings.iter().map(|finding| finding.verdict).max()?;
    let (id, label) = (batch.batch, version.label());
    let what = if worst == Verdict::Fail { "failed its checks" } else { "made checks warn" };
    Some(Said {
        cause: format!("check:{id}"),
        summary: format!("{label}: batch {id} {what}{}", because(&findings)),
        details: json!({
            "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
            "batch": id, "rows": batch.rows, "verdict": worst.name(), "findings": findings,
        }),
    })
}

/// `: wasserstein of `temp` is 9.100, above 2.000, and 2 more`
fn because(findings: &[&Finding]) -> String {
    let named: Vec<String> = findings
        .iter()
        .take(NAMED)
        .map(|finding| {
            let of =
                finding.feature.as_ref().map_or("the batch".to_owned(), |feature| format!("`{feature}`"));
            let Finding { measure, value, threshold, .. } = finding;
            format!("{} of {of} is {value:.3}, above {threshold:.3}", measure.name())
        })
        .collect();
    let more = match findings.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    if named.is_empty() { String::new() } else { format!(": {}{more}", named.join(", ")) }
}

/// What is told where this version is the one by which they became too many: the one after it tells nothing new.
fn churned(version: &ViewVersion, more_than: u32, within: feature::Span, state: &State) -> Option<Said> {
    let view = &version.definition;
    let all = state.versions_of(&view.project, &view.name);
    let count = |last: &ViewVersion| {
        let since = last.by.committed_at.micros().saturating_sub(within.micros());
        let counted = all
            .iter()
            .filter(|one| one.by.sequence <= last.by.sequence && one.by.committed_at.micros() > since);
        u32::try_from(counted.count()).unwrap_or(u32::MAX)
    };
    let now = count(version);
    let before = all.iter().rev().find(|one| one.number < version.number).map_or(0, count);
    (now > more_than && before <= more_than).then(|| Said {
        cause: format!("version_churn:{}", version.version),
        summary: format!(
            "{}: {now} versions came within {within}; more than {more_than} are too many",
            version.label()
        ),
        details: json!({
            "feature_view": view.name, "project": view.project, "version": version.number, "versions": now,
            "within": within.to_string(),
        }),
    })
}
