//! Relations of what producers have committed of their streams, and of what was merged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use catalog::records::PartRun;
use catalog::state::Provenance;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result;
use feature::{BatchId, CompactionId, Name, Sequence, ViewId};

use super::Columns;
use crate::access::Sights;
use crate::snapshot::Snapshot;

/// The relation of that name, if it is one of these.
pub fn relation(snapshot: &Snapshot, name: &str) -> Result<Option<RecordBatch>> {
    Ok(Some(match name {
        "state_compactions" => compactions(snapshot)?,
        "state_producers" => producers(snapshot)?,
        _ => return Ok(None),
    }))
}

pub const RELATIONS: [&str; 2] = ["state_compactions", "state_producers"];

/// What a producer has sent into a view.
struct Sent {
    last: PartRun,
    batch: BatchId,
    epochs: u64,
    parts: u64,
    rows: u64,
    rejected: u64,
    by: Arc<Provenance>,
}

fn producers(snapshot: &Snapshot) -> Result<RecordBatch> {
    let named: HashMap<ViewId, (&Name, &Name)> = snapshot
        .state
        .views()
        .map(|view| (view.view, (&view.definition.project, &view.definition.name)))
        .collect();
    let sights = Sights::of_snapshot(snapshot);
    // What a producer sent went into whichever version was in force: counts are for who sees the rows of each.
    let mut hidden: HashSet<(&Name, &Name)> = HashSet::new();
    for version in snapshot.state.views().filter(|version| !sights.of(version).counts()) {
        hidden.insert((&version.definition.project, &version.definition.name));
    }
    let mut sent: BTreeMap<((&Name, &Name), &str), Sent> = BTreeMap::new();
    let records = snapshot.state.stream_parts().take_while(|(_, by)| by.sequence <= snapshot.sequence);
    for (record, by) in records {
        let Some(view) = named.get(&record.view) else { continue };
        for run in &record.runs {
            let new = || Sent {
                last: run.clone(),
                batch: record.batch,
                epochs: 0,
                parts: 0,
                rows: 0,
                rejected: 0,
                by: by.clone(),
            };
            let all = sent.entry((*view, &run.producer)).or_insert_with(new);
            // An epoch begins with part 1.
            all.epochs += u64::from(run.first == 1);
            all.parts += (run.last + 1).saturating_sub(run.first);
            all.rows += run.rows;
            all.rejected += run.rejected;
            (all.last, all.batch, all.by) = (run.clone(), record.batch, by.clone());
        }
    }
    let all = || sent.iter();
    let counted = |number: fn(&Sent) -> u64| {
        let hidden = &hidden;
        all().map(move |((view, _), sent)| (!hidden.contains(view)).then(|| number(sent)))
    };
    Columns::default()
        .text("project", all().map(|(((project, _), _), _)| Some(project)))
        .text("feature_view", all().map(|(((_, view), _), _)| Some(view)))
        .text("producer", all().map(|((_, producer), _)| Some(producer)))
        .number("epoch", all().map(|(_, sent)| sent.last.epoch))
        .number("number", all().map(|(_, sent)| sent.last.last))
        .number("epochs", all().map(|(_, sent)| sent.epochs))
        .number("parts", all().map(|(_, sent)| sent.parts))
        .told("rows", counted(|sent| sent.rows))
        .told("rejected", counted(|sent| sent.rejected))
        .text("batch", all().map(|(_, sent)| Some(sent.batch)))
        .by(all().map(|(_, sent)| &sent.by))
        .finish()
}

fn compactions(snapshot: &Snapshot) -> Result<RecordBatch> {
    let (state, at) = (&snapshot.state, snapshot.sequence);
    let rows: Vec<_> = state
        .compactions()
        .filter(|one| one.by.sequence <= at)
        .filter_map(|one| Some((one, state.view_version(one.record.version)?)))
        .collect();
    let mut replaced: HashMap<CompactionId, Sequence> = HashMap::new();
    for (one, _) in &rows {
        replaced.extend(one.record.replaces.iter().map(|earlier| (*earlier, one.by.sequence)));
    }
    let all = || rows.iter();
    let sights = Sights::of_snapshot(snapshot);
    let counted = all().map(|(one, view)| sights.of(view).counts().then_some(one.record.rows));
    let replaced = || all().map(|(one, _)| replaced.get(&one.record.compaction));
    Columns::default()
        .text("compaction", all().map(|(one, _)| Some(one.record.compaction)))
        .text("project", all().map(|(_, view)| Some(&view.definition.project)))
        .text("feature_view", all().map(|(_, view)| Some(&view.definition.name)))
        .small("version", all().map(|(_, view)| view.number))
        .text("first_batch", all().map(|(one, _)| Some(one.record.first)))
        .text("last_batch", all().map(|(one, _)| Some(one.record.last)))
        .number("batches", all().map(|(one, _)| one.record.batches))
        .told("rows", counted)
        .number("replaces", all().map(|(one, _)| one.record.replaces.len() as u64))
        .truth("in_force", replaced().map(|at| at.is_none()))
        .text("replaced_at_sequence", replaced())
        .by(all().map(|(one, _)| &one.by))
        .finish()
}
