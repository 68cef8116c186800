//! The answers in JSON, as `docs/flight.md` writes them.

use catalog::State;
use catalog::ingest::Report;
use catalog::plan::{Action, Plan};
use catalog::records::Subject;
use feature::Sequence;
use serde::Serialize;
use serde_json::{Value, json};
use serving::{LastReconciliation, LastTrackingPass};
use tonic::Status;

use crate::status as statuses;

/// JSON as bytes.
pub fn json(report: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(report).map_err(|error| statuses::internal("the report cannot be written", error))
}

pub fn ingest(report: &Report) -> Value {
    let reasons: Vec<Value> = report
        .reasons
        .iter()
        .map(|(reason, column, rows)| json!({ "reason": reason.as_str(), "column": column, "rows": rows }))
        .collect();
    json!({
        "view_version": report.version,
        "batch": report.batch,
        "sequence": report.sequence,
        "rows": report.rows,
        "rejected": report.rejected,
        "filtered": report.filtered,
        "skipped_files": report.skipped.taken,
        "refused_files": report.skipped.refused,
        "repeated": report.repeated,
        "reasons": reasons,
        "examples": report.examples,
        "judged": report.judged,
        "quarantined": report.quarantined,
        "mended": report.mended,
    })
}

pub fn plan(plan: &Plan, sequence: Option<Sequence>) -> Value {
    let changes: Vec<Value> = plan
        .changes
        .iter()
        .map(|planned| {
            json!({
                "subject": subject(planned.subject),
                "project": planned.project,
                "name": planned.name,
                "action": action(&planned.action),
                "effect": planned.effect(),
                "services": match &planned.action {
                    Action::NextVersion { services, .. } => services.as_slice(),
                    _ => &[],
                },
                "felt_by": planned.felt_by,
                "untraced": planned.untraced,
                "text": planned.to_string(),
            })
        })
        .collect();
    json!({
        "changes": changes,
        "effect": plan.effect(),
        "digest": plan.digest,
        "sequence": sequence,
    })
}

/// `reconciliation` and `mlflow` are of the last passes of this process, and null before the first.
pub fn status(
    state: &State,
    program: &str,
    last: Option<&LastReconciliation>,
    mlflow: Option<&LastTrackingPass>,
) -> Value {
    json!({
        "store": state.store,
        "sequence": state.head.sequence,
        "program": program,
        "reconciliation": last,
        "mlflow": mlflow,
    })
}

fn subject(subject: Subject) -> &'static str {
    match subject {
        Subject::Entity => "entity",
        Subject::FeatureView => "feature_view",
        Subject::FeatureService => "feature_service",
    }
}

fn action(action: &Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::NextVersion { .. } => "next_version",
        Action::Describe { .. } => "describe",
        Action::Keep { .. } => "keep",
    }
}
