//! The rows of a right side that is no feature view: the nearest by one time column, the last among equals.
//!
//! Each row of the right side is put down at the one spine row of its key that it is nearest to; what a spine row has none for, it has
//! from its neighbour. Nothing is sorted but the spine.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, internal_err};

use super::exec::Side;
use super::keys::NO_GROUP;
use super::pauses::{ROWS_AT_ONCE, pause, pause_within, stretches};
use super::run::evaluate;
use super::working_memory::WorkingMemory;
use super::{Direction, SpineOrder};

/// Stands where there is no row.
const NONE: u32 = u32::MAX;
/// What a row of the right side takes while it is met: its time, its key's number, and what these are made from.
const RIGHT_BYTES: usize = 32;
/// What a row of the spine takes beside its place in the order.
const SPINE_BYTES: usize = 40;

/// The row of `right` that each row of the spine is nearest to; null where there is none.
pub async fn nearest(
    spine: &[RecordBatch],
    right: &RecordBatch,
    side: &Side,
    memory: &WorkingMemory,
) -> Result<UInt32Array> {
    let Side::Plain { keys, at, time, direction, .. } = side else {
        return internal_err!("a feature view is no plain right side");
    };
    let rows: usize = spine.iter().map(RecordBatch::num_rows).sum();
    let held = memory.hold(right.num_rows() * RIGHT_BYTES + rows * SPINE_BYTES);
    let mut left_keys = Vec::with_capacity(keys.len());
    let mut right_keys = Vec::with_capacity(keys.len());
    for (left, matching) in keys {
        left_keys.push((left.to_string(), evaluate(left, spine)?));
        right_keys.push(matching.evaluate(right)?.into_array(right.num_rows())?);
    }
    let types: Vec<DataType> = right_keys.iter().map(|key| key.data_type().clone()).collect();
    let at = evaluate(at, spine)?;
    let time = time.evaluate(right)?.into_array(right.num_rows())?;
    let (at, time) = numbers(&at, &time)?;
    let order = SpineOrder::new(&left_keys, &types, &at).await?;
    held.grow(order.memory());
    let groups = order.keys().find(&right_keys, right.num_rows()).await?;
    Ok(nearest_rows(&order, &groups, &time, *direction).await)
}

async fn nearest_rows(
    spine: &SpineOrder,
    groups: &[u32],
    times: &Int64Array,
    direction: Direction,
) -> UInt32Array {
    let back = direction.looks_back();
    // By entry: time and row of the nearest right row that is nearer to it than to the other entries.
    let mut best = vec![(0i64, NONE); spine.entries().len()];
    for part in stretches(0..groups.len()) {
        for row in part.clone() {
            let (group, time) = (groups[row], times.value(row));
            if group == NO_GROUP || times.is_null(row) {
                continue;
            }
            let of_key = spine.group(group);
            let entries = &spine.entries()[of_key.clone()];
            let later = entries.partition_point(|(at, _)| match direction {
                Direction::AtOrBefore | Direction::After => *at < time,
                Direction::Before | Direction::AtOrAfter => *at <= time,
            });
            let place = if back { (later < entries.len()).then_some(later) } else { later.checked_sub(1) };
            let Some(place) = place else { continue };
            let best = &mut best[of_key.start + place];
            // The rows come in their order.
            let nearer = if back { time >= best.0 } else { time <= best.0 };
            if best.1 == NONE || nearer {
                *best = (time, row as u32);
            }
        }
        pause_within(part.end, groups.len()).await;
    }
    let mut found: Vec<Option<u32>> = vec![None; spine.rows()];
    let mut since = 0;
    for group in 0..spine.keys().len() as u32 {
        let entries = spine.group(group);
        since += entries.len();
        let mut row = None;
        let mut answer = |entry: usize| {
            if best[entry].1 != NONE {
                row = Some(best[entry].1);
            }
            found[spine.entries()[entry].1 as usize] = row;
        };
        if back {
            entries.for_each(&mut answer);
        } else {
            entries.rev().for_each(&mut answer);
        }
        if since >= ROWS_AT_ONCE {
            pause().await;
            since = 0;
        }
    }
    found.into_iter().collect()
}

/// Both sides' times as numbers that order as the times do, whatever their type.
fn numbers(left: &ArrayRef, right: &ArrayRef) -> Result<(Int64Array, Int64Array)> {
    let kind = left.data_type();
    let whole = kind.is_signed_integer()
        || matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    if whole && kind == right.data_type() {
        return Ok((as_they_are(left)?, as_they_are(right)?));
    }
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

fn as_they_are(times: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(times, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
