//! What rules say of single entries of the log.

use catalog::records::{BatchCommitted, RaisedAlert, Record, Sampled};
use catalog::state::ViewVersion;
use catalog::{Followed, State};
use feature::definition::alerts::{Condition, Rule};
use feature::definition::quality::Measure;
use feature::quality::{Finding, Judged, Verdict};
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
    let mut alike: Vec<(Option<VersionId>, &'static str, Vec<RaisedAlert>)> = Vec::new();
    for entry in entries {
        for record in &entry.records {
            let Some(alert) = of_record(rule, record, entry.by.sequence, state) else { continue };
            let what = many(rule, record);
            match alike.iter_mut().find(|(version, of, _)| *version == alert.version && *of == what) {
                // Samples in a row have one cause.
                Some((_, _, known)) if known.iter().any(|one| one.causes == alert.causes) => {}
                Some((_, _, known)) => known.push(alert),
                None => alike.push((alert.version, what, vec![alert])),
            }
        }
    }
    let told = alike.into_iter().flat_map(|(version, what, alerts)| {
        let told = told_apart(rule, alerts, state, what);
        told.into_iter().map(move |alert| RaisedAlert { version, ..alert })
    });
    told.collect()
}

/// What many of a rule's findings are called, that are of such records.
fn many(rule: &Rule, record: &Record) -> &'static str {
    match (&rule.on, record) {
        (Condition::Quarantine, _) => "batches are kept back",
        (Condition::Refused, _) => "batches were refused",
        (Condition::VersionChurn { .. }, _) => "times too many versions came",
        (_, Record::Sampled(_)) => "samples failed their checks or made them warn",
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
        (Condition::Check { least, measures }, Record::Sampled(sample)) => {
            let version = covered(sample.version)?;
            Some(about(sampled(sample, version, *least, measures, state)?, version))
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
    let findings = wanted(batch.judged.as_ref()?, least, measures);
    let worst = findings.iter().map(|finding| finding.verdict).max()?;
    let (id, label) = (batch.batch, version.label());
    Some(Said {
        cause: format!("check:{id}"),
        summary: format!("{label}: batch {id} {}{}", did(worst), because(&findings)),
        details: json!({
            "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
            "batch": id, "rows": batch.rows, "verdict": worst.name(), "findings": findings,
        }),
    })
}

/// What is told of a share of what passed by. What is wrong goes on for a while, and each sample says so again: those in a row that the rule
/// asks for are one cause, called by the first of them.
fn sampled(
    sample: &Sampled,
    version: &ViewVersion,
    least: Verdict,
    measures: &[Measure],
    state: &State,
) -> Option<Said> {
    let findings = wanted(&sample.judged, least, measures);
    let worst = findings.iter().map(|finding| finding.verdict).max()?;
    let until = state.samples().all().iter().rev().skip_while(|one| one.record.sample != sample.sample);
    let of_same = until.map(|one| &one.record).filter(|one| {
        // Of too few rows nothing is measured, and nothing is said by that.
        one.version == sample.version && one.of == sample.of && one.judged.checks > 0
    });
    let in_a_row = of_same.take_while(|one| !wanted(&one.judged, least, measures).is_empty());
    let first = in_a_row.last().map_or(sample.sample, |one| one.sample);
    let (label, kind) = (version.label(), sample.of.name());
    Some(Said {
        cause: format!("check:{first}"),
        summary: format!("{label}: a sample of its {kind} {}{}", did(worst), because(&findings)),
        details: json!({
            "feature_view": version.definition.name, "project": version.definition.project, "version": version.number,
            "sample": sample.sample, "kind": kind, "share": sample.share, "rows": sample.rows, "verdict": worst.name(),
            "findings": findings,
        }),
    })
}

/// Findings of a verdict that a rule asks for.
fn wanted<'a>(judged: &'a Judged, least: Verdict, measures: &[Measure]) -> Vec<&'a Finding> {
    let wanted = |finding: &&Finding| {
        finding.verdict >= least && (measures.is_empty() || measures.contains(&finding.measure))
    };
    judged.findings.iter().filter(wanted).collect()
}

fn did(worst: Verdict) -> &'static str {
    if worst == Verdict::Fail { "failed its checks" } else { "made checks warn" }
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
