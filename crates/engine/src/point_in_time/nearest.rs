//! A right side that is no feature view: the nearest row by one time column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;

use super::exec::KeyPair;
use super::run::evaluate;
use super::{Direction, SpineOrder, in_memory};

/// The right side's columns, each row beside the spine row that it is nearest to; null where there is none.
pub fn nearest(
    spine: &[RecordBatch],
    right: &RecordBatch,
    keys: &[KeyPair],
    at: &Arc<dyn PhysicalExpr>,
    time: &Arc<dyn PhysicalExpr>,
    direction: Direction,
) -> Result<Vec<ArrayRef>> {
    let mut left_keys = Vec::with_capacity(keys.len());
    let mut right_keys = Vec::with_capacity(keys.len());
    for (left, matching) in keys {
        left_keys.push((left.to_string(), evaluate(left, spine)?));
        right_keys.push(matching.evaluate(right)?.into_array(right.num_rows())?);
    }
    let types: Vec<DataType> = right_keys.iter().map(|key| key.data_type().clone()).collect();
    let at = evaluate(at, spine)?;
    let time = time.evaluate(right)?.into_array(right.num_rows())?;
    let (at, time) = ranks(&at, &time)?;
    let order = Arc::new(SpineOrder::new(&left_keys, &types, &at)?);
    let rows: UInt32Array = in_memory(&order, &right_keys, &time, direction)?.into_iter().collect();
    let columns = right.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>()?;
    Ok(columns)
}

/// Both sides' times as numbers that order as the times do, whatever their type.
fn ranks(left: &ArrayRef, right: &ArrayRef) -> Result<(Int64Array, Int64Array)> {
    let both = concat(&[left.as_ref(), right.as_ref()])?;
    let ranks = arrow::compute::rank(&both, None)?;
    let nulls = both.logical_nulls();
    let ranks: Int64Array = ranks
        .into_iter()
        .enumerate()
        .map(|(row, rank)| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)).then_some(i64::from(rank)))
        .collect();
    Ok((ranks.slice(0, left.len()), ranks.slice(left.len(), right.len())))
}
