//! Checkpoints: the folded state written down, so that opening a store costs no replay of its history.
//!
//! The log stays the only truth. A checkpoint is taken at its word where every digest in it is right and it
//! fits the log; whatever else is found is passed over with the reason, and the log is folded instead.
//! `docs/checkpoints.md` specifies the objects.

pub(crate) mod by_line;
mod first_format;
pub(crate) mod state_digest;
pub(crate) mod table_file;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use feature::digest::{Digest, HashAlgorithm};
use feature::{Sequence, VersionId};
use futures::{StreamExt, TryStreamExt};
use storage::checkpoint::{self as objects, Checkpoint, Part, Segment};
use storage::entry::Entry;
use storage::{Error as StorageError, Store};

use crate::error::{Error, Result};
use crate::state::{AllButBatches, State, Table, Tables, unread};
use table_file::TableFile;

/// The format that this program writes.
///
/// It is raised with every change of the files or of what they hold. A program that does not know the format
/// folds the log.
pub const FORMAT: u32 = 2;
/// The first one, in which all tables stand in the order of the log.
const FIRST: u32 = 1;

/// Whether this program reads checkpoints of a format.
pub fn is_known(format: u32) -> bool {
    (FIRST..=FORMAT).contains(&format)
}

/// Why a checkpoint is not to be taken though it is whole: its writer did not know a field that this program knows. None where it may be.
pub fn says_less(checkpoint: &Checkpoint) -> Option<String> {
    let known = checkpoint.unread.iter().find(|one| !unread::is_unread_here(one))?;
    Some(format!(
        "its writer did not know the field `{}` of record {}, which entry {} has: it lacks what that says",
        known.field, known.number, known.sequence
    ))
}

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
    let format = checkpoint.format;
    if !is_known(format) {
        return Ok(Err(format!("it has format {format} of the fold, and this program knows {FORMAT}")));
    }
    if let Some(why) = says_less(&checkpoint) {
        return Ok(Err(why));
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
    let is_first = checkpoint.format == FIRST;
    let mut wanted = Vec::new();
    let growing = checkpoint.segments.iter().flat_map(|segment| {
        let range = (segment.from, segment.until);
        segment.parts.iter().map(move |part| (&Table::GROWING[..], range, part))
    });
    let range = (Sequence::ZERO, checkpoint.sequence);
    for (tables, range, part) in
        growing.chain(checkpoint.whole.iter().map(|part| (&Table::WHOLE[..], range, part)))
    {
        let is_it = |table: &&Table| table.name() == part.table && (is_first || table.has_file());
        let table = tables.iter().find(is_it);
        let table = table.ok_or_else(|| format!("it has the table `{}`, which is unknown", part.table))?;
        wanted.push((*table, range, part.clone()));
    }
    let (id, hash, entry) = (checkpoint.store, checkpoint.entry.algorithm(), checkpoint.entry);
    let state = if is_first {
        let opened = open_parts(store, wanted).await?;
        decoding(move || {
            let whole = |(table, _, rows, bytes): OpenPart| {
                Ok::<_, String>((table, rows, bytes.whole().map_err(|error| error.to_string())?))
            };
            let parts = opened.into_iter().map(whole).collect::<Result<Vec<_>, _>>()?;
            State::from_tables(id, hash, &first_format::decode_all(&parts)?)
        })
        .await?
    } else {
        let (batches, others) = wanted.into_iter().partition(|(table, ..)| *table == Table::Batches);
        // The batches are most of it: they are proved while the others are decoded.
        let others = async {
            let opened = open_parts(store, others).await?;
            decoding(move || AllButBatches::of(hash, table_files(opened)?)).await
        };
        let (others, batches) = tokio::join!(others, open_parts(store, batches));
        let (others, batches) = (others?, batches?);
        decoding(move || others.with_batches(id, table_files(batches)?)).await?
    };
    if (state.head.sequence, state.head.digest) != (checkpoint.sequence, entry) {
        return Err(format!("its tables end at entry {}, with another digest", state.head.sequence));
    }
    Ok(state.with_unread(checkpoint.unread.clone()))
}

/// A part that was proved: of which table, of which entries, with how many rows.
type OpenPart = (Table, (Sequence, Sequence), u64, objects::PartBytes);

async fn open_parts(
    store: &Store,
    wanted: Vec<(Table, (Sequence, Sequence), Part)>,
) -> Result<Vec<OpenPart>, String> {
    let opened = futures::stream::iter(wanted).map(|(table, range, part)| async move {
        let bytes = objects::open_part(store, &part).await.map_err(|error| error.to_string())?;
        Ok((table, range, part.rows, bytes))
    });
    opened.buffered(AT_A_TIME).try_collect().await
}

fn table_files(opened: Vec<OpenPart>) -> Result<Vec<(Table, TableFile)>, String> {
    let open = |(table, range, rows, bytes)| Ok((table, TableFile::open(table, range, rows, bytes)?));
    opened.into_iter().map(open).collect()
}

/// What work gives that decodes pages, on a thread of its own: the Parquet reader panics on some damaged ones.
async fn decoding<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let decoded = tokio::task::spawn_blocking(work).await;
    decoded.map_err(|_| "a page of it cannot be decoded".to_owned())?
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
    let unread = state.unread().to_vec();
    let before = before.filter(|before| before.sequence < head.sequence && before.format == FORMAT);
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
        unread,
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
    let line_of = |version| Some(state.view_version(version)?.line);
    for table in Table::GROWING.into_iter().filter(|table| table.has_file()) {
        made.growing.extend(encoded(table, &rows_of(table, &tables, (from, head), &line_of)?)?);
    }
    for table in Table::WHOLE {
        made.whole.extend(encoded(table, tables.of(table))?);
    }
    Ok(made)
}

/// The rows of a growing table as its file of a range of the log has them.
pub(crate) fn rows_of(
    table: Table,
    tables: &Tables,
    (from, until): (Sequence, Sequence),
    line_of: &dyn Fn(VersionId) -> Option<VersionId>,
) -> Result<RecordBatch, String> {
    let rows = tables.within(table, from, until);
    if table != Table::Batches {
        return Ok(rows);
    }
    by_line::arranged(&rows, &tables.within(Table::Profiles, from, until), line_of)
}

/// None for a table without rows.
fn encoded(table: Table, rows: &RecordBatch) -> Result<Option<TableBytes>, String> {
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let bytes = table_file::encode(table, rows).map_err(|error| error.to_string())?;
    // What is written is read once before anybody relies on it.
    let count = rows.num_rows() as u64;
    let range = (Sequence::ZERO, Sequence::ZERO);
    if TableFile::of(table, range, count, bytes.clone())?.all()? != *rows {
        return Err(format!("the table `{}` does not read back as it was written", table.name()));
    }
    Ok(Some(TableBytes { table, rows: count, bytes }))
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
