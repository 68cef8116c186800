//! The spine of one lookup, put into the order of the files: rows grouped by key, and by time within a key.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::cast::cast;
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, plan_err};

/// A run of equal keys in a file, from and until a row, with the (time, spine row) pairs of that key.
type SpineRun<'a> = (usize, usize, &'a [(i64, u32)]);

/// Rows of the spine by key and time. Rows with a null key or a null time stand in no group.
pub struct SpineOrder {
    rows: usize,
    converter: Option<RowConverter>,
    groups: HashMap<OwnedRow, u32>,
    /// (time, spine row), ascending, group after group.
    entries: Vec<(i64, u32)>,
    /// Where each group's entries begin; one more than there are groups.
    starts: Vec<usize>,
    /// Rows whose key or time is null as given; none where there are none.
    nulls: Option<NullBuffer>,
}

impl SpineOrder {
    /// `keys` are the spine's key columns, cast to the view's key types where that loses nothing; `at` is in microseconds
    /// (or any numbers that order as the times do).
    ///
    /// # Errors
    /// A spine of more than 2^32 rows, or a key column whose type is not one of the view's.
    pub fn new(keys: &[(String, ArrayRef)], types: &[DataType], at: &Int64Array) -> Result<Self> {
        let rows = at.len();
        let Ok(count) = u32::try_from(rows) else {
            return plan_err!("a spine has at most 4294967295 rows, this one has {rows}");
        };
        let mut nulls = at.nulls().cloned();
        for (_, key) in keys {
            nulls = NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref());
        }
        let keys = keys
            .iter()
            .zip(types)
            .map(|((name, key), wanted)| cast_key(name, key, wanted))
            .collect::<Result<Vec<_>>>()?;
        let (converter, group_of) = if keys.is_empty() { (None, None) } else { Self::group(&keys)? };
        let (groups, group_of): (HashMap<OwnedRow, u32>, Vec<u32>) = group_of.unwrap_or_default();

        let group_count = if converter.is_some() { groups.len() } else { 1 };
        let mut entries: Vec<(u32, i64, u32)> = Vec::with_capacity(rows);
        for row in 0..count {
            let index = row as usize;
            if at.is_null(index) || keys.iter().any(|key| key.is_null(index)) {
                continue;
            }
            let group = group_of.get(index).copied().unwrap_or(0);
            entries.push((group, at.value(index), row));
        }
        entries.sort_unstable();
        let mut starts = vec![0; group_count + 1];
        for (group, _, _) in &entries {
            starts[*group as usize + 1] += 1;
        }
        for group in 0..group_count {
            starts[group + 1] += starts[group];
        }
        let entries = entries.into_iter().map(|(_, at, row)| (at, row)).collect();
        Ok(Self { rows, converter, groups, entries, starts, nulls })
    }

    #[allow(clippy::type_complexity)]
    fn group(
        keys: &[ArrayRef],
    ) -> Result<(Option<RowConverter>, Option<(HashMap<OwnedRow, u32>, Vec<u32>)>)> {
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let converted = converter.convert_columns(keys)?;
        let mut groups: HashMap<OwnedRow, u32> = HashMap::new();
        let mut seen: HashMap<&[u8], u32> = HashMap::new();
        let mut group_of = Vec::with_capacity(converted.num_rows());
        for row in &converted {
            let next = groups.len() as u32;
            let group = *seen.entry(row.data()).or_insert_with(|| {
                groups.insert(row.owned(), next);
                next
            });
            group_of.push(group);
        }
        Ok((Some(converter), Some((groups, group_of))))
    }

    /// How many rows the spine has, those in no group included.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether the row's key or time is null. (A key that the view's type cannot hold is not: no entity has it.)
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The spine rows of a key, ascending by time: for each run of equal keys of a sorted file, `(from, until, rows)`.
    pub(super) fn runs<'a>(&'a self, keys: &[ArrayRef], rows: usize) -> Result<Vec<SpineRun<'a>>> {
        let Some(converter) = &self.converter else {
            return Ok(if rows == 0 { Vec::new() } else { vec![(0, rows, &self.entries[..])] });
        };
        let converted = converter.convert_columns(keys)?;
        let mut runs = Vec::new();
        let mut from = 0;
        while from < rows {
            let key = converted.row(from);
            let mut until = from + 1;
            // Gallop to the end of the run: runs are long where entities have a history.
            let mut step = 1;
            while until + step <= rows && converted.row(until + step - 1) == key {
                until += step;
                step *= 2;
            }
            while step > 0 {
                if until + step <= rows && converted.row(until + step - 1) == key {
                    until += step;
                }
                step /= 2;
            }
            if let Some(group) = self.groups.get(&key.owned()) {
                let group = *group as usize;
                runs.push((from, until, &self.entries[self.starts[group]..self.starts[group + 1]]));
            }
            from = until;
        }
        Ok(runs)
    }

    /// Rows that stand in a group.
    pub(super) fn grouped(&self) -> &[(i64, u32)] {
        &self.entries
    }
}

/// A key column in the view's type. Widths of integers and ways of holding text may differ; kinds may not.
fn cast_key(name: &str, key: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
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
    // A number that the view's type cannot hold becomes null, and so matches nothing: no entity has it.
    Ok(cast(key, wanted)?)
}
