//! Diff: what is other in one training set than in another, cell by cell, and why.
//!
//! Rows are aligned on the spine's entity keys, its time, and the occurrence (the first row of both meets the first, the second the
//! second), not on their position.
//! What the manifests prove equal is not read: whole columns, and where the rows stand in the same order, blocks of 65,536
//! rows. The rest is made again and compared with the digests that were recorded.

mod alignment;
mod causes;
mod cells;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use arrow::row::Rows;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_recursion::async_recursion;
use catalog::Author;
use engine::Reserved;
use engine::column_lineage::Traced;
use engine::point_in_time::{cast_key, equal_bytes, micros};
use feature::policy::Action;
use feature::{BatchId, Sequence, TrainingSetId, VersionId};
use lineage::manifest::{ColumnManifest, Knowledge};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::reads::{Read, ReadKind};
use crate::recorded::{Blocks, RecordedSet, Winners, column};
use crate::retrieve::Serving;

use alignment::{Alignment, align, identical, occurrences};
use causes::Told;

pub use causes::Cause;
pub use cells::Class;

/// Which sets; the JSON form of `lineament.diff` in docs/flight.md.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    pub a: TrainingSetId,
    pub b: TrainingSetId,
    /// Examples of each kind of change.
    #[serde(default = "few")]
    pub examples: usize,
}

fn few() -> usize {
    3
}

/// Most examples of each kind that are given.
const MOST_EXAMPLES: usize = 1_000;

impl DiffRequest {
    pub fn new(a: TrainingSetId, b: TrainingSetId) -> Self {
        Self { a, b, examples: few() }
    }
}

/// What is other in `b` than in `a`. Counts are exact, examples are limited.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    pub a: DiffSide,
    pub b: DiffSide,
    /// Whether the digests are: names, types, values and order of all columns.
    pub equal: bool,
    /// What rows are aligned on: entity keys that both spines have, and the time.
    pub aligned_on: Vec<String>,
    pub rows: RowCounts,
    pub columns: ColumnChanges,
    /// Changed cells by column, class and cause; most cells first.
    pub changes: Vec<CellCount>,
    /// Batches that the causes lie in; most cells first.
    pub entries: Vec<EntryCount>,
    /// A few changed cells of each column, class and cause.
    pub examples: Vec<CellExample>,
    /// A few rows of each kind.
    pub row_examples: Vec<RowExample>,
    /// What was compared, and what the manifests alone proved equal.
    pub compared: Compared,
    pub seconds: f64,
}

/// One of the two sets.
#[derive(Clone, Debug, Serialize)]
pub struct DiffSide {
    pub training_set: TrainingSetId,
    pub name: Option<String>,
    pub sequence: Sequence,
    pub knowledge: Knowledge,
    pub rows: u64,
    pub digest: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Rows that both have.
    pub matched: u64,
    pub added: u64,
    pub removed: u64,
    /// Of the matched rows, the fewest without which all others stand in the same order.
    pub moved: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ColumnChanges {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub retyped: Vec<Retyped>,
    /// Whether the columns that both have stand in another order.
    pub reordered: bool,
}

/// A column of another type, as `lmt1` names types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retyped {
    pub column: String,
    pub a: String,
    pub b: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CellCount {
    pub column: String,
    pub class: Class,
    pub cause: Cause,
    pub cells: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryCount {
    pub cause: Cause,
    pub sequence: Sequence,
    pub batch: BatchId,
    /// The version that the batch was written under.
    pub version: String,
    pub cells: u64,
}

/// Key columns and their values as text.
type Key = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, Serialize)]
pub struct CellExample {
    pub column: String,
    pub class: Class,
    pub cause: Cause,
    /// The row in each set; the first is 0.
    pub row_a: u64,
    pub row_b: u64,
    pub key: BTreeMap<String, Option<String>>,
    pub at: Option<String>,
    pub a: Option<String>,
    pub b: Option<String>,
    /// The batch that tells the cause, and its sequence.
    pub batch: Option<BatchId>,
    pub sequence: Option<Sequence>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowChange {
    Added,
    Removed,
    Moved,
}

#[derive(Clone, Debug, Serialize)]
pub struct RowExample {
    pub change: RowChange,
    pub row_a: Option<u64>,
    pub row_b: Option<u64>,
    pub key: BTreeMap<String, Option<String>>,
    pub at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Columns that the manifests prove equal.
    pub equal_columns: Vec<String>,
    /// Columns that were made again.
    pub columns: Vec<String>,
    /// Cells of them that were compared.
    pub cells: u64,
    /// Blocks of 65,536 rows of them that the manifests prove equal.
    pub equal_blocks: u64,
}

/// A diff, with every changed cell as a table where that was asked for.
#[derive(Clone, Debug)]
pub struct FullDiff {
    pub report: Diff,
    pub schema: SchemaRef,
    /// Empty where only the report was asked for.
    pub batches: Vec<RecordBatch>,
}

/// A column in both sets, in aligned rows.
struct Column {
    name: String,
    a: ArrayRef,
    b: ArrayRef,
    /// Places in the alignment's pairs.
    changes: Vec<(u32, Class)>,
    source: Source,
}

/// What tells the causes of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The same for all of its cells.
    One(Cause),
    /// The winners in these two versions.
    Views(VersionId, VersionId),
}

/// The winners of both sets at the changed places of one pair of versions.
struct Sides {
    /// By place in the alignment's pairs: the place among the winners; [`UNASKED`] for cells that are the same.
    winners: Vec<u32>,
    a: Winners,
    b: Winners,
}

const UNASKED: u32 = u32::MAX;

impl Sides {
    fn winner(&self, place: u32) -> Option<usize> {
        self.winners.get(place as usize).filter(|winner| **winner != UNASKED).map(|winner| *winner as usize)
    }
}

/// Both sets, aligned, with the columns that differ.
struct Comparison {
    a: RecordedSet,
    b: RecordedSet,
    keys: Vec<String>,
    alignment: Alignment,
    occurrences: Vec<u32>,
    columns: Vec<Column>,
    sides: Vec<((VersionId, VersionId), Sides)>,
}

impl Serving {
    /// Compares two recorded sets. With `full`, every changed cell comes as a table too.
    ///
    /// # Errors
    /// An id that is not known; a set that cannot be made again as it was recorded.
    #[async_recursion]
    pub async fn diff(&self, request: DiffRequest, full: bool, author: &Author) -> Result<FullDiff> {
        let words = format!("diff: training sets {} and {}", request.a, request.b);
        let answer = self.compared(request, full, author);
        self.on_record(author, Action::Read, Some(ReadKind::Diff), || words, answer).await
    }

    async fn compared(&self, request: DiffRequest, full: bool, author: &Author) -> Result<FullDiff> {
        let started = Instant::now();
        let held = self.memory().reserve("diff");
        let (a, b) = (self.manifest(request.a).await?, self.manifest(request.b).await?);
        // Also that two sets are equal tells of both.
        self.require_as_recorded(&a, author).await?;
        self.require_as_recorded(&b, author).await?;
        let mut report = Diff {
            a: side(&a),
            b: side(&b),
            equal: a.digest == b.digest,
            aligned_on: Vec::new(),
            rows: RowCounts { matched: a.rows, ..RowCounts::default() },
            columns: ColumnChanges::default(),
            changes: Vec::new(),
            entries: Vec::new(),
            examples: Vec::new(),
            row_examples: Vec::new(),
            compared: Compared::default(),
            seconds: 0.0,
        };
        if report.equal {
            // One digest stands for all of it, so that nothing is read.
            report.compared.equal_columns = a.columns.iter().map(|column| column.name.clone()).collect();
            report.seconds = started.elapsed().as_secs_f64();
            let schema = table::schema(None, &[])?;
            return Ok(FullDiff { report, schema, batches: Vec::new() });
        }
        let place = self.reads.reserve(&Traced::default())?;
        let comparison = self.compare(&request, &mut report, &held, author).await?;
        let examples = request.examples.min(MOST_EXAMPLES);
        comparison.count(&mut report, examples)?;
        comparison.row_examples(&mut report, examples)?;
        let schema = table::schema(Some(&comparison.a), &comparison.keys)?;
        let batches = if full { table::rows(&comparison, &schema)? } else { Vec::new() };

        let now = self.catalog().store().clock().now();
        let read_of = |set: &RecordedSet| {
            set.looked_at(|reference| report.compared.columns.contains(&reference.output))
        };
        let mut traced = read_of(&comparison.a)?;
        let other = read_of(&comparison.b)?;
        traced.outputs.extend(other.outputs);
        traced.scans.extend(other.scans);
        let sequence = comparison.a.manifest.sequence.max(comparison.b.manifest.sequence);
        let mut read = Read::new(author, sequence, now, Arc::new(traced));
        read.asked(ReadKind::Diff, format!("diff: training sets {} and {}", request.a, request.b));
        read.rows = comparison.alignment.pairs.len() as u64;
        read.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record_read(place, read).await?;
        report.seconds = started.elapsed().as_secs_f64();
        Ok(FullDiff { report, schema, batches })
    }

    async fn compare(
        &self,
        request: &DiffRequest,
        report: &mut Diff,
        held: &Reserved,
        author: &Author,
    ) -> Result<Comparison> {
        let a = self.recorded(request.a, held, author).await?;
        let b = self.recorded(request.b, held, author).await?;
        let keys = keys_of(&a, &b)?;
        report.aligned_on = keys.iter().cloned().chain([a.manifest.spine.at.clone()]).collect();
        report.columns = column_changes(&a, &b);
        let (a_keys, b_keys) = aligned_keys(&a, &b, &keys)?;
        // And what aligning takes: a place in a table and a link a row.
        let rows = a_keys.num_rows() + b_keys.num_rows();
        held.grow((a_keys.size() + b_keys.size() + rows * ALIGNING_BYTES) as u64)?;
        let same_rows = a_keys.num_rows() == b_keys.num_rows() && a_keys.iter().eq(b_keys.iter());

        let mut wanted: Vec<&str> = Vec::new();
        let mut blocks: BTreeSet<usize> = BTreeSet::new();
        for (one, other) in columns_of_both(&a, &b) {
            let aligned = keys.contains(&one.name)
                || one.name == a.manifest.spine.at && one.name == b.manifest.spine.at;
            let equal = same_rows && one.digest == other.digest;
            if equal {
                report.compared.equal_columns.push(one.name.clone());
            }
            // Rows are aligned on it, so that it is the same in both.
            if equal || aligned && one.data_type == other.data_type {
                continue;
            }
            wanted.push(&one.name);
            let differ = |block: &usize| {
                one.data_type != other.data_type || one.leaves.get(*block) != other.leaves.get(*block)
            };
            blocks.extend((0..one.leaves.len().max(other.leaves.len())).filter(differ));
        }
        let (a_blocks, b_blocks) = blocks_to_read(&a, &b, same_rows, blocks);
        let alignment = if same_rows {
            identical(&a_blocks.numbers, a.spine.num_rows())
        } else {
            align(&a_keys, &b_keys)
        };
        report.rows = RowCounts {
            matched: if same_rows { a.spine.num_rows() as u64 } else { alignment.pairs.len() as u64 },
            added: alignment.added.len() as u64,
            removed: alignment.removed.len() as u64,
            moved: alignment.moved.len() as u64,
        };
        report.compared.columns = wanted.iter().map(|name| (*name).to_owned()).collect();
        report.compared.cells = (wanted.len() * alignment.pairs.len()) as u64;
        let blocks_in_all = Blocks::all(a.spine.num_rows()).numbers.len();
        if same_rows {
            report.compared.equal_blocks = ((blocks_in_all - a_blocks.numbers.len()) * wanted.len()) as u64;
        }

        let mut columns = Vec::with_capacity(wanted.len());
        if !wanted.is_empty() && !alignment.pairs.is_empty() {
            let rebuilt_a = self.rebuilt(&a, &wanted, &a_blocks, held).await?;
            let rebuilt_b = self.rebuilt(&b, &wanted, &b_blocks, held).await?;
            for (position, name) in wanted.iter().enumerate() {
                let (one, other) = (rebuilt_a.column(position), rebuilt_b.column(position));
                let (one, other) = match same_rows {
                    true => (one.clone(), other.clone()),
                    false => (
                        picked(one, alignment.pairs.iter().map(|(row, _)| *row))?,
                        picked(other, alignment.pairs.iter().map(|(_, row)| *row))?,
                    ),
                };
                let changes = cells::changes(&one, &other)?;
                held.grow((changes.len() * size_of::<(u32, Class)>()) as u64)?;
                let source = source_of(&a, &b, name)?;
                columns.push(Column { name: (*name).to_owned(), a: one, b: other, changes, source });
            }
        }
        let mut comparison = Comparison {
            occurrences: occurrences(&a_keys),
            a,
            b,
            keys,
            alignment,
            columns,
            sides: Vec::new(),
        };
        comparison.sides = self.sides(&comparison, held).await?;
        Ok(comparison)
    }

    /// The winners at all changed places, once for each pair of versions.
    async fn sides(
        &self,
        comparison: &Comparison,
        held: &Reserved,
    ) -> Result<Vec<((VersionId, VersionId), Sides)>> {
        let mut winners: BTreeMap<(VersionId, VersionId), Vec<u32>> = BTreeMap::new();
        for column in &comparison.columns {
            if let Source::Views(a, b) = column.source {
                let asked = || vec![UNASKED; comparison.alignment.pairs.len()];
                let asked = winners.entry((a, b)).or_insert_with(asked);
                for (place, _) in &column.changes {
                    asked[*place as usize] = 0;
                }
            }
        }
        let mut sides = Vec::with_capacity(winners.len());
        for ((a, b), mut winners) in winners {
            let mut rows: (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
            for (pair, winner) in comparison.alignment.pairs.iter().zip(&mut winners) {
                if *winner != UNASKED {
                    *winner = rows.0.len() as u32;
                    rows.0.push(pair.0);
                    rows.1.push(pair.1);
                }
            }
            held.grow((rows.0.len() * 2 * WINNER_BYTES + winners.len() * size_of::<u32>()) as u64)?;
            let winners_a = self.winners_of(&comparison.a, a, &rows.0.into()).await?;
            let winners_b = self.winners_of(&comparison.b, b, &rows.1.into()).await?;
            sides.push(((a, b), Sides { winners, a: winners_a, b: winners_b }));
        }
        Ok(sides)
    }
}

const ALIGNING_BYTES: usize = 48;
/// What the winner of one cell takes in memory, with its time and its place.
const WINNER_BYTES: usize = 96;

impl Comparison {
    fn sides_of(&self, source: Source) -> Option<&Sides> {
        let Source::Views(a, b) = source else { return None };
        self.sides.iter().find(|(views, _)| *views == (a, b)).map(|(_, sides)| sides)
    }

    fn told(&self, source: Source, place: u32) -> Told {
        if let Source::One(cause) = source {
            return cause.alone();
        }
        let Some(sides) = self.sides_of(source) else { return Cause::Unexplained.alone() };
        match sides.winner(place) {
            Some(winner) => causes::told(self.a.state(), &sides.a, &sides.b, winner),
            None => Cause::Unexplained.alone(),
        }
    }

    fn count(&self, report: &mut Diff, examples: usize) -> Result<()> {
        let mut counts: BTreeMap<(usize, Class, Cause), u64> = BTreeMap::new();
        let mut entries: BTreeMap<(Cause, Sequence, BatchId), u64> = BTreeMap::new();
        for (index, column) in self.columns.iter().enumerate() {
            let options = FormatOptions::default();
            let shown = |values: &ArrayRef, place: u32| -> Result<Option<String>> {
                if values.is_null(place as usize) {
                    return Ok(None);
                }
                let formatter = ArrayFormatter::try_new(values.as_ref(), &options).map_err(unshown)?;
                Ok(Some(formatter.value(place as usize).try_to_string().map_err(unshown)?))
            };
            for (place, class) in &column.changes {
                let told = self.told(column.source, *place);
                let count = counts.entry((index, *class, told.cause)).or_default();
                *count += 1;
                if let Some((sequence, batch)) = told.by {
                    *entries.entry((told.cause, sequence, batch)).or_default() += 1;
                }
                if *count <= examples as u64 {
                    let (row_a, row_b) =
                        self.alignment.pairs.get(*place as usize).copied().unwrap_or_default();
                    let (key, at) = self.key_of(&self.a, row_a)?;
                    report.examples.push(CellExample {
                        column: column.name.clone(),
                        class: *class,
                        cause: told.cause,
                        row_a: row_a.into(),
                        row_b: row_b.into(),
                        key,
                        at,
                        a: shown(&column.a, *place)?,
                        b: shown(&column.b, *place)?,
                        batch: told.by.map(|(_, batch)| batch),
                        sequence: told.by.map(|(sequence, _)| sequence),
                    });
                }
            }
        }
        let state = self.a.state();
        report.changes = counts
            .into_iter()
            .map(|((index, class, cause), cells)| CellCount {
                column: self.columns[index].name.clone(),
                class,
                cause,
                cells,
            })
            .collect();
        report.changes.sort_by_key(|count| std::cmp::Reverse(count.cells));
        report.entries = entries
            .into_iter()
            .map(|((cause, sequence, batch), cells)| {
                let version = state.batch(batch).and_then(|batch| state.view_version(batch.record.version));
                let version = version.map(catalog::state::ViewVersion::label).unwrap_or_default();
                EntryCount { cause, sequence, batch, version, cells }
            })
            .collect();
        report.entries.sort_by_key(|count| (std::cmp::Reverse(count.cells), count.sequence));
        Ok(())
    }

    fn row_examples(&self, report: &mut Diff, examples: usize) -> Result<()> {
        for row in self.alignment.removed.iter().take(examples) {
            let (key, at) = self.key_of(&self.a, *row)?;
            let (change, row_a) = (RowChange::Removed, Some(u64::from(*row)));
            report.row_examples.push(RowExample { change, row_a, row_b: None, key, at });
        }
        for row in self.alignment.added.iter().take(examples) {
            let (key, at) = self.key_of(&self.b, *row)?;
            let (change, row_b) = (RowChange::Added, Some(u64::from(*row)));
            report.row_examples.push(RowExample { change, row_a: None, row_b, key, at });
        }
        for place in self.alignment.moved.iter().take(examples) {
            let (row_a, row_b) = self.alignment.pairs.get(*place as usize).copied().unwrap_or_default();
            let (key, at) = self.key_of(&self.a, row_a)?;
            let (row_a, row_b) = (Some(u64::from(row_a)), Some(u64::from(row_b)));
            report.row_examples.push(RowExample { change: RowChange::Moved, row_a, row_b, key, at });
        }
        Ok(())
    }

    /// Key and time of a row, as text.
    fn key_of(&self, set: &RecordedSet, row: u32) -> Result<(Key, Option<String>)> {
        let mut key = BTreeMap::new();
        for name in &self.keys {
            key.insert(name.clone(), text_of(column(&set.spine, name)?, row)?);
        }
        let at = micros(&set.at()?.slice(row as usize, 1))?;
        Ok((key, at.is_valid(0).then(|| feature::Timestamp(at.value(0)).to_string())))
    }
}

fn side(manifest: &lineage::Manifest) -> DiffSide {
    DiffSide {
        training_set: manifest.id,
        name: manifest.name.clone(),
        sequence: manifest.sequence,
        knowledge: manifest.knowledge,
        rows: manifest.rows,
        digest: manifest.digest.clone(),
    }
}

fn text_of(column: &ArrayRef, row: u32) -> Result<Option<String>> {
    if column.is_null(row as usize) {
        return Ok(None);
    }
    let text = arrow::util::display::array_value_to_string(column, row as usize).map_err(unshown)?;
    Ok(Some(text))
}

fn unshown(error: arrow::error::ArrowError) -> Error {
    Error::internal("a value cannot be shown", error)
}

fn picked(column: &ArrayRef, rows: impl Iterator<Item = u32>) -> Result<ArrayRef> {
    let rows: UInt32Array = rows.map(Some).collect();
    take(column, &rows, None).map_err(|error| Error::internal("rows cannot be picked", error))
}

/// The entity keys of all views of both sets that both spines have.
fn keys_of(a: &RecordedSet, b: &RecordedSet) -> Result<Vec<String>> {
    let mut keys: Vec<String> = Vec::new();
    for set in [a, b] {
        for view in &set.manifest.views {
            for key in set.view_version(view.version)?.keys() {
                let name = key.name.as_str();
                let held = |set: &RecordedSet| set.spine.schema_ref().index_of(name).is_ok();
                if held(a) && held(b) && !keys.iter().any(|known| known == name) {
                    keys.push(name.to_owned());
                }
            }
        }
    }
    if keys.is_empty() {
        return Err(Error::new(
            Kind::Invalid,
            "the two spines have no entity key in common, so that their rows cannot be aligned",
        ));
    }
    Ok(keys)
}

/// The comparable bytes of each row's keys and time.
fn aligned_keys(a: &RecordedSet, b: &RecordedSet, keys: &[String]) -> Result<(Rows, Rows)> {
    let (mut of_a, mut of_b): (Vec<ArrayRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for name in keys {
        let (one, other) = (column(&a.spine, name)?, column(&b.spine, name)?);
        if one.data_type() == other.data_type() {
            of_a.push(one.clone());
            of_b.push(other.clone());
            continue;
        }
        // As the entity's own type; a key that it cannot hold is that of no entity.
        let mut declared = None;
        for view in a.manifest.views.iter().chain(&b.manifest.views) {
            let version = a.view_version(view.version).or_else(|_| b.view_version(view.version))?;
            let key = version.keys().iter().find(|key| key.name.as_str() == name);
            declared = declared.or(key.map(|key| key.data_type.arrow()));
        }
        let Some(declared) = declared else { continue };
        of_a.push(cast_key(name, one, &declared)?);
        of_b.push(cast_key(name, other, &declared)?);
    }
    let (one, other) = (a.at()?, b.at()?);
    if one.data_type() == other.data_type() {
        of_a.push(one.clone());
        of_b.push(other.clone());
    } else {
        of_a.push(std::sync::Arc::new(micros(one)?));
        of_b.push(std::sync::Arc::new(micros(other)?));
    }
    Ok((equal_bytes(&of_a)?, equal_bytes(&of_b)?))
}

fn columns_of_both<'a>(
    a: &'a RecordedSet,
    b: &'a RecordedSet,
) -> impl Iterator<Item = (&'a ColumnManifest, &'a ColumnManifest)> {
    // Why a feature is null follows from what is compared.
    let says_why = move |name: &str| [a, b].iter().any(|set| set.manifest.says_why_null(name));
    a.manifest.columns.iter().filter(move |one| !says_why(&one.name)).filter_map(|one| {
        let other = b.manifest.columns.iter().find(|other| other.name == one.name)?;
        Some((one, other))
    })
}

fn column_changes(a: &RecordedSet, b: &RecordedSet) -> ColumnChanges {
    let only = |set: &RecordedSet, other: &RecordedSet| -> Vec<String> {
        let known = |name: &str| other.manifest.columns.iter().any(|column| column.name == name);
        let names = set.manifest.columns.iter().map(|column| column.name.clone());
        names.filter(|name| !known(name)).collect()
    };
    let retyped = columns_of_both(a, b).filter(|(one, other)| one.data_type != other.data_type);
    let position = |name: &str| b.manifest.columns.iter().position(|column| column.name == name);
    ColumnChanges {
        added: only(b, a),
        removed: only(a, b),
        retyped: retyped
            .map(|(one, other)| Retyped {
                column: one.name.clone(),
                a: one.data_type.clone(),
                b: other.data_type.clone(),
            })
            .collect(),
        reordered: !columns_of_both(a, b).map(|(one, _)| position(&one.name)).is_sorted(),
    }
}

/// The blocks to make again: those that differ, where rows stand in the same order, and else all.
fn blocks_to_read(
    a: &RecordedSet,
    b: &RecordedSet,
    same_rows: bool,
    differ: BTreeSet<usize>,
) -> (Blocks, Blocks) {
    if same_rows {
        let blocks = Blocks::new(differ.into_iter().collect(), a.spine.num_rows());
        return (blocks.clone(), blocks);
    }
    (Blocks::all(a.spine.num_rows()), Blocks::all(b.spine.num_rows()))
}

fn source_of(a: &RecordedSet, b: &RecordedSet, name: &str) -> Result<Source> {
    let (Some(one), Some(other)) = (a.reference(name), b.reference(name)) else {
        let spine = a.reference(name).is_none() && b.reference(name).is_none();
        return Ok(Source::One(if spine { Cause::Spine } else { Cause::OtherFeature }));
    };
    let same_view = a.view_version(one.version)?.view == b.view_version(other.version)?.view;
    if !same_view || one.feature != other.feature {
        return Ok(Source::One(Cause::OtherFeature));
    }
    Ok(Source::Views(one.version, other.version))
}
