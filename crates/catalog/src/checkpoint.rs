//! Checkpoints: the folded state written down, so that opening a store costs no replay of its history.
//!
//! The log stays the only truth. A checkpoint is taken at its word where every digest in it is right and it
//! fits the log; whatever else is found is passed over with the reason, and the log is folded instead.
//! `docs/checkpoints.md` specifies the objects.

pub(crate) mod state_digest;
mod tables_file;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use feature::Sequence;
use feature::digest::{Digest, HashAlgorithm};
use futures::{StreamExt, TryStreamExt};
use storage::checkpoint::{self as objects, Checkpoint, Part, Segment};
use storage::entry::Entry;
use storage::{Error as StorageError, Store};

use crate::error::{Error, Result};
use crate::state::{State, Table};

/// The format of the fold that this program writes, and the only one that it reads.
///
/// It is raised with every change of what a state holds or how its digest is made, which a type of record is
/// too. A program that does not know the format folds the log.
pub const FORMAT: u32 = 1;

/// Parts that are read or written at a time.
const AT_A_TIME: usize = 16;

/// A checkpoint that was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub sequence: Sequence,
    pub why: String,
}

/// Three digests of the state at one sequence, which are one where all is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub sequence: Sequence,
    /// That the checkpoint names.
    pub named: Digest,
    /// Of what its tables hold.
    pub held: Digest,
    /// Of what the log says.
    pub folded: Digest,
}

impl Checked {
    pub fn holds(&self) -> bool {
        self.named == self.folded && self.held == self.folded
    }
}

/// A state that was opened from a checkpoint, and what the log says after it.
pub(crate) struct Opened {
    pub checkpoint: Checkpoint,
    pub state: State,
    pub entries: Vec<(Entry, Digest)>,
}

/// The newest checkpoint that is whole and fits the log. What is found on the way to it is added to
/// `passed_over`.
///
/// # Errors
/// Those of the log after a checkpoint: an entry that was altered or is missing.
pub(crate) async fn newest(store: &Store, passed_over: &mut Vec<PassedOver>) -> Result<Option<Opened>> {
    let sequences = match objects::list(store).await {
        Ok(sequences) => sequences,
        Err(error) => {
            let why = format!("the checkpoints cannot be listed: {error}");
            passed_over.push(PassedOver { sequence: Sequence::ZERO, why });
            return Ok(None);
        }
    };
    for sequence in sequences {
        let candidates = match objects::describe(store, sequence).await {
            Ok((candidates, wrong)) => {
                passed_over.extend(wrong.into_iter().map(|why| PassedOver { sequence, why }));
                candidates
            }
            Err(error) => {
                passed_over.push(PassedOver { sequence, why: format!("it cannot be listed: {error}") });
                continue;
            }
        };
        for checkpoint in candidates {
            match open(store, checkpoint).await? {
                Ok(opened) => return Ok(Some(opened)),
                Err(why) => passed_over.push(PassedOver { sequence, why }),
            }
        }
    }
    Ok(None)
}

/// The state of a checkpoint and the entries after it; or why it is not to be taken.
async fn open(store: &Store, checkpoint: Checkpoint) -> Result<Result<Opened, String>> {
    if checkpoint.format != FORMAT {
        let format = checkpoint.format;
        return Ok(Err(format!("it has format {format} of the fold, and this program knows {FORMAT}")));
    }
    let (sequence, entry) = (checkpoint.sequence, checkpoint.entry);
    let (state, head, entries) = tokio::join!(
        load(store, &checkpoint),
        store.log().read(sequence),
        store.log().entries_after_checkpoint(sequence, entry)
    );
    let entries = match entries {
        Ok(entries) => entries,
        // Whether the log or the checkpoint is wrong, the whole log will tell.
        Err(StorageError::Corrupt { sequence: Some(wrong), why, .. }) if wrong == sequence => {
            return Ok(Err(format!(
                "it does not fit the log ({why}): the log was altered or cut, or the checkpoint is of another history"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let head = head?.map(|(head, _)| (head.store, head.committed_at));
    Ok(match state {
        // The digest of the entry does not bind what the checkpoint says of it.
        Ok(state) if head != Some((checkpoint.store, state.head.committed_at)) => {
            Err(format!("it tells of entry {sequence} what the log does not"))
        }
        Ok(state) => Ok(Opened { checkpoint, state, entries }),
        Err(why) => Err(why),
    })
}

/// The state that a checkpoint holds; or why it holds none.
///
/// # Errors
/// A part that is missing or is not what was written, by its path; tables that do not fit each other.
pub async fn load(store: &Store, checkpoint: &Checkpoint) -> Result<State, String> {
    let mut wanted: Vec<(Table, Part)> = Vec::new();
    let growing = checkpoint.segments.iter().flat_map(|segment| &segment.parts);
    for (tables, part) in growing
        .map(|part| (&Table::GROWING[..], part))
        .chain(checkpoint.whole.iter().map(|part| (&Table::WHOLE[..], part)))
    {
        let table = tables.iter().find(|table| table.name() == part.table);
        let table = table.ok_or_else(|| format!("it has the table `{}`, which is unknown", part.table))?;
        wanted.push((*table, part.clone()));
    }
    let read: Vec<(Table, Part, Bytes)> = futures::stream::iter(wanted)
        .map(|(table, part)| async move {
            let bytes = objects::read_part(store, &part).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((table, part, bytes))
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let (id, hash, entry) = (checkpoint.store, checkpoint.entry.algorithm(), checkpoint.entry);
    let decoded = tokio::task::spawn_blocking(move || {
        let tables = tables_file::decode_all(read)?;
        State::from_tables(id, hash, tables)
    });
    // The Parquet reader panics on some damaged pages.
    let state = decoded.await.map_err(|_| "a page of it cannot be decoded".to_owned())??;
    if (state.head.sequence, state.head.digest) != (checkpoint.sequence, entry) {
        return Err(format!("its tables end at entry {}, with another digest", state.head.sequence));
    }
    Ok(state)
}

/// Writes a checkpoint of a state. Of the one before, where it is given, it takes over what does not change.
///
/// # Errors
/// Those of the storage; `Internal` where the state cannot be written as tables.
pub(crate) async fn write(
    store: &Store,
    state: Arc<State>,
    before: Option<&Checkpoint>,
    program: &str,
) -> Result<Checkpoint> {
    let (head, hash, id) = (state.head.clone(), state.hash, state.store);
    let before = before.filter(|before| before.sequence < head.sequence);
    let plan = Plan::after(before, head.sequence);
    let (known, from) = (plan.blocks.clone(), plan.from);
    let made = tokio::task::spawn_blocking(move || make(&state, known, from));
    let made = made.await.map_err(|error| Error::internal("a checkpoint could not be made", error))?;
    let Made { growing, whole, blocks, state } =
        made.map_err(|error| Error::internal("a checkpoint could not be made", error))?;
    let mut segments = plan.segments;
    let until = head.sequence;
    segments.push(Segment { from, until, parts: put(store, until, growing, hash).await? });
    let whole = put(store, until, whole, hash).await?;
    let checkpoint = Checkpoint {
        format: FORMAT,
        store: id,
        sequence: until,
        entry: head.digest,
        state,
        program: program.to_owned(),
        blocks,
        segments,
        whole,
    };
    objects::publish(store, &checkpoint).await?;
    Ok(checkpoint)
}

/// The digest of a state, as a checkpoint of it holds it.
///
/// # Errors
/// `Internal` where the state cannot be written as tables.
pub fn state_digest(state: &State) -> Result<Digest> {
    let failed = |error: String| Error::internal("the state has no digest", error);
    let tables = state.tables_after(None).map_err(|error| failed(error.to_string()))?;
    let blocks = state_digest::blocks(state.hash, &tables, Vec::new(), state.head.sequence);
    let digest = blocks.and_then(|blocks| blocks.digest(&tables));
    digest.map_err(|error| failed(error.to_string()))
}

/// What of the checkpoint before stays as it is.
struct Plan {
    segments: Vec<Segment>,
    blocks: Vec<Digest>,
    /// Where the new segment begins.
    from: Sequence,
}

impl Plan {
    /// Segments that are not much longer than the new one become part of it, so that their number grows with
    /// the logarithm of the log and each row is written about as often.
    fn after(before: Option<&Checkpoint>, head: Sequence) -> Self {
        let mut segments = before.map(|before| before.segments.clone()).unwrap_or_default();
        let blocks = before.map(|before| before.blocks.clone()).unwrap_or_default();
        let mut from = before.map_or(Sequence::ZERO, |before| before.sequence.next());
        while let Some(last) = segments.last() {
            let (length, new) = (from.0 - last.from.0, head.0 + 1 - from.0);
            if length > 2 * new {
                break;
            }
            from = last.from;
            segments.pop();
        }
        Self { segments, blocks, from }
    }
}

struct Made {
    growing: Vec<TableBytes>,
    whole: Vec<TableBytes>,
    blocks: Vec<Digest>,
    state: Digest,
}

struct TableBytes {
    table: Table,
    rows: u64,
    bytes: Bytes,
}

fn make(state: &State, known: Vec<Digest>, from: Sequence) -> Result<Made, String> {
    let first = from.min(state_digest::begin(known.len()));
    let tables =
        state.tables_after(first.0.checked_sub(1).map(Sequence)).map_err(|error| error.to_string())?;
    let head = state.head.sequence;
    let blocks = state_digest::blocks(state.hash, &tables, known, head).map_err(|error| error.to_string())?;
    let digest = blocks.digest(&tables).map_err(|error| error.to_string())?;
    let mut made = Made { growing: Vec::new(), whole: Vec::new(), blocks: blocks.whole, state: digest };
    for table in Table::GROWING {
        made.growing.extend(encoded(table, &tables.within(table, from, head))?);
    }
    for table in Table::WHOLE {
        made.whole.extend(encoded(table, tables.of(table))?);
    }
    Ok(made)
}

/// None for a table without rows.
fn encoded(table: Table, rows: &arrow::array::RecordBatch) -> Result<Option<TableBytes>, String> {
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let bytes = tables_file::encode(table, rows).map_err(|error| error.to_string())?;
    // What is written is read once before anybody relies on it.
    if tables_file::decode(table, rows.num_rows() as u64, &bytes)? != *rows {
        return Err(format!("the table `{}` does not read back as it was written", table.name()));
    }
    Ok(Some(TableBytes { table, rows: rows.num_rows() as u64, bytes }))
}

async fn put(
    store: &Store,
    sequence: Sequence,
    tables: Vec<TableBytes>,
    hash: HashAlgorithm,
) -> Result<Vec<Part>> {
    let parts = futures::stream::iter(tables)
        .map(|TableBytes { table, rows, bytes }| async move {
            objects::put_part(store, sequence, table.name(), rows, bytes, hash).await
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(parts)
}

/// The newest of these sequences that have a checkpoint, without those that were passed over.
pub(crate) async fn newest_sequence(store: &Store, passed_over: &[PassedOver]) -> Result<Option<Sequence>> {
    let listed = objects::list(store).await?;
    let taken = |sequence: &Sequence| passed_over.iter().all(|passed| passed.sequence != *sequence);
    Ok(listed.into_iter().find(taken))
}
