//! Relations of what is kept because somebody says so, and of what was swept.

use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::Columns;
use crate::snapshot::Snapshot;

/// The relation of that name, if it is one of these.
pub fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_holds" => holds(snapshot)?,
        "state_sweeps" => sweeps(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 2] = ["state_holds", "state_sweeps"];

fn holds(snapshot: &Snapshot) -> Result<RecordBatch> {
    let at = snapshot.sequence;
    let rows: Vec<_> = snapshot.state.holds().all().iter().filter(|hold| hold.by.sequence <= at).collect();
    let all = || rows.iter();
    let lifted = || all().map(|hold| hold.lifted.as_ref().filter(|(_, by)| by.sequence <= at));
    Columns::default()
        .text("hold", all().map(|hold| Some(hold.record.hold)))
        .text("kind", all().map(|hold| Some(hold.record.kind.name())))
        .text("id", all().map(|hold| Some(hold.record.id)))
        .text("reason", all().map(|hold| Some(&hold.record.reason)))
        .truth("in_force", all().map(|hold| hold.is_in_force(at)))
        .text("lifted_by", lifted().map(|lifted| lifted.map(|(_, by)| by.principal.clone())))
        .text("lifted_for", lifted().map(|lifted| lifted.map(|(record, _)| record.reason.clone())))
        .text("lifted_at_sequence", lifted().map(|lifted| lifted.map(|(_, by)| by.sequence)))
        .by(all().map(|hold| &hold.by))
        .finish()
}

fn sweeps(snapshot: &Snapshot) -> Result<RecordBatch> {
    let at = snapshot.sequence;
    let rows: Vec<_> = snapshot.state.sweeps().all().iter().filter(|sweep| sweep.by.sequence <= at).collect();
    let all = || rows.iter();
    let found = |of: fn(&catalog::records::Found) -> u64| {
        all().map(move |sweep| sweep.record.found.iter().map(of).sum::<u64>())
    };
    let kinds = all().map(|sweep| {
        let kinds: Vec<String> =
            sweep.record.found.iter().map(|found| format!("{} {}", found.objects, found.kind)).collect();
        (!kinds.is_empty()).then(|| kinds.join(", "))
    });
    Columns::default()
        .text("before", all().map(|sweep| Some(sweep.record.before)))
        .text("compacted", all().map(|sweep| sweep.record.compacted))
        .text("grace", all().map(|sweep| Some(sweep.record.grace)))
        .number("objects", found(|found| found.objects))
        .number("bytes", found(|found| found.bytes))
        .text("kinds", kinds)
        .by(all().map(|sweep| &sweep.by))
        .finish()
}
