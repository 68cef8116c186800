//! The situations that the law of retrieval must have been tried in.

use super::checks::Asked;
use super::reference::{Cell, Knowledge, Observation, Reason};
use super::scenario::{KEYS, KeyKind};
use super::spine::Rows;
use super::world::{Known, World, key_name, key_type};
use crate::suite::coverage::Coverage;

/// Every kind of key, as it is and in another type.
pub fn keys() -> Vec<String> {
    let mut all: Vec<String> = KEYS.iter().map(|kind| format!("found by a key of {kind:?}")).collect();
    let others = KEYS.iter().filter(|kind| **kind != KeyKind::Bool);
    all.extend(others.map(|kind| format!("found by a key of {kind:?}, given in another type")));
    all
}

/// What every part of the law must have met.
pub fn all() -> Vec<String> {
    let mut all: Vec<String> = Reason::ALL.iter().map(|reason| reason.text().to_owned()).collect();
    let others = [
        "found by 1 part",
        "found by 2 parts",
        "found by 3 parts",
        "a value",
        "a default",
        "tie in valid_at, decided by known_at",
        "tie in both times, decided by sequence",
        "tie in both times within a batch",
        "valid_at equal to at",
        "valid_at equal to at - ttl",
        "valid_at a microsecond before at - ttl",
        "known_at equal to at",
        "known_at a microsecond after at",
        "known_at equal to known_by",
        "a value after a retraction",
        "a retraction that is corrected",
        "a batch with keys of an earlier one",
        "a batch that corrects",
        "a batch that fills back",
        "batches that were merged",
        "a run of several files",
        "known at the row's own time",
        "known by an instant",
        "known without limit",
        "no ttl",
        "ttl of the version",
        "ttl of this retrieval",
        "several views",
        "an earlier version, pinned",
        "full names",
        "a spine of several batches",
        "a spine that is not sorted",
        "the same spine row twice",
        "asked in SQL",
        "asked in SQL why cells are null",
        "asked why cells are null",
        "made again from its id",
        "at in Timestamp(µs, \"UTC\")",
        "at in Timestamp(ns, \"UTC\")",
        "at in Timestamp(ms, \"UTC\")",
        "at in Timestamp(s, \"+02:00\")",
        "at in Timestamp(µs, \"America/New_York\")",
        "at in Date32",
        "at in Date64",
    ];
    all.extend(others.map(str::to_owned));
    all
}

/// How a retrieval was asked for.
pub fn of_call(world: &World, asked: &Asked, coverage: &mut Coverage) {
    let rows = &asked.rows;
    coverage.saw(match asked.knowledge {
        Knowledge::AtRow => "known at the row's own time",
        Knowledge::By(_) => "known by an instant",
        Knowledge::Unlimited => "known without limit",
    });
    for wanted in &asked.wanted {
        let view = &world.views[wanted.view];
        let version = &view.versions[wanted.version];
        coverage.saw_if(version != view.newest(), "an earlier version, pinned");
        coverage.saw(match (asked.ttls.contains_key(&view.name), version.ttl) {
            (true, _) => "ttl of this retrieval",
            (false, Some(_)) => "ttl of the version",
            (false, None) => "no ttl",
        });
    }
    coverage.saw_if(asked.views().len() > 1, "several views");
    coverage.saw_if(asked.full_names, "full names");
    coverage.saw_if(rows.batches.len() > 1, "a spine of several batches");
    coverage.saw_if(rows.times.windows(2).any(|pair| pair[0] > pair[1]), "a spine that is not sorted");
    let at = rows.whole.column_by_name(&rows.at).unwrap().data_type();
    coverage.saw(format!("at in {at}"));
}

/// What decided each row.
#[allow(clippy::too_many_arguments)]
pub fn of_winners(
    seen: &[&Observation],
    view: &Known,
    rows: &Rows,
    winners: &[Result<&Observation, Reason>],
    ttl: Option<i64>,
    knowledge: Knowledge,
    coverage: &mut Coverage,
) {
    for (row, winner) in winners.iter().enumerate() {
        let (Some(key), Some(at)) = (rows.key(row, &view.keys), rows.times[row]) else { continue };
        let again = row > 0
            && rows.key(row - 1, &view.keys).as_ref() == Some(&key)
            && rows.times[row - 1] == Some(at);
        coverage.saw_if(again, "the same spine row twice");
        let of_key: Vec<&Observation> = seen.iter().copied().filter(|seen| seen.key == key).collect();
        let any = |holds: &dyn Fn(&Observation) -> bool| of_key.iter().any(|row| holds(row));
        match winner {
            Ok(won) => {
                of_key_of(view, rows, coverage);
                let same_time = |row: &Observation| row.valid_at == won.valid_at;
                let twin = |row: &Observation| {
                    same_time(row) && row.known_at == won.known_at && row.received != won.received
                };
                let sooner = |row: &Observation| same_time(row) && row.known_at < won.known_at;
                coverage.saw_if(any(&sooner), "tie in valid_at, decided by known_at");
                coverage.saw_if(
                    any(&|row| twin(row) && row.sequence < won.sequence),
                    "tie in both times, decided by sequence",
                );
                coverage.saw_if(
                    any(&|row| twin(row) && row.sequence == won.sequence),
                    "tie in both times within a batch",
                );
                coverage.saw_if(won.valid_at == at, "valid_at equal to at");
                coverage
                    .saw_if(ttl.is_some_and(|ttl| won.valid_at == at - ttl), "valid_at equal to at - ttl");
                coverage.saw_if(knowledge == Knowledge::AtRow && won.known_at == at, "known_at equal to at");
                coverage.saw_if(knowledge == Knowledge::By(won.known_at), "known_at equal to known_by");
                coverage.saw_if(
                    any(&|row| row.retracted && row.valid_at < won.valid_at),
                    "a value after a retraction",
                );
                coverage.saw_if(any(&|row| row.retracted && sooner(row)), "a retraction that is corrected");
                let missed = |row: &Observation| {
                    row.valid_at > won.valid_at && row.valid_at <= at && row.known_at == at + 1
                };
                coverage
                    .saw_if(knowledge == Knowledge::AtRow && any(&missed), "known_at a microsecond after at");
            }
            Err(Reason::Expired) => coverage.saw_if(
                ttl.is_some_and(|ttl| any(&|row| row.valid_at == at - ttl - 1)),
                "valid_at a microsecond before at - ttl",
            ),
            Err(_) => {}
        }
    }
}

fn of_key_of(view: &Known, rows: &Rows, coverage: &mut Coverage) {
    match view.keys.len() {
        1 => coverage.saw("found by 1 part"),
        parts => coverage.saw(format!("found by {parts} parts")),
    }
    for kind in &view.keys {
        let given = rows.whole.column_by_name(key_name(*kind)).unwrap().data_type();
        match *given == key_type(*kind).1 {
            true => coverage.saw(format!("found by a key of {kind:?}")),
            false => coverage.saw(format!("found by a key of {kind:?}, given in another type")),
        }
    }
}

pub fn of_cells(cells: &[Cell], coverage: &mut Coverage) {
    for cell in cells {
        coverage.saw(match cell {
            Cell::Value(_) => "a value",
            Cell::Default(_) => "a default",
            Cell::Null(reason) => reason.text(),
        });
    }
}
