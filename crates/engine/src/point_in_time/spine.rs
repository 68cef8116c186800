//! The spine of a lookup, put into the order that files are met in: rows grouped by key, and by time within a key.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{cast, nullif, take};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use catalog::VisibleFile;
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use feature::definition::Key;
use feature::key::key_hashes;
use feature::key::statistic::{StatisticError, StatisticValue, bounds_of, statistic_bytes};
use storage::manifest::DataFile;

use super::NullReason;
use super::keys::{KeyGroups, NO_GROUP};
use super::pages::{self, PageSelection};
use super::pauses::{ROWS_AT_ONCE, pause, pause_within, sort, stretches};
use crate::key_files::bounds_of_key;

/// A time and the spine row that it is of.
pub type Entry = (i64, u32);

/// Rows of the spine by key and time. Rows with a null key or a null time stand in no group.
#[derive(Debug)]
pub struct SpineOrder {
    rows: usize,
    keys: KeyGroups,
    /// Ascending by time and then by row, group after group.
    entries: Vec<Entry>,
    /// Where each group's entries begin; one more than there are groups.
    starts: Vec<u32>,
    /// Rows whose key or time is null as given; none where there are none.
    nulls: Option<NullBuffer>,
    /// The key columns, one row a group.
    distinct: Vec<ArrayRef>,
    /// The first key column's distinct values, where the spine has few keys: ascending, to find pages by.
    few: Option<FewKeys>,
}

#[derive(Debug)]
struct FewKeys {
    converter: RowConverter,
    data_type: DataType,
    first_column: Vec<OwnedRow>,
}

/// Keys that are compared one by one with the bounds of files at most.
const FEWEST_KEYS: usize = 1 << 8;
/// Keys that are looked for by their hashes, and page by page, at most; more would hit most files, and most pages of them.
const FEW_KEYS: usize = 1 << 14;
/// Below this share of a file's rows, reading pages by their keys costs less than reading all keys.
const SELECT_KEYS_BELOW: f64 = 0.5;

impl SpineOrder {
    /// `keys` are the spine's key columns, cast to the view's key types where that loses nothing; `at` is in microseconds
    /// (or any numbers that order as the times do).
    ///
    /// # Errors
    /// A spine of 2^32 rows or more, or a key column whose type is not one of the view's.
    pub async fn new(keys: &[(String, ArrayRef)], types: &[DataType], at: &Int64Array) -> Result<Self> {
        let rows = at.len();
        if u32::try_from(rows).is_err() {
            return plan_err!("a spine has at most 4294967295 rows, this one has {rows}");
        }
        let mut nulls = at.nulls().cloned();
        for (_, key) in keys {
            nulls = NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref());
        }
        let keys = keys
            .iter()
            .zip(types)
            .map(|((name, key), wanted)| cast_key(name, key, wanted))
            .collect::<Result<Vec<_>>>()?;
        // A key that the view's type cannot hold stands in no group either, but is not null.
        let mut unusable = nulls.clone();
        for key in &keys {
            unusable = NullBuffer::union(unusable.as_ref(), key.logical_nulls().as_ref());
        }
        let (numbers, group_of) = KeyGroups::number(&keys, rows, unusable.as_ref()).await?;
        let firsts = first_rows(&group_of, numbers.len());
        let distinct = keys.iter().map(|key| take(key, &firsts, None)).collect::<Result<Vec<_>, _>>()?;
        let few = match distinct.first() {
            Some(first) if numbers.len() <= FEW_KEYS => Some(FewKeys::new(first)?),
            _ => None,
        };
        let (entries, starts) = group(&group_of, numbers.len(), at.values()).await;
        Ok(Self { rows, keys: numbers, entries, starts, nulls, distinct, few })
    }

    /// The pages of a file that may hold a key of the spine, where they are few.
    ///
    /// # Errors
    /// Statistics of pages that do not read as the key's type.
    pub(super) fn key_pages(
        &self,
        footer: &ArrowReaderMetadata,
        keys: &[Key],
    ) -> Result<Option<PageSelection>> {
        let (Some(few), Some(first)) = (&self.few, keys.first()) else { return Ok(None) };
        pages::with_keys(
            footer,
            first.name.as_str(),
            &few.first_column,
            &few.converter,
            &few.data_type,
            SELECT_KEYS_BELOW,
        )
    }

    /// By bucket of so many: whether a key of the spine lies in it.
    pub(super) async fn buckets(&self, buckets: u32) -> Result<Vec<bool>> {
        let mut has = vec![false; buckets as usize];
        let rows = self.distinct.first().map_or(0, |keys| keys.len());
        for part in stretches(0..rows) {
            let keys: Vec<ArrayRef> =
                self.distinct.iter().map(|key| key.slice(part.start, part.len())).collect();
            let of_keys = feature::key::bucket_of_rows(&keys, buckets);
            for bucket in of_keys.map_err(|error| DataFusionError::Internal(error.to_string()))? {
                has[bucket as usize] = true;
            }
            pause_within(part.end, rows).await;
        }
        Ok(has)
    }

    /// What is known of the keys, to rule files out by; none where it would rule out hardly any.
    pub(super) fn sought_keys(&self, files: &[VisibleFile]) -> Result<Option<SoughtKeys>> {
        if files.len() < 2 {
            return Ok(None);
        }
        // Where no manifest tells its keys, nothing is to be compared with theirs.
        let told = files.iter().any(|visible| visible.file.key_hashes.is_some());
        SoughtKeys::new(&self.distinct, told)
    }

    /// The least and the greatest time of a row that stands in a group.
    pub(super) fn times(&self) -> Option<(i64, i64)> {
        let times = || self.entries.iter().map(|(at, _)| *at);
        Some((times().min()?, times().max()?))
    }

    /// How many rows the spine has, those in no group included.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the row's key or time is null. (A key that the view's type cannot hold is not: no entity has it.)
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    pub(super) fn keys(&self) -> &KeyGroups {
        &self.keys
    }

    /// Rows that stand in a group.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The places of a group's entries.
    pub(super) fn group(&self, group: u32) -> std::ops::Range<usize> {
        self.starts[group as usize] as usize..self.starts[group as usize + 1] as usize
    }

    /// The group that the entry at a place belongs to.
    pub(super) fn group_at(&self, entry: usize) -> u32 {
        let after = self.starts.partition_point(|start| *start as usize <= entry);
        (after.saturating_sub(1)).min(self.keys.len()) as u32
    }

    /// Why a row that stands in no group finds nothing.
    pub(super) fn without_group(&self, row: usize) -> NullReason {
        if self.is_null(row) { NullReason::NullKeyOrTime } else { NullReason::UnknownEntity }
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.starts.capacity() * 4 + self.keys.len() * 24
    }
}

/// The keys of a spine.
pub(super) struct SoughtKeys {
    /// Of the first key column, ascending: all values, or the least and the greatest.
    values: Vec<StatisticValue>,
    all: bool,
    /// Of whole keys; none where there are many, or no file tells its own.
    hashes: Option<Vec<u32>>,
}

impl SoughtKeys {
    fn new(keys: &[ArrayRef], hashed: bool) -> Result<Option<Self>> {
        let Some(column) = keys.first().filter(|column| !column.is_empty()) else { return Ok(None) };
        let internal = |error: StatisticError| DataFusionError::Internal(error.to_string());
        let kind = column.data_type();
        let all = column.len() <= FEWEST_KEYS;
        let mut bytes = Vec::new();
        if all {
            for row in 0..column.len() {
                bytes.extend(statistic_bytes(column, row).map_err(internal)?);
            }
        } else {
            let bounds = bounds_of(column).map_err(internal)?;
            bytes.extend(bounds.least.into_iter().chain(bounds.greatest));
        }
        let decoded = bytes.iter().map(|bytes| StatisticValue::decode(kind, bytes).map_err(internal));
        let mut values: Vec<StatisticValue> = decoded.collect::<Result<_>>()?;
        values.sort_by(|one, other| one.compare(other).unwrap_or(Ordering::Equal));
        let hashes = (hashed && column.len() <= FEW_KEYS).then(|| key_hashes(keys)).transpose();
        let hashes = hashes.map_err(|error| DataFusionError::Internal(error.to_string()))?;
        Ok((!values.is_empty()).then_some(Self { values, all, hashes }))
    }

    /// Whether one of the keys may be in a file, by the keys that its manifest tells, or by the bounds of the first part.
    pub(super) fn may_be_in(&self, file: &DataFile, key: &Key) -> bool {
        if self.hashes.as_ref().is_some_and(|hashes| !file.may_hold(hashes)) {
            return false;
        }
        let Some((least, greatest)) = bounds_of_key(file, key) else { return true };
        let from = self.values.partition_point(|value| value.compare(&least) == Some(Ordering::Less));
        match self.values.get(from) {
            None => false,
            // Of two bounds, the second may lie beyond and something between.
            Some(_) if !self.all && from > 0 => true,
            Some(value) => value.compare(&greatest) != Some(Ordering::Greater),
        }
    }
}

impl FewKeys {
    fn new(distinct: &ArrayRef) -> Result<Self> {
        let data_type = distinct.data_type().clone();
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let encoded = converter.convert_columns(std::slice::from_ref(distinct))?;
        let mut first_column: Vec<OwnedRow> = encoded.iter().map(|row| row.owned()).collect();
        first_column.sort_unstable();
        first_column.dedup();
        Ok(Self { converter, data_type, first_column })
    }
}

/// The first row of each group.
fn first_rows(group_of: &[u32], groups: usize) -> UInt32Array {
    let mut firsts = vec![u32::MAX; groups];
    for (row, group) in (0u32..).zip(group_of) {
        if *group != NO_GROUP {
            let first = &mut firsts[*group as usize];
            *first = row.min(*first);
        }
    }
    firsts.retain(|row| *row != u32::MAX);
    firsts.into()
}

/// Rows by group, and by time within a group; those without a group left out.
async fn group(group_of: &[u32], groups: usize, at: &[i64]) -> (Vec<Entry>, Vec<u32>) {
    let mut starts = vec![0u32; groups + 1];
    for group in group_of {
        if *group != NO_GROUP {
            starts[*group as usize + 1] += 1;
        }
    }
    for group in 0..groups {
        starts[group + 1] += starts[group];
    }
    let mut entries = vec![(0i64, 0u32); starts[groups] as usize];
    let mut next = starts.clone();
    let rows = group_of.len();
    for part in stretches(0..rows) {
        for (row, (group, at)) in part.clone().zip(group_of[part.clone()].iter().zip(&at[part.clone()])) {
            if *group != NO_GROUP {
                let place = &mut next[*group as usize];
                entries[*place as usize] = (*at, row as u32);
                *place += 1;
            }
        }
        pause_within(part.end, rows).await;
    }
    let mut since = 0;
    for group in starts.windows(2) {
        let entries = &mut entries[group[0] as usize..group[1] as usize];
        since += entries.len();
        if !entries.is_sorted() {
            sort(entries).await;
        }
        if since > ROWS_AT_ONCE {
            pause().await;
            since = 0;
        }
    }
    (entries, starts)
}

/// A key column in the view's type. Widths of integers and ways of holding text may differ; kinds may not.
pub fn cast_key(name: &str, key: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let values = match key.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    if values == wanted && key.data_type() == wanted {
        return Ok(Arc::clone(key));
    }
    let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes = |kind: &DataType| {
        matches!(
            kind,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        )
    };
    let time = |kind: &DataType| matches!(kind, DataType::Timestamp(_, _));
    let date = |kind: &DataType| matches!(kind, DataType::Date32 | DataType::Date64);
    let decimal = |kind: &DataType| {
        matches!(kind, DataType::Decimal128(_, _) | DataType::Decimal64(_, _) | DataType::Decimal32(_, _))
    };
    let alike = values == wanted
        || values.is_null()
        || values.is_integer() && wanted.is_integer()
        || text(values) && text(wanted)
        || bytes(values) && bytes(wanted)
        || time(values) && time(wanted)
        || date(values) && date(wanted)
        || decimal(values) && decimal(wanted);
    if !alike {
        return plan_err!(
            "the spine's key `{name}` is {}, but the feature view's is {wanted}; cast it in the spine",
            key.data_type()
        );
    }
    // What the view's type cannot hold becomes null, and so matches nothing: no entity has it.
    let held = cast(key, wanted)?;
    let may_round = time(wanted) || date(wanted) || decimal(wanted);
    if !may_round || values.is_null() {
        return Ok(held);
    }
    // A cast rounds what is finer than the view's type, and a rounded key is that of another entity.
    let differs = distinct(&cast(&held, values)?, &cast(key, values)?)?;
    Ok(nullif(&held, &differs)?)
}
