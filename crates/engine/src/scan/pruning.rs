//! Which files may hold rows that a predicate is true of, told from manifests: by the least and greatest values of each
//! column, by the bucket of the key, by the keys of a file of few, and by what the log knows of all rows of a file.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, SchemaRef};
use catalog::VisibleFile;
use catalog::state::{Batch, ViewVersion};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee, collect_columns};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use feature::key::statistic::statistics_array;
use feature::key::{bucket_of_rows, key_hashes};

use super::predicate::Predicate;
use super::rows::{BATCH, FILE, RETRACTED, ROW, SEQUENCE};
use crate::row_batches::has_arrivals;

/// Lists up to this length are compared with the bounds value by value in one expression; longer ones by [`Containers::contained`].
const LISTED: usize = 20;
/// Keys of a list whose buckets are computed.
const KEYS: usize = 4096;

/// Whether each file may hold rows that the predicate is true of. What cannot be told, may.
pub fn may_hold(version: &ViewVersion, files: &[VisibleFile], predicate: &Predicate) -> Vec<bool> {
    let mut kept = vec![true; files.len()];
    if files.is_empty() {
        return kept;
    }
    let mut guaranteed = HashMap::new();
    for condition in predicate.compiled() {
        let mut containers = Containers::new(files.len(), Some(rows(files)));
        for column in collect_columns(condition) {
            let kind = predicate.schema().field(column.index()).data_type();
            if let Some(bounds) = bounds_of_files(files, column.name(), kind) {
                containers = containers.with(column.name(), bounds);
            }
        }
        let Some(pruning) = pruning(condition.clone(), predicate.schema()) else { continue };
        // A bound that cannot be compared rules nothing out; the error comes where rows are compared.
        if let Ok(may) = pruning.prune(&containers) {
            kept.iter_mut().zip(may).for_each(|(kept, may)| *kept &= may);
        }
        for guarantee in pruning.literal_guarantees() {
            if guarantee.guarantee == Guarantee::In {
                guaranteed.entry(guarantee.column.name.clone()).or_insert_with(|| guarantee.clone());
            }
        }
    }
    if let Some(keys) = keys(version, &guaranteed) {
        let hashes = key_hashes(&keys).ok();
        let mut buckets: HashMap<u32, Option<HashSet<u32>>> = HashMap::new();
        for (kept, visible) in kept.iter_mut().zip(files) {
            let of = visible.file.buckets;
            let possible = buckets.entry(of).or_insert_with(|| {
                // Keys that have no bucket rule nothing out.
                bucket_of_rows(&keys, of).ok().map(|buckets| buckets.into_iter().collect())
            });
            *kept &= hashes.as_ref().is_none_or(|hashes| visible.file.may_hold(hashes));
            *kept &= possible.as_ref().is_none_or(|possible| possible.contains(&visible.file.bucket));
        }
    }
    kept
}

/// The condition over least and greatest values; none where it can rule nothing out.
pub fn pruning(condition: Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<Arc<PruningPredicate>> {
    let builder = PruningPredicateBuilder::new().with_file_schema(schema.clone());
    builder.with_max_in_list_size(LISTED).build(condition)
}

fn rows(files: &[VisibleFile]) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(files.iter().map(|visible| visible.file.rows)))
}

/// The keys that rows must have one of, a column each part; none where a part may be anything, or there are many.
fn keys(version: &ViewVersion, guaranteed: &HashMap<String, LiteralGuarantee>) -> Option<Vec<ArrayRef>> {
    let mut parts = Vec::with_capacity(version.keys().len());
    let mut combined = 1usize;
    for key in version.keys() {
        let values = &guaranteed.get(key.name.as_str())?.literals;
        combined = combined.saturating_mul(values.len());
        if combined > KEYS || values.iter().any(ScalarValue::is_null) {
            return None;
        }
        let values = values.iter().map(|value| value.cast_to(&key.data_type.arrow()));
        parts.push(ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>().ok()?).ok()?);
    }
    if combined == 0 || parts.is_empty() {
        return None;
    }
    // Each value of a part with each of the others.
    let mut repeat = 1;
    let mut columns = Vec::with_capacity(parts.len());
    for part in parts {
        let places: Vec<(usize, usize)> = (0..combined).map(|row| (0, row / repeat % part.len())).collect();
        repeat *= part.len();
        columns.push(interleave(&[part.as_ref()], &places).ok()?);
    }
    Some(columns)
}

/// What manifests and the log say of a column of the history in each file; none where that is nothing.
fn bounds_of_files(files: &[VisibleFile], column: &str, kind: &DataType) -> Option<Bounds> {
    let between = |least: ArrayRef, greatest: ArrayRef| {
        let nulls: ArrayRef = Arc::new(UInt64Array::from_value(0, files.len()));
        Some(Bounds { least, greatest, nulls: Some(nulls) })
    };
    match column {
        SEQUENCE => {
            let least = files.iter().map(|visible| visible.first().by.sequence.0);
            let greatest = files.iter().map(|visible| visible.last().by.sequence.0);
            return between(
                Arc::new(UInt64Array::from_iter_values(least)),
                Arc::new(UInt64Array::from_iter_values(greatest)),
            );
        }
        BATCH => {
            let ids = |visible: &VisibleFile| {
                let ids = visible.batches().iter().map(|batch| batch.record.batch);
                let first = visible.first().record.batch;
                let (least, greatest) =
                    ids.fold((first, first), |(least, greatest), id| (least.min(id), greatest.max(id)));
                (least.to_string(), greatest.to_string())
            };
            let (least, greatest): (Vec<String>, Vec<String>) = files.iter().map(ids).unzip();
            return between(
                Arc::new(StringArray::from_iter_values(least)),
                Arc::new(StringArray::from_iter_values(greatest)),
            );
        }
        FILE => {
            let paths = files.iter().map(|visible| visible.file.path.as_str());
            let paths: ArrayRef = Arc::new(StringArray::from_iter_values(paths));
            return between(paths.clone(), paths);
        }
        ROW => {
            let last = files.iter().map(|visible| visible.file.rows.saturating_sub(1));
            let bounds = Bounds {
                least: Arc::new(UInt64Array::from_value(0, files.len())),
                greatest: Arc::new(UInt64Array::from_iter_values(last)),
                nulls: None,
            };
            return Some(bounds);
        }
        _ => {}
    }
    let (mut least, mut greatest, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for visible in files {
        // What is null of this was known when its batch came.
        let arrives = column == "known_at" && !visible.is_of_one() && has_arrivals(visible);
        let statistics = visible.file.column(column).filter(|_| !arrives);
        // NaN is beyond the bounds, and ranks above all.
        let bounded = statistics.filter(|statistics| statistics.nans == 0);
        least.push(bounded.and_then(|statistics| statistics.least.as_deref()));
        greatest.push(bounded.and_then(|statistics| statistics.greatest.as_deref()));
        nulls.push(statistics.map(|statistics| statistics.nulls));
    }
    let mut bounds = Bounds {
        least: statistics_array(kind, &least).ok()?,
        greatest: statistics_array(kind, &greatest).ok()?,
        nulls: Some(Arc::new(UInt64Array::from(nulls))),
    };
    // What all rows of a file have that lacks the column.
    let absent: Option<(ArrayRef, ArrayRef)> = match column {
        "known_at" => {
            let arrival = |batch: &Batch| batch.by.committed_at.micros();
            let times = |batches: Vec<i64>| -> ArrayRef {
                Arc::new(TimestampMicrosecondArray::from(batches).with_timezone("UTC"))
            };
            let least = files.iter().map(|visible| arrival(visible.first()));
            let greatest = files.iter().map(|visible| arrival(visible.last()));
            Some((times(least.collect()), times(greatest.collect())))
        }
        RETRACTED => {
            let none: ArrayRef = Arc::new(BooleanArray::from(vec![false; files.len()]));
            Some((none.clone(), none))
        }
        _ => None,
    };
    if let Some((least, greatest)) = absent {
        let lacks = |visible: &VisibleFile| usize::from(visible.file.column(column).is_none());
        let places = files.iter().enumerate().map(|(place, visible)| (lacks(visible), place));
        let places: Vec<(usize, usize)> = places.collect();
        bounds.least = interleave(&[bounds.least.as_ref(), least.as_ref()], &places).ok()?;
        bounds.greatest = interleave(&[bounds.greatest.as_ref(), greatest.as_ref()], &places).ok()?;
    }
    Some(bounds)
}

/// What is known of a column in each container; null where it is not.
pub struct Bounds {
    pub least: ArrayRef,
    pub greatest: ArrayRef,
    pub nulls: Option<ArrayRef>,
}

/// Files or pages, and what is known of the columns that a condition looks at.
pub struct Containers {
    number: usize,
    rows: Option<ArrayRef>,
    columns: HashMap<String, Bounds>,
}

impl Containers {
    pub fn new(number: usize, rows: Option<ArrayRef>) -> Self {
        Self { number, rows, columns: HashMap::new() }
    }

    pub fn with(mut self, column: &str, bounds: Bounds) -> Self {
        self.columns.insert(column.to_owned(), bounds);
        self
    }
}

impl PruningStatistics for Containers {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(self.columns.get(&column.name)?.least.clone())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        Some(self.columns.get(&column.name)?.greatest.clone())
    }

    fn num_containers(&self) -> usize {
        self.number
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.columns.get(&column.name)?.nulls.clone()
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        self.rows.clone()
    }

    /// Whether a container has none of the values (false) or may have some (null).
    #[allow(clippy::mutable_key_type, reason = "the trait's own")]
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let bounds = self.columns.get(&column.name)?;
        let kind = bounds.least.data_type();
        let mut values: Vec<&ScalarValue> = values.iter().filter(|value| !value.is_null()).collect();
        if values.iter().any(|value| value.data_type() != *kind) {
            return None;
        }
        values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
        let none_of = |place: usize| -> Option<bool> {
            let least = ScalarValue::try_from_array(&bounds.least, place).ok()?;
            let greatest = ScalarValue::try_from_array(&bounds.greatest, place).ok()?;
            if least.is_null() || greatest.is_null() {
                return None;
            }
            let next = values.partition_point(|value| value.partial_cmp(&&least) == Some(Ordering::Less));
            let within = values
                .get(next)
                .is_some_and(|value| value.partial_cmp(&&greatest) != Some(Ordering::Greater));
            (!within).then_some(false)
        };
        Some((0..self.number).map(none_of).collect())
    }
}
