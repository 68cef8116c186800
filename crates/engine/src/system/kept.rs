//! Relations of what is kept because somebody says so, of spines that clients put up, of what was swept, and of rows that are too old.

use std::collections::HashMap;

use std::sync::Arc;

use catalog::records::SpineKept;
use catalog::state::{Provenance, Spine};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;

use super::Columns;
use crate::access::Sights;
use crate::snapshot::{Snapshot, table_name};

/// The relation of that name, if it is one of these.
pub fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_holds" => holds(snapshot)?,
        "state_spines" => spines(snapshot)?,
        "state_sweeps" => sweeps(snapshot)?,
        "state_expirations" => expirations(snapshot)?,
        "state_erasures" => erasures(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 5] =
    ["state_holds", "state_spines", "state_sweeps", "state_expirations", "state_erasures"];

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

fn spines(snapshot: &Snapshot) -> Result<RecordBatch> {
    let at = snapshot.sequence;
    let by_then = |by: &Arc<Provenance>| by.sequence <= at;
    let last = |spine: &'_ Spine| spine.kept.iter().rev().find(|by| by_then(by)).cloned();
    let spines = snapshot.state.spines().all().iter();
    let rows: Vec<_> = spines.filter_map(|spine| Some((spine, last(spine)?))).collect();
    let all = || rows.iter();
    let used_by_then =
        |spine: &Spine| spine.used.as_ref().filter(|(_, by)| by_then(by)).map(|(used, _)| used.training_set);
    let sights = Sights::of_snapshot(snapshot);
    // Whoever has the digest may ask for the rows: it is told to those who put it up, and to whom a set of it is told.
    let is_told = |spine: &Spine| {
        let Some(guards) = &snapshot.guards else { return true };
        let put_up = spine.kept.iter().any(|by| by_then(by) && guards.is_asker(&by.principal));
        put_up || used_by_then(spine).is_some_and(|set| sights.of_set_id(set))
    };
    let told: Vec<Option<&SpineKept>> =
        all().map(|(spine, _)| is_told(spine).then_some(&spine.record)).collect();
    let dropped = || all().map(|(spine, _)| spine.dropped.as_ref().filter(|by| by_then(by)));
    Columns::default()
        .text("spine", told.iter().map(|record| record.map(|record| &record.digest)))
        .told("rows", told.iter().map(|record| record.map(|record| record.rows)))
        .told("bytes", told.iter().map(|record| record.map(|record| record.object.bytes)))
        .text("path", all().map(|(spine, _)| Some(&spine.record.object.path)))
        .truth("kept", dropped().map(|dropped| dropped.is_none()))
        .text("training_set", all().map(|(spine, _)| used_by_then(spine)))
        .text("dropped_at_sequence", dropped().map(|dropped| dropped.map(|by| by.sequence)))
        .by(all().map(|(_, by)| by))
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

fn expirations(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (at, expiry) = (snapshot.sequence, snapshot.state.expiry());
    let mut rows = Vec::new();
    for one in expiry.expired().iter().filter(|one| one.by.sequence <= at) {
        rows.push((&one.by, one.record.view, one.record.before, Some(one.record.keep), None));
    }
    for one in expiry.deleted().iter().filter(|one| one.by.sequence <= at) {
        let batches = one.record.batches.len() as u64;
        rows.push((&one.by, one.record.view, one.record.before, None, Some(batches)));
    }
    let names: HashMap<_, _> =
        snapshot.state.views().map(|version| (version.view, table_name(version))).collect();
    let all = || rows.iter();
    Columns::default()
        .text("feature_view", all().map(|(_, view, ..)| names.get(view)))
        .text("what", all().map(|row| Some(if row.4.is_some() { "deleted" } else { "expired" })))
        .time("before", all().map(|(_, _, before, ..)| before.micros()))
        .text("keep", all().map(|(.., keep, _)| *keep))
        .text("batches", all().map(|(.., batches)| *batches))
        .by(all().map(|(by, ..)| *by))
        .finish()
}

/// One row an erasure. It names nobody: a key stands in no entry.
fn erasures(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let rows: Vec<_> = state.erasures().all().iter().filter(|one| one.by.sequence <= at).collect();
    let names: HashMap<_, _> = state.views().map(|version| (version.view, table_name(version))).collect();
    let entities: HashMap<_, _> =
        state.entities().map(|one| (one.entity, one.definition.name.to_string())).collect();
    let all = || rows.iter();
    let views = all().map(|one| {
        let views: Vec<&str> =
            one.record.views.iter().filter_map(|view| names.get(view)).map(String::as_str).collect();
        (!views.is_empty()).then(|| views.join(", "))
    });
    let unproved = |one: &catalog::state::Erasure| {
        one.record.sets.iter().filter(|set| set.digest.is_none()).count() as u64
    };
    Columns::default()
        .text("erasure", all().map(|one| Some(one.record.erasure)))
        .text("entity", all().map(|one| entities.get(&one.record.entity)))
        .text("views", views)
        .number("keys", all().map(|one| one.record.keys.len() as u64))
        .number("rows", all().map(|one| one.record.rows))
        .number("objects", all().map(|one| (one.record.replaced.len() + one.record.gone.len()) as u64))
        .number("training_sets", all().map(|one| one.record.sets.len() as u64))
        .number("unprovable", all().map(|one| unproved(one)))
        .text("reason", all().map(|one| Some(&one.record.reason)))
        .text("request", all().map(|one| one.record.request.as_ref()))
        .by(all().map(|one| &one.by))
        .finish()
}
