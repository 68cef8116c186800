//! Memory that DataFusion's own operators do not count.
//!
//! A window over all rows keeps them all, and unnesting makes of one batch whatever its lists hold, both without asking the
//! pool. So the rows on their way there pass an operator that asks for them. And a join makes rows without end of few that it
//! has read, without ever giving way to another task: what it gives passes an operator that does.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt};

/// What the rows of one batch may be unnested to; a batch with more goes in parts.
const UNNESTED_BYTES: u64 = 64 << 20;
/// … and what those of one row.
const UNNESTED_ROW_BYTES: u64 = 1 << 30;
/// Rows of the smaller side of a join without an equality.
const COMPARED_ROWS: u64 = 10_000_000;
/// Pairs that such a join compares before it looks up.
const COMPARED_PAIRS: u64 = 1_000_000_000;
/// Rows that a window may look ahead or back before they are counted.
const NEAR_ROWS: u64 = 100_000;

/// Puts the accounting where it is needed.
pub fn account(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let how = if node.is::<WindowAggExec>() {
            How::Held
        } else if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>()
            && window.window_expr().iter().any(looks_far)
        {
            How::Held
        } else if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
            How::Unnested(
                unnest.list_column_indices().iter().map(|list| list.index_in_input_schema).collect(),
            )
        } else if node.is::<NestedLoopJoinExec>() {
            let held = Arc::new(AtomicU64::new(0));
            let hows = [How::Compared(held.clone()), How::Portioned(held)];
            let children = node.children().into_iter().cloned().zip(hows);
            let children = children
                .map(|(input, how)| Arc::new(AccountedExec { input, how }) as Arc<dyn ExecutionPlan>)
                .collect();
            let join = node
                .replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(join))));
        } else if node.is::<CrossJoinExec>() || node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>() {
            return Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))));
        } else {
            return Ok(Transformed::no(node));
        };
        let children = node.children().into_iter().cloned();
        let children = children
            .map(|input| Arc::new(AccountedExec { input, how: how.clone() }) as Arc<dyn ExecutionPlan>)
            .collect();
        Ok(Transformed::yes(
            node.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?,
        ))
    })
    .data()
}

fn looks_far(window: &Arc<dyn WindowExpr>) -> bool {
    let WindowFrame { units, start_bound, end_bound, .. } = window.get_window_frame().as_ref();
    let far = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => false,
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => match by {
            // What has no start is summed as it comes.
            by if by.is_null() => false,
            ScalarValue::UInt64(Some(rows)) if *units == WindowFrameUnits::Rows => *rows > NEAR_ROWS,
            _ => true,
        },
    };
    far(start_bound) || far(end_bound)
}

#[derive(Clone, Debug)]
enum How {
    /// All rows are kept until the last was answered, and copied once.
    Held,
    /// The lists at these places are unnested.
    Unnested(Vec<usize>),
    /// Each row is compared with each of another side; how many there are.
    Compared(Arc<AtomicU64>),
    /// The other side: it comes in such portions that comparing one with all of those rows takes a moment.
    Portioned(Arc<AtomicU64>),
}

/// Passes rows on.
#[derive(Debug)]
struct AccountedExec {
    input: Arc<dyn ExecutionPlan>,
    how: How,
}

impl DisplayAs for AccountedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::Held => write!(f, "AccountedExec: held"),
            How::Unnested(_) => write!(f, "AccountedExec: unnested"),
            How::Compared(_) => write!(f, "AccountedExec: compared"),
            How::Portioned(_) => write!(f, "AccountedExec: in portions"),
        }
    }
}

impl ExecutionPlan for AccountedExec {
    fn name(&self) -> &str {
        "AccountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.pop()) {
            (Some(input), None) => Ok(Arc::new(Self { input, how: self.how.clone() })),
            _ => internal_err!("AccountedExec has one input"),
        }
    }

    #[allow(deprecated, reason = "the trait still demands it")]
    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context.clone())?;
        match &self.how {
            How::Held => {
                let held = MemoryConsumer::new("window").register(context.memory_pool());
                Ok(Box::pin(Held { input, held }))
            }
            How::Compared(held) => {
                let (schema, held) = (input.schema(), held.clone());
                let counted = input.map(move |batch| {
                    let batch = batch?;
                    let rows = batch.num_rows() as u64;
                    if held.fetch_add(rows, Ordering::Relaxed) + rows > COMPARED_ROWS {
                        return exec_err!(
                            "a join without an equality would compare each row of one side with more than {COMPARED_ROWS} of the other; at most {COMPARED_ROWS} are allowed: join by an equality too"
                        );
                    }
                    Ok(batch)
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
            }
            How::Portioned(held) => {
                let (schema, held) = (input.schema(), held.clone());
                let portions = input.flat_map(move |batch| {
                    let most = COMPARED_PAIRS / held.load(Ordering::Relaxed).max(1);
                    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
                    let portions = match batch {
                        Ok(batch) => (0..batch.num_rows())
                            .step_by(most)
                            .map(|from| Ok(batch.slice(from, most.min(batch.num_rows() - from))))
                            .collect(),
                        Err(error) => vec![Err(error)],
                    };
                    futures::stream::iter(portions)
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, portions)))
            }
            How::Unnested(lists) => {
                let (schema, lists) = (input.schema(), lists.clone());
                let parts = input.flat_map(move |batch| {
                    let parts = match batch.and_then(|batch| parts(batch, &lists)) {
                        Ok(parts) => parts.into_iter().map(Ok).collect(),
                        Err(error) => vec![Err(error)],
                    };
                    futures::stream::iter(parts)
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, parts)))
            }
        }
    }
}

struct Held {
    input: SendableRecordBatchStream,
    held: MemoryReservation,
}

impl Stream for Held {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.input.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(batch))) = &polled {
            let bytes: u64 = batch.columns().iter().map(bytes).sum();
            if let Err(error) = self.held.try_grow(usize::try_from(2 * bytes).unwrap_or(usize::MAX)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
        polled
    }
}

impl RecordBatchStream for Held {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

/// A batch in parts that can be unnested.
fn parts(batch: RecordBatch, lists: &[usize]) -> Result<Vec<RecordBatch>> {
    let mut parts = Vec::new();
    let mut left = vec![batch];
    while let Some(batch) = left.pop() {
        let unnested = unnested_bytes(&batch, lists);
        let rows = batch.num_rows();
        if unnested <= UNNESTED_BYTES || (rows <= 1 && unnested <= UNNESTED_ROW_BYTES) {
            parts.push(batch);
        } else if rows <= 1 {
            return exec_err!(
                "unnesting the lists of one row would make {unnested} bytes; at most {UNNESTED_ROW_BYTES} are allowed: leave out long columns beside them"
            );
        } else {
            left.push(batch.slice(rows / 2, rows - rows / 2));
            left.push(batch.slice(0, rows / 2));
        }
    }
    Ok(parts)
}

/// Bytes of a batch whose lists are unnested: each element has all other columns beside it.
fn unnested_bytes(batch: &RecordBatch, lists: &[usize]) -> u64 {
    let rows = batch.num_rows().max(1) as u64;
    let mut beside = 0;
    let mut elements = rows;
    let mut bytes_of_lists = 0;
    for (at, column) in batch.columns().iter().enumerate() {
        if lists.contains(&at) {
            elements = elements.max(leaves(column));
            bytes_of_lists += bytes(column);
        } else {
            beside += bytes(column).div_ceil(rows);
        }
    }
    elements.saturating_mul(beside).saturating_add(bytes_of_lists)
}

/// Elements of a list, of its lists, and so on.
fn leaves(column: &ArrayRef) -> u64 {
    let values = match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let ends = list.value_offsets();
            let (first, last) = (ends.first().copied().unwrap_or(0), ends.last().copied().unwrap_or(0));
            list.values()
                .slice(usize::try_from(first).unwrap_or(0), usize::try_from(last - first).unwrap_or(0))
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let ends = list.value_offsets();
            let (first, last) = (ends.first().copied().unwrap_or(0), ends.last().copied().unwrap_or(0));
            list.values()
                .slice(usize::try_from(first).unwrap_or(0), usize::try_from(last - first).unwrap_or(0))
        }
        DataType::FixedSizeList(_, _) => column.as_fixed_size_list().values().clone(),
        _ => return column.len() as u64,
    };
    leaves(&values).max(column.len() as u64)
}

fn bytes(column: &ArrayRef) -> u64 {
    crate::row_bytes::bytes_of_column(column) as u64
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn beside(lists: &[usize], text: usize) -> RecordBatch {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
            lists.iter().map(|length| Some((0..*length).map(|at| Some(at as i64)))),
        );
        let texts = StringArray::from_iter_values((0..lists.len()).map(|_| "x".repeat(text)));
        RecordBatch::try_from_iter([("list", Arc::new(lists) as ArrayRef), ("text", Arc::new(texts))])
            .unwrap()
    }

    #[test]
    fn what_unnests_to_much_goes_in_parts_or_not_at_all() {
        assert_eq!(parts(beside(&[10; 100], 10), &[0]).unwrap().len(), 1);
        let cut = parts(beside(&[1_000; 1_000], 1_000), &[0]).unwrap();
        assert!(cut.len() >= 16, "{}", cut.len());
        assert_eq!(cut.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000);
        // In order.
        let lists: Vec<usize> = (0..1_000).collect();
        let whole = beside(&lists, 1_000);
        let cut = parts(whole.clone(), &[0]).unwrap();
        assert_eq!(arrow::compute::concat_batches(&whole.schema(), &cut).unwrap(), whole);
        let error = parts(beside(&[1_000_000], 60_000), &[0]).unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
    }
}
